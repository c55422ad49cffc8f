//go:build cgofuse && cgo

package winfsp

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/winfsp/cgofuse/fuse"
	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/mount"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/memfs"
)

// treeNames returns the names in the root of a tree.
func treeNames(t testing.TB, fsys vfs.FS) []string {
	t.Helper()
	root, err := fsys.Root(t.Context())
	must(t, err)
	names := []string{}
	for e, err := range root.List(t.Context(), "") {
		must(t, err)
		names = append(names, e.Name)
	}
	return names
}

// syncDir makes a mount do what it put off in a directory.
func syncDir(t testing.TB, dir string) {
	t.Helper()
	d, err := os.Open(dir)
	must(t, err)
	must(t, d.Sync())
	must(t, d.Close())
}

func TestHidden_ARemovedFileHasNoNameInTheTree(t *testing.T) {
	fsys := newMem(t)
	dir := mountHere(t, fsys, mount.Options{}, false).Dir()
	path := filepath.Join(dir, "f")
	must(t, os.WriteFile(path, []byte("data"), 0o644))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	must(t, os.Remove(path))
	syncDir(t, dir)
	if names := treeNames(t, fsys); len(names) > 0 {
		t.Errorf("the tree has %q", names)
	}
	var st unix.Stat_t
	must(t, unix.Fstat(int(f.Fd()), &st))
	if st.Nlink != 0 {
		t.Errorf("it has %d links", st.Nlink)
	}
	must(t, os.WriteFile(path, []byte("another"), 0o644))
	must(t, f.Truncate(2))
	must(t, f.Close())
	if got, err := os.ReadFile(path); string(got) != "another" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if names := treeNames(t, fsys); !slices.Equal(names, []string{"f"}) {
		t.Errorf("the tree has %q", names)
	}
}

func TestHidden_ARemovedFileIsGoneAfterAMoment(t *testing.T) {
	fsys := newMem(t)
	dir := mountHere(t, fsys, mount.Options{}, false).Dir()
	f, err := os.Create(filepath.Join(dir, "f"))
	must(t, err)
	must(t, os.Remove(f.Name()))
	if !testkit.Eventually(func() bool { return len(treeNames(t, fsys)) == 0 }) {
		t.Fatalf("the tree has %q", treeNames(t, fsys))
	}
	must(t, f.Close())
}

// What is replaced while it is open is replaced in one step: whoever looks at the tree sees the name at all times.
func TestHidden_AReplacedFileIsAlwaysThere(t *testing.T) {
	fsys := newMem(t)
	dir := mountHere(t, fsys, mount.Options{}, false).Dir()
	path := filepath.Join(dir, "f")
	must(t, os.WriteFile(path, []byte("0"), 0o644))
	root, err := fsys.Root(t.Context())
	must(t, err)
	var done atomic.Bool
	var looked, missed int
	var looking sync.WaitGroup
	looking.Go(func() {
		for !done.Load() {
			looked++
			runtime.Gosched()
			if _, err := root.Lookup(context.Background(), "f"); err != nil {
				missed++
			}
		}
	})
	for range 100 {
		f, err := os.Open(path)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, "new"), []byte("1"), 0o644))
		must(t, os.Rename(filepath.Join(dir, "new"), path))
		must(t, f.Close())
	}
	done.Store(true)
	looking.Wait()
	if missed > 0 || looked < 100 {
		t.Errorf("looked %d times, and it was missing %d times", looked, missed)
	}
	if names := treeNames(t, fsys); !slices.Equal(names, []string{"f"}) {
		t.Errorf("the tree has %q", names)
	}
}

// A file that is open yet when it gets such a name cannot be told from one that is removed: see hide.
func TestHidden_ANameThatOnlyLooksSoIsAName(t *testing.T) {
	fsys := newMem(t)
	m := mountHere(t, fsys, mount.Options{}, false)
	dir := m.Dir()
	closed := func() bool {
		m.a.opens.mu.Lock()
		defer m.a.opens.mu.Unlock()
		return len(m.a.opens.files) == 0
	}
	names := []string{".fuse_hidden", ".fuse_hidden0000000200000001", ".fuse_hidden00000002ffffffff"}
	for i, name := range names {
		path := filepath.Join(dir, "f")
		must(t, os.WriteFile(path, []byte("data"), 0o644))
		if !testkit.Eventually(closed) {
			t.Fatal("a file that was closed stays open")
		}
		must(t, os.Rename(path, filepath.Join(dir, name)))
		if got, err := os.ReadFile(filepath.Join(dir, name)); string(got) != "data" || err != nil {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
		if got := treeNames(t, fsys); !slices.Equal(got, names[:i+1]) {
			t.Errorf("the tree has %q", got)
		}
	}
	// This libfuse may count them as open still, and hide them. Nobody has opened them with another.
	must(t, m.Unmount(t.Context()))
	dir = mountHere(t, fsys, mount.Options{}, false).Dir()
	for i, name := range names {
		must(t, os.Remove(filepath.Join(dir, name)))
		if got := treeNames(t, fsys); !slices.Equal(got, names[i+1:]) {
			t.Errorf("the tree has %q", got)
		}
	}
}

// Every name of the corpus, in one directory, is shown, leads to its file, and can be made and removed, with the rules of Windows.
func TestWindows_AllNamesLeadToTheirFiles(t *testing.T) {
	fsys := newMem(t)
	var names []string
	for _, p := range corpus(t) {
		names = append(names, p.name)
	}
	slices.Sort(names)
	shown := EncodeAll(names)
	for _, name := range names {
		must(t, vfs.WriteFile(t.Context(), fsys, name, []byte(name), vfs.New{Mode: 0o644, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}))
	}
	dir := mountHere(t, fsys, mount.Options{}, true).Dir()
	// The kernel of Linux bears no name of more than 255 bytes, while Windows counts 255 units of two.
	list := func() map[string]bool {
		t.Helper()
		entries, err := os.ReadDir(dir)
		must(t, err)
		all := map[string]bool{}
		for _, e := range entries {
			all[e.Name()] = true
		}
		return all
	}
	all := list()
	short := 0
	for i, w := range shown {
		if len(w) > vfs.MaxName {
			continue
		}
		short++
		if !all[w] {
			t.Errorf("%q is not shown as %q", names[i], w)
		}
		if got, err := os.ReadFile(dir + "/" + w); string(got) != names[i] || err != nil {
			t.Errorf("%q, shown as %q: got %q, %v", names[i], w, got, err)
		}
	}
	for i, w := range shown {
		if len(w) > vfs.MaxName {
			continue
		}
		must(t, os.Remove(dir+"/"+w))
		if _, err := vfs.Walk(t.Context(), fsys, names[i]); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%q, shown as %q, was removed, and is there: %v", names[i], w, err)
		}
	}
	if left := treeNames(t, fsys); len(left) != len(names)-short {
		t.Errorf("%d are left, want %d", len(left), len(names)-short)
	}
	for _, w := range []string{"a\uf03ab", "\uf043ON", "end\uf02e", "caf\uf0e9", "plain"} { // and the other way
		must(t, os.WriteFile(dir+"/"+w, []byte(w), 0o644))
		name, _, _ := Decode(w)
		if got, err := vfs.ReadFile(t.Context(), fsys, name, 100); string(got) != w || err != nil {
			t.Errorf("%q made as %q: got %q, %v", w, name, got, err)
		}
	}
	for _, w := range []string{"CON", "a.", "\uf041b"} {
		if err := os.WriteFile(dir+"/"+w, nil, 0o644); !errors.Is(err, unix.EINVAL) {
			t.Errorf("made %q: %v, want EINVAL", w, err)
		}
		if _, err := os.Lstat(dir + "/" + w); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("looked for %q: %v", w, err)
		}
	}
}

func TestWindows_CaseIsKeptAndNotHeeded(t *testing.T) {
	fsys := newMem(t)
	dir := mountHere(t, fsys, mount.Options{}, true).Dir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.Mkdir(at("Folder"), 0o755))
	must(t, os.WriteFile(at("Folder/ReadMe.txt"), []byte("data"), 0o644))
	for _, name := range []string{"Folder/ReadMe.txt", "FOLDER/readme.TXT", "folder/README.txt"} {
		if got, err := os.ReadFile(at(name)); string(got) != "data" || err != nil {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	if _, err := os.OpenFile(at("folder/readme.txt"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made beside it: %v", err)
	}
	if err := os.Mkdir(at("FOLDER"), 0o755); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made beside it: %v", err)
	}
	must(t, os.Rename(at("folder/readme.txt"), at("folder/README.TXT"))) // the case alone
	if names := treeNamesAt(t, fsys, "Folder"); !slices.Equal(names, []string{"README.TXT"}) {
		t.Errorf("the tree has %q", names)
	}
	must(t, os.WriteFile(at("folder/new"), []byte("new"), 0o644))
	must(t, os.Rename(at("folder/new"), at("folder/Readme.txt"))) // replaces
	if names := treeNamesAt(t, fsys, "Folder"); !slices.Equal(names, []string{"README.TXT"}) {
		t.Errorf("the tree has %q", names)
	}
	if got, err := vfs.ReadFile(t.Context(), fsys, "Folder/README.TXT", 100); string(got) != "new" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	must(t, os.Remove(at("FOLDER/readme.TXT")))
	must(t, os.Remove(at("foldER")))
	if names := treeNames(t, fsys); len(names) > 0 {
		t.Errorf("the tree has %q", names)
	}
}

func treeNamesAt(t testing.TB, fsys vfs.FS, path string) []string {
	t.Helper()
	d, err := vfs.WalkDir(t.Context(), fsys, path)
	must(t, err)
	names := []string{}
	for e, err := range d.List(t.Context(), "") {
		must(t, err)
		names = append(names, e.Name)
	}
	return names
}

// What only WinFsp asks for, asked for here without it.
func TestWindows_AttributesTimesAndPaths(t *testing.T) {
	fsys := newMem(t)
	ctx := t.Context()
	must(t, vfs.WriteFile(ctx, fsys, "Some File", []byte("x"), vfs.New{Mode: 0o600, UID: 5, GID: 6}))
	a, err := newAdapter(ctx, fsys, true, silent())
	must(t, err)
	zero := func(code int) {
		t.Helper()
		if code != 0 {
			t.Fatalf("got %v", fuse.Error(code))
		}
	}
	const path = "/SOME file"
	var st fuse.Stat_t
	zero(a.Getattr(path, &st, none))
	born := st.Birthtim
	if st.Flags != 0 || born != stamp(born.Time()) || born.Sec == 0 {
		t.Errorf("at first: %+v", st)
	}
	zero(a.Chflags(path, fuse.UF_HIDDEN|fuse.UF_READONLY|1))
	zero(a.Setcrtime(path, fuse.Timespec{Sec: 5, Nsec: 6}))
	zero(a.Setchgtime(path, fuse.Timespec{Sec: 7, Nsec: 8}))
	zero(a.Getattr(path, &st, none))
	if st.Flags != fuse.UF_HIDDEN|fuse.UF_READONLY || st.Birthtim != (fuse.Timespec{Sec: 5, Nsec: 6}) || st.Ctim != (fuse.Timespec{Sec: 7, Nsec: 8}) {
		t.Errorf("got %+v", st)
	}
	listed := map[string]uint32{}
	zero(a.Readdir("/", func(name string, st *fuse.Stat_t, _ int64) bool {
		if st != nil {
			listed[name] = st.Flags
		}
		return true
	}, 0, none))
	if listed["Some File"] != fuse.UF_HIDDEN|fuse.UF_READONLY {
		t.Errorf("listed: %v", listed)
	}
	zero(a.Setxattr(path, "EA", []byte("value"), 0))
	var names []string
	zero(a.Listxattr(path, func(name string) bool { names = append(names, name); return true }))
	if !slices.Equal(names, []string{"EA"}) {
		t.Errorf("attributes: %q", names)
	}
	zero(a.Chflags(path, 0))
	zero(a.Setcrtime(path, born))
	n, err := vfs.Walk(ctx, fsys, "Some File")
	must(t, err)
	if left, err := n.ListXattr(ctx); !slices.Equal(left, []string{"user.EA"}) || err != nil {
		t.Errorf("stored: %q, %v", left, err)
	}
	if code := a.Chown(path, 1, 2); code != -fuse.ENOSYS {
		t.Errorf("chown: %v", fuse.Error(code))
	}
	if code, got := a.Getpath(path, none); code != 0 || got != "/Some File" {
		t.Errorf("path: %q, %v", got, code)
	}
	zero(a.Mkdir("/d", 0))
	zero(a.Mknod("/d/f", fuse.S_IFREG, 0))
	d, err := vfs.Walk(ctx, fsys, "d/f")
	must(t, err)
	if at, err := d.Attr(ctx); at.UID != uint32(os.Getuid()) || at.Mode != windowsFile || err != nil {
		t.Errorf("made: %+v, %v", at, err)
	}
	zero(a.Symlink("../what?/end\uf02e", "/d/l"))
	l, err := vfs.Walk(ctx, fsys, "d/l")
	must(t, err)
	if target, err := l.(vfs.Link).Target(ctx); target != "../what?/end." || err != nil {
		t.Errorf("link: %q, %v", target, err)
	}
	if code, got := a.Readlink("/D/L"); code != 0 || got != "../what\uf03f/end\uf02e" {
		t.Errorf("link: %q, %v", got, code)
	}
}

func TestMount_EndsWhenNothingIsOpen(t *testing.T) {
	fsys := newMem(t)
	m := mountHere(t, fsys, mount.Options{}, false)
	f, err := os.Create(filepath.Join(m.Dir(), "f"))
	must(t, err)
	if err := m.Unmount(t.Context()); !errors.Is(err, mount.ErrBusy) {
		t.Fatalf("unmount while a file is open: %v", err)
	}
	data := bytes.Repeat([]byte("data"), 1<<18)
	_, err = f.Write(data) // it goes on
	must(t, err)
	must(t, f.Close())
	must(t, m.Unmount(t.Context()))
	must(t, m.Unmount(t.Context()))
	must(t, m.Wait())
	if got, err := vfs.ReadFile(t.Context(), fsys, "f", 1<<22); !bytes.Equal(got, data) || err != nil {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

func TestMount_IsAbortedWithFilesOpen(t *testing.T) {
	fsys := newMem(t)
	m := mountHere(t, fsys, mount.Options{}, false)
	f, err := os.Create(filepath.Join(m.Dir(), "f"))
	must(t, err)
	_, err = f.WriteString("data")
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	must(t, m.Abort(ctx))
	f.Close()
	if got, err := vfs.ReadFile(t.Context(), fsys, "f", 100); string(got) != "data" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestMount_RefusesWhatCannotBe(t *testing.T) {
	needFuse(t)
	fsys := newMem(t)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o644))
	for path, want := range map[string]error{dir: mount.ErrNotEmpty, filepath.Join(dir, "f"): vfs.ErrNotDir, filepath.Join(dir, "x"): fs.ErrNotExist} {
		if _, err := Mount(t.Context(), fsys, path, mount.Options{}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
	m := mountHere(t, fsys, mount.Options{ReadOnly: true}, false)
	if _, err := Mount(t.Context(), fsys, m.Dir(), mount.Options{}); !errors.Is(err, mount.ErrMounted) {
		t.Errorf("mounted twice: %v", err)
	}
	if err := os.WriteFile(filepath.Join(m.Dir(), "f"), nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("written to a mount for reading: %v", err)
	}
	a, err := newAdapter(t.Context(), memfs.New(memfs.Options{}), true, silent()) // where no kernel refuses it
	must(t, err)
	a.readOnly = true
	_, fh := a.Create("/f", fuse.O_RDWR, 0o644)
	for what, code := range map[string]int{
		"mkdir": a.Mkdir("/d", 0), "rename": a.Rename("/a", "/b"), "unlink": a.Unlink("/a"), "rmdir": a.Rmdir("/a"), "link": a.Link("/a", "/b"),
		"symlink": a.Symlink("a", "/b"), "truncate": a.Truncate("/", 0, none), "chflags": a.Chflags("/", 0), "utimens": a.Utimens("/", nil),
		"setxattr": a.Setxattr("/", "x", nil, 0), "removexattr": a.Removexattr("/", "x"), "setcrtime": a.Setcrtime("/", fuse.Timespec{}),
	} {
		if code != -fuse.EROFS {
			t.Errorf("%s: %v", what, fuse.Error(code))
		}
	}
	if fh != none {
		t.Error("a file was made")
	}
}
