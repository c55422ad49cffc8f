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
	return []*sheafv1.Check{checkFuse("/dev/fuse"), checkHelper(exec.LookPath), checkWatches("/proc/sys/fs/inotify/max_user_watches")}
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
