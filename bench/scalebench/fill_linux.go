package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/disk"
	"github.com/sheaf-drive/sheaf/vfs"
)

// fill makes n files of a few bytes, no two alike: nine tenths of them in folders of a thousand, the rest in one
// folder; and one that changes with each kept state.
func (d *drive) fill(ctx context.Context) (err error) {
	b, err := disk.Open(filepath.Join(d.base, "packs"), disk.Options{})
	if err != nil {
		return err
	}
	dr, err := sheaf.Open(ctx, sheaf.Options{Dir: filepath.Join(d.base, "home", "data"), Bucket: b})
	if err != nil {
		return errors.Join(err, b.Close())
	}
	defer func() { err = errors.Join(err, dr.Close(context.WithoutCancel(ctx)), b.Close()) }()
	fsys := dr.FS()
	for i := range d.n {
		dir := "wide"
		if i%10 != 0 {
			dir = fmt.Sprintf("many/%03d", i/1000)
		}
		if i%1000 < 2 {
			if _, err := vfs.MkdirAll(ctx, fsys, dir, vfs.New{Kind: vfs.KindDir, Mode: 0o755}); err != nil {
				return err
			}
		}
		body := fmt.Appendf(nil, "file %d of %d", i, d.n)
		if err := vfs.WriteFile(ctx, fsys, fmt.Sprintf("%s/file-%07d", dir, i), body, vfs.New{Kind: vfs.KindFile, Mode: 0o644}); err != nil {
			return err
		}
		if i%20_000 == 19_999 {
			if err := dr.Commit(ctx); err != nil {
				return err
			}
		}
	}
	if _, err := vfs.MkdirAll(ctx, fsys, "changing", vfs.New{Kind: vfs.KindDir, Mode: 0o755}); err != nil {
		return err
	}
	for i := range d.snapshots {
		if err := vfs.WriteFile(ctx, fsys, "changing/file", fmt.Appendf(nil, "state %d", i), vfs.New{Kind: vfs.KindFile, Mode: 0o644}); err != nil {
			return err
		}
		if _, err := dr.Snapshot(ctx, fmt.Sprintf("state %d", i)); err != nil {
			return err
		}
	}
	return nil
}

// files returns the sizes of all files below dir.
func files(dir string) (map[string]int64, error) {
	all := map[string]int64{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			all[path] = info.Size()
		}
		return err
	})
	return all, err
}
