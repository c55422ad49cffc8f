package testkit

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// names are parts of the names in a Tree: plain ones, and those that trip programs up.
var names = []string{
	"report", "Photo 2026", "a", "b.txt", "main.go", "ünïcode", "日本", "-dash", "dot.", "trailing ", "quo'te\"", "new\nline", "back\\slash", "%41", "#", "~", "COM1",
}

// Tree fills the folder dir with files, folders, links and empty files in some depth,
// n files in all, the same ones for the same source of chance. It returns the bytes written.
func Tree(r *rand.Rand, dir string, n int) (int64, error) {
	dirs := []string{dir}
	var total int64
	for i := range n {
		parent := dirs[r.IntN(len(dirs))]
		name := filepath.Join(parent, fmt.Sprintf("%s-%d", names[r.IntN(len(names))], i))
		var err error
		switch k := r.IntN(10); {
		case k == 0:
			if err = os.Mkdir(name, 0o750); err == nil {
				dirs = append(dirs, name)
			}
		case k == 1:
			err = os.Symlink(names[r.IntN(len(names))], name)
		default:
			body := body(r)
			total += int64(len(body))
			err = os.WriteFile(name, body, []os.FileMode{0o600, 0o644, 0o755}[r.IntN(3)])
		}
		if err != nil {
			return total, fmt.Errorf("make tree: %w", err)
		}
	}
	return total, nil
}

// body returns the bytes of a file: mostly small, seldom some megabytes.
func body(r *rand.Rand) []byte {
	size := r.IntN(20_000)
	switch r.IntN(30) {
	case 0:
		size = r.IntN(4 << 20)
	case 1, 2:
		size = 0
	}
	switch r.IntN(3) {
	case 0:
		return Random(r, size)
	case 1:
		return Text(r, size)
	}
	return append(Zeros(size/2), Text(r, size/2)...)
}
