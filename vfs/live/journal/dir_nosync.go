//go:build windows || js || plan9

package journal

// syncDir does nothing: these systems cannot sync a folder, and make names durable
// with the file.
func syncDir(string) error { return nil }
