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
