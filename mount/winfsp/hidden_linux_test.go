//go:build cgofuse && cgo

package winfsp

import "testing"

func TestHiddenNumber(t *testing.T) {
	for name, want := range map[string]uint32{
		".fuse_hidden0000000200000001": 1, ".fuse_hidden000000ab0000001f": 31, ".fuse_hidden00000002ffffffff": 1<<32 - 1,
		".fuse_hidden": 0, ".fuse_hidden0000000200000000": 0, ".fuse_hidden0000000000000001": 0, ".fuse_hidden000000020000001": 0,
		".fuse_hidden00000002000000011": 0, ".fuse_hidden000000AB00000001": 0, ".fuse_hidden+000000200000001": 0, "fuse_hidden0000000200000001": 0,
	} {
		if got, ok := hiddenNumber(name); got != want || ok != (want != 0) {
			t.Errorf("%s: got %d, %t, want %d", name, got, ok, want)
		}
	}
}
