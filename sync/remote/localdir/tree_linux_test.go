package localdir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/aside"
)

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, data string) {
	t.Helper()
	ok(t, os.WriteFile(path, []byte(data), 0o644))
}

func stat(t *testing.T, tree *Tree, path string) remote.Item {
	t.Helper()
	it, err := tree.Stat(t.Context(), path)
	ok(t, err)
	return it
}

func put(t *testing.T, tree *Tree, path, data string, known remote.Version) error {
	t.Helper()
	_, err := tree.Put(t.Context(), remote.Item{Path: path, Size: int64(len(data)), MTime: time.Unix(1e9, 0)}, strings.NewReader(data), known)
	return err
}

// names returns all that is in a folder, also what is hidden.
func names(t *testing.T, dir string) []string {
	t.Helper()
	all, err := os.ReadDir(dir)
	ok(t, err)
	var n []string
	for _, e := range all {
		n = append(n, e.Name())
	}
	return n
}

// S5, S6: a change that keeps size and time of a file is seen, also at once after the file was looked at.
func TestTree_AChangeThatKeepsSizeAndTimeIsSeen(t *testing.T) {
	dir := t.TempDir()
	tree := openTree(t, dir, Options{})
	path := filepath.Join(dir, "file")
	at := time.Unix(1e9, 12345)
	seen := map[remote.Version]string{}
	for i := range 50 {
		data := fmt.Sprintf("%04d", i)
		write(t, path, data) // the same file: its number does not change
		ok(t, os.Chtimes(path, at, at))
		it := stat(t, tree, "file")
		if old, ok := seen[it.Version]; ok {
			t.Fatalf("%q and %q have the version %q", old, data, it.Version)
		}
		seen[it.Version] = data
		if !it.MTime.Equal(at) {
			t.Fatalf("got time %v, want %v", it.MTime, at)
		}
	}
}

// A version that is given is never that of bytes which are written in the same step of the clock.
func TestTree_WhatIsWrittenRightAfterALookIsSeen(t *testing.T) {
	dir := t.TempDir()
	tree := openTree(t, dir, Options{})
	path := filepath.Join(dir, "file")
	for i := range 100 {
		write(t, path, fmt.Sprint("a", i%10))
		before := stat(t, tree, "file").Version
		write(t, path, fmt.Sprint("b", i%10))
		if after := stat(t, tree, "file").Version; after == before {
			t.Fatalf("round %d: the bytes changed, and the version is still %q", i, before)
		}
	}
}

func TestTree_AFileThatIsWrittenWhileItIsReadIsAnError(t *testing.T) {
	dir := t.TempDir()
	tree := openTree(t, dir, Options{})
	path := filepath.Join(dir, "file")
	write(t, path, strings.Repeat("a", 1<<20))
	for _, withVersion := range []bool{false, true} {
		for _, n := range []int64{-1, 1 << 20, 500_000} {
			known := remote.Version("")
			if withVersion {
				known = stat(t, tree, "file").Version
			}
			r, err := tree.Open(t.Context(), "file", 0, n, known)
			ok(t, err)
			_, err = io.ReadFull(r, make([]byte, 1000))
			ok(t, err)
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			ok(t, err)
			_, err = f.WriteAt([]byte("b"), 400_000)
			ok(t, errors.Join(err, f.Close()))
			if _, err = io.ReadAll(r); !errors.Is(err, remote.ErrChanged) {
				t.Errorf("%d bytes of version %q: got error %v, want ErrChanged", n, known, err)
			}
			ok(t, r.Close())
		}
	}
}

// Somebody writes while what is to replace the file comes in: it is not replaced.
func TestTree_AFileThatChangesDuringAPutStays(t *testing.T) {
	for _, how := range []string{"written", "written, with the old time", "replaced", "removed", "made a directory"} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			tree := openTree(t, dir, Options{})
			path := filepath.Join(dir, "file")
			write(t, path, "user 1")
			it := stat(t, tree, "file")
			body := io.MultiReader(strings.NewReader("from "), readerFunc(func() {
				switch how {
				case "written", "written, with the old time":
					write(t, path, "user 2")
					if how != "written" {
						ok(t, os.Chtimes(path, it.MTime, it.MTime))
					}
				case "replaced":
					write(t, path+"2", "user 2")
					ok(t, os.Rename(path+"2", path))
				case "removed", "made a directory":
					ok(t, os.Remove(path))
					if how != "removed" {
						ok(t, os.Mkdir(path, 0o755))
					}
				}
			}), strings.NewReader("afar"))
			if _, err := tree.Put(t.Context(), remote.Item{Path: "file", Size: 9}, body, it.Version); !errors.Is(err, remote.ErrChanged) {
				t.Errorf("got error %v, want ErrChanged", err)
			}
			want := []string{"file"}
			if how == "removed" {
				want = nil
			}
			if got := names(t, dir); !slices.Equal(got, want) {
				t.Errorf("got %q in the folder, want %q", got, want)
			}
			if p, err := os.ReadFile(path); strings.HasPrefix(how, "wr") || how == "replaced" {
				if err != nil || string(p) != "user 2" {
					t.Errorf("got %q, error %v, want what the user wrote", p, err)
				}
			}
		})
	}
}

type readerFunc func()

func (f readerFunc) Read([]byte) (int, error) { f(); return 0, io.EOF }

// The last moment: what came out in the exchange is not what was looked at right before. It comes back.
func TestTree_WhatChangedAtTheLastMomentComesBack(t *testing.T) {
	dir := t.TempDir()
	tree := openTree(t, dir, Options{})
	write(t, filepath.Join(dir, "file"), "user 1")
	was, version, err := tree.settled(t.Context(), tree.root, "file")
	ok(t, err)
	temp, _, err := tree.write(t.Context(), tree.root, remote.Item{Size: 4, MTime: time.Now()}, strings.NewReader("afar"))
	ok(t, err)
	was.mtime = was.mtime.Add(-time.Hour) // as if it had been looked at before the user wrote, and again by nobody
	if err := tree.replace(tree.root, temp, "file", &was, version); !errors.Is(err, remote.ErrChanged) {
		t.Errorf("got error %v, want ErrChanged", err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"file"}) {
		t.Errorf("got %q in the folder, want the file alone", got)
	}
	if p, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(p) != "user 1" {
		t.Errorf("got %q, error %v, want what the user wrote", p, err)
	}
}

func TestTree_AFileThatSomebodyHasOpenForWritingIsNeitherReplacedNorRemoved(t *testing.T) {
	dir := t.TempDir()
	tree := openTree(t, dir, Options{})
	path := filepath.Join(dir, "file")
	write(t, path, "user 1")
	it := stat(t, tree, "file")
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	ok(t, err)
	defer func() { _ = f.Close() }()
	if err := put(t, tree, "file", "afar", it.Version); !errors.Is(err, remote.ErrChanged) {
		t.Errorf("put: got error %v, want ErrChanged", err)
	}
	if err := tree.Remove(t.Context(), "file", stat(t, tree, "file").Version); !errors.Is(err, remote.ErrChanged) {
		t.Errorf("remove: got error %v, want ErrChanged", err)
	}
	_, err = f.WriteString("user 2")
	ok(t, err)
	if p, err := os.ReadFile(path); err != nil || string(p) != "user 2" {
		t.Errorf("got %q, error %v, want what the user writes", p, err)
	}
	ok(t, f.Close())
	ok(t, put(t, tree, "file", "afar", stat(t, tree, "file").Version))
	if got := names(t, dir); !slices.Equal(got, []string{"file"}) {
		t.Errorf("got %q in the folder, want the file alone", got)
	}
}

// Two programs count in one file, one of them by this package, and the other by exchanging files as editors do: no step is lost.
func TestTree_NoUpdateOfAnotherProgramIsLost(t *testing.T) {
	dir := t.TempDir()
	tree := openTree(t, dir, Options{})
	path := filepath.Join(dir, "log")
	write(t, path, "")
	const each = 60
	add := func(who string, i int) string { return fmt.Sprintf("%s%d\n", who, i) }
	var wg sync.WaitGroup
	wg.Go(func() { // appends in place, under no lock: what it has written must stay
		for i := range each {
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := f.WriteString(add("user", i)); err != nil {
				t.Error(err)
			}
			_ = f.Close()
			time.Sleep(time.Millisecond)
		}
	})
	done := 0
	for tries := 0; done < each && tries < 50*each; tries++ {
		it := stat(t, tree, "log")
		r, err := tree.Open(t.Context(), "log", 0, -1, it.Version)
		if errors.Is(err, remote.ErrChanged) {
			continue
		}
		ok(t, err)
		p, err := io.ReadAll(r)
		_ = r.Close()
		if errors.Is(err, remote.ErrChanged) {
			continue
		}
		ok(t, err)
		if err := put(t, tree, "log", string(p)+add("tree", done), it.Version); err == nil {
			done++
		} else if !errors.Is(err, remote.ErrChanged) {
			t.Fatal(err)
		}
	}
	wg.Wait()
	p, err := os.ReadFile(path)
	ok(t, err)
	for i := range each {
		if !strings.Contains(string(p), add("user", i)) {
			t.Errorf("%q is lost", add("user", i))
		}
	}
	for i := range done {
		if !strings.Contains(string(p), add("tree", i)) {
			t.Errorf("%q is lost", add("tree", i))
		}
	}
	if done == 0 {
		t.Error("nothing was put: the test shows nothing")
	}
}

func TestTree_WhatACrashLeftIsClearedUpAndNobodysFileIsLost(t *testing.T) {
	dir := t.TempDir()
	tree := openTree(t, dir, Options{})
	ours, err := tree.named(tree.root, func() string { write(t, filepath.Join(dir, aside.Name(0)), "half"); return names(t, dir)[0] }())
	ok(t, err)
	somebodys := aside.Name(12345)
	write(t, filepath.Join(dir, somebodys), "precious")
	removed := aside.Name(0)
	write(t, filepath.Join(dir, removed), "removed by whom?")
	list := func() []remote.Item {
		var all []remote.Item
		for it, err := range tree.List(t.Context(), "") {
			ok(t, err)
			all = append(all, it)
		}
		return all
	}
	if got := list(); len(got) != 0 {
		t.Errorf("got %v, want nothing of what is hidden", got)
	}
	if got := names(t, dir); len(got) != 3 {
		t.Errorf("got %q, want all three, for they are young", got)
	}
	for _, name := range []string{ours, somebodys, removed} {
		tree.rescue(tree.root, "", name, time.Now().Add(2*aside.Age))
	}
	var texts []string
	for _, it := range list() {
		p, err := os.ReadFile(filepath.Join(dir, it.Path))
		ok(t, err)
		texts = append(texts, string(p))
	}
	slices.Sort(texts)
	if want := []string{"precious", "removed by whom?"}; !slices.Equal(texts, want) {
		t.Errorf("got %q, want %q", texts, want)
	}
	if got := names(t, dir); len(got) != 2 {
		t.Errorf("got %q, want two files", got)
	}
}

// A Put that fails removes its own hidden file, and not what somebody else's file came to be under the name of it.
func TestTree_APutThatFailsRemovesNobodysFile(t *testing.T) {
	dir := t.TempDir()
	tree := openTree(t, dir, Options{})
	broken := errors.New("the line broke")
	_, err := tree.Put(t.Context(), remote.Item{Path: "file", Size: 9}, io.MultiReader(strings.NewReader("from "), readerFunc(func() {
		write(t, filepath.Join(dir, "user"), "precious")
		for _, name := range names(t, dir) {
			if aside.Is(name) {
				ok(t, os.Rename(filepath.Join(dir, "user"), filepath.Join(dir, name)))
			}
		}
	}), iotest.ErrReader(broken)), "")
	if !errors.Is(err, broken) {
		t.Errorf("got error %v, want that of the body", err)
	}
	got := names(t, dir)
	if len(got) != 1 {
		t.Fatalf("got %q in the folder, want the user's file", got)
	}
	if p, err := os.ReadFile(filepath.Join(dir, got[0])); err != nil || string(p) != "precious" {
		t.Errorf("got %q, error %v, want what the user wrote", p, err)
	}
}

// A mode is never that of what a link leads to.
func TestFolder_SetModeFollowsNoLink(t *testing.T) {
	base := t.TempDir()
	outside := filepath.Join(base, "outside")
	write(t, outside, "x")
	dir := filepath.Join(base, "in")
	ok(t, os.Mkdir(dir, 0o755))
	ok(t, os.Symlink(outside, filepath.Join(dir, "link")))
	write(t, filepath.Join(dir, "file"), "x")
	in := openTree(t, dir, Options{}).root
	for what, set := range map[string]func(string) error{
		"setMode": func(name string) error { return in.setMode(name, 0o600) },
		"chmod":   func(name string) error { return in.chmod(name, 0o640) },
	} {
		if err := set("link"); !errors.Is(err, unix.ELOOP) {
			t.Errorf("%s of a link: got error %v, want ELOOP", what, err)
		}
		ok(t, set("file"))
	}
	for path, want := range map[string][]fs.FileMode{outside: {0o644}, filepath.Join(dir, "file"): {0o600, 0o640}} {
		fi, err := os.Stat(path)
		ok(t, err)
		if !slices.Contains(want, fi.Mode().Perm()) {
			t.Errorf("%s has mode %v, want %v", path, fi.Mode(), want)
		}
	}
}

func TestTree_HiddenNamesCannotBeHad(t *testing.T) {
	tree := openTree(t, t.TempDir(), Options{})
	if err := put(t, tree, aside.Name(1), "x", ""); !errors.Is(err, remote.ErrIllegal) {
		t.Errorf("got error %v, want ErrIllegal", err)
	}
}

// What is neither a file, a directory nor a link is told, and not touched: to open a FIFO would wait for ever.
func TestTree_OddThingsAreOther(t *testing.T) {
	dir := t.TempDir()
	tree := openTree(t, dir, Options{})
	ok(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	if err := unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		t.Logf("no device: %v", err)
	}
	for _, name := range names(t, dir) {
		it := stat(t, tree, name)
		if it.Kind != remote.Other || it.Version != "" {
			t.Errorf("%s: got %+v, want an Other", name, it)
		}
		if _, err := tree.Open(t.Context(), name, 0, -1, ""); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("open %s: got error %v, want fs.ErrInvalid", name, err)
		}
		if err := tree.Remove(t.Context(), name, ""); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("remove %s: got error %v, want fs.ErrInvalid", name, err)
		}
		if err := put(t, tree, name, "x", ""); !errors.Is(err, remote.ErrChanged) {
			t.Errorf("put %s: got error %v, want ErrChanged", name, err)
		}
	}
}

// While links are put in the place of directories, as fast as that goes, nothing outside of the root is written or read.
func TestTree_NothingIsDoneThroughLinksThatComeMeanwhile(t *testing.T) {
	base := t.TempDir()
	dir, outside := filepath.Join(base, "in"), filepath.Join(base, "out")
	ok(t, os.Mkdir(dir, 0o755))
	ok(t, os.MkdirAll(filepath.Join(outside, "sub"), 0o755))
	write(t, filepath.Join(outside, "secret"), "secret")
	tree := openTree(t, dir, Options{})
	ok(t, os.MkdirAll(filepath.Join(dir, "d"), 0o755))
	ok(t, os.Symlink(outside, filepath.Join(dir, "l")))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, "d"), unix.AT_FDCWD, filepath.Join(dir, "l"), unix.RENAME_EXCHANGE)
		}
	})
	for i := range 300 {
		_ = put(t, tree, fmt.Sprint("d/f", i), "x", "")
		_, _ = tree.Mkdir(t.Context(), fmt.Sprint("d/d", i), 0o755)
		_ = tree.Remove(t.Context(), "d/secret", "")
		_ = tree.Remove(t.Context(), "d/sub", "")
		if r, err := tree.Open(t.Context(), "d/secret", 0, -1, ""); err == nil {
			t.Error("read what lies outside")
			_ = r.Close()
		}
		for it, err := range tree.List(t.Context(), "d") {
			if err == nil && it.Path == "d/secret" {
				t.Error("listed what lies outside")
			}
		}
	}
	cancel()
	wg.Wait()
	if got := names(t, outside); !slices.Equal(got, []string{"secret", "sub"}) {
		t.Errorf("outside is %q", got)
	}
}

// S4: a folder that was replaced, or whose disk was unmounted, is no empty folder.
func TestTree_AFolderThatIsGoneIsNotEmpty(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "root")
	ok(t, os.Mkdir(dir, 0o755))
	write(t, filepath.Join(dir, "file"), "x")
	tree := openTree(t, dir, Options{})
	before, err := tree.Identity(t.Context())
	ok(t, err)
	gone := func(when string) {
		t.Helper()
		if _, err := tree.Identity(t.Context()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: identity: got error %v, want fs.ErrNotExist", when, err)
		}
		seq, next := tree.Changes(t.Context(), "")
		var last error
		for _, last = range seq {
		}
		if !errors.Is(last, remote.ErrIncomplete) || next() != "" {
			t.Errorf("%s: changes: got error %v and cursor %q, want ErrIncomplete and none", when, last, next())
		}
	}
	ok(t, os.Rename(dir, dir+"2"))
	gone("moved away")
	ok(t, os.Mkdir(dir, 0o755))
	gone("another one made")
	other := openTree(t, dir, Options{})
	after, err := other.Identity(t.Context())
	ok(t, err)
	if before == after {
		t.Errorf("another folder at the same path is %q, too", after)
	}
}

func TestTree_ADiskThatWasUnmountedIsNotEmpty(t *testing.T) {
	dir := mounted(t, "tmpfs", "size=4m")
	write(t, filepath.Join(dir, "file"), "x")
	tree, err := OpenTree(dir, Options{})
	ok(t, err)
	before, err := tree.Identity(t.Context())
	ok(t, err)
	ok(t, unix.Unmount(dir, unix.MNT_DETACH))
	seq, next := tree.Changes(t.Context(), "")
	for _, err = range seq {
	}
	if !errors.Is(err, remote.ErrIncomplete) || next() != "" {
		t.Errorf("changes: got error %v, want ErrIncomplete", err)
	}
	ok(t, tree.Close())
	left := openTree(t, dir, Options{})
	if after, err := left.Identity(t.Context()); err != nil || after == before {
		t.Errorf("what is left is %q, error %v, as the disk was", after, err)
	}
}

// mounted mounts a small file system in a new folder.
func mounted(t *testing.T, kind, options string) string {
	t.Helper()
	dir := t.TempDir()
	mountAt(t, dir, kind, kind, options)
	return dir
}

func mountAt(t *testing.T, dir, source, kind, options string) {
	t.Helper()
	if err := unix.Mount(source, dir, kind, 0, options); err != nil {
		testkit.Lacks(t, fmt.Errorf("mount a file system of kind %s: %w", kind, err))
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

func TestTree_AnotherFileSystemBelowIsNotEntered(t *testing.T) {
	dir := t.TempDir()
	below := filepath.Join(dir, "disk")
	ok(t, os.Mkdir(below, 0o755))
	mountAt(t, below, "tmpfs", "tmpfs", "size=1m")
	write(t, filepath.Join(below, "file"), "x")
	tree := openTree(t, dir, Options{})
	all := func(tree *Tree) (paths []string) {
		seq, _ := tree.Changes(t.Context(), "")
		for c, err := range seq {
			ok(t, err)
			paths = append(paths, fmt.Sprint(c.Path, " ", c.Kind))
		}
		return paths
	}
	if got, want := all(tree), []string{fmt.Sprint("disk ", remote.Other)}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := tree.Stat(t.Context(), "disk/file"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat below: got error %v, want fs.ErrNotExist", err)
	}
	cross := openTree(t, dir, Options{CrossMounts: true})
	if got, want := all(cross), []string{fmt.Sprint("disk ", remote.Dir), fmt.Sprint("disk/file ", remote.File)}; !slices.Equal(got, want) {
		t.Errorf("with CrossMounts: got %q, want %q", got, want)
	}
}

func TestTree_AFullDiskSaysSoAndKeepsWhatIsThere(t *testing.T) {
	dir := mounted(t, "tmpfs", "size=1m")
	tree := openTree(t, dir, Options{})
	ok(t, put(t, tree, "file", "old", ""))
	it := stat(t, tree, "file")
	_, err := tree.Put(t.Context(), remote.Item{Path: "file", Size: 4 << 20}, io.LimitReader(testkit.RandomReader(1, 4<<20), 4<<20), it.Version)
	if !errors.Is(err, blob.ErrNoSpace) {
		t.Errorf("got error %v, want ErrNoSpace", err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"file"}) {
		t.Errorf("got %q in the folder, want the file alone", got)
	}
	ok(t, put(t, tree, "file", "new", it.Version))
}
