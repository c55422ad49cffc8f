//go:build !windows

package journal

import "os"

// openShared opens a file so that it can be removed and renamed meanwhile.
func openShared(path string, flag int) (*os.File, error) { return os.OpenFile(path, flag, 0o600) }
