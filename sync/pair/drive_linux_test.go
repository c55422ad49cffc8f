package pair_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/kv/memkv"
	"github.com/sheaf-drive/sheaf/sync/pair"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/localdir"
	"github.com/sheaf-drive/sheaf/sync/remote/treefs"
	"github.com/sheaf-drive/sheaf/vfs/memfs"
)

// A folder of this machine, and a tree as a drive is one.
func TestPair_OfAFolderAndADrive(t *testing.T) {
	dir := t.TempDir()
	folder, err := localdir.OpenTree(dir, localdir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = folder.Close() })
	drive := treefs.NewTree(memfs.New(memfs.Options{}), treefs.TreeOptions{Identity: "drive"})
	o := pair.Options{KV: memkv.New(), Tree: [2]remote.Tree{folder, drive}}
	o.Rule.Can[0].CheapRead, o.Rule.Can[1].CheapRead = true, true
	p, err := pair.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(want ...string) {
		t.Helper()
		if _, err := p.Run(t.Context(), pair.RunOptions{}); err != nil {
			t.Fatal(err)
		}
		rep, err := p.Run(t.Context(), pair.RunOptions{})
		if err != nil || len(rep.Steps) > 0 {
			t.Errorf("there is something left to do: %q, error %v", rep.Steps, err)
		}
		l, r := show(t, folder, false), show(t, drive, false)
		if !slices.Equal(l, r) || !slices.Equal(r, want) {
			t.Errorf("the folder has %q and the drive %q, want %q", l, r, want)
		}
	}
	write("d/e/a", "1")
	write("d/b", "2")
	run("d/", "d/b=2", "d/e/", "d/e/a=1")
	if err := os.Rename(filepath.Join(dir, "d"), filepath.Join(dir, "moved")); err != nil {
		t.Fatal(err)
	}
	if _, err := drive.Put(t.Context(), remote.Item{Path: "d/new", Size: 3, Mode: 0o600}, strings.NewReader("new"), ""); err != nil {
		t.Fatal(err)
	}
	run("moved/", "moved/b=2", "moved/e/", "moved/e/a=1", "moved/new=new")
	it, err := drive.Stat(t.Context(), "moved/b")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := drive.Put(t.Context(), remote.Item{Path: "moved/b", Size: 4, Mode: 0o600}, strings.NewReader("over"), it.Version); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "moved/e")); err != nil {
		t.Fatal(err)
	}
	run("moved/", "moved/b=over", "moved/new=new")
	if b, err := filepath.Glob(filepath.Join(dir, pair.HistoryDir, "*/moved/b")); err != nil || len(b) != 1 {
		t.Errorf("the history of the folder has %q", b)
	}
}
