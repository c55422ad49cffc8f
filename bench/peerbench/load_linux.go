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
	"regexp"
	"time"

	"github.com/sheaf-drive/sheaf/bench/measure"
)

// A load is what the systems are given.
type load struct {
	big, front, small  string
	bigSize, smallSize int64
	files              int
}

// The names below the folders of systems.
const (
	bigName    = "big"
	smallName  = "small"
	movedName  = "moved"
	perFolder  = 100
	frontBytes = 1 << 20
	pollEvery  = 5 * time.Millisecond
)

// newLoad makes the data: a file that cannot be compressed, the same with a MiB in front, and small files of 0.2 to 16 KiB.
func newLoad(work string, scale int) (*load, error) {
	l := &load{
		big: filepath.Join(work, "load-big"), front: filepath.Join(work, "load-front"), small: filepath.Join(work, "load-small"),
		bigSize: int64(max(1024/scale, 8)) << 20, files: max(10_000/scale, 100),
	}
	if err := writeRandom(l.big, 1, l.bigSize, nil); err != nil {
		return nil, err
	}
	old, err := os.Open(l.big)
	if err != nil {
		return nil, err
	}
	err = writeRandom(l.front, 2, frontBytes, old)
	if err := errors.Join(err, old.Close()); err != nil {
		return nil, err
	}
	r := rand.New(rand.NewPCG(3, 3)) //nolint:gosec // data, the same each time
	for i := range l.files {
		dir := filepath.Join(l.small, fmt.Sprintf("%03d", i/perFolder))
		if i%perFolder == 0 {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return nil, err
			}
		}
		n := 200 + r.IntN(16<<10-200)
		b := make([]byte, n)
		for j := range b {
			b[j] = byte(r.Uint32())
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%05d", i)), b, 0o644); err != nil {
			return nil, err
		}
		l.smallSize += int64(n)
	}
	return l, nil
}

// writeRandom writes size bytes and then those of rest.
func writeRandom(name string, seed byte, size int64, rest io.Reader) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{seed}), size)
	if err == nil && rest != nil {
		_, err = io.Copy(f, rest)
	}
	return errors.Join(err, f.Close())
}

// A step is one thing that each system does.
type step struct {
	name   string
	goal   float64
	than   string // whom the goal is about
	wire   float64
	needed bool // those that follow need it
	writes bool // a file or folder of the load comes into the drive
	// from, if not "", is what of the load goes to the name at; rename moves one name to another.
	from, at, rename string
	size             func(l *load) (files int, bytes int64) // of at, afterwards
}

const (
	peakRow   = "peak resident, both sides"
	onTheWire = ", on the wire"
)

// everything is the pattern of all rows.
var everything = regexp.MustCompile("")

func steps(l *load) []step {
	one := func(more int64) func(*load) (int, int64) {
		return func(l *load) (int, int64) { return 1, l.bigSize + more }
	}
	many := func(l *load) (int, int64) { return l.files, l.smallSize }
	return []step{
		{name: "big file first", goal: 0.7, than: syncthingName, from: l.big, at: bigName, writes: true, needed: true, size: one(0)},
		{name: "1 MiB in front", goal: 1, wire: 4, from: l.front, at: bigName, writes: true, size: one(frontBytes)},
		{name: "small files", goal: 2, from: l.small, at: smallName, writes: true, needed: true, size: many},
		{name: "a folder is renamed", at: movedName, rename: smallName, size: many},
		{name: "no change", goal: 1, at: bigName, size: func(*load) (int, int64) { return 1, -1 }},
	}
}

func rowsOf(all []step) []measure.Row {
	var rows []measure.Row
	for _, st := range all {
		rows = append(rows, measure.Row{Name: st.name, Unit: measure.Seconds, Goal: st.goal, Than: st.than})
		if st.writes {
			rows = append(rows, measure.Row{Name: st.name + ", since it was written", Unit: measure.Seconds}, measure.Row{Name: st.name + ", all is there", Unit: measure.Seconds})
		}
		rows = append(rows, measure.Row{Name: st.name + onTheWire, Unit: measure.MiB, Most: st.wire}, measure.Row{Name: st.name + ", CPU", Unit: measure.Seconds})
	}
	return append(rows, measure.Row{Name: peakRow, Unit: measure.MiB})
}

// put makes a folder be what the step wants at the source, for systems whose source is a plain folder: that takes no time of theirs. dir is "" for one that
// writes by itself.
func (st *step) put(dir string, l *load) error {
	switch {
	case dir == "":
	case st.rename != "":
		return os.Rename(filepath.Join(dir, st.rename), filepath.Join(dir, st.at))
	case st.from == l.small:
		return os.CopyFS(filepath.Join(dir, st.at), os.DirFS(l.small))
	case st.from != "":
		to := filepath.Join(dir, st.at)
		if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return os.Link(st.from, to)
	}
	return nil
}

// await waits until the second end shows all names and sizes, and then reads all of it.
func (st *step) await(ctx context.Context, dir string, l *load) error {
	files, size := st.size(l)
	at := filepath.Join(dir, st.at)
	if st.from == "" && st.rename == "" {
		return nil // nothing comes
	}
	for {
		n, b, err := count(at, false)
		if err == nil && n == files && b == size {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the second end has %d of %d files and %d of %d bytes: %w", n, files, b, size, errors.Join(ctx.Err(), err))
		case <-time.After(pollEvery):
		}
	}
	n, b, err := count(at, true)
	if err == nil && (n != files || b != size) {
		err = fmt.Errorf("%d files and %d bytes were read, not %d and %d", n, b, files, size)
	}
	return err
}

// count counts the files and bytes at a name; read: by reading them.
func count(at string, read bool) (files int, size int64, err error) {
	err = filepath.WalkDir(at, func(p string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		files++
		if read {
			f, err := os.Open(p)
			if err != nil {
				return err
			}
			n, err := io.Copy(io.Discard, f)
			size += n
			return errors.Join(err, f.Close())
		}
		info, err := e.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return files, size, err
}

// compare compares what the second end has with the load, byte for byte.
func (st *step) compare(ctx context.Context, dir string, l *load) error {
	from := st.from
	switch {
	case st.rename != "":
		from = l.small
	case from == "":
		return nil
	}
	at := filepath.Join(dir, st.at)
	return filepath.WalkDir(from, func(p string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return errors.Join(err, ctx.Err())
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		same, err := measure.Same(p, filepath.Join(at, rel))
		if err == nil && !same {
			err = fmt.Errorf("%s is not what was brought", filepath.Join(at, rel))
		}
		return err
	})
}
