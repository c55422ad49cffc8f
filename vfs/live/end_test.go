package live

import (
	"fmt"
	"runtime"
	"testing"
	"time"
	"weak"

	"github.com/sheaf-drive/sheaf/vfs"
)

// The memory of a tree that nobody has any more is free, whatever was loaded of it and changed in it.
func TestFS_IsGoneWhenNobodyHasIt(t *testing.T) {
	d := newDisk()
	use := func(readOnly bool) weak.Pointer[FS] {
		d.tune = func(o *Options) { o.ReadOnly = readOnly }
		f, err := d.open(t)
		if err != nil {
			t.Fatal(err)
		}
		v := f.View()
		if !readOnly {
			for i := range 10 {
				if err := vfs.WriteFile(t.Context(), v, fmt.Sprint("f", i), []byte("x"), vfs.New{Kind: vfs.KindFile, Mode: 0o600}); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := vfs.MkdirAll(t.Context(), v, "a/b", vfs.New{Kind: vfs.KindDir, Mode: 0o700}); err != nil {
				t.Fatal(err)
			}
			if err := f.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		root, err := v.Root(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, err := range vfs.Tree(t.Context(), root) {
			if n++; err != nil {
				t.Fatal(err)
			}
		}
		if n < 12 {
			t.Fatalf("the tree has %d entries", n)
		}
		if err := f.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		return weak.Make(f)
	}
	for _, readOnly := range []bool{false, false, true} {
		f := use(readOnly)
		for begin := time.Now(); f.Value() != nil; runtime.GC() {
			if time.Since(begin) > 10*time.Second {
				t.Fatalf("the tree is still there; read-only: %v", readOnly)
			}
		}
	}
}

// A file is in memory while somebody uses it or something of it is not committed, and while it has several names: not because it once had.
func TestFS_ForgetsFilesThatHadSeveralNames(t *testing.T) {
	d := newDisk()
	f, err := d.open(t)
	if err != nil {
		t.Fatal(err)
	}
	const files = 100
	func() { // nothing of this is held when it returns
		v := f.View()
		root, err := v.Root(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range files {
			name, other := fmt.Sprint("f", i), fmt.Sprint("g", i)
			if err := vfs.WriteFile(t.Context(), v, name, []byte("x"), vfs.New{Kind: vfs.KindFile, Mode: 0o600}); err != nil {
				t.Fatal(err)
			}
			n, err := root.Lookup(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			if err := root.Link(t.Context(), other, n); err != nil {
				t.Fatal(err)
			}
			if i%3 == 0 {
				continue // these have two names
			}
			if i%3 == 1 {
				name = other
			}
			if err := root.Remove(t.Context(), name, false); err != nil {
				t.Fatal(err)
			}
		}
	}()
	inMemory := func(f *FS, most int) {
		t.Helper()
		if err := f.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.Trim()
		n := 0
		for begin := time.Now(); ; runtime.GC() {
			f.tableMu.Lock()
			n = f.table.Len()
			f.tableMu.Unlock()
			if n <= most {
				break
			}
			if time.Since(begin) > 10*time.Second {
				t.Fatalf("%d files are in memory", n)
			}
		}
		if n < files/3 {
			t.Errorf("%d of %d files with two names are known to be one", n, files/3+1)
		}
	}
	inMemory(f, files/3+2) // with the root
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f, err = d.open(t); err != nil {
		t.Fatal(err)
	}
	inMemory(f, files/3+2)
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}
