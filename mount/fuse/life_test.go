//go:build linux

package fuse

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/mount"
	"github.com/sheaf-drive/sheaf/vfs"
)

func TestMount_RefusesWhatItCannotMountAt(t *testing.T) {
	needFuse(t)
	fsys := newMem(t)
	try := func(dir string, o mount.Options) error {
		m, err := Mount(t.Context(), fsys, dir, o)
		if err == nil {
			must(t, m.Unmount(t.Context()))
		}
		return err
	}
	dir := t.TempDir()
	wantErr(t, try(filepath.Join(dir, "none"), mount.Options{}), fs.ErrNotExist)
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	wantErr(t, try(file, mount.Options{}), vfs.ErrNotDir)
	wantErr(t, try(dir, mount.Options{}), mount.ErrNotEmpty)
	must(t, try(dir, mount.Options{NonEmpty: true}))

	m := mountHere(t, fsys, mount.Options{})
	wantErr(t, try(m.Dir(), mount.Options{NonEmpty: true}), mount.ErrMounted)
	link := filepath.Join(dir, "link")
	must(t, os.Symlink(m.Dir(), link))
	wantErr(t, try(link, mount.Options{}), mount.ErrMounted)
}

func TestMount_ThroughASymbolicLink(t *testing.T) {
	needFuse(t)
	dir := t.TempDir()
	real, link := filepath.Join(dir, "a real place"), filepath.Join(dir, "link")
	must(t, os.Mkdir(real, 0o700))
	must(t, os.Symlink(real, link))
	m, err := Mount(t.Context(), newMem(t), link, mount.Options{})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(real, "x"), []byte("y"), 0o600))
	must(t, m.Unmount(t.Context()))
	if m.Dir() != real {
		t.Errorf("mounted at %s, want %s", m.Dir(), real)
	}
}

func TestMount_ReadOnlyRefusesChanges(t *testing.T) {
	fsys := newMem(t)
	root, err := fsys.Root(t.Context())
	must(t, err)
	_, h, err := root.Create(t.Context(), "f", vfs.New{Kind: vfs.KindFile, Mode: 0o644}, vfs.OpenWrite)
	must(t, err)
	must(t, h.Close(t.Context()))
	m := mountHere(t, fsys, mount.Options{ReadOnly: true, Name: "past"})
	wantErr(t, os.WriteFile(filepath.Join(m.Dir(), "f"), []byte("x"), 0o600), syscall.EROFS)
	wantErr(t, os.Mkdir(filepath.Join(m.Dir(), "d"), 0o700), syscall.EROFS)
	if _, err := os.ReadFile(filepath.Join(m.Dir(), "f")); err != nil {
		t.Error(err)
	}
	if m.info.kind != "fuse.sheaf" || m.info.source != "past" {
		t.Errorf("shown as %s of %s", m.info.source, m.info.kind)
	}
}

func TestUnmount_InUseIsBusyAndGoesOn(t *testing.T) {
	needFuse(t)
	m, err := Mount(t.Context(), newMem(t), t.TempDir(), mount.Options{})
	must(t, err)
	defer m.Abort(context.Background())
	f, err := os.Create(filepath.Join(m.Dir(), "f"))
	must(t, err)
	wantErr(t, m.Unmount(t.Context()), mount.ErrBusy)
	_, err = f.WriteString("still here")
	must(t, err)
	must(t, f.Close())
	must(t, m.Unmount(t.Context()))
	must(t, m.Unmount(t.Context())) // again is no error
	must(t, m.Wait())
	if entries, err := os.ReadDir(m.Dir()); err != nil || len(entries) > 0 {
		t.Errorf("folder holds %v, %v after the unmount", entries, err)
	}
}

func TestUnmount_HandsOverWhatTheKernelGathered(t *testing.T) {
	fsys := newMem(t)
	m, err := Mount(t.Context(), fsys, func() string { needFuse(t); return t.TempDir() }(), mount.Options{})
	must(t, err)
	defer m.Abort(context.Background())
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	must(t, os.WriteFile(filepath.Join(m.Dir(), "f"), data, 0o600))
	must(t, m.Unmount(t.Context()))
	got, err := vfs.ReadFile(t.Context(), fsys, "f", 1<<30)
	must(t, err)
	if !bytes.Equal(got, data) {
		t.Errorf("tree has %d bytes, want the %d written", len(got), len(data))
	}
}

func TestAbort_FailsWhatIsOpen(t *testing.T) {
	needFuse(t)
	if os.Getuid() != 0 && !fusectl() {
		testkit.Lacks(t, "/sys/fs/fuse/connections, which a plain user needs to abort")
	}
	m, err := Mount(t.Context(), newMem(t), t.TempDir(), mount.Options{WriteThrough: true})
	must(t, err)
	f, err := os.Create(filepath.Join(m.Dir(), "f"))
	must(t, err)
	defer f.Close()
	must(t, m.Abort(t.Context()))
	if _, err := f.WriteString("x"); !errors.Is(err, syscall.ENOTCONN) && !errors.Is(err, syscall.ECONNABORTED) {
		t.Errorf("write after the abort: got %v, want ENOTCONN", err)
	}
	if _, there, err := mountAt(m.Dir()); there || err != nil {
		t.Errorf("still mounted: %v, %v", there, err)
	}
}

// fusectl reports whether the control files of FUSE are there.
func fusectl() bool {
	m, ok, err := mountAt("/sys/fs/fuse/connections")
	return err == nil && ok && m.kind == "fusectl"
}

func TestWait_ReturnsWhenSomebodyElseUnmounts(t *testing.T) {
	needFuse(t)
	m, err := Mount(t.Context(), newMem(t), t.TempDir(), mount.Options{})
	must(t, err)
	must(t, m.unmount(m.Dir(), false))
	must(t, m.Wait())
	must(t, m.Unmount(t.Context()))
}

func TestMount_ClearsAwayADeadMountOfOurs(t *testing.T) {
	dir, cmd := startServer(t)
	f, err := os.Create(filepath.Join(dir, "f")) // keeps the connection alive
	must(t, err)
	defer f.Close()
	must(t, cmd.Process.Kill())
	cmd.Wait()
	if _, err := os.Stat(dir); !errors.Is(err, syscall.ENOTCONN) {
		t.Fatalf("a killed server leaves %v, want ENOTCONN", err)
	}
	var said bytes.Buffer
	m, err := Mount(t.Context(), newMem(t), dir, mount.Options{Log: slog.New(slog.NewTextHandler(&said, nil))})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "again"), nil, 0o600))
	must(t, m.Unmount(t.Context()))
	if !strings.Contains(said.String(), "dead mount") {
		t.Errorf("log does not tell: %s", said.String())
	}
}

func TestMount_LeavesNoGoroutine(t *testing.T) {
	needFuse(t)
	before := runtime.NumGoroutine()
	for range 5 {
		m, err := Mount(t.Context(), newMem(t), t.TempDir(), mount.Options{})
		must(t, err)
		for _, name := range []string{"a", "b"} {
			must(t, os.WriteFile(filepath.Join(m.Dir(), name), []byte(name), 0o600))
		}
		must(t, m.Unmount(t.Context()))
	}
	// All but the runtime's own end before Unmount returns; an exiting one may be counted still.
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); runtime.Gosched() {
		if runtime.NumGoroutine() <= before {
			return
		}
	}
	buf := make([]byte, 1<<16)
	t.Errorf("%d goroutines, were %d:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
}

func TestMount_AsAPlainUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("root gives this test to a plain user; the others run as one now")
	}
	if _, err := helper(); err != nil {
		testkit.Lacks(t, err)
	}
	if info, err := os.Stat("/dev/fuse"); err != nil || info.Mode()&0o002 == 0 {
		// As udev sets it on every desktop; containers often do not.
		if err := os.Chmod("/dev/fuse", 0o666); err != nil {
			testkit.Lacks(t, err)
		}
		t.Cleanup(func() { os.Chmod("/dev/fuse", 0o600) })
	}
	if !fusectl() { // systemd mounts it
		if err := syscall.Mount("none", "/sys/fs/fuse/connections", "fusectl", 0, ""); err == nil {
			t.Cleanup(func() { syscall.Unmount("/sys/fs/fuse/connections", 0) })
		}
	}
	const nobody = 65534
	dir, err := os.MkdirTemp("", "sheaf-plain-") //nolint:usetesting // a plain user cannot enter t.TempDir
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	program, err := os.ReadFile(os.Args[0])
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "test"), program, 0o755))
	must(t, os.Chmod(filepath.Join(dir, "test"), 0o755))
	tmp := filepath.Join(dir, "tmp")
	must(t, os.Mkdir(tmp, 0o700))
	must(t, os.Chown(tmp, nobody, nobody))
	must(t, os.Chmod(dir, 0o755))
	args := []string{"-test.v", "-test.run", "TestMount_|TestUnmount_|TestWait_|TestAbort_|TestFollow_|TestSuite_"}
	if testing.Short() { // what differs for a plain user is how it is mounted, and not what each way to write does
		args[2] = strings.Replace(args[2], "TestSuite_", "TestSuite_WriteBack", 1)
		args = append(args, "-test.short")
	}
	cmd := exec.Command(filepath.Join(dir, "test"), args...)
	cmd.Dir = tmp
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp, "HOME="+tmp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestMount_ThroughASymbolicLink")) {
		t.Errorf("as user %d: %v\n%s", nobody, err, out)
	}
}

func TestFindMount_ReadsEscapesAndTakesTheTopmost(t *testing.T) {
	const table = `22 1 0:20 / /proc rw - proc proc rw
41 27 0:37 / /home/a\040b/m rw,nosuid shared:1 - fuse.sheaf old rw,user_id=0
42 41 0:39 / /home/a\040b/m rw,nosuid shared:1 master:2 - fuse.sheaf my\040drive rw,user_id=0
broken
`
	got, ok := findMount(table, "/home/a b/m")
	want := mountInfo{dir: "/home/a b/m", kind: "fuse.sheaf", source: "my drive", dev: "0:39"}
	if !ok || got != want {
		t.Errorf("got %+v, %v; want %+v", got, ok, want)
	}
	if _, ok := findMount(table, "/home/a"); ok {
		t.Error("found a mount at a folder without one")
	}
}

func FuzzFindMount(f *testing.F) {
	f.Add("41 27 0:37 / /m rw - fuse.sheaf s rw\n", "/m")
	f.Add(`\0 \ - \777`, `\`)
	f.Fuzz(func(t *testing.T, table, dir string) { findMount(table, dir) })
}
