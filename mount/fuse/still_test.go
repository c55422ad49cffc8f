//go:build linux

package fuse

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/mount"
	"github.com/sheaf-drive/sheaf/vfs"
)

// past is a tree that says that it never changes.
type past struct{ vfs.FS }

func (past) Still() bool { return true }

// mountPast fills a tree and mounts it as one of the past, and returns what its files hold.
func mountPast(t *testing.T, r *rand.Rand) (*Mounted, map[string][]byte) {
	t.Helper()
	fsys := newMem(t)
	all := map[string][]byte{}
	for i := range 3 * stillOpen {
		b := testkit.Random(r, 1+r.IntN(300_000))
		name := fmt.Sprintf("file %d", i)
		all[name] = b
		must(t, vfs.WriteFile(t.Context(), fsys, name, b, vfs.New{Kind: vfs.KindFile, Mode: 0o644}))
	}
	return mountHere(t, past{fsys}, mount.Options{ReadOnly: true}), all
}

// Who reads a tree of the past, many at once, again and again, gets what is in it, from anywhere to the end, also when more others were read meanwhile than are kept open. The kernel opens nothing
// there.
func TestStill_ReadsWithoutOpening(t *testing.T) {
	needFuse(t)
	r := testkit.Rand(testkit.Seed(t))
	m, all := mountPast(t, r)
	names := slices.Sorted(maps.Keys(all))
	var wg sync.WaitGroup
	for range 4 {
		r := testkit.Rand(r.Int64())
		wg.Go(func() {
			for range 200 {
				name := names[r.IntN(len(names))]
				if err := readPart(filepath.Join(m.Dir(), name), all[name], r); err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
			}
		})
	}
	wg.Wait()
	m.server.files.mu.RLock()
	opened := len(m.server.files.all)
	m.server.files.mu.RUnlock()
	if opened > 0 {
		t.Errorf("%d files were opened", opened)
	}
	if n := m.server.still.len(); n != stillOpen {
		t.Errorf("%d files are kept open, want %d", n, stillOpen)
	}
	name := filepath.Join(m.Dir(), names[0])
	for _, err := range []error{os.WriteFile(name, []byte("x"), 0o600), os.Remove(name), os.Chmod(name, 0o600)} {
		wantErr(t, err, unix.EROFS)
	}
	f, err := os.Open(name)
	must(t, err)
	must(t, f.Sync())
	if off, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_HOLE); err != nil || off != int64(len(all[names[0]])) {
		t.Errorf("the first hole is at %d, error %v, want the end, %d", off, err, len(all[names[0]]))
	}
	must(t, f.Close())
	must(t, m.Unmount(t.Context()))
	if n := m.server.still.len(); n > 0 {
		t.Errorf("%d files are open after the mount has ended", n)
	}
}

func (s *still) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last.Len()
}

// readPart reads a part of a file and compares it.
func readPart(path string, want []byte, r *rand.Rand) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	off := r.IntN(len(want))
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) // so that it is asked for again
	got, err := io.ReadAll(io.NewSectionReader(f, int64(off), 1<<20))
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want[off:]) {
		return fmt.Errorf("from %d on: %d bytes that are not those of the file", off, len(got))
	}
	return nil
}

// countedFile counts how often it is opened and closed, and finds who reads after Close.
type countedFile struct {
	vfs.File
	opened, closed atomic.Int64
}

type countedHandle struct {
	vfs.Handle
	f    *countedFile
	gone atomic.Bool
}

func (f *countedFile) Open(context.Context, vfs.OpenFlag) (vfs.Handle, error) {
	f.opened.Add(1)
	return &countedHandle{f: f}, nil
}

func (h *countedHandle) Close(context.Context) error {
	h.f.closed.Add(1)
	if h.gone.Swap(true) {
		panic("closed twice")
	}
	return nil
}

// However many take files at once, none is closed while somebody has it, and each is closed once.
func TestStill_ClosesWhatNobodyUses(t *testing.T) {
	s := newStill()
	files, nodes := make([]*countedFile, 2*stillOpen), make([]*inode, 2*stillOpen)
	for i := range files {
		files[i] = &countedFile{}
		nodes[i] = &inode{id: uint64(i + 2), node: files[i]}
	}
	var wg sync.WaitGroup
	for g := range 8 {
		r := rand.New(rand.NewPCG(1, uint64(g)))
		wg.Go(func() {
			for range 5000 {
				f, err := s.take(context.Background(), nodes[r.IntN(len(nodes))])
				if err != nil {
					t.Error(err)
					return
				}
				if f.h.(*countedHandle).gone.Load() {
					t.Error("a file that is used is closed")
				}
				s.give(f)
			}
		})
	}
	wg.Wait()
	if n := s.last.Len(); n != stillOpen || len(s.byID) != n {
		t.Errorf("%d and %d files are kept, want %d", n, len(s.byID), stillOpen)
	}
	s.close()
	opened := int64(0)
	for _, f := range files {
		opened += f.opened.Load()
		if f.opened.Load() != f.closed.Load() {
			t.Errorf("opened %d times and closed %d times", f.opened.Load(), f.closed.Load())
		}
	}
	if opened <= int64(len(files)) {
		t.Errorf("opened %d times: this shows nothing", opened)
	}
}
