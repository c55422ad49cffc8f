package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
	"github.com/sheaf-drive/sheaf/vfs"
)

// Conflicts has the conflicts below a path.
func (s *Service) Conflicts(ctx context.Context, r *sheafv1.ConflictsListRequest) (*sheafv1.ConflictsListResponse, error) {
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	at, err := clean(r.GetPath())
	if err != nil {
		return nil, err
	}
	all, err := d.Conflicts(ctx, at)
	if err != nil {
		return nil, err
	}
	var resp sheafv1.ConflictsListResponse
	for _, c := range all {
		m := &sheafv1.Conflict{}
		for _, v := range c.Versions {
			m.Versions = append(m.Versions, &sheafv1.ConflictVersion{
				Path: wirepath.Encode(v.Path), Device: v.Device, DeviceName: v.DeviceName, Mine: v.Mine, Mtime: stamp(v.MTime), Size: v.Size, Dir: v.Dir,
			})
		}
		resp.Conflicts = append(resp.Conflicts, m)
	}
	return &resp, nil
}

// KeepConflict ends a conflict. What it does is done by names, as a person would: each step leaves the others whole.
func (s *Service) KeepConflict(ctx context.Context, r *sheafv1.ConflictsKeepRequest) (*sheafv1.ConflictsKeepResponse, error) {
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	at, err := clean(r.GetPath())
	if err != nil {
		return nil, err
	}
	all, err := d.Conflicts(ctx, at)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(c sheaf.Conflict) bool {
		return slices.ContainsFunc(c.Versions, func(v sheaf.ConflictVersion) bool { return v.Path == at })
	})
	if i < 0 {
		return nil, errorf(sheafv1.Code_CODE_NOT_FOUND, "sheaf conflict list", "%q is no version of a conflict", at)
	}
	vs := all[i].Versions
	k := &keeper{fsys: d.FS()}
	switch keep := r.GetKeep(); {
	case keep == sheafv1.ConflictsKeepRequest_KEEP_BOTH:
		err = k.both(ctx, vs)
	case keep == sheafv1.ConflictsKeepRequest_KEEP_MERGED:
		err = k.merged(ctx, d, all[i])
	case slices.ContainsFunc(vs, func(v sheaf.ConflictVersion) bool { return v.Dir }):
		err = errorf(sheafv1.Code_CODE_WRONG_KIND, "sheaf conflict keep PATH --merge, or --both", "a version of %q is a folder: none is removed for another", at)
	default:
		var n int
		if n, err = chosen(vs, at, r.GetKeep()); err == nil {
			err = k.one(ctx, vs, n)
		}
	}
	if err != nil {
		return nil, err
	}
	return &k.resp, d.Commit(ctx)
}

// chosen returns the number of the version that is to be kept.
func chosen(vs []sheaf.ConflictVersion, at string, keep sheafv1.ConflictsKeepRequest_Keep) (int, error) {
	best := -1
	for i, v := range vs {
		var ok bool
		switch keep {
		case sheafv1.ConflictsKeepRequest_KEEP_MINE:
			ok = v.Mine
		case sheafv1.ConflictsKeepRequest_KEEP_THEIRS:
			ok = !v.Mine && (best < 0 || v.MTime.After(vs[best].MTime))
		case sheafv1.ConflictsKeepRequest_KEEP_THIS:
			ok = v.Path == at
		}
		if ok {
			best = i
		}
	}
	if best < 0 {
		return 0, errorf(sheafv1.Code_CODE_NOT_FOUND, "sheaf conflict show "+at+", then sheaf conflict keep PATH --this", "%q has no such version", at)
	}
	return best, nil
}

type keeper struct {
	fsys vfs.FS
	resp sheafv1.ConflictsKeepResponse
}

// one keeps version n under the name of the first, and removes the others.
func (k *keeper) one(ctx context.Context, vs []sheaf.ConflictVersion, n int) error {
	if n != 0 {
		if err := k.rename(ctx, vs[n].Path, vs[0].Path, vfs.RenameReplace); err != nil {
			return err
		}
		k.resp.Removed = append(k.resp.Removed, wirepath.Encode(vs[n].Path))
	}
	for i, v := range vs[1:] {
		if i+1 == n {
			continue
		}
		dir, name, err := vfs.WalkParent(ctx, k.fsys, v.Path)
		if err != nil {
			return err
		}
		if err := dir.Remove(ctx, name, false); err != nil {
			return err
		}
		k.resp.Removed = append(k.resp.Removed, wirepath.Encode(v.Path))
	}
	k.resp.Kept = append(k.resp.Kept, wirepath.Encode(vs[0].Path))
	return nil
}

// both makes each version but the first a file of its own, named after its device and time.
func (k *keeper) both(ctx context.Context, vs []sheaf.ConflictVersion) error {
	k.resp.Kept = append(k.resp.Kept, wirepath.Encode(vs[0].Path))
	for _, v := range vs[1:] {
		to, err := k.aside(ctx, v.Path, vs[0].Path, v)
		if err != nil {
			return err
		}
		k.resp.Kept = append(k.resp.Kept, wirepath.Encode(to))
	}
	return nil
}

// aside gives what is at from the name of to, with the device and time of v, and returns where it is then.
func (k *keeper) aside(ctx context.Context, from, to string, v sheaf.ConflictVersion) (string, error) {
	who := v.DeviceName
	if who == "" {
		who = "another device"
	}
	for n := 0; ; n++ {
		name := path.Join(path.Dir(to), versionName(path.Base(to), who, v.MTime.Local().Format("2006-01-02 15.04.05"), n))
		err := k.rename(ctx, from, name, vfs.RenameNoReplace)
		if errors.Is(err, fs.ErrExist) && n < 1000 {
			continue
		}
		return name, err
	}
}

func (k *keeper) rename(ctx context.Context, from, to string, flag vfs.RenameFlag) error {
	d, name, err := vfs.WalkParent(ctx, k.fsys, from)
	if err != nil {
		return err
	}
	d2, name2, err := vfs.WalkParent(ctx, k.fsys, to)
	if err != nil {
		return err
	}
	return d.Rename(ctx, name, d2, name2, flag)
}

// versionName is the name of a version of a file by a device.
func versionName(name, who, when string, n int) string {
	tag := fmt.Sprintf(" (%s, %s)", who, when)
	if n > 0 {
		tag = fmt.Sprintf(" (%s, %s, %d)", who, when, n+1)
	}
	return tagged(name, tag)
}
