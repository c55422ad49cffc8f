package testkit

import (
	"context"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// Program returns where a program of other people is, and ends the test, as Lacks does, if it is not there. brings is the argument of scripts/deps that
// installs it, "" if none is needed.
func Program(t testing.TB, name, brings string) string {
	t.Helper()
	for _, at := range []string{name, "/usr/sbin/" + name, "/sbin/" + name} { // where servers are, and not all users look
		if path, err := exec.LookPath(at); err == nil {
			return path
		}
	}
	if brings != "" {
		brings = " " + brings
	}
	Lacks(t, name+" is not here: run scripts/deps"+brings)
	return ""
}

// Run runs a program in dir, with more environment, and returns what it says. It ends the test if that fails, or takes more than two minutes: what does
// most often tries the same thing again and again.
func Run(t testing.TB, dir string, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// Files makes a folder of files with these sizes, whose bytes are by chance, and returns it.
func Files(t testing.TB, r *rand.Rand, sizes map[string]int) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range slices.Sorted(maps.Keys(sizes)) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, Random(r, sizes[name]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
