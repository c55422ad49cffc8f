//go:build !unix

package keys

// syncDir does nothing where a directory cannot be synced: Windows writes names
// with the rename, and a browser has no disk.
func syncDir(string) error { return nil }
