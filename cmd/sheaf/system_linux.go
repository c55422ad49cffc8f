package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

// fewWatches is how many inotify watches are too few for a tree of some size.
const fewWatches = 65536

// dead reports whether dir is a mount whose process is gone. The kernel may know the attributes of a dead
// mount by heart for long, but its room it has to ask for.
func dead(dir string) bool {
	var s unix.Statfs_t
	return errors.Is(unix.Statfs(dir, &s), unix.ENOTCONN)
}

// dying reports whether a process was killed and has not ended: one of its threads waits in the kernel, most likely for an
// answer that only the process itself could have given. To tell the kernel that a name or a file changed, a file
// system in user space waits for locks that are held by calls to it.
func dying(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, ok := strings.Cut(string(b), ") ") // the name before it may have any byte in it
	return ok && strings.HasPrefix(state, "Z")
}

// release makes the kernel give up all calls to the mount at dir, so that a process that is dying can end.
func release(dir string) error {
	if os.Geteuid() == 0 {
		// It is busy, and stays mounted; all that waits for it fails.
		if err := unix.Unmount(dir, unix.MNT_FORCE); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("cut off mount %s: %w", dir, err)
		}
		return nil
	}
	minor, err := minorOf(dir)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(fmt.Sprintf("/sys/fs/fuse/connections/%d/abort", minor), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("cut off mount %s: %w", dir, err)
	}
	_, err = f.WriteString("1")
	return errors.Join(err, f.Close())
}

// minorOf returns by which number the kernel knows the mount at dir, without asking the mount.
func minorOf(dir string) (int, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		// 36 35 98:0 /root /where options …
		f := strings.Fields(line)
		if len(f) < 5 || unescape(f[4]) != dir {
			continue
		}
		_, minor, _ := strings.Cut(f[2], ":")
		return strconv.Atoi(minor)
	}
	return 0, fmt.Errorf("%s is not mounted", dir)
}

// unescape reads a path as the kernel writes it in its lists.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// clearDead takes a mount away whose process is gone, and reports whether there was one.
func clearDead(ctx context.Context, dir string) (bool, error) {
	if !dead(dir) {
		return false, nil
	}
	if os.Geteuid() == 0 {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			return false, fmt.Errorf("unmount %s: %w", dir, err)
		}
		return true, nil
	}
	if out, err := exec.CommandContext(ctx, "fusermount3", "-u", "-z", "--", dir).CombinedOutput(); err != nil {
		return false, fmt.Errorf("unmount %s: %w: %s", dir, err, strings.TrimSpace(string(out)))
	}
	return true, nil
}

// systemChecks looks at what a mount needs of this system.
func systemChecks() []*sheafv1.Check {
	return []*sheafv1.Check{checkFuse("/dev/fuse"), checkHelper(exec.LookPath), checkWatches("/proc/sys/fs/inotify/max_user_watches"), checkFiles()}
}

// fewFiles is how many open files are too few for a mount that is used by many programs.
const fewFiles = 1024

// checkFiles looks how many files may be open. Go raises the limit for itself up to the hard one.
func checkFiles() *sheafv1.Check {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return warn("open files", err.Error(), "")
	}
	found := fmt.Sprintf("%d files can be open", l.Max)
	if l.Max < fewFiles {
		return warn("open files", found, "ulimit -H -n 65536, or nofile in /etc/security/limits.conf")
	}
	return ok("open files", found)
}

// checkFuse looks at the device that mounts go by.
func checkFuse(path string) *sheafv1.Check {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return bad("fuse", path+" is not there", "modprobe fuse; in a container: --device /dev/fuse --cap-add SYS_ADMIN")
	case err != nil:
		return bad("fuse", err.Error(), "chmod 666 "+path)
	}
	_ = f.Close()
	return ok("fuse", path+" can be opened")
}

// checkHelper looks for the program by which plain users mount.
func checkHelper(find func(string) (string, error)) *sheafv1.Check {
	path, err := find("fusermount3")
	switch {
	case err == nil:
		return ok("fusermount3", path)
	case os.Geteuid() == 0:
		return warn("fusermount3", "not there; root mounts without it, other users cannot", "apt install fuse3")
	}
	return bad("fusermount3", "not there, so only root can mount", "apt install fuse3")
}

// checkWatches looks how many files can be watched for changes.
func checkWatches(path string) *sheafv1.Check {
	b, err := os.ReadFile(path)
	if err != nil {
		return warn("inotify", err.Error(), "")
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return warn("inotify", err.Error(), "")
	}
	found := fmt.Sprintf("%d files can be watched", n)
	if n < fewWatches {
		return warn("inotify", found, "sysctl fs.inotify.max_user_watches=524288")
	}
	return ok("inotify", found)
}
