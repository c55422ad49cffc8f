package live

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs"
)

// sparse is a file with holes.
type sparse struct {
	data []byte
	runs [][2]int64 // of data
}

func (s *sparse) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return bytes.NewReader(s.data).ReadAt(p, off)
}

func (s *sparse) Data(_ context.Context, off int64) (int64, int64, error) {
	for _, r := range s.runs {
		if r[1] > off {
			return max(r[0], off), r[1], nil
		}
	}
	return 0, 0, io.EOF
}

// randomSparse makes runs of data and holes of all lengths about those that matter.
func randomSparse(rng *rand.Rand) *sparse {
	s := &sparse{}
	lengths := []int{1, 4096, minHole - 1, minHole, minHole + 1, 200 << 10, 3 << 20, 9 << 20}
	hole := rng.IntN(2) == 0
	for range rng.IntN(6) {
		n := lengths[rng.IntN(len(lengths))] + rng.IntN(3)
		at := len(s.data)
		s.data = append(s.data, make([]byte, n)...)
		if !hole {
			copy(s.data[at:], testkit.Random(rng, n))
			s.runs = append(s.runs, [2]int64{int64(at), int64(at + n)})
		}
		hole = !hole
	}
	return s
}

func store(t *testing.T, l *Load, src LoadSource, size int64) (parts []Stored) {
	t.Helper()
	err := l.Store(t.Context(), src, size, func(s Stored) error { parts = append(parts, s); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return parts
}

func createAt(t *testing.T, f *FS, as string) vfs.Handle {
	t.Helper()
	root, err := f.View().Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, h, err := root.Create(t.Context(), as, vfs.New{Kind: vfs.KindFile, Mode: 0o600}, vfs.OpenRead|vfs.OpenWrite)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// loads is how many files are tried.
func loads() int {
	if os.Getenv("SHEAF_LONG") != "" {
		return 1000
	}
	return 12
}

func give(t *testing.T, f *FS, l *Load, as string, parts []Stored, size int64) {
	t.Helper()
	h := createAt(t, f, as)
	defer func() { _ = h.Close(t.Context()) }()
	for _, p := range parts {
		if err := l.Give(t.Context(), h, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Truncate(t.Context(), size); err != nil {
		t.Fatal(err)
	}
}

// A file that is loaded is, chunk for chunk, the file that is written.
func TestLoad_GivesTheChunksThatWritingGives(t *testing.T) {
	rng := testkit.Rand(testkit.Seed(t))
	for i := range loads() {
		d := newDisk()
		f := mustOpen(t, d)
		s := randomSparse(rng)
		size := int64(len(s.data))
		l, err := f.Load()
		if err != nil {
			t.Fatal(err)
		}
		parts := store(t, l, s, size)
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		give(t, f, l, "loaded", parts, size)
		l.Close()
		if got, err := vfs.ReadFile(t.Context(), f.View(), "loaded", 1<<30); err != nil || !bytes.Equal(got, s.data) {
			t.Fatalf("file %d, %d bytes with data at %v: it reads as another one, %v", i, size, s.runs, err)
		}

		h := createAt(t, f, "written")
		for _, r := range s.runs {
			if _, err := h.WriteAt(t.Context(), s.data[r[0]:r[1]], r[0]); err != nil {
				t.Fatal(err)
			}
		}
		if err := h.Truncate(t.Context(), size); err != nil {
			t.Fatal(err)
		}
		_ = h.Close(t.Context())
		if err := f.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		var refs [2]chunk.Ref
		for k, as := range []string{"loaded", "written"} {
			n, err := f.lookup(t.Context(), f.root, as)
			if err != nil {
				t.Fatal(err)
			}
			refs[k] = n.file.base
			if got, err := vfs.ReadFile(t.Context(), f.View(), as, 1<<30); err != nil || !bytes.Equal(got, s.data) {
				t.Fatalf("file %d, committed, %s: it reads as another one, %v", i, as, err)
			}
		}
		if refs[0] != refs[1] {
			t.Fatalf("file %d, %d bytes with data at %v: loaded %v, written %v", i, size, s.runs, refs[0], refs[1])
		}
	}
}

// What Give returned for and Sync made durable is there after a power cut, before any commit; and
// nothing can be given that a power cut would take.
func TestLoad_WhatWasGivenOutlivesAPowerCut(t *testing.T) {
	rng := testkit.Rand(testkit.Seed(t))
	d := newDisk()
	f := mustOpen(t, d)
	s := &sparse{data: testkit.Random(rng, 7<<20), runs: [][2]int64{{0, 7 << 20}}}
	l, err := f.Load()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	parts := store(t, l, s, int64(len(s.data)))
	h := createAt(t, f, "f")
	if err := l.Give(t.Context(), h, parts[0]); err == nil {
		t.Fatal("chunks that are not durable were given")
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Give(t.Context(), h, parts[0]); err != nil {
		t.Fatal(err)
	}
	_ = h.Close(t.Context())
	if err := f.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := mustOpen(t, d.crash(rng))
	if got, err := vfs.ReadFile(t.Context(), after.View(), "f", 1<<30); err != nil || !bytes.Equal(got, s.data) {
		t.Fatalf("after a power cut: %d bytes, %v", len(got), err)
	}
	// What gc must leave alone, until it is committed.
	_, roots := after.Roots()
	for _, p := range parts[0].runs {
		if !slices.Contains(roots, *p.ref) {
			t.Errorf("%v is no root", p.ref)
		}
	}
}

// What is small needs no flush, and is there after a power cut all the same; what comes when there was enough of it does.
func TestLoad_LittleGoesByTheJournal(t *testing.T) {
	rng := testkit.Rand(testkit.Seed(t))
	d := newDisk()
	f := mustOpen(t, d)
	flushes := 0
	d.store.fail = func(op string) error {
		if op == "flush" {
			flushes++
		}
		return nil
	}
	l, err := f.Load()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// Data, a hole that stays one, data, a hole at the end.
	const size = 150 << 10
	s := &sparse{data: testkit.Random(rng, size), runs: [][2]int64{{0, 100}, {50 << 10, 100 << 10}}}
	clear(s.data[100 : 50<<10])
	clear(s.data[100<<10:])
	few := store(t, l, s, size)
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	give(t, f, l, "few", few, size)
	if d.store.puts > 0 || flushes > 0 {
		t.Errorf("%d chunks and %d flushes for %d bytes", d.store.puts, flushes, size)
	}
	more := store(t, l, s, size) // 300 KiB together
	h := createAt(t, f, "more")
	if err := l.Give(t.Context(), h, more[0]); err == nil {
		t.Error("chunks that are not durable were given")
	}
	_ = h.Close(t.Context())
	if err := f.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := mustOpen(t, d.crash(rng))
	if got, err := vfs.ReadFile(t.Context(), after.View(), "few", 1<<30); err != nil || !bytes.Equal(got, s.data) {
		t.Fatalf("after a power cut: %d bytes, %v", len(got), err)
	}
}

func TestLoad_TellsWhatFails(t *testing.T) {
	d := newDisk()
	f := mustOpen(t, d)
	l, err := f.Load()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	short := &sparse{data: make([]byte, 100), runs: [][2]int64{{0, 200}}}
	never := func(Stored) error { return errors.New("handed out") }
	if err := l.Store(t.Context(), short, 200, never); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a file that became shorter: %v", err)
	}
	full := fmt.Errorf("put: %w", vfs.ErrNoSpace)
	d.store.fail = func(string) error { return full }
	long := &sparse{data: make([]byte, 20<<20), runs: [][2]int64{{0, 20 << 20}}}
	if err := l.Store(t.Context(), long, 20<<20, never); !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("a full store: %v", err)
	}
	d.store.fail = nil
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Store(ctx, long, 20<<20, never); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	other := mustOpen(t, newDisk())
	h := createAt(t, other, "f")
	if err := l.Give(t.Context(), h, Stored{}); !errors.Is(err, vfs.ErrCrossTree) {
		t.Errorf("a file of another tree: %v", err)
	}
	_ = h.Close(t.Context())
}
