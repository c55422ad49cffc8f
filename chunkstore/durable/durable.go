// Package durable makes files and folders whose names are there after a power cut. It is for
// what is written by name; what is written into a file is made durable by its Sync.
//
// A file system need not save the name of a file with the file: after a power cut a
// synced file whose folder was not synced may not be there, and neither may all that is in a new folder.
// On Windows folders cannot be synced; NTFS journals their entries by itself.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// MkdirAll makes dir and the folders above it, for their owner only, and returns when a
// power cut leaves them. If dir is there, its name is synced all the same: whoever made
// it may have died before that.
func MkdirAll(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	parent := filepath.Dir(dir)
	err = os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) && parent != dir {
		if err := MkdirAll(parent); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o700)
	}
	if err == nil {
		return SyncDir(parent)
	}
	// A read-only place, for one, may refuse before it says that the folder is there.
	if fi, serr := os.Stat(dir); serr != nil || !fi.IsDir() {
		return err
	}
	err = SyncDir(parent)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return nil // somebody else's folder, who made this one for us
	}
	return err
}

// WriteFile puts b into the file path, readable by its owner only, in one step and durably: after a
// crash it has the old bytes or the new ones. The folder must be there, and one process at a
// time may write this file. If only the last sync fails, the new bytes are there all the same.
func WriteFile(path string, b []byte) error {
	temp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return SyncDir(filepath.Dir(path))
}
