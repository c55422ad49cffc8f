//go:build !cgo

package winfsp

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"

	"github.com/sheaf-drive/sheaf/mount"
	"github.com/sheaf-drive/sheaf/vfs"
)

const (
	onWindows = true
	whyNot    = "WinFsp could not mount; another program may have taken the place"
	// howToInstall is what a person does where WinFsp is missing.
	howToInstall = "WinFsp is missing: install it from https://winfsp.dev/rel/ (or: winget install WinFsp.WinFsp), and try again"
)

// prepare checks that dir can be mounted at. A drive must be free. A folder must not be there, as WinFsp has it, which makes it and takes it
// away again; so an empty one is removed, and restore makes it again.
func (m *Mounted) prepare(dir string, _ mount.Options) (restore func() error, err error) {
	nothing := func() error { return nil }
	if vol := filepath.VolumeName(dir); len(vol) == 2 && (dir == vol || dir == vol+`\`) {
		drives, err := windows.GetLogicalDrives()
		if err != nil {
			return nil, fmt.Errorf("list drives: %w", err)
		}
		if drives&(1<<(vol[0]|0x20-'a')) != 0 {
			return nil, fmt.Errorf("%w; choose another letter", mount.ErrMounted)
		}
		m.dir, m.point = vol+`\`, vol
		return nothing, nil
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	m.dir, m.point = abs, abs
	info, err := os.Lstat(abs)
	if errors.Is(err, fs.ErrNotExist) {
		return nothing, nil
	}
	if err != nil {
		return nil, err
	}
	if info.Mode()&(fs.ModeSymlink|fs.ModeIrregular) != 0 {
		return nil, fmt.Errorf("%w; unmount it first, or choose another folder", mount.ErrMounted)
	}
	if !info.IsDir() {
		return nil, vfs.ErrNotDir
	}
	entries, err := os.ReadDir(abs)
	if err != nil {
		return nil, err
	}
	if len(entries) > 0 { // also with NonEmpty: Windows hides nothing behind a mount
		return nil, fmt.Errorf("%w (%s is in it); choose another folder", mount.ErrNotEmpty, entries[0].Name())
	}
	if err := os.Remove(abs); err != nil {
		return nil, err
	}
	return func() error { return os.Mkdir(abs, 0o700) }, nil
}

// options are those of WinFsp. Without umask, whoever else is at this machine could read what the modes of the tree let all users of
// another one read.
func (m *Mounted) options(o mount.Options) []string {
	name := o.Name
	if name == "" {
		name = fsType
	}
	all := []string{"-o", "uid=-1", "-o", "gid=-1", "-o", "volname=" + name, "--FileSystemName=" + fsType}
	if o.Access != mount.AccessAll {
		all = append(all, "-o", "umask=077")
	}
	return all
}

// shown reports whether the place leads to the mount.
func (m *Mounted) shown() bool {
	_, err := os.Stat(m.dir)
	return err == nil
}

// unmount takes the place away. WinFsp does so at once, whatever is open: so it is asked for only if no file is, or with force, and nothing more is
// opened from then on. A folder that a program lists or stands in does not keep it.
func (m *Mounted) unmount(force bool) error {
	if open := m.a.opens.shut(force); open > 0 {
		return fmt.Errorf("%w: %d files are open", mount.ErrBusy, open)
	}
	if !m.host.Unmount() {
		return errors.New("WinFsp did not take it away")
	}
	return nil
}
