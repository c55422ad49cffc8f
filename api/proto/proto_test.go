package proto

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// SOURCES lists the hash of every source at the last run of ./generate. (That the
// generated files are what these sources give is held by `./generate check`.)
func TestGenerated_IsOfTheseSources(t *testing.T) {
	f, err := os.Open("sheafv1/SOURCES")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	want := map[string]string{}
	for sc := bufio.NewScanner(f); sc.Scan(); {
		hash, name, ok := strings.Cut(sc.Text(), "  ")
		if !ok {
			t.Fatalf("line %q of SOURCES", sc.Text())
		}
		want[name] = hash
	}
	names, err := filepath.Glob("sheaf/v1/*.proto")
	if err != nil {
		t.Fatal(err)
	}
	if len(names) == 0 {
		t.Fatal("no sources")
	}
	for _, name := range append(names, "buf.gen.yaml") {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.Sum256(b)
		if got := hex.EncodeToString(h[:]); got != want[filepath.ToSlash(name)] {
			t.Errorf("%s changed since the code was generated: run api/proto/generate", name)
		}
		delete(want, filepath.ToSlash(name))
	}
	for name := range want {
		t.Errorf("%s is gone since the code was generated: run api/proto/generate", name)
	}
}
