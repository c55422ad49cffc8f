// Package localdir is the kind of remote that is a folder of this machine: a second disk, a
// stick, a share that is mounted; for sealed blobs, or as a place of plain files. It is not the store of a drive, though it may hold a copy of one.
package localdir

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/disk"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// Kind is a folder of this machine.
var Kind = remote.Kind{
	Name: remote.Local, Title: "A folder of this machine",
	Options: []remote.Option{
		{Name: "root", Help: "The folder in which the paths of this remote are\nWithout it they begin at the root of this machine."},
		{Name: "hashes", Advanced: true, Default: "sha256", Help: "The hashes that are computed of files, separated by commas\nsha256, sha1 and md5, of plain files only."},
		{Name: "cross_mounts", Advanced: true, Help: "Go into other file systems that are mounted below the folder\ntrue or false, of plain files only."},
	},
	Can: remote.Capabilities{AtomicPut: true, Move: true, Ranges: true, Rate: remote.Fast},
	Bucket: func(_ context.Context, c remote.Config) (blob.Bucket, error) {
		dir, err := dirOf(c)
		if err != nil {
			return nil, fmt.Errorf("open folder: %w", err)
		}
		if !c.Make {
			// A folder that is not there may be a disk that is not plugged in.
			if fi, err := os.Stat(dir); err != nil {
				return nil, fmt.Errorf("open folder: %w", err)
			} else if !fi.IsDir() {
				return nil, fmt.Errorf("open folder: %s is a file: %w", dir, fs.ErrExist)
			}
		}
		return disk.Open(dir, disk.Options{})
	},
	Tree: func(_ context.Context, c remote.Config) (remote.Tree, error) {
		dir, err := dirOf(c)
		if err != nil {
			return nil, fmt.Errorf("open folder: %w", err)
		}
		o := Options{CrossMounts: c.Options["cross_mounts"] == "true"}
		if names := c.Options["hashes"]; names != "" {
			o.Hashes = strings.Split(names, ",")
		}
		if c.Make {
			if err := os.MkdirAll(dir, 0o777); err != nil {
				return nil, fmt.Errorf("make folder: %w", err)
			}
		}
		return OpenTree(dir, o)
	},
}

// dirOf returns the folder that is meant. One of a remote that has a name does not depend on where the process is.
func dirOf(c remote.Config) (string, error) {
	root := c.Options["root"]
	switch {
	case root != "" && !filepath.IsAbs(root):
		return "", fmt.Errorf("%w: root: %q does not begin at the root of this machine", remote.ErrOption, root)
	case root != "":
		return filepath.Join(root, filepath.FromSlash(path.Clean("/"+filepath.ToSlash(c.Path)))), nil
	case c.Name != "" && !filepath.IsAbs(c.Path):
		return "", fmt.Errorf("%w: root: without it the path of %s has to begin at the root of this machine", remote.ErrMissing, c.Name)
	}
	return filepath.Abs(c.Path)
}
