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
	"strings"

	"github.com/sheaf-drive/sheaf/bench/measure"
)

// A load is what the systems are given.
type load struct {
	big, front, tree  string
	bigSize, treeSize int64
	files             int
}

// A step is one thing that each system does.
type step struct {
	name, src, what string
	goal, cpu       float64
	back            bool // out of the store
	mount           bool // found and read through a mount
	added           bool // what it adds to the store is a row
	stored          bool // what the store has after it is a row
	mostAdded       float64
	prepare         func(l *load) error
}

const (
	peakRow   = "peak resident"
	storedRow = "stored after all"
)

func steps(l *load) []step {
	return []step{
		{name: "big file in", src: l.big, what: "big", goal: 0.4, cpu: 0.8},
		{name: "big file, unchanged", src: l.big, what: "big", goal: 1},
		{name: "1 MiB in front", src: l.big, what: "big", goal: 0.5, added: true, mostAdded: 4, prepare: putInFront},
		{name: "tree in", src: l.tree, what: "tree", goal: 0.5, cpu: 0.8},
		{name: "tree, unchanged", src: l.tree, what: "tree", goal: 0.5, stored: true},
		{name: findRow, src: l.tree, what: "tree", mount: true},
		{name: "tree back", src: l.tree, what: "tree", goal: 0.6, back: true},
		{name: "big file back", src: l.big, what: "big", goal: 0.6, back: true},
	}
}

func rowsOf(all []step) []measure.Row {
	var rows []measure.Row
	for _, st := range all {
		if st.mount {
			rows = append(rows, measure.Row{Name: findRow, Unit: measure.Seconds, Goal: 0.3}, measure.Row{Name: catRow, Unit: measure.Seconds, Goal: 0.4})
			continue
		}
		rows = append(rows, measure.Row{Name: st.name, Unit: measure.Seconds, Goal: st.goal})
		rows = append(rows, measure.Row{Name: st.name + ", CPU", Unit: measure.Seconds, Goal: st.cpu})
		if st.added {
			rows = append(rows, measure.Row{Name: st.name + ", added", Unit: measure.MiB, Most: st.mostAdded})
		}
	}
	return append(rows, measure.Row{Name: storedRow, Unit: measure.MiB, Goal: 1.02}, measure.Row{Name: peakRow, Unit: measure.MiB, Most: 250})
}

// newLoad makes the data: a file that cannot be compressed, and the Go source tree with files of /usr/bin.
func newLoad(ctx context.Context, work string, scale int) (*load, error) {
	l := &load{
		big: filepath.Join(work, "big"), front: filepath.Join(work, "front"), tree: filepath.Join(work, "tree"),
		bigSize: int64(max(2048/scale, 16)) << 20,
	}
	if err := writeRandom(l.big, l.bigSize); err != nil {
		return nil, err
	}
	out, err := measure.Output(ctx, work, nil, nil, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	if err := l.take(filepath.Join(strings.TrimSpace(string(out)), "src"), filepath.Join(l.tree, "src"), max(12_000/scale, 200), 1<<40); err != nil {
		return nil, err
	}
	for _, dir := range []string{"/usr/bin", "/usr/lib", "/usr/share"} {
		if left := int64(1024/scale)<<20 - l.treeSize; left > 0 {
			if err := l.take(dir, filepath.Join(l.tree, filepath.Base(dir)), 20_000, left); err != nil {
				return nil, err
			}
		}
	}
	return l, nil
}

func writeRandom(name string, size int64) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{1}), size)
	return errors.Join(err, f.Close())
}

// take copies the first regular files below src, up to so many files and bytes.
func (l *load) take(src, dst string, files int, bytes int64) error {
	return filepath.WalkDir(src, func(p string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrPermission) {
			return nil
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if files <= 0 || bytes <= 0 {
			return fs.SkipAll
		}
		rel, err := filepath.Rel(src, p)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return fmt.Errorf("read %s: %w", p, err)
		}
		to := filepath.Join(dst, rel)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		files--
		bytes -= int64(len(b))
		l.files++
		l.treeSize += int64(len(b))
		return os.WriteFile(to, b, 0o644)
	})
}

// putInFront puts a MiB in front of the big file, another one in each round.
func putInFront(l *load) (err error) {
	old, err := os.Open(l.big)
	if err != nil {
		return err
	}
	defer func() { _ = old.Close() }() // it was only read
	f, err := os.Create(l.front)
	if err != nil {
		return err
	}
	info, err := old.Stat()
	if err == nil {
		_, err = io.CopyN(f, rand.NewChaCha8([32]byte{2, byte(info.Size() >> 20)}), 1<<20)
	}
	if err == nil {
		_, err = io.Copy(f, old)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(l.front, l.big)
}

// size returns the bytes of all files below dir.
func size(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}
