package testkit

import "time"

// Eventually waits until ok, for at most ten seconds, and reports whether it is: for what the kernel does after a system call has returned, as it tells a
// file system of files that are closed or forgotten.
func Eventually(ok func() bool) bool {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ok() {
			return true
		}
	}
	return false
}
