package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/vfs"
)

// Remove removes what is at the paths. All are looked at before any goes.
func (s *Service) Remove(ctx context.Context, r *sheafv1.RemoveRequest) (*sheafv1.RemoveResponse, error) {
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	var paths []string
	texts := r.GetPaths()
	if r.GetPath() != "" {
		texts = append([]string{r.GetPath()}, texts...)
	}
	for _, text := range texts {
		p, err := clean(text)
		if err != nil {
			return nil, err
		}
		if p == "" {
			return nil, errorf(sheafv1.Code_CODE_USAGE, "name what is in it", "the root cannot be removed")
		}
		n, err := vfs.Walk(ctx, d.FS(), p)
		if errors.Is(err, fs.ErrNotExist) && r.GetForce() {
			continue
		}
		if err != nil {
			return nil, err
		}
		if _, ok := n.(vfs.Dir); ok && !r.GetRecursive() {
			return nil, &Error{
				Code: sheafv1.Code_CODE_WRONG_KIND, Hint: "to remove it with all that is in it: sheaf rm -r",
				Err: fmt.Errorf("remove %q: %w", p, vfs.ErrIsDir),
			}
		}
		paths = append(paths, p)
	}
	var resp sheafv1.RemoveResponse
	if len(paths) == 0 {
		return &resp, nil
	}
	if resp.Snapshot, err = keepBefore(ctx, d); err != nil {
		return nil, err
	}
	for _, p := range paths {
		dir, name, err := vfs.WalkParent(ctx, d.FS(), p)
		if err == nil {
			err = remove(ctx, dir, name, &resp.Removed)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // two paths may lie in one another
			return nil, fmt.Errorf("remove %q: %w", p, err)
		}
	}
	if err := d.FS().Sync(ctx); err != nil {
		return nil, err
	}
	return &resp, nil
}

// keepBefore commits, and returns the snapshot that has all that is there now. On a full disk
// it returns "": then removing is the way out.
func keepBefore(ctx context.Context, d Drive) (string, error) {
	if d.Pending() > 0 {
		err := d.Commit(ctx)
		if errors.Is(err, vfs.ErrNoSpace) || errors.Is(err, vfs.ErrQuota) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
	}
	ks, err := d.Snapshots(ctx)
	if err != nil || len(ks) == 0 {
		return "", err
	}
	return ks[0].Dot.String(), nil
}

// remove removes the child of dir with all below it, and counts.
func remove(ctx context.Context, dir vfs.Dir, name string, count *int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n, err := dir.Lookup(ctx, name)
	if err != nil {
		return err
	}
	sub, isDir := n.(vfs.Dir)
	if isDir {
		for e, err := range sub.List(ctx, "") {
			if err != nil {
				return err
			}
			if err := remove(ctx, sub, e.Name, count); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	if err := dir.Remove(ctx, name, isDir); err != nil {
		return err
	}
	*count++
	return nil
}

// DiskUsage counts what lies below a path.
func (s *Service) DiskUsage(ctx context.Context, r *sheafv1.DiskUsageRequest) (*sheafv1.DiskUsageResponse, error) {
	p, err := clean(r.GetPath())
	if err != nil {
		return nil, err
	}
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	top, err := vfs.Walk(ctx, d.FS(), p)
	if err != nil {
		return nil, err
	}
	var u sheafv1.DiskUsageResponse
	seen := map[uint64]bool{} // files with several names
	count := func(a vfs.Attr) {
		switch {
		case a.Kind == vfs.KindDir:
			u.Dirs++
		case a.Kind != vfs.KindFile, a.Nlink > 1 && seen[a.Ino]:
		default:
			u.Files++
			u.LogicalBytes += a.Size
			if a.Nlink > 1 {
				seen[a.Ino] = true
			}
		}
	}
	a, err := top.Attr(ctx)
	if err != nil {
		return nil, err
	}
	count(a)
	if dir, ok := top.(vfs.Dir); ok {
		for e, err := range vfs.Tree(ctx, dir) {
			if err != nil {
				return nil, err
			}
			count(e.Attr)
		}
	}
	if r.GetUnique() {
		if d.Pending() > 0 {
			if err := d.Commit(ctx); err != nil {
				return nil, err
			}
		}
		if _, u.UniqueBytes, u.StoredBytes, err = d.Unique(ctx, p); err != nil {
			return nil, err
		}
	}
	return &u, nil
}
