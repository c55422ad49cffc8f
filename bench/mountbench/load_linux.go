package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/bench/measure"
)

// newLoad makes what the systems are given to do, below work.
func newLoad(ctx context.Context, work string, scale int) (*load, error) {
	l := &load{
		data: make([]byte, max(1024/scale, 4)*mib), ops: max(20_000/scale, 1000), txs: max(1000/scale, 50),
		tar: filepath.Join(work, "tree.tar"), repo: filepath.Join(work, "tree.git"),
	}
	// The same data each time: every drive is a new one, so nothing is there twice.
	if _, err := rand.NewChaCha8([32]byte{1}).Read(l.data); err != nil {
		return nil, err
	}
	out, err := measure.Output(ctx, work, nil, nil, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	if l.files, err = pack(filepath.Join(strings.TrimSpace(string(out)), "src"), l.tar, scale); err != nil {
		return nil, fmt.Errorf("make the tree: %w", err)
	}
	return l, l.makeRepo(ctx, work)
}

// pack writes the first 1/scale of the files below src, in the order of their names, with
// their directories. It returns how many there are.
func pack(src, to string, scale int) (n int, err error) {
	total := 0
	if err := filepath.WalkDir(src, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			total++
		}
		return err
	}); err != nil {
		return 0, err
	}
	f, err := os.Create(to)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := tar.NewWriter(f)
	err = filepath.WalkDir(src, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case n >= (total+scale-1)/scale:
			return fs.SkipAll
		case path == src || !e.IsDir() && !e.Type().IsRegular():
			return nil
		case !e.IsDir():
			n++
		}
		return packOne(w, src, path, e)
	})
	return n, errors.Join(err, w.Close())
}

func packOne(w *tar.Writer, src, path string, e fs.DirEntry) error {
	info, err := e.Info()
	if err != nil {
		return err
	}
	h, err := tar.FileInfoHeader(info, "")
	if err != nil {
		return err
	}
	if h.Name, err = filepath.Rel(src, path); err != nil {
		return err
	}
	// Whoever unpacks it owns it, with times that every file system keeps.
	h.Uid, h.Gid, h.Uname, h.Gname = os.Getuid(), os.Getgid(), "", ""
	h.ModTime = h.ModTime.Truncate(time.Second)
	if e.IsDir() {
		h.Name += "/"
		return w.WriteHeader(h)
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return errors.Join(err, f.Close())
}

// makeRepo makes a bare repository of the tree, of one commit and one pack.
func (l *load) makeRepo(ctx context.Context, work string) error {
	tree := filepath.Join(work, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"tar", "-xf", l.tar},
		{"git", "init", "-q"},
		{"git", "add", "-A", "-f"},
		{"git", "-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-q", "-m", "tree"},
		{"git", "clone", "-q", "--bare", "--no-local", tree, l.repo},
	} {
		if _, err := measure.Output(ctx, tree, quietGit, nil, args...); err != nil {
			return err
		}
	}
	return os.RemoveAll(tree)
}

// machine describes what runs here.
func (c *config) machine(ctx context.Context, work string) (measure.Machine, error) {
	programs := [][]string{
		{c.Sheaf, "version"},
		{c.crypt, "-version"},
		{"fio", "--version"},
		{"sqlite3", "--version"},
		{"git", "--version"},
		{"tar", "--version"},
		{"find", "--version"},
		{"ls", "--version"},
	}
	if c.juice != "" {
		programs = append(programs, []string{c.juice, "version"})
	}
	m, err := measure.Describe(ctx, work, c.Rounds, c.Scale, programs)
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == "github.com/hanwen/go-fuse/v2" {
				m.Versions = append(m.Versions, "nullfs: go-fuse "+d.Version+", "+info.GoVersion)
			}
		}
	}
	return m, err
}
