//go:build unix

package testkit

import (
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// claim says whether no other process that runs tests has the port, and takes it until this process ends: the program that is to listen there may
// not be up yet, or be down for a moment.
func claim(port int) bool {
	dir := filepath.Join(os.TempDir(), "sheaf-test-ports-"+strconv.Itoa(os.Getuid()))
	if os.MkdirAll(dir, 0o700) != nil {
		return true // without a folder there is no saying
	}
	f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(port)), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return true
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		_ = f.Close()
		return false
	}
	given.locks = append(given.locks, f) // or the collector would close it
	return true
}
