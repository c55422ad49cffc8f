package localdir_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/blobtest"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/localdir"
)

var kinds = remote.Kinds{localdir.Kind}

func TestKind_Suite(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Bucket {
		b, err := kinds.Open(t.Context(), remote.Place{Local: true, Path: filepath.Join(t.TempDir(), "a", "b")}, nil, remote.Options{Make: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
		return b
	})
}

func TestKind_AFolderThatIsNotThereIsNotMade(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "stick")
	open := func() (io.Closer, error) {
		return kinds.Open(t.Context(), remote.Place{Kind: "local", Path: dir}, nil, remote.Options{})
	}
	if _, err := open(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got error %v, want fs.ErrNotExist", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder was made: %v", err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a file: got error %v, want fs.ErrExist", err)
	}
}

func TestKind_AFolderOfPlainFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	place, err := remote.Parse(":local,hashes='sha1,md5',root="+dir+":", false)
	if err != nil {
		t.Fatal(err)
	}
	o, err := kinds.OpenTree(t.Context(), place, nil, remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if it, err := o.Tree.Stat(t.Context(), "file"); err != nil || it.Size != 1 {
		t.Errorf("got %+v, error %v", it, err)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
	place.Path = "no/such"
	if _, err := kinds.OpenTree(t.Context(), place, nil, remote.Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: got error %v, want fs.ErrNotExist", err)
	}
	place.Path, place.Options["hashes"] = "", "crc1"
	if _, err := kinds.OpenTree(t.Context(), place, nil, remote.Options{}); !errors.Is(err, remote.ErrOption) {
		t.Errorf("a hash that is not known: got error %v, want ErrOption", err)
	}
}
