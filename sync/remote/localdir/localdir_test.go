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
