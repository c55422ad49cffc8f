package localdir

import (
	"os"
	"path/filepath"
	"strings"
	"unicode"
)

// foldsBy reports whether the place finds a name that is there under another case. It looks, and writes nothing; what it cannot find out
// is otherwise. It takes the name of the folder itself, if that is no root, and of something that is in it.
func foldsBy(dir, base string, otherwise bool) bool {
	try := func(in, name string) (folds, known bool) {
		swapped := strings.Map(func(r rune) rune {
			if unicode.IsUpper(r) {
				return unicode.ToLower(r)
			}
			return unicode.ToUpper(r)
		}, name)
		if swapped == name {
			return false, false
		}
		a, err := os.Lstat(filepath.Join(in, name))
		if err != nil {
			return false, false
		}
		b, err := os.Lstat(filepath.Join(in, swapped))
		return err == nil && os.SameFile(a, b), true
	}
	if f, err := os.Open(dir); err == nil {
		names, _ := f.Readdirnames(100)
		_ = f.Close()
		for _, n := range names {
			if folds, known := try(dir, n); known {
				return folds
			}
		}
	}
	if folds, known := try(filepath.Dir(dir), base); known {
		return folds
	}
	return otherwise
}
