//go:build linux

package fuse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/mount"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/memfs"
)

// told is a memfs that tells of changes as its test wants.
type told struct {
	*memfs.FS
	changes chan vfs.Change
}

func newTold(t *testing.T) *told { return &told{newMem(t), make(chan vfs.Change)} }

func (f *told) Changes(ctx context.Context) iter.Seq[vfs.Change] {
	return func(yield func(vfs.Change) bool) {
		for {
			select {
			case <-ctx.Done():
				return
			case c := <-f.changes:
				if !yield(c) {
					return
				}
			}
		}
	}
}

// tell tells of changes and returns when the mount has dealt with them: it takes the
// next change only then.
func (f *told) tell(cs ...vfs.Change) {
	for _, c := range cs {
		f.changes <- c
	}
	// A change of a node that the kernel does not know, of which nothing comes.
	f.changes <- vfs.Change{Node: unknown{}}
}

// unknown is a node that no mount has heard of.
type unknown struct{ vfs.Node }

// put writes a file behind the mount's back.
func (f *told) put(t *testing.T, path, data string) vfs.Node {
	t.Helper()
	must(t, vfs.WriteFile(t.Context(), f, path, []byte(data), vfs.New{Kind: vfs.KindFile, Mode: 0o644, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}))
	n, err := vfs.Walk(t.Context(), f, path)
	must(t, err)
	return n
}

// mkdirs makes directories behind the mount's back.
func mkdirs(t *testing.T, fsys vfs.FS, path string) {
	t.Helper()
	_, err := vfs.MkdirAll(t.Context(), fsys, path, vfs.New{Kind: vfs.KindDir, Mode: 0o755, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())})
	must(t, err)
}

// eachCache runs a test with and without the write-back cache.
func eachCache(t *testing.T, run func(t *testing.T, o mount.Options)) {
	t.Run("write-back", func(t *testing.T) { run(t, mount.Options{}) })
	t.Run("write-through", func(t *testing.T) { run(t, mount.Options{WriteThrough: true}) })
}

func TestFollow_ContentLengthAndModeAreSeenAtOnce(t *testing.T) {
	eachCache(t, func(t *testing.T, o mount.Options) {
		fsys := newTold(t)
		node := fsys.put(t, "f", "short")
		m := mountHere(t, fsys, o)
		path := filepath.Join(m.Dir(), "f")
		link := filepath.Join(m.Dir(), "hard link")
		must(t, os.Link(path, link))
		for i, data := range []string{"short", "a good deal longer", "less", "", "again"} {
			fsys.put(t, "f", data)
			mtime := time.Unix(1e9+int64(i), 123456789)
			_, err := node.SetAttr(t.Context(), vfs.AttrChange{Set: vfs.SetMode | vfs.SetMTime, Mode: vfs.Mode(0o600 + i), MTime: mtime})
			must(t, err)
			fsys.tell(vfs.Change{Node: node})
			for _, p := range []string{path, link} {
				info, err := os.Stat(p)
				must(t, err)
				if info.Size() != int64(len(data)) || info.Mode() != fs.FileMode(0o600+i) || !info.ModTime().Equal(mtime) {
					t.Errorf("round %d: got %v %v %v, want %d %o %v", i, info.Size(), info.Mode(), info.ModTime(), len(data), 0o600+i, mtime)
				}
				got, err := os.ReadFile(p)
				must(t, err)
				if string(got) != data {
					t.Errorf("round %d: read %q, want %q", i, got, data)
				}
			}
		}
	})
}

func TestFollow_AnOpenFileStaysUsableAndItsWritesAreSeen(t *testing.T) {
	eachCache(t, func(t *testing.T, o mount.Options) {
		fsys := newTold(t)
		node := fsys.put(t, "f", "0123456789")
		m := mountHere(t, fsys, o)
		path := filepath.Join(m.Dir(), "f")
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		must(t, err)
		_, err = f.WriteAt([]byte("mine"), 0)
		must(t, err)
		fsys.tell(vfs.Change{Node: node})
		if got, err := os.ReadFile(path); err != nil || string(got) != "mine456789" {
			t.Errorf("read %q, %v: what was written before the change is not there", got, err)
		}
		_, err = f.WriteAt([]byte("and longer than it was"), 4)
		must(t, err)
		must(t, f.Close())
		const want = "mineand longer than it was"
		if !testkit.Eventually(func() bool {
			got, err := os.ReadFile(path)
			return err == nil && string(got) == want
		}) {
			got, err := os.ReadFile(path)
			t.Errorf("read %q, %v; want %q", got, err, want)
		}
	})
}

func TestFollow_NamesComeAndGo(t *testing.T) {
	eachCache(t, func(t *testing.T, o mount.Options) {
		fsys := newTold(t)
		mkdirs(t, fsys, "d")
		m := mountHere(t, fsys, o)
		dir, err := vfs.Walk(t.Context(), fsys, "d")
		must(t, err)
		path := filepath.Join(m.Dir(), "d", "f")
		for range 3 {
			if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) { // the kernel keeps that it is not there
				t.Fatalf("got %v, want not there", err)
			}
			fsys.put(t, "d/f", "x")
			fsys.tell(vfs.Change{Node: dir, Name: "f"})
			if _, err := os.Stat(path); err != nil {
				t.Fatalf("made behind the mount: %v", err)
			}
			if names := list(t, filepath.Dir(path)); fmt.Sprint(names) != "[f]" {
				t.Fatalf("listed %v", names)
			}
			must(t, dir.(vfs.Dir).Remove(t.Context(), "f", false))
			fsys.tell(vfs.Change{Node: dir, Name: "f"})
		}
	})
}

func TestFollow_EverythingMayHaveChanged(t *testing.T) {
	eachCache(t, func(t *testing.T, o mount.Options) {
		fsys := newTold(t)
		mkdirs(t, fsys, "d/e")
		fsys.put(t, "d/e/f", "old")
		fsys.put(t, "g", "old")
		m := mountHere(t, fsys, o)
		in := func(p string) string { return filepath.Join(m.Dir(), p) }
		for _, p := range []string{"d/e/f", "g"} {
			if got, err := os.ReadFile(in(p)); err != nil || string(got) != "old" {
				t.Fatalf("%q, %v", got, err)
			}
		}
		if _, err := os.Stat(in("d/e/new")); !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		fsys.put(t, "d/e/f", "quite new")
		fsys.put(t, "g", "new")
		fsys.put(t, "d/e/new", "new")
		fsys.tell(vfs.Change{})
		for p, want := range map[string]string{"d/e/f": "quite new", "g": "new", "d/e/new": "new"} {
			if got, err := os.ReadFile(in(p)); err != nil || string(got) != want {
				t.Errorf("%s: read %q, %v; want %q", p, got, err, want)
			}
		}
	})
}

// Notices wait for kernel locks that requests hold, and make the kernel write: with
// both under way all the time, nothing may hang.
func TestFollow_NoticesAndRequestsDoNotWaitForEachOther(t *testing.T) {
	fsys := newTold(t)
	node := fsys.put(t, "f", "x")
	root, err := fsys.Root(t.Context())
	must(t, err)
	m := mountHere(t, fsys, mount.Options{})
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				fsys.tell(vfs.Change{Node: node}, vfs.Change{Node: root, Name: fmt.Sprint(i % 7)}, vfs.Change{})
			}
		}
	}()
	rounds := 300
	if testing.Short() {
		rounds = 30
	}
	for i := range rounds {
		must(t, os.WriteFile(filepath.Join(m.Dir(), "f"), []byte(fmt.Sprint("round ", i)), 0o600))
		must(t, os.WriteFile(filepath.Join(m.Dir(), fmt.Sprint(i%7)), make([]byte, 100_000), 0o600))
		must(t, os.Rename(filepath.Join(m.Dir(), fmt.Sprint(i%7)), filepath.Join(m.Dir(), fmt.Sprint((i+1)%7))))
		if got, err := os.ReadFile(filepath.Join(m.Dir(), "f")); err != nil || string(got) != fmt.Sprint("round ", i) {
			t.Fatalf("read %q, %v in round %d", got, err, i)
		}
	}
	close(stop)
	<-ended
}

// list returns the names in a folder.
func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
