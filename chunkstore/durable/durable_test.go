package durable

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMkdirAll_MakesFoldersForTheirOwner(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b", "c")
	for range 2 {
		if err := MkdirAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
		t.Fatalf("got %v, error %v", fi, err)
	}
	file := filepath.Join(dir, "f")
	if err := WriteFile(file, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := MkdirAll(file); err == nil {
		t.Error("a folder was made where a file is")
	}
	if err := MkdirAll(filepath.Join(file, "in")); err == nil {
		t.Error("a folder was made in a file")
	}
}

func TestWriteFile_ReplacesAndLeavesNothingElse(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, want := range []string{"one", "the second", ""} {
		if err := WriteFile(path, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("got %q, error %v, want %q", got, err, want)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(filepath.Join(dir, "d"), nil); err == nil {
		t.Error("a file took the place of a folder")
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 2 {
		t.Errorf("got %v, error %v, want f and d alone", names, err)
	}
}
