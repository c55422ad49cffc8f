package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/syncthingconf"
	"github.com/sheaf-drive/sheaf/vfs"
)

// foldersDir is the directory of the drive in which the folders are.
const foldersDir = "Folders"

// folderAt returns the place of a folder.
func folderAt(name string) string {
	return remote.Place{Name: remote.Self, Path: "/" + foldersDir + "/" + name}.String()
}

// folderOf returns of which folder a rule is, and where that is on this machine; name is "" if it is of none.
func folderOf(i *sheafv1.Rule) (name, dir string, role sheafv1.FolderRole) {
	left, errLeft := ParsePlace(i.GetLeft())
	right, errRight := ParsePlace(i.GetRight())
	if errLeft != nil || errRight != nil {
		return "", "", 0
	}
	switch i.GetMode() {
	case sheafv1.RuleMode_RULE_MODE_TWO_WAY:
		role = sheafv1.FolderRole_FOLDER_ROLE_FULL
	case sheafv1.RuleMode_RULE_MODE_SEND:
		role = sheafv1.FolderRole_FOLDER_ROLE_SEND_ONLY
		if left.Name == remote.Self {
			role = sheafv1.FolderRole_FOLDER_ROLE_READ_ONLY
		}
	default:
		return "", "", 0
	}
	if left.Name == remote.Self {
		left, right = right, left
	}
	name, ok := strings.CutPrefix(strings.Trim(right.Path, "/"), foldersDir+"/")
	if !ok || !left.Local || right.Name != remote.Self || strings.Contains(name, "/") {
		return "", "", 0
	}
	return name, left.Path, role
}

// folderRules returns the rules of folders, by the folder's name.
func (s *Service) folderRules() map[string]*sheafv1.Folder {
	all := map[string]*sheafv1.Folder{}
	for _, r := range s.listRules() {
		i := r.show()
		if name, dir, role := folderOf(i); name != "" && all[name] == nil {
			all[name] = &sheafv1.Folder{Name: wirepath.Encode(name), Path: wirepath.Encode(foldersDir + "/" + name), Dir: dir, Role: role, Rule: i}
		}
	}
	return all
}

// folders has what two calls must not do at the same time.
type folders struct{ adding sync.Mutex }

// AddFolder keeps a folder of this machine alike with one of the drive.
func (s *Service) AddFolder(ctx context.Context, q *sheafv1.FoldersAddRequest) (*sheafv1.Folder, error) {
	ctx, d, release, err := s.useRules(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	s.folders.adding.Lock()
	defer s.folders.adding.Unlock()
	dir, err := folder(q.GetDir())
	if err != nil {
		return nil, err
	}
	name, err := wirepath.Decode(q.GetName())
	if err != nil {
		return nil, err
	}
	name = cmp.Or(name, filepath.Base(dir))
	if err := vfs.CheckName(name); err != nil {
		return nil, errorf(sheafv1.Code_CODE_USAGE, "sheaf folder add DIR --name NAME", "a folder of the drive cannot be called %q: %w", name, err)
	}
	add := &sheafv1.RulesAddRequest{Left: dir, Right: folderAt(name), Mode: sheafv1.RuleMode_RULE_MODE_TWO_WAY, Ignore: q.GetIgnore(), Paused: q.GetPaused()}
	reads := q.GetRole() == sheafv1.FolderRole_FOLDER_ROLE_READ_ONLY
	switch q.GetRole() {
	case sheafv1.FolderRole_FOLDER_ROLE_READ_ONLY:
		add.Left, add.Right, add.Mode = add.GetRight(), add.GetLeft(), sheafv1.RuleMode_RULE_MODE_SEND
	case sheafv1.FolderRole_FOLDER_ROLE_SEND_ONLY:
		add.Mode = sheafv1.RuleMode_RULE_MODE_SEND
	case sheafv1.FolderRole_FOLDER_ROLE_UNSPECIFIED, sheafv1.FolderRole_FOLDER_ROLE_FULL:
	default:
		return nil, errorf(sheafv1.Code_CODE_USAGE, "", "there is no such role of a folder")
	}
	if err := s.freeFolder(name, dir); err != nil {
		return nil, err
	}
	if err := s.checkSides(&sheafv1.Rule{Left: add.GetLeft(), Right: add.GetRight()}); err != nil {
		return nil, err
	}
	there, has, err := driveHas(ctx, d, name)
	if err != nil {
		return nil, err
	}
	if reads && !there {
		return nil, errorf(sheafv1.Code_CODE_NOT_FOUND, "sheaf folder list", "the drive has no folder %q that could be read", name)
	}
	if has && !q.GetMerge() {
		if has, err = diskHas(dir); err != nil {
			return nil, err
		} else if has {
			return nil, errorf(sheafv1.Code_CODE_EXISTS, "to put both together --merge, or sheaf folder add DIR --name OTHER",
				"the drive has a folder %q already, and there is something in both that and %s", name, dir)
		}
	}
	// Made here and never later: then an empty one would stand for a disk that is away.
	if err := os.MkdirAll(dir, 0o777); err != nil { //nolint:gosec // the umask of the user decides, as it does for mkdir
		return nil, fmt.Errorf("make the folder: %w", err)
	}
	r, err := s.AddRule(ctx, add)
	if err != nil {
		return nil, err
	}
	_, _, role := folderOf(r)
	return &sheafv1.Folder{Name: wirepath.Encode(name), Path: wirepath.Encode(foldersDir + "/" + name), Dir: dir, Role: role, Rule: r}, nil
}

// freeFolder returns whether neither the folder of the drive nor that of this machine is kept by a rule already.
func (s *Service) freeFolder(name, dir string) error {
	for have, f := range s.folderRules() {
		at, err := folder(f.GetDir())
		switch {
		case have == name:
			return errorf(sheafv1.Code_CODE_EXISTS, "sheaf folder list", "%q is kept here already, in %s", name, f.GetDir())
		case err == nil && (ground{"local", filepath.ToSlash(at)}).overlaps(ground{"local", filepath.ToSlash(dir)}):
			return errorf(sheafv1.Code_CODE_EXISTS, "sheaf folder list", "%s and %s, which is the folder %q, are in each other", dir, f.GetDir(), have)
		}
	}
	return nil
}

// driveHas reports whether the drive has a folder, and whether something is in it.
func driveHas(ctx context.Context, d Drive, name string) (there, has bool, err error) {
	n, err := vfs.WalkDir(ctx, d.FS(), foldersDir+"/"+name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	for _, err := range n.List(ctx, "") {
		return true, err == nil, err
	}
	return true, false, nil
}

// leftBehind is what Syncthing puts into a folder besides what people have there.
var leftBehind = []string{".stfolder", ".stversions", ".stignore"}

// diskHas reports whether a folder of this machine has something in it that people put there.
func diskHas(dir string) (bool, error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	for {
		names, err := f.Readdirnames(100)
		if slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(leftBehind, name) }) {
			return true, nil
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// ListFolders says which folders there are.
func (s *Service) ListFolders(ctx context.Context, _ *sheafv1.FoldersListRequest) (*sheafv1.FoldersListResponse, error) {
	ctx, d, release, err := s.useRules(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	all := s.folderRules() // also those that the drive has no longer
	dir, err := vfs.WalkDir(ctx, d.FS(), foldersDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, vfs.ErrNotDir) {
		return nil, err
	}
	if err == nil {
		for e, err := range dir.List(ctx, "") {
			if err != nil {
				return nil, err
			}
			if e.Kind == vfs.KindDir && all[e.Name] == nil {
				all[e.Name] = &sheafv1.Folder{Name: wirepath.Encode(e.Name), Path: wirepath.Encode(foldersDir + "/" + e.Name)}
			}
		}
	}
	resp := &sheafv1.FoldersListResponse{}
	for _, f := range all {
		resp.Folders = append(resp.Folders, f)
	}
	slices.SortFunc(resp.GetFolders(), func(a, b *sheafv1.Folder) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return resp, nil
}

// RemoveFolder keeps a folder no longer.
func (s *Service) RemoveFolder(ctx context.Context, q *sheafv1.FoldersRemoveRequest) (*sheafv1.FoldersRemoveResponse, error) {
	_, _, release, err := s.useRules(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	for _, f := range s.folderRules() {
		if q.GetFolder() != f.GetName() && q.GetFolder() != f.GetDir() {
			continue
		}
		if _, err := s.RemoveRule(ctx, &sheafv1.RulesRemoveRequest{Rule: f.GetRule().GetId()}); err != nil {
			return nil, err
		}
		return &sheafv1.FoldersRemoveResponse{}, nil
	}
	return nil, errorf(sheafv1.Code_CODE_NOT_FOUND, "sheaf folder list", "this device has no folder %q", q.GetFolder())
}

// ReadSyncthing says which folders a configuration of Syncthing has.
func (s *Service) ReadSyncthing(_ context.Context, q *sheafv1.FoldersReadSyncthingRequest) (*sheafv1.FoldersReadSyncthingResponse, error) {
	all, err := syncthingconf.Parse(q.GetConfig())
	if err != nil {
		return nil, errorf(sheafv1.Code_CODE_USAGE, "give the config.xml of Syncthing", "%w", err)
	}
	home := q.GetHome()
	if home == "" {
		if home, err = os.UserHomeDir(); err != nil {
			return nil, err
		}
	}
	resp := &sheafv1.FoldersReadSyncthingResponse{}
	for _, f := range all {
		resp.Folders = append(resp.Folders, fromSyncthing(f, home))
	}
	return resp, nil
}

// fromSyncthing returns what has to be asked to have a folder of Syncthing.
func fromSyncthing(f syncthingconf.Folder, home string) *sheafv1.SyncthingFolder {
	dir := f.Path
	if rest, ok := strings.CutPrefix(dir, "~"); ok && (rest == "" || rest[0] == '/' || rest[0] == filepath.Separator) {
		dir = home + rest
	}
	dir = filepath.Clean(dir)
	name := f.Label
	if vfs.CheckName(name) != nil {
		name = filepath.Base(dir)
	}
	add := &sheafv1.FoldersAddRequest{Dir: dir, Name: wirepath.Encode(name), Paused: f.Paused, Role: sheafv1.FolderRole_FOLDER_ROLE_FULL}
	m := &sheafv1.SyncthingFolder{Id: f.ID, Add: add}
	switch f.Type {
	case syncthingconf.SendReceive:
	case syncthingconf.SendOnly:
		add.Role = sheafv1.FolderRole_FOLDER_ROLE_SEND_ONLY
	case syncthingconf.ReceiveOnly:
		add.Role = sheafv1.FolderRole_FOLDER_ROLE_READ_ONLY
	case syncthingconf.ReceiveEncrypted:
		m.Skipped = "it has what Syncthing encrypted, and no key"
	default:
		m.Skipped = fmt.Sprintf("its type %q is not known", f.Type)
	}
	if !filepath.IsAbs(dir) {
		m.Skipped = fmt.Sprintf("its path %q is not absolute", f.Path)
	}
	for _, name := range append([]string{f.Marker}, leftBehind[1:]...) {
		add.Ignore = append(add.Ignore, "/"+ignorable.Replace(name))
	}
	add.Ignore = append(add.Ignore, ".syncthing.*.tmp", "~syncthing~*.tmp") // what it had not finished
	if f.Versioning != "" {
		m.Notes = append(m.Notes, fmt.Sprintf("old contents (%s) stay in .stversions; new ones are kept for 30 days, in .sheaf-history and in the history of the drive", f.Versioning))
	}
	return m
}

// ignorable writes a name as a line of a .gitignore that matches only it.
var ignorable = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, " ", `\ `)
