package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/sheaf-drive/sheaf/bench/measure"
)

// A load is a tree of files that cannot be compressed, in four parts, of which one is renamed.
type load struct {
	name     string
	dir      string
	files    int
	min, max int // bytes of a file
	folders  int // in a part
	bytes    int64
}

// What a tree has.
const (
	parts      = 4
	renamedOld = "part-1"
	renamedNew = "renamed"
)

// loads are many small files, and big ones: 10,000, and 20 GiB in 2,000, divided by scale.
func loads(work string, scale int) []*load {
	return []*load{
		{name: "small", dir: filepath.Join(work, "load-small"), files: max(10_000/scale, 100), min: 200, max: 16 << 10, folders: max(25/scale, 1)},
		{name: "big", dir: filepath.Join(work, "load-big"), files: max(2_000/scale, 20), min: 10 << 20, max: 10<<20 + 1, folders: 1},
	}
}

// path is where the i-th file is.
func (l *load) path(i int) string {
	return filepath.Join(fmt.Sprintf("part-%d", i%parts), fmt.Sprintf("folder-%02d", i/parts%l.folders), fmt.Sprintf("file-%05d", i))
}

// make writes the tree.
func (l *load) make() error {
	r := rand.New(rand.NewPCG(3, uint64(l.files))) //nolint:gosec // data, the same each time
	for i := range l.files {
		size := l.min + r.IntN(l.max-l.min)
		if err := fill(filepath.Join(l.dir, l.path(i)), uint64(i), int64(size)); err != nil {
			return err
		}
		l.bytes += int64(size)
	}
	return nil
}

// fill makes a file of random bytes at a name where one may be, in one step.
func fill(name string, seed uint64, size int64) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), "new-")
	if err != nil {
		return err
	}
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	_, err = io.CopyN(f, rand.NewChaCha8(key), size)
	return errors.Join(err, f.Chmod(0o644), f.Close(), os.Rename(f.Name(), name))
}

// link makes a tree of the same files: nobody writes into them, for what changes is replaced.
func (l *load) link(dir string) error {
	for i := range l.files {
		to := filepath.Join(dir, l.path(i))
		err := os.Link(filepath.Join(l.dir, l.path(i)), to)
		if errors.Is(err, fs.ErrNotExist) {
			if err = os.MkdirAll(filepath.Dir(to), 0o755); err == nil {
				err = os.Link(filepath.Join(l.dir, l.path(i)), to)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A step is what happens at the left place before a program has its turn.
type step struct {
	name string
	do   func(l *load, dir string) error
	goal float64 // of the time that than takes
	than string
	wire float64 // MiB, if not 0
}

// steps are in the order in which they are done. The goals are those of PEERS: a rule against rclone.
func steps() []step {
	return []step{
		{name: "first", do: (*load).link, goal: 0.8, than: rcloneName},
		{name: "no change", do: func(*load, string) error { return nil }, goal: 0.5, than: rcloneName},
		{name: "1 % changed", do: (*load).change, goal: 0.6, than: bisyncName},
		{name: "a folder renamed", do: (*load).rename, wire: 1},
	}
}

// change has one file in a hundred be another one, of another length: some programs know a server's files by that only.
func (l *load) change(dir string) error {
	for i := 0; i < l.files; i += 100 {
		name := filepath.Join(dir, l.path(i))
		info, err := os.Stat(name)
		if err == nil {
			err = fill(name, uint64(l.files+i), info.Size()+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *load) rename(dir string) error {
	return os.Rename(filepath.Join(dir, renamedOld), filepath.Join(dir, renamedNew))
}

// history is where sheaf keeps on each side what it replaced or removed there.
const history = ".sheaf-history"

// alike returns an error if two trees differ in any name or byte.
func alike(ctx context.Context, left, right string) error {
	n, err := within(ctx, left, right)
	if err != nil {
		return err
	}
	m, err := within(ctx, right, "")
	if err == nil && n != m {
		err = fmt.Errorf("one side has %d files and the other one %d", n, m)
	}
	return err
}

// within counts the files of a tree; if other is not "", each is compared with that of the same name there.
func within(ctx context.Context, dir, other string) (files int, err error) {
	err = filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		switch {
		case err != nil || ctx.Err() != nil:
			return errors.Join(err, ctx.Err())
		case e.IsDir() && e.Name() == history:
			return fs.SkipDir
		case !e.Type().IsRegular():
			return nil
		}
		files++
		if other == "" {
			return nil
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		same, err := measure.Same(p, filepath.Join(other, rel))
		if err == nil && !same {
			err = fmt.Errorf("%s is not the same on both sides", rel)
		}
		return err
	})
	return files, err
}

// patience is how long one turn of a program may take.
const patience = time.Hour
