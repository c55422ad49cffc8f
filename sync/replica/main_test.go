package replica_test

import (
	"fmt"
	"os"
	"sync"
	"testing"
)

// made are folders that outlive one test.
var made struct {
	sync.Mutex
	dirs []string
}

func tempDir() (string, error) {
	dir, err := os.MkdirTemp("", "replica")
	made.Lock()
	defer made.Unlock()
	made.dirs = append(made.dirs, dir)
	return dir, err
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, dir := range made.dirs {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
