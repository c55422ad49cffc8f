//go:build cgofuse && cgo

package winfsp

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/chunkstore/cdc"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/mount/mounttest"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live"
	"github.com/sheaf-drive/sheaf/vfs/live/journal"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
	"github.com/sheaf-drive/sheaf/vfs/memfs"
)

// The writable tree of a drive, its journal on the disk, and commits.
func TestSuite_Live(t *testing.T) {
	dir, _ := startServer(t, envDrive+"="+t.TempDir())
	mounttest.Run(t, dir, lacks...)
}

// tree returns an empty tree in memory, or the writable tree that is kept in the folder dir.
func tree(ctx context.Context, dir string) (vfs.FS, func() error, error) {
	if dir == "" {
		return memfs.New(memfs.Options{}), func() error { return nil }, nil
	}
	f, err := openLive(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	return f.View(), func() error { return f.Close(context.Background()) }, nil
}

// openLive opens the writable tree that is kept in the folder dir, and makes it if there is none.
func openLive(ctx context.Context, dir string) (*live.FS, error) {
	s := folder(dir)
	log := filepath.Join(dir, "journal")
	if err := os.MkdirAll(log, 0o700); err != nil {
		return nil, err
	}
	params, err := cdc.NewParams(cdc.FastCDC, rand.NewChaCha8([32]byte{1}))
	if err != nil {
		return nil, err
	}
	o := live.Options{
		Store: s, Device: 7, Chunker: params, Entropy: crand.Reader,
		Journal: journal.Options{Dir: journal.OSDir(log), Entropy: crand.Reader, SegmentSize: 64 << 20},
		Publish: func(_ context.Context, _, ref chunk.Ref, _ manifest.Snapshot) error {
			return s.put("head", []byte(s.name(ref)))
		},
	}
	head, err := os.ReadFile(filepath.Join(dir, "head"))
	if err == nil {
		if o.BaseRef, err = parseName(string(head)); err == nil {
			o.Base, err = manifest.GetSnapshot(ctx, s, o.BaseRef)
		}
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	return live.Open(ctx, o)
}

// A folder is a store of plain chunks, each a file: what is below a drive's tree is not what is tested here.
type folder string

func (folder) name(r chunk.Ref) string {
	return fmt.Sprintf("%s-%d-%d", hex.EncodeToString(r.ID[:]), r.Size, r.Kind)
}

func parseName(name string) (r chunk.Ref, err error) {
	f := strings.Split(name, "-")
	if len(f) != 3 {
		return r, fmt.Errorf("ref %q: %w", name, fs.ErrInvalid)
	}
	id, err1 := hex.DecodeString(f[0])
	size, err2 := strconv.ParseUint(f[1], 10, 32)
	kind, err3 := strconv.ParseUint(f[2], 10, 8)
	if err := errors.Join(err1, err2, err3); err != nil {
		return r, err
	}
	r.Size, r.Kind = uint32(size), chunk.Kind(kind)
	copy(r.ID[:], id)
	return r, nil
}

func (s folder) put(name string, b []byte) error {
	f, err := os.CreateTemp(string(s), "tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(string(s), name))
}

func (s folder) Put(_ context.Context, kind chunk.Kind, plain []byte) (chunk.Ref, error) {
	ref := chunk.Ref{ID: blake3.Sum256(append([]byte{byte(kind)}, plain...)), Size: uint32(len(plain)), Kind: kind}
	return ref, s.put(s.name(ref), plain)
}

func (s folder) Get(_ context.Context, dst []byte, ref chunk.Ref) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(string(s), s.name(ref)))
	return append(dst, b...), err
}

func (s folder) ReadAt(ctx context.Context, ref chunk.Ref, p []byte, off int64) (int, error) {
	b, err := s.Get(ctx, nil, ref)
	return copy(p, b[min(off, int64(len(b))):]), err
}

func (folder) Flush(context.Context) error { return nil }

func (folder) Hold() func() { return func() {} }

// What was written is in the tree, and is there when it is opened again: after an unmount all of it, after the death of the server what was synced.
func TestMount_LosesNothingThatWasAcknowledged(t *testing.T) {
	for _, how := range []string{"unmount", "kill"} {
		t.Run(how, func(t *testing.T) {
			kept := t.TempDir()
			dir, srv := startServer(t, envDrive+"="+kept)
			want := map[string][]byte{}
			for i := range 20 {
				name := fmt.Sprint("f", i)
				data := bytes.Repeat([]byte{byte(i + 1)}, 100_000*i+1)
				f, err := os.Create(filepath.Join(dir, "tmp"))
				must(t, err)
				_, err = f.Write(data)
				must(t, err)
				if how == "kill" {
					must(t, f.Sync())
				}
				must(t, f.Close())
				must(t, os.Rename(f.Name(), filepath.Join(dir, name)))
				want[name] = data
			}
			must(t, os.Remove(filepath.Join(dir, "f0")))
			delete(want, "f0")
			open, err := os.Open(filepath.Join(dir, "f1"))
			must(t, err)
			must(t, os.Remove(filepath.Join(dir, "f1")))
			delete(want, "f1")
			if how == "kill" {
				syncDir(t, dir)
			}
			must(t, open.Close())
			end(t, dir, srv, how == "kill")
			f, err := openLive(t.Context(), kept)
			must(t, err)
			defer func() { must(t, f.Close(context.Background())) }()
			view := f.View()
			names := treeNames(t, view)
			if len(names) != len(want) {
				t.Errorf("the tree has %q", names)
			}
			for name, data := range want {
				if got, err := vfs.ReadFile(t.Context(), view, name, 1<<24); !bytes.Equal(got, data) || err != nil {
					t.Errorf("%s: got %d bytes, %v, want %d", name, len(got), err, len(data))
				}
			}
			if slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, hiddenPrefix) }) {
				t.Errorf("a hidden name stayed: %q", names)
			}
		})
	}
}

// end unmounts, or kills the server and takes away what it leaves, and returns when the server is gone.
func end(t *testing.T, dir string, srv *server, kill bool) {
	t.Helper()
	if kill {
		must(t, srv.Process.Kill())
		<-srv.ended
		must(t, unix.Unmount(dir, unix.MNT_DETACH))
		return
	}
	must(t, unmountFolder(dir))
	<-srv.ended
}
