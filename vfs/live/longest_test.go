package live

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs"
)

// far is a file of the longest size, with data at its end only.
type far struct{ data []byte }

func (s far) start() int64 { return vfs.MaxSize - int64(len(s.data)) }

func (s far) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	if off < s.start() {
		return 0, io.ErrUnexpectedEOF
	}
	n := copy(p, s.data[off-s.start():])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (s far) Data(_ context.Context, off int64) (from, to int64, err error) {
	return max(off, s.start()), vfs.MaxSize, nil
}

// A file with data so far out that the longest chunk there would end beyond what an offset can be is committed, by writing and by a Load, and opened anew
// it is as it was.
func TestFS_CommitsTheEndOfTheLongestFile(t *testing.T) {
	for _, n := range []int{1, 10, 100_000, 5 << 20} {
		d := newDisk()
		f := mustOpen(t, d)
		s := far{testkit.Random(rand.New(rand.NewPCG(1, uint64(n))), n)}
		h := createAt(t, f, "written")
		if _, err := h.WriteAt(t.Context(), s.data, s.start()); err != nil {
			t.Fatal(err)
		}
		if err := h.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := f.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		l, err := f.Load()
		if err != nil {
			t.Fatal(err)
		}
		var parts []Stored
		if err := l.Store(t.Context(), s, vfs.MaxSize, func(p Stored) error { parts = append(parts, p); return nil }); err != nil {
			t.Fatal(err)
		}
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		give(t, f, l, "loaded", parts, vfs.MaxSize)
		l.Close()
		if err := f.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		after := mustOpen(t, d)
		for _, name := range []string{"written", "loaded"} {
			node, err := vfs.Walk(t.Context(), after.View(), name)
			if err != nil {
				t.Fatal(err)
			}
			r, err := node.(vfs.File).Open(t.Context(), vfs.OpenRead)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, n)
			if k, err := r.ReadAt(t.Context(), got, s.start()); k != n || err != nil && err != io.EOF || !bytes.Equal(got, s.data) { //nolint:errorlint // as io.ReaderAt has it
				t.Errorf("%s, %d bytes: %d came back, %v", name, n, k, err)
			}
			_ = r.Close(t.Context())
		}
		end(t, after)
	}
}
