package sheaf

import "io"

// lockDir does nothing: what a page holds, no other process can open.
func lockDir(string) (io.Closer, error) { return io.NopCloser(nil), nil }

func owner() [2]uint32 { return [2]uint32{} }
