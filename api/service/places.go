package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/treefs"
)

// A spot is a thing at a place of plain files: the place, and the path in it.
type spot struct {
	tree  remote.Tree
	path  string // "" is all of the place
	close func()
}

// spot opens the place that is named. What is a file is opened as its folder and a name. With mk, a folder that is not there is made.
func (s *Service) spot(ctx context.Context, at string, mk bool) (_ spot, err error) {
	p, err := ParsePlace(at)
	if err != nil {
		return spot{}, err
	}
	if p.Name == remote.Self {
		return s.spotOfDrive(p.Path)
	}
	r, err := s.remotes()
	if err != nil {
		return spot{}, err
	}
	if p.Local && !filepath.IsAbs(p.Path) {
		return spot{}, errorf(sheafv1.Code_CODE_USAGE, "", "folder %q is not an absolute path", p.Path)
	}
	slashed := filepath.ToSlash(p.Path)
	o := remote.Options{Make: mk, Getenv: r.Getenv}
	t, err := r.Kinds.OpenTree(ctx, p, r.Book, o)
	name := ""
	if err != nil && !mk && (errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTDIR)) && path.Dir(slashed) != slashed { // it is a file
		p.Path, name = path.Dir(slashed), path.Base(slashed)
		if p.Path == "." {
			p.Path = ""
		}
		t, err = r.Kinds.OpenTree(ctx, p, r.Book, o)
	}
	if err != nil {
		return spot{}, fmt.Errorf("open %s: %w", s.shown(at), err)
	}
	return spot{tree: t.Tree, path: name, close: func() {
		if err := t.Close(); err != nil {
			s.o.Log.Warn("a place was not closed well", "error", err)
		}
	}}, nil
}

// spotOfDrive is a path of the drive.
func (s *Service) spotOfDrive(p string) (spot, error) {
	p, err := clean(wirepath.Encode(p))
	if err != nil {
		return spot{}, err
	}
	_, d, release, err := s.use(context.Background())
	if err != nil {
		return spot{}, err
	}
	return spot{tree: treefs.NewTree(d.FS(), treefs.TreeOptions{Identity: "drive " + d.Info().Drive, UID: s.o.UID, GID: s.o.GID, Exact: true}), path: p, close: release}, nil
}

// spotAbove opens the place in which what at names lies, or is to lie. What is all of a place is an error.
func (s *Service) spotAbove(ctx context.Context, at string, mk bool) (spot, error) {
	p, err := ParsePlace(at)
	if err != nil {
		return spot{}, err
	}
	full := strings.TrimRight(filepath.ToSlash(p.Path), "/")
	dir, name := path.Split(full)
	if name == "" {
		return spot{}, errorf(sheafv1.Code_CODE_USAGE, "", "%s is all of a place, and not something in it", s.shown(at))
	}
	if p.Name == remote.Self {
		return s.spotOfDrive(p.Path)
	}
	if p.Path = strings.TrimRight(dir, "/"); p.Path == "" && p.Local {
		p.Path = "/"
	}
	above, err := s.spot(ctx, p.String(), mk)
	if err == nil {
		above.path = path.Join(above.path, name)
	}
	return above, err
}

// useSpot is s.serve for calls about places.
func (s *Service) useSpot(ctx context.Context, at string) (context.Context, spot, func(), error) {
	ctx, _, release, err := s.serve(ctx)
	if err != nil {
		return nil, spot{}, nil, err
	}
	sp, err := s.spot(ctx, at, false)
	if err != nil {
		release()
		return nil, spot{}, nil, err
	}
	return ctx, sp, func() { sp.close(); release() }, nil
}

// itemOf returns an item as the contract has it.
func itemOf(it remote.Item, name string) *sheafv1.PlaceItem {
	m := &sheafv1.PlaceItem{
		Path: wirepath.Encode(name), Kind: sheafv1.PlaceKind(it.Kind) + 1, Size: it.Size, Mode: uint32(it.Mode.Perm()),
		Target: wirepath.Encode(it.Target), Id: it.ID, Version: string(it.Version),
	}
	for _, h := range slices.Sorted(maps.Keys(it.Hashes)) {
		m.Hashes = append(m.Hashes, &sheafv1.PlaceHash{Name: h, Value: it.Hashes[h]})
	}
	if !it.MTime.IsZero() {
		m.Modified = stamp(it.MTime)
	}
	return m
}

// look says what a spot is.
func (p *spot) look(ctx context.Context) (remote.Item, error) {
	if p.path == "" {
		return remote.Item{Kind: remote.Dir}, nil
	}
	return p.tree.Stat(ctx, p.path)
}

// below calls fn with all below the spot, which is a directory, by their paths from it.
func (p *spot) below(ctx context.Context, fn func(it remote.Item, name string) error) error {
	if p.path == "" { // in one go
		seq, _ := p.tree.Changes(ctx, "")
		for c, err := range seq {
			if err == nil {
				err = fn(c.Item, c.Path)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	var walk func(dir string) error
	walk = func(dir string) error {
		for it, err := range p.tree.List(ctx, dir) {
			if err == nil {
				err = fn(it, strings.TrimPrefix(it.Path, p.path+"/"))
			}
			if err == nil && it.Kind == remote.Dir {
				err = walk(it.Path)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return walk(p.path)
}

// ListPlace sends what is at a place.
func (s *Service) ListPlace(ctx context.Context, q *sheafv1.PlacesListRequest, send func(*sheafv1.PlacesListResponse) error) error {
	ctx, sp, release, err := s.useSpot(ctx, q.GetAt())
	if err != nil {
		return err
	}
	defer release()
	it, err := sp.look(ctx)
	if err != nil {
		return err
	}
	var batch []*sheafv1.PlaceItem
	flush := func() error {
		b := batch
		batch = nil
		return send(&sheafv1.PlacesListResponse{Items: b})
	}
	add := func(it remote.Item, name string) error {
		if batch = append(batch, itemOf(it, name)); len(batch) == listBatch {
			return flush()
		}
		return nil
	}
	switch {
	case it.Kind != remote.Dir:
		err = add(it, path.Base(it.Path))
	case q.GetRecursive():
		err = sp.below(ctx, add)
	default:
		for it, lerr := range sp.tree.List(ctx, sp.path) {
			if err = lerr; err == nil {
				err = add(it, path.Base(it.Path))
			}
			if err != nil {
				break
			}
		}
	}
	if err != nil {
		return err
	}
	return flush()
}

// ReadPlace sends the bytes of a file at a place.
func (s *Service) ReadPlace(ctx context.Context, q *sheafv1.PlacesReadRequest, send func(*sheafv1.PlacesReadResponse) error) error {
	if q.GetOffset() < 0 || q.GetLength() < 0 {
		return errorf(sheafv1.Code_CODE_USAGE, "", "offset and length are not negative")
	}
	ctx, sp, release, err := s.useSpot(ctx, q.GetAt())
	if err != nil {
		return err
	}
	defer release()
	if sp.path == "" {
		return errorf(sheafv1.Code_CODE_WRONG_KIND, "sheaf ls "+s.shown(q.GetAt()), "%s is a folder", s.shown(q.GetAt()))
	}
	n := q.GetLength()
	if n == 0 {
		n = -1
	}
	r, err := sp.tree.Open(ctx, sp.path, q.GetOffset(), n, "")
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	buf := make([]byte, readBlock)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if err := send(&sheafv1.PlacesReadResponse{Data: buf[:n]}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// MovePlace moves something within a place.
func (s *Service) MovePlace(ctx context.Context, q *sheafv1.PlacesMoveRequest) (*sheafv1.PlacesMoveResponse, error) {
	from, err := ParsePlace(q.GetFrom())
	if err != nil {
		return nil, err
	}
	to, err := ParsePlace(q.GetTo())
	if err != nil {
		return nil, err
	}
	var a, b string
	from.Path, a = cutRoot(from)
	to.Path, b = cutRoot(to)
	if from.String() != to.String() || from.Local != to.Local {
		return nil, errorf(sheafv1.Code_CODE_USAGE, "sheaf cp, and sheaf rm when it is done", "%s and %s are two places", s.shown(q.GetFrom()), s.shown(q.GetTo()))
	}
	// The deepest folder that holds both.
	common := ""
	for elem := range strings.SplitSeq(path.Dir(a), "/") {
		next := path.Join(common, elem)
		if !strings.HasPrefix(b, next+"/") {
			break
		}
		common = next
	}
	from.Path += common
	ctx, sp, release, err := s.useSpot(ctx, from.String())
	if err != nil {
		return nil, err
	}
	defer release()
	a, b = strings.TrimPrefix(strings.TrimPrefix(a, common), "/"), strings.TrimPrefix(strings.TrimPrefix(b, common), "/")
	it, err := sp.tree.Stat(ctx, path.Join(sp.path, a))
	if err == nil {
		_, err = sp.tree.Move(ctx, it.Path, path.Join(sp.path, b), it.Version)
	}
	if errors.Is(err, remote.ErrChanged) {
		err = fmt.Errorf("%w: %w", fs.ErrExist, err)
	}
	if err != nil {
		return nil, err
	}
	return &sheafv1.PlacesMoveResponse{}, nil
}

// cutRoot returns the slashes with which the path of a place begins, and what follows them. On some servers a path with one is another
// than that without it; in the drive it is not.
func cutRoot(p remote.Place) (root, rest string) {
	full := strings.TrimRight(filepath.ToSlash(p.Path), "/")
	rest = strings.TrimLeft(full, "/")
	if p.Name == remote.Self {
		return "", rest
	}
	return full[:len(full)-len(rest)], rest
}

// RemovePlace removes something at a place.
func (s *Service) RemovePlace(ctx context.Context, q *sheafv1.PlacesRemoveRequest) (*sheafv1.PlacesRemoveResponse, error) {
	ctx, _, release, err := s.serve(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	sp, err := s.spotAbove(ctx, q.GetAt(), false)
	if err != nil {
		return nil, err
	}
	defer sp.close()
	it, err := sp.look(ctx)
	if err != nil {
		return nil, err
	}
	done := &sheafv1.PlacesRemoveResponse{}
	if it.Kind != remote.Dir {
		if err := sp.tree.Remove(ctx, it.Path, it.Version); err != nil {
			return nil, err
		}
		done.Files = 1
		return done, nil
	}
	if !q.GetRecursive() {
		return nil, errorf(sheafv1.Code_CODE_WRONG_KIND, "sheaf rm -r", "%s is a folder", s.shown(q.GetAt()))
	}
	var dirs []string
	var files []remote.Item
	if err := sp.below(ctx, func(it remote.Item, _ string) error {
		switch it.Kind {
		case remote.Dir:
			dirs = append(dirs, it.Path)
		case remote.File, remote.Symlink:
			files = append(files, it)
		case remote.Other:
			return errorf(sheafv1.Code_CODE_WRONG_KIND, "", "%q is neither a file, a link nor a folder: nothing was removed", it.Path)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	for _, it := range files {
		if err := sp.tree.Remove(ctx, it.Path, it.Version); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		done.Files++
	}
	dirs = append([]string{sp.path}, dirs...)
	for i := len(dirs) - 1; i >= 0; i-- {
		err := sp.tree.Remove(ctx, dirs[i], "")
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // where folders are not there without files, they are gone already
			return nil, err
		}
		if err == nil {
			done.Dirs++
		}
	}
	return done, nil
}

// sourceFS opens a place to be mounted. The FS puts what waits when it is released.
func (s *Service) sourceFS(ctx context.Context, at string, readOnly bool) (*treefs.FS, func(), error) {
	sp, err := s.spot(ctx, at, false)
	if err != nil {
		return nil, nil, err
	}
	if sp.path != "" {
		sp.close()
		return nil, nil, errorf(sheafv1.Code_CODE_WRONG_KIND, "", "%s is a file", s.shown(at))
	}
	fsys := treefs.New(sp.tree, treefs.Options{Spool: os.TempDir(), ReadOnly: readOnly, UID: s.o.UID, GID: s.o.GID, Log: s.o.Log})
	return fsys, func() {
		if err := fsys.Sync(context.Background()); err != nil {
			s.o.Log.Error("what was written to a mounted place could not be put there", "place", s.shown(at), "files", fsys.Pending(), "error", err)
		}
		sp.close()
	}, nil
}
