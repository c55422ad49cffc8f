package measure

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Mounted says whether dir is the root of a mount.
func Mounted(dir string) bool {
	var here, above unix.Stat_t
	if err := unix.Stat(dir, &here); err != nil {
		// Its server is dead, but the mount is there.
		return errors.Is(err, unix.ENOTCONN)
	}
	return unix.Stat(filepath.Dir(dir), &above) == nil && here.Dev != above.Dev
}

// Detach takes a mount away, if there is one, whoever uses it. It takes no context: it tidies up, also after an interruption.
func Detach(dir string) error {
	if !Mounted(dir) {
		return nil
	}
	if err := unix.Unmount(dir, unix.MNT_DETACH); err == nil {
		return nil
	}
	//nolint:noctx // it tidies up, also after the context is done
	if out, err := exec.Command("fusermount3", "-u", "-z", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("unmount %s: %w: %s", dir, err, out)
	}
	return nil
}
