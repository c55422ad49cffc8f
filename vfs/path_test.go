package vfs_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/vfs"
)

func FuzzSplitPath_YieldsOnlyLegalNames(f *testing.F) {
	for _, path := range []string{"", "/", "a", "/a//b/./c/", "..", "a/../b", "a\x00", strings.Repeat("n", 256), "\xff/ä"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		names, err := vfs.SplitPath(path)
		if err != nil {
			if !errors.Is(err, vfs.ErrName) && !errors.Is(err, vfs.ErrNameLen) {
				t.Errorf("SplitPath(%q): got error %v", path, err)
			}
			return
		}
		for _, name := range names {
			if err := vfs.CheckName(name); err != nil {
				t.Errorf("SplitPath(%q): got name %q: %v", path, name, err)
			}
		}
		again, err := vfs.SplitPath(strings.Join(names, "/"))
		if err != nil || strings.Join(again, "/") != strings.Join(names, "/") {
			t.Errorf("SplitPath(%q): got %q, and of that %q, %v", path, names, again, err)
		}
	})
}
