//go:build unix

package keys

import (
	"errors"
	"os"
)

// syncDir returns when the names in dir are durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
