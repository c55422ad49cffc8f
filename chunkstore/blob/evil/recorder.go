package evil

import (
	"bytes"
	"context"
	"io"
	"iter"
	"slices"
	"sync"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// A Call is one thing that was asked of a Bucket.
type Call struct {
	Op     string    // "put", "get", "list", "remove"
	Name   blob.Name // the prefix, of a list
	Off, N int64     // of a get
	Size   int64     // of a put: as declared
	Body   []byte    // of a put: all that was sent, also if it failed
}

// A Recorder keeps all that leaves this machine through a Bucket: every name, offset, length,
// size and byte. It is safe for concurrent use. It is honest otherwise.
type Recorder struct {
	inner blob.Bucket

	mu    sync.Mutex
	calls []Call
}

var _ blob.Bucket = (*Recorder)(nil)

// NewRecorder returns a Recorder over inner.
func NewRecorder(inner blob.Bucket) *Recorder { return &Recorder{inner: inner} }

// Calls returns what was recorded so far. The bodies must not be changed.
func (r *Recorder) Calls() []Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

func (r *Recorder) add(c Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, c)
}

// Put implements [blob.Bucket].
func (r *Recorder) Put(ctx context.Context, name blob.Name, body io.Reader, size int64) error {
	var sent bytes.Buffer
	err := r.inner.Put(ctx, name, io.TeeReader(body, &sent), size)
	r.add(Call{Op: "put", Name: name, Size: size, Body: sent.Bytes()})
	return err
}

// Get implements [blob.Bucket].
func (r *Recorder) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	r.add(Call{Op: "get", Name: name, Off: off, N: n})
	return r.inner.Get(ctx, name, off, n)
}

// List implements [blob.Bucket].
func (r *Recorder) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	r.add(Call{Op: "list", Name: prefix})
	return r.inner.List(ctx, prefix)
}

// Remove implements [blob.Bucket].
func (r *Recorder) Remove(ctx context.Context, names ...blob.Name) error {
	for _, n := range names {
		r.add(Call{Op: "remove", Name: n})
	}
	return r.inner.Remove(ctx, names...)
}

// Canaries fails the test if one of the canaries is in anything that was sent: in a name or in a
// body, plain, encoded or compressed. A Recorder to which nothing was put fails, too.
func (r *Recorder) Canaries(t testing.TB, canaries ...testkit.Canary) {
	t.Helper()
	puts := 0
	for _, c := range r.Calls() {
		if c.Op == "put" {
			puts++
		}
		for _, canary := range canaries {
			if form := canary.Find([]byte(c.Name)); form != "" {
				t.Errorf("%s: the name holds a canary as %s", c.Op, form)
			}
			if form := canary.Find(c.Body); form != "" {
				t.Errorf("put %s: the body holds a canary as %s", c.Name, form)
			}
		}
	}
	if puts == 0 || len(canaries) == 0 {
		t.Errorf("%d blobs were put and %d canaries looked for: this shows nothing", puts, len(canaries))
	}
}

// Shapes fails the test if a blob was put with a size that allowed refuses. A Recorder to which
// nothing was put fails, too.
func (r *Recorder) Shapes(t testing.TB, allowed func(name blob.Name, size int64) bool) {
	t.Helper()
	puts := 0
	for _, c := range r.Calls() {
		if c.Op != "put" {
			continue
		}
		puts++
		if !allowed(c.Name, c.Size) || !allowed(c.Name, int64(len(c.Body))) {
			t.Errorf("put %s: size %d, %d bytes sent, is not of the allowed sizes", c.Name, c.Size, len(c.Body))
		}
	}
	if puts == 0 {
		t.Error("nothing was put: this shows nothing")
	}
}

// Ranges fails the test if a range was read that allowed refuses (T-GRID). n is negative for
// a read to the end.
func (r *Recorder) Ranges(t testing.TB, allowed func(name blob.Name, off, n int64) bool) {
	t.Helper()
	for _, c := range r.Calls() {
		if c.Op == "get" && !allowed(c.Name, c.Off, c.N) {
			t.Errorf("get %s: range %d+%d is not of the allowed ranges", c.Name, c.Off, c.N)
		}
	}
}
