package proof

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/disk"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// These are the proofs on file systems of the kernel that fail below a mounted drive. What each single call may meet is
// tried in internal/powerloss.

// acked are the files of which fsync said that they are safe.
type acked struct {
	dir  string
	rng  *rand.Rand
	made int
	want map[string][]byte
}

// add writes a file and syncs it. A file that fails may be there or not.
func (a *acked) add(size int) error {
	a.made++
	name := fmt.Sprint("f", a.made)
	data := noise(a.rng, size)
	err := put(filepath.Join(a.dir, name), data, 0, os.O_CREATE|os.O_EXCL)
	if err == nil {
		a.want[name] = data
	}
	return err
}

// check holds that each file is there. While the disk is broken it may be out of reach (EIO), but is never another one.
func (a *acked) check(t *testing.T, when string, broken bool) {
	t.Helper()
	for name, want := range a.want {
		got, err := os.ReadFile(filepath.Join(a.dir, name))
		if err != nil && broken && errors.Is(err, syscall.EIO) {
			continue
		}
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s: %s was fsynced with %d bytes, and has %d: %v", when, name, len(want), len(got), err)
		}
	}
}

// mounts mounts something until the test ends.
func mounts(t *testing.T, dir string, args ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		testkit.Lacks(t, "root, to mount file systems")
	}
	if out, err := exec.CommandContext(t.Context(), "mount", append(args, dir)...).CombinedOutput(); err != nil {
		testkit.Lacks(t, fmt.Errorf("mount %v: %w: %s", args, err, out))
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			t.Errorf("unmount: %v", err)
		}
	})
}

func verified(t *testing.T, home string) {
	t.Helper()
	ctx := context.Background()
	b, err := disk.Open(filepath.Join(home, "store"), disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := sheaf.Open(ctx, sheaf.Options{Dir: filepath.Join(home, "data"), Bucket: b, Tree: restless})
	if err != nil {
		t.Fatalf("open: %v", errors.Join(err, b.Close()))
	}
	if r, err := d.Verify(ctx, nil); err != nil || len(r.Findings) > 0 {
		t.Errorf("verify: %v %v", r.Findings, err)
	}
	if err := errors.Join(d.Close(ctx), b.Close()); err != nil {
		t.Errorf("close: %v", err)
	}
}

// G7: the disk below is full, or has no more inodes. Writes fail as on a full disk, or go on; nothing that was fsynced is
// lost; and when there is room all goes on in the same process.
func TestMounted_GoesOnAfterTheDiskBelowWasFull(t *testing.T) {
	for _, c := range []struct {
		name, small, large string
		size               int // of the files
	}{
		{"bytes", "size=160m", "size=600m", 500_000}, // with less than 64 MiB the local database is not opened
		{"inodes", "size=400m,nr_inodes=120", "size=400m,nr_inodes=10000", 60_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			seed := testkit.Seed(t)
			home, dir := t.TempDir(), t.TempDir()
			mounts(t, home, "-t", "tmpfs", "tmpfs", "-o", c.small)
			a := &acked{dir: dir, rng: rand.New(rand.NewPCG(uint64(seed), 7)), want: map[string][]byte{}}
			p := start(t, home, dir)
			full, refused := 0, 0
			for full < 40 {
				if a.made > 5000 {
					t.Fatal("the disk does not get full")
				}
				err := a.add(c.size)
				if err != nil && !errors.Is(err, syscall.ENOSPC) {
					t.Fatalf("on a full disk: %v", err)
				}
				if err != nil {
					refused++
				}
				var st unix.Statfs_t
				if serr := unix.Statfs(home, &st); serr != nil {
					t.Fatal(serr)
				}
				if err != nil || st.Ffree < 3 || st.Bavail < 100 {
					full++
				}
				time.Sleep(30 * time.Millisecond) // so that it commits, which is what takes inodes
			}
			a.check(t, "while the disk is full", false)
			held := len(a.want)

			run(t, "/", "mount", "-o", "remount,"+c.large, home)
			for begin := time.Now(); ; {
				err := a.add(c.size)
				if err == nil {
					break
				}
				if !errors.Is(err, syscall.ENOSPC) || time.Since(begin) > 90*time.Second {
					t.Fatalf("with room again: %v", err)
				}
			}
			for range 20 {
				if err := a.add(c.size); err != nil {
					t.Fatalf("with room again: %v", err)
				}
			}
			a.check(t, "with room again", false)
			p.kill(t)
			p = start(t, home, dir)
			a.check(t, "after a kill", false)
			p.stop(t)
			verified(t, home)
			t.Logf("%d files were fsynced until it was full, %d refused; %d at the end", held, refused, len(a.want))
		})
	}
}

// G7: the file system below gives up, as ext4 does after errors: it becomes read-only, or answers EIO to everything, while its
// files are open. Nobody is told that something is safe which is not, and a new process on the mended disk has it all.
func TestMounted_ADiskBelowThatGivesUpLosesNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		fail func(t *testing.T, home string)
	}{
		{"read-only", func(t *testing.T, home string) { run(t, "/", "mount", "-o", "remount,abort", home) }},
		{"EIO", func(t *testing.T, home string) {
			const shutdown, noFlush = 0x8004587d, 2 // EXT4_IOC_SHUTDOWN
			f, err := os.Open(home)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := unix.IoctlSetPointerInt(int(f.Fd()), shutdown, noFlush); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := exec.LookPath("mkfs.ext4"); err != nil {
				testkit.Lacks(t, err)
			}
			seed := testkit.Seed(t)
			image := filepath.Join(t.TempDir(), "image")
			f, err := os.Create(image)
			if err == nil {
				err = errors.Join(f.Truncate(512<<20), f.Close())
			}
			if err != nil {
				t.Fatal(err)
			}
			run(t, "/", "mkfs.ext4", "-q", "-F", image)
			home, dir := t.TempDir(), t.TempDir()
			mounts(t, home, "-o", "loop", image)
			a := &acked{dir: dir, rng: rand.New(rand.NewPCG(uint64(seed), 8)), want: map[string][]byte{}}
			p := start(t, home, dir)
			for range 60 {
				if err := a.add(30_000); err != nil {
					t.Fatal(err)
				}
			}
			c.fail(t, home)
			refused := 0
			for range 40 {
				err := a.add(30_000)
				if err != nil && !errors.Is(err, syscall.EROFS) && !errors.Is(err, syscall.EIO) {
					t.Errorf("on a broken disk: %v", err)
				}
				if err != nil {
					refused++
				}
			}
			if refused == 0 {
				t.Error("the disk is broken, and nobody is told")
			}
			a.check(t, "while the disk is broken", true)
			p.kill(t)

			if err := unix.Unmount(home, 0); err != nil {
				t.Fatal(err)
			}
			mounts(t, home, "-o", "loop", image)
			p = start(t, home, dir)
			a.check(t, "on the mended disk", false)
			for range 10 {
				if err := a.add(30_000); err != nil {
					t.Fatal(err)
				}
			}
			a.check(t, "on the mended disk", false)
			p.stop(t)
			verified(t, home)
			t.Logf("%d files were fsynced, %d were refused", len(a.want), refused)
		})
	}
}
