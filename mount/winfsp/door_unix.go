//go:build cgofuse && cgo && (linux || darwin)

package winfsp

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/mount"
	"github.com/sheaf-drive/sheaf/vfs"
)

const (
	onWindows = false
	whyNot    = "libfuse could not mount; it has said why on standard error"
)

// howToInstall is what a person does where the library is missing.
var howToInstall = map[string]string{
	"linux":  "libfuse.so.2 is missing: install it (Debian and its kin: apt install libfuse2 fuse3)",
	"darwin": "macFUSE and FUSE-T are missing: install one of them, from macfuse.io or fuse-t.org",
}[runtime.GOOS]

// prepare checks that dir can be mounted at.
func (m *Mounted) prepare(dir string, o mount.Options) (restore func() error, err error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		if errors.Is(err, syscall.ENOTCONN) {
			err = fmt.Errorf("%w, and its process is gone; unmount it first (%w)", mount.ErrMounted, err)
		}
		return nil, err
	}
	var st, up unix.Stat_t
	if err := errors.Join(unix.Stat(abs, &st), unix.Stat(filepath.Dir(abs), &up)); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, vfs.ErrNotDir
	}
	if st.Dev != up.Dev {
		return nil, fmt.Errorf("%w; unmount it first, or choose another folder", mount.ErrMounted)
	}
	entries, err := os.ReadDir(abs)
	if err != nil {
		return nil, err
	}
	if len(entries) > 0 && !o.NonEmpty {
		return nil, fmt.Errorf("%w (%s is in it); choose another folder", mount.ErrNotEmpty, entries[0].Name())
	}
	m.dir, m.point = abs, abs
	return func() error { return nil }, nil
}

// options are those of libfuse. The kernel believes names for a second; what is not there, and all attributes, it asks for each time: each name of a
// file with several is a file of its own to it.
func (m *Mounted) options(o mount.Options) []string {
	name := o.Name
	if name == "" {
		name = fsType
	}
	all := []string{
		"fsname=" + strings.NewReplacer(`\`, `\\`, ",", `\,`).Replace(name), "default_permissions", "use_ino", "entry_timeout=1", "attr_timeout=0",
	}
	if runtime.GOOS == "linux" {
		all = append(all, "subtype="+fsType, "big_writes", "nopath")
	} else {
		all = append(all, "volname="+fsType)
	}
	if o.Access == mount.AccessAll || o.Access == mount.AccessDefault && os.Geteuid() == 0 {
		all = append(all, "allow_other")
	}
	if o.ReadOnly {
		all = append(all, "ro")
	}
	if o.NonEmpty && runtime.GOOS == "linux" {
		all = append(all, "nonempty")
	}
	return []string{"-o", strings.Join(all, ",")}
}

// shown reports whether the folder leads to the mount.
func (m *Mounted) shown() bool {
	var st, up unix.Stat_t
	return unix.Stat(m.dir, &st) == nil && unix.Stat(filepath.Dir(m.dir), &up) == nil && st.Dev != up.Dev
}

// unmount takes the folder away: with force also if it is in use.
func (m *Mounted) unmount(force bool) error {
	err := unix.Unmount(m.dir, unmountFlags(force))
	if errors.Is(err, unix.EPERM) && runtime.GOOS == "linux" {
		args := []string{"-u", "--", m.dir}
		if force {
			args = []string{"-u", "-z", "--", m.dir}
		}
		var said []byte
		if said, err = exec.Command("fusermount", args...).CombinedOutput(); err != nil { //nolint:noctx // it is not to be cut short half way
			if strings.Contains(string(said), "busy") {
				return mount.ErrBusy
			}
			return fmt.Errorf("fusermount: %w: %s", err, strings.TrimSpace(string(said)))
		}
	}
	if errors.Is(err, unix.EBUSY) {
		return mount.ErrBusy
	}
	return err
}
