package memfs_test

import (
	"errors"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/memfs"
	"github.com/sheaf-drive/sheaf/vfs/vfstest"
)

func TestFS_KeepsTheContract(t *testing.T) {
	vfstest.Run(t, func(*testing.T) vfs.FS { return memfs.New(memfs.Options{}) })
}

func TestFS_ReadOnlyKeepsTheContract(t *testing.T) {
	vfstest.RunReadOnly(t, func(t *testing.T) vfs.FS {
		f := memfs.New(memfs.Options{})
		if err := vfstest.Plant(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		f.SetReadOnly(true)
		return f
	})
}

func TestFS_SetReadOnlyBindsOpenHandles(t *testing.T) {
	ctx := t.Context()
	f := memfs.New(memfs.Options{ReadOnly: true})
	if err := vfs.WriteFile(ctx, f, "f", nil, vfs.New{}); !errors.Is(err, vfs.ErrReadOnly) {
		t.Errorf("WriteFile: got %v", err)
	}
	f.SetReadOnly(false)
	if err := vfs.WriteFile(ctx, f, "f", []byte("x"), vfs.New{}); err != nil {
		t.Fatal(err)
	}
	h, err := vfs.OpenPath(ctx, f, "f", vfs.OpenWrite)
	if err != nil {
		t.Fatal(err)
	}
	f.SetReadOnly(true)
	if _, err := h.WriteAt(ctx, []byte("y"), 0); !errors.Is(err, vfs.ErrReadOnly) {
		t.Errorf("WriteAt: got %v", err)
	}
	if err := h.Close(ctx); err != nil {
		t.Error(err)
	}
}

func TestFS_LimitRefusesWholeWritesAndFreesWhatIsGone(t *testing.T) {
	ctx := t.Context()
	f := memfs.New(memfs.Options{Limit: 10 * 4096})
	free := func(want uint64) {
		t.Helper()
		u, err := f.Usage(ctx)
		if err != nil || u.BytesFree != want*4096 {
			t.Errorf("free: got %d bytes, %v, want %d pages", u.BytesFree, err, want)
		}
	}
	root, err := f.Root(ctx)
	if err != nil {
		t.Fatal(err)
	}
	file, h, err := root.Create(ctx, "f", vfs.New{Kind: vfs.KindFile}, vfs.OpenRead|vfs.OpenWrite)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.WriteAt(ctx, make([]byte, 8*4096), 0); err != nil {
		t.Fatal(err)
	}
	if n, err := h.WriteAt(ctx, make([]byte, 3*4096), 8*4096); n != 0 || !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("a write of too much: got %d, %v", n, err)
	}
	if _, err := h.CopyTo(ctx, 0, h, 8*4096, 3*4096); !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("a copy of too much: got %v", err)
	}
	if a, err := file.Attr(ctx); a.Size != 8*4096 || err != nil {
		t.Errorf("size: got %d, %v", a.Size, err)
	}
	free(2)
	if _, err := h.WriteAt(ctx, make([]byte, 8*4096), 100); err != nil { // one page more
		t.Error(err)
	}
	free(1)
	if err := h.Truncate(ctx, 1<<50); err != nil { // a hole takes no room
		t.Error(err)
	}
	free(1)
	if err := h.Allocate(ctx, vfs.AllocPunch, 4096, 4*4096); err != nil {
		t.Error(err)
	}
	free(5)
	if err := root.Remove(ctx, "f", false); err != nil {
		t.Error(err)
	}
	free(5) // still open
	if err := h.Close(ctx); err != nil {
		t.Error(err)
	}
	free(10)
}

func TestFS_TellsTheTimeOfItsOptions(t *testing.T) {
	now := time.Date(2040, 1, 2, 3, 4, 5, 6, time.UTC)
	f := memfs.New(memfs.Options{Now: func() time.Time { return now }})
	if err := vfs.WriteFile(t.Context(), f, "f", []byte("x"), vfs.New{}); err != nil {
		t.Fatal(err)
	}
	n, err := vfs.Walk(t.Context(), f, "f")
	if err != nil {
		t.Fatal(err)
	}
	a, err := n.Attr(t.Context())
	if err != nil || !a.MTime.Equal(now) || !a.CTime.Equal(now) || !a.BTime.Equal(now) {
		t.Errorf("got %+v, %v, want the times to be %v", a, err, now)
	}
}
