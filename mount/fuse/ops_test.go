//go:build linux

package fuse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/mount"
	"github.com/sheaf-drive/sheaf/vfs"
)

func TestForget_TheTableShrinksWithTheKernelsCache(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may drop the kernel's caches")
	}
	m := mountHere(t, newMem(t), mount.Options{})
	const dirs, files = 20, 50
	for i := range dirs {
		d := filepath.Join(m.Dir(), fmt.Sprint(i))
		must(t, os.Mkdir(d, 0o700))
		for k := range files {
			must(t, os.WriteFile(filepath.Join(d, fmt.Sprint(k)), []byte("x"), 0o600))
		}
		must(t, os.Link(filepath.Join(d, "0"), filepath.Join(d, "hard link")))
		must(t, os.Rename(filepath.Join(d, "1"), filepath.Join(d, "moved")))
		must(t, os.Remove(filepath.Join(d, "2")))
	}
	nodes := m.server.nodes
	for round := range 3 {
		walk(t, m.Dir())
		if n := nodes.len(); n < dirs*(files-1) {
			t.Fatalf("round %d: %d nodes known, want %d at least", round, n, dirs*(files-1))
		}
		if !testkit.Eventually(func() bool {
			must(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0))
			return nodes.len() == 1
		}) {
			t.Fatalf("round %d: %d nodes are still known after the kernel dropped its cache, want the root alone", round, nodes.len())
		}
		nodes.mu.RLock()
		if nodes.byNode.Len() != 1 {
			t.Errorf("round %d: %d nodes held, want the root alone", round, nodes.byNode.Len())
		}
		nodes.mu.RUnlock()
	}
}

// walk lists a folder and all below it.
func walk(t *testing.T, dir string) (files int) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil {
			_, err = e.Info()
			files++
		}
		return err
	}))
	return files
}

func TestTable_NamesFollowTheNode(t *testing.T) {
	fsys := newMem(t)
	root, err := fsys.Root(t.Context())
	must(t, err)
	node, err := root.Make(t.Context(), "f", vfs.New{Kind: vfs.KindFile})
	must(t, err)
	a, err := node.Attr(t.Context())
	must(t, err)
	tab := newInodes(root, 1)
	top := tab.get(rootID)
	n := tab.tell(node, &a, top, "f")
	tab.tell(node, &a, top, "f")
	tab.tell(node, &a, top, "g")
	tab.rename(node, top, "f", top, "h")
	names := func(ps []place) (names []string) {
		for _, p := range ps {
			names = append(names, p.name)
		}
		slices.Sort(names)
		return names
	}
	if got := fmt.Sprint(names(tab.placesOf(n))); got != "[g h]" {
		t.Errorf("names %s, want [g h]", got)
	}
	tab.unname(node, top, "g")
	old, places := tab.supersede(node)
	if old != n || fmt.Sprint(names(places)) != "[h]" || !tab.isStale(n) {
		t.Errorf("superseded %v with names %v", old, names(places))
	}
	newer := tab.tell(node, &a, top, "h")
	if newer.id == n.id || tab.known(node) != newer || tab.get(n.id) != n {
		t.Errorf("a changed node has number %d, had %d; want a new one beside the old", newer.id, n.id)
	}
	tab.forget(n.id, 2)
	if tab.get(n.id) == nil {
		t.Error("forgotten with one telling left")
	}
	tab.forget(n.id, 1)
	tab.forget(newer.id, 1)
	tab.forget(rootID, 100)
	tab.forget(12345, 1)
	if tab.len() != 1 || tab.known(node) != nil {
		t.Errorf("%d nodes left, want the root alone", tab.len())
	}
}

func TestReaddir_CookiesKeepTheirMeaning(t *testing.T) {
	m := mountHere(t, newMem(t), mount.Options{})
	const n = 3000
	for i := range n {
		must(t, os.WriteFile(filepath.Join(m.Dir(), fmt.Sprintf("%05d", i)), nil, 0o600))
	}
	fd, err := unix.Open(m.Dir(), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(fd)

	// Read on in small pieces, removing what was read: every name comes once.
	seen := map[string]int{}
	cookies := map[string]int64{}
	for {
		entries := getdents(t, fd, 2000)
		if len(entries) == 0 {
			break
		}
		for _, e := range entries {
			seen[e.name]++
			cookies[e.name] = e.off
			if strings.HasSuffix(e.name, "7") {
				must(t, os.Remove(filepath.Join(m.Dir(), e.name)))
			}
		}
	}
	if len(seen) != n+2 {
		t.Errorf("%d names, want %d", len(seen), n+2)
	}
	for name, k := range seen {
		if k != 1 {
			t.Errorf("%s came %d times", name, k)
		}
	}
	// Go back to before the first name, and on from there: each has the cookie that it had.
	_, err = unix.Seek(fd, cookies[".."], 0)
	must(t, err)
	for range 20 {
		for _, e := range getdents(t, fd, 2000) {
			if e.off != cookies[e.name] {
				t.Fatalf("%s has the cookie %d now, and had %d", e.name, e.off, cookies[e.name])
			}
		}
	}
	// Go back to anywhere: the next name that is still there follows, also after one that is gone.
	rng := rand.New(rand.NewPCG(1, 1))
	for range 100 {
		i := rng.IntN(n - 20)
		name := fmt.Sprintf("%05d", i)
		_, err := unix.Seek(fd, cookies[name], 0)
		must(t, err)
		next := i + 1
		if next%10 == 7 {
			next++
		}
		if got := getdents(t, fd, 400); len(got) == 0 || got[0].name != fmt.Sprintf("%05d", next) {
			t.Fatalf("after the cookie of %s comes %v, want %05d", name, got, next)
		} else if got[0].off != cookies[got[0].name] {
			t.Fatalf("%s has the cookie %d now, and had %d", got[0].name, got[0].off, cookies[got[0].name])
		}
	}
	// To go back to the beginning makes no difference to that (seekdir(3), not rewinddir(3)).
	_, err = unix.Seek(fd, 0, 0)
	must(t, err)
	for _, e := range getdents(t, fd, 2000) {
		if e.off != cookies[e.name] {
			t.Fatalf("from the beginning, %s has the cookie %d now, and had %d", e.name, e.off, cookies[e.name])
		}
	}
	_, err = unix.Seek(fd, cookies["02998"], 0)
	must(t, err)
	if got := getdents(t, fd, 400); len(got) != 1 || got[0].name != "02999" {
		t.Fatalf("after the cookie of 02998 comes %v, want 02999", got)
	}
	// Rewound, it is the directory as it is now.
	must(t, os.WriteFile(filepath.Join(m.Dir(), "00000a"), nil, 0o600))
	_, err = unix.Seek(fd, 0, 0)
	must(t, err)
	names := map[string]bool{}
	for {
		entries := getdents(t, fd, 50_000)
		if len(entries) == 0 {
			break
		}
		for _, e := range entries {
			names[e.name] = true
		}
	}
	if len(names) != n-n/10+1+2 || !names["00000a"] {
		t.Errorf("rewound: %d names, the new one among them: %v; want %d", len(names), names["00000a"], n-n/10+3)
	}
}

type dirent struct {
	name string
	off  int64
}

// getdents reads what one call with a buffer of size bytes gives.
func getdents(t *testing.T, fd, size int) (all []dirent) {
	t.Helper()
	buf := make([]byte, size)
	n, err := unix.Getdents(fd, buf)
	must(t, err)
	for buf = buf[:n]; len(buf) > 0; {
		var e gofuse.DirEntry
		n := e.Parse(buf)
		all = append(all, dirent{e.Name, int64(e.Off)})
		buf = buf[n:]
	}
	return all
}

func TestLseek_SeesWhatTheKernelHasNotWritten(t *testing.T) {
	eachCache(t, func(t *testing.T, o mount.Options) {
		m := mountHere(t, newMem(t), o)
		f, err := os.Create(filepath.Join(m.Dir(), "f"))
		must(t, err)
		defer f.Close()
		const at = 1 << 20
		_, err = f.WriteAt(bytes.Repeat([]byte("x"), 8192), at)
		must(t, err)
		off, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA)
		if err != nil || off > at {
			t.Errorf("first data at %d, %v; want not beyond %d", off, err, at)
		}
		if off, err = unix.Seek(int(f.Fd()), at, unix.SEEK_HOLE); err != nil || off != at+8192 {
			t.Errorf("first hole at %d, %v; want %d", off, err, at+8192)
		}
	})
}

func TestXattr_SizesAndErrors(t *testing.T) {
	m := mountHere(t, newMem(t), mount.Options{})
	path := filepath.Join(m.Dir(), "f")
	must(t, os.WriteFile(path, nil, 0o600))
	value := bytes.Repeat([]byte("v"), 1000)
	must(t, unix.Setxattr(path, "user.a", value, 0))
	must(t, unix.Setxattr(path, "user.empty", nil, 0))
	if n, err := unix.Getxattr(path, "user.a", nil); n != 1000 || err != nil {
		t.Errorf("size: %d, %v", n, err)
	}
	_, err := unix.Getxattr(path, "user.a", make([]byte, 999))
	wantErr(t, err, syscall.ERANGE)
	buf := make([]byte, 1000)
	if n, err := unix.Getxattr(path, "user.a", buf); n != 1000 || err != nil || !bytes.Equal(buf, value) {
		t.Errorf("value: %d, %v", n, err)
	}
	if n, err := unix.Getxattr(path, "user.empty", buf); n != 0 || err != nil {
		t.Errorf("empty value: %d, %v", n, err)
	}
	_, err = unix.Getxattr(path, "user.none", buf)
	wantErr(t, err, syscall.ENODATA)
	wantErr(t, unix.Setxattr(path, "user.a", nil, unix.XATTR_CREATE), syscall.EEXIST)
	wantErr(t, unix.Setxattr(path, "user.none", nil, unix.XATTR_REPLACE), syscall.ENODATA)
	if n, err := unix.Listxattr(path, nil); n != len("user.a\x00user.empty\x00") || err != nil {
		t.Errorf("size of list: %d, %v", n, err)
	}
	_, err = unix.Listxattr(path, make([]byte, 5))
	wantErr(t, err, syscall.ERANGE)
	if n, err := unix.Listxattr(path, buf); err != nil || string(buf[:n]) != "user.a\x00user.empty\x00" {
		t.Errorf("list %q, %v", buf[:n], err)
	}
	must(t, unix.Removexattr(path, "user.a"))
	wantErr(t, unix.Removexattr(path, "user.a"), syscall.ENODATA)
}

// slow is a tree whose file waits in ReadAt until it is interrupted.
type slow struct {
	vfs.FS
	reading chan struct{}
}

func (f slow) Root(ctx context.Context) (vfs.Dir, error) {
	d, err := f.FS.Root(ctx)
	return slowDir{d, f}, err
}

type slowDir struct {
	vfs.Dir
	f slow
}

func (d slowDir) Lookup(ctx context.Context, name string) (vfs.Node, error) {
	n, err := d.Dir.Lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	return slowFile{n.(vfs.File), d.f}, nil
}

type slowFile struct {
	vfs.File
	f slow
}

func (f slowFile) Open(ctx context.Context, flag vfs.OpenFlag) (vfs.Handle, error) {
	h, err := f.File.Open(ctx, flag)
	return slowHandle{h, f.f}, err
}

type slowHandle struct {
	vfs.Handle
	f slow
}

func (h slowHandle) ReadAt(ctx context.Context, _ []byte, _ int64) (int, error) {
	h.f.reading <- struct{}{}
	<-ctx.Done()
	return 0, ctx.Err()
}

func TestInterrupt_ReachesTheTree(t *testing.T) {
	mem := newMem(t)
	must(t, vfs.WriteFile(t.Context(), mem, "f", []byte("data"), vfs.New{Mode: 0o644}))
	fsys := slow{mem, make(chan struct{})}
	m := mountHere(t, fsys, mount.Options{})
	cmd := exec.Command("cat", filepath.Join(m.Dir(), "f"))
	must(t, cmd.Start())
	<-fsys.reading
	must(t, cmd.Process.Kill())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case <-fsys.reading: // the kernel may try again, page by page
		case err := <-ended:
			var exit *exec.ExitError
			if !errors.As(err, &exit) {
				t.Errorf("cat ended with %v, want killed", err)
			}
			return
		case <-time.After(20 * time.Second):
			t.Fatal("a killed reader does not end")
		}
	}
}

// impatient is a tree that gives up the first Usage when it is interrupted.
type impatient struct {
	vfs.FS
	calls   atomic.Int32
	waiting chan struct{}
}

func (f *impatient) Usage(ctx context.Context) (vfs.Usage, error) {
	if f.calls.Add(1) == 1 {
		close(f.waiting)
		<-ctx.Done()
		return vfs.Usage{}, ctx.Err()
	}
	return f.FS.Usage(ctx)
}

func TestInterrupt_ByASignalThatTheCallerHandlesFailsNothing(t *testing.T) {
	fsys := &impatient{FS: newMem(t), waiting: make(chan struct{})}
	m := mountHere(t, fsys, mount.Options{})
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	defer signal.Stop(signals)
	tid := make(chan int, 1)
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		tid <- unix.Gettid()
		var st unix.Statfs_t
		if err := unix.Statfs(m.Dir(), &st); err != nil {
			failed <- err
		}
		close(failed)
	}()
	caller := <-tid
	<-fsys.waiting
	must(t, unix.Tgkill(unix.Getpid(), caller, syscall.SIGUSR1))
	if err := <-failed; err != nil {
		t.Errorf("statfs with a signal on the way: %v", err)
	}
	if n := fsys.calls.Load(); n != 2 {
		t.Errorf("the tree was asked %d times, want twice", n)
	}
}

func TestKillPending_ReadsTheMask(t *testing.T) {
	for status, want := range map[string]bool{
		"Name:\tx\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000100\n": true,
		"SigPnd:\t0000000000000100\n":                                      true,
		"SigPnd:\t0000000000000000\nSigBlk:\t0000000000000100\n":           false,
		"SigPnd:\tbroken\n": false,
		"":                  false,
	} {
		if got := killPending(status); got != want {
			t.Errorf("%q: %v, want %v", status, got, want)
		}
	}
}

// panics is a tree that panics.
type panics struct{ vfs.FS }

func (panics) Usage(context.Context) (vfs.Usage, error) { panic("usage") }

func TestPanic_FailsTheRequestAndNotTheMount(t *testing.T) {
	var said lockedBuffer
	m := mountHere(t, panics{newMem(t)}, mount.Options{Log: textLog(&said)})
	var st unix.Statfs_t
	wantErr(t, unix.Statfs(m.Dir(), &st), syscall.EIO)
	must(t, os.WriteFile(filepath.Join(m.Dir(), "f"), []byte("x"), 0o600))
	if !strings.Contains(said.String(), "panic in a file operation") {
		t.Errorf("log says %q", said.String())
	}
}

// broken is a tree whose store is damaged.
type broken struct{ vfs.FS }

func (broken) Usage(context.Context) (vfs.Usage, error) {
	return vfs.Usage{}, fmt.Errorf("read chunk 12ab: %w: %w", vfs.ErrCorrupt, fs.ErrNotExist)
}

func TestDamage_IsAnInputErrorAndLoggedOnce(t *testing.T) {
	var said lockedBuffer
	m := mountHere(t, broken{newMem(t)}, mount.Options{Log: textLog(&said)})
	var st unix.Statfs_t
	for range 50 {
		wantErr(t, unix.Statfs(m.Dir(), &st), syscall.EIO)
	}
	if n := strings.Count(said.String(), "12ab"); n != 1 {
		t.Errorf("logged %d times, want once", n)
	}
}

func TestReadAndWrite_AllocateNothing(t *testing.T) {
	fsys := newMem(t)
	raw, err := newServer(t.Context(), fsys, textLog(&lockedBuffer{}))
	must(t, err)
	s := patient{raw}
	node, err := s.nodes.get(rootID).node.(vfs.Dir).Make(t.Context(), "f", vfs.New{Kind: vfs.KindFile})
	must(t, err)
	a, err := node.Attr(t.Context())
	must(t, err)
	n := s.nodes.tell(node, &a, s.nodes.get(rootID), "f")
	var out gofuse.OpenOut
	s.opened(&out, n, nothing{}, vfs.OpenRead|vfs.OpenWrite)
	cancel := make(chan struct{})
	buf := make([]byte, 1<<20)
	data := [][]byte{buf}
	if k := testing.AllocsPerRun(100, func() {
		r, st := s.Read(cancel, &gofuse.ReadIn{Fh: out.Fh}, buf)
		if st != gofuse.OK || r.Size() != len(buf) {
			t.Fatal("read", st)
		}
		r.Done()
	}); k > 0 {
		t.Errorf("Read allocates %v times", k)
	}
	in := gofuse.WriteIn{Fh: out.Fh}
	if k := testing.AllocsPerRun(100, func() {
		if n, st := s.Writev(cancel, &in, data); st != gofuse.OK || int(n) != len(buf) {
			t.Fatal("write", st)
		}
	}); k > 0 {
		t.Errorf("Writev allocates %v times", k)
	}
}

// nothing is a handle without content.
type nothing struct{ vfs.Handle }

func (nothing) ReadAt(_ context.Context, p []byte, _ int64) (int, error)  { return len(p), nil }
func (nothing) WriteAt(_ context.Context, p []byte, _ int64) (int, error) { return len(p), nil }

func TestMount_ManyProcessesAtOnce(t *testing.T) {
	m := mountHere(t, newMem(t), mount.Options{})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(w)))
			for i := range 200 {
				name := filepath.Join(m.Dir(), fmt.Sprint(rng.IntN(5)))
				var err error
				switch i % 6 {
				case 0:
					err = os.WriteFile(name, make([]byte, rng.IntN(100_000)), 0o600)
				case 1:
					err = os.Rename(name, filepath.Join(m.Dir(), fmt.Sprint(rng.IntN(5))))
				case 2:
					err = os.Remove(name)
				case 3:
					_, err = os.ReadDir(m.Dir())
				case 4:
					_, err = os.ReadFile(name)
				case 5:
					err = os.Link(name, filepath.Join(m.Dir(), fmt.Sprint(rng.IntN(5))))
				}
				if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
					t.Errorf("%v", err)
				}
			}
		})
	}
	wg.Wait()
}

// A plain user who may not open the device is told so, and not what fusermount3's exit code was.
func TestMayOpen(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	device := filepath.Join(t.TempDir(), "device")
	must(t, os.WriteFile(device, nil, 0o600))
	must(t, mayOpen(device))
	result := make(chan error)
	go func() {
		// The thread is not given back: it ends with this goroutine.
		runtime.LockOSThread()
		unix.RawSyscall(unix.SYS_SETFSUID, 65534, 0, 0)
		result <- mayOpen(device)
	}()
	wantErr(t, <-result, fs.ErrPermission)
}
