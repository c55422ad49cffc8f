package disk

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path"
)

// lockState is what tryLock found.
type lockState int

const (
	lockTaken   lockState = iota // nobody had it, and now we have
	lockHeld                     // somebody has it
	lockUnknown                  // the system or the file system knows no locks
)

// createTmp makes a temporary file and locks it for as long as it is open, where
// there are locks.
func (b *Bucket) createTmp() (*os.File, string, error) {
	for {
		var id [12]byte
		_, _ = rand.Read(id[:]) // never fails
		name := path.Join(tmpDir, "put-"+hex.EncodeToString(id[:]))
		f, err := b.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if errors.Is(err, fs.ErrNotExist) { // somebody has tidied up the folder
			if err := b.root.Mkdir(tmpDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, "", err
			}
			continue
		}
		if err != nil {
			return nil, "", err
		}
		// An Open of somebody else may take the file for a left-over until it is locked.
		if tryLock(f) != lockHeld {
			if fi, err := f.Stat(); err == nil && alive(fi) {
				return f, name, nil
			}
		}
		if err := f.Close(); err != nil {
			return nil, "", err
		}
	}
}
