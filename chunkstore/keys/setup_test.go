package keys

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
)

// cheap is the least cost that is allowed.
var cheap = Argon{Memory: minArgonMemory, Time: minArgonTime, Threads: 2}

// long reports whether the tests have the time to try everything.
func long() bool { return os.Getenv("SHEAF_LONG") != "" }

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

type drive struct {
	*mem.Bucket
	account *Account
	device  *Device
	words   string
}

// newDrive makes a drive without a passphrase, so that no test pays for Argon2id that does not need it.
func newDrive(t testing.TB) drive {
	t.Helper()
	d := drive{Bucket: mem.New()}
	var err error
	d.account, d.device, d.words, err = Create(t.Context(), d.Bucket, CreateOptions{
		Chunker: []byte("chunker"), Suite: 1, DeviceName: "first", Now: noon,
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d drive) unlock(t testing.TB) (*Account, error) {
	t.Helper()
	return Unlock(t.Context(), d.Bucket, Secret{Recovery: d.words}, UnlockOptions{})
}

func (d drive) mustUnlock(t testing.TB) *Account {
	t.Helper()
	a, err := d.unlock(t)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func put(t testing.TB, b blob.Bucket, name blob.Name, p []byte) {
	t.Helper()
	if err := b.Put(t.Context(), name, bytes.NewReader(p), int64(len(p))); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, b blob.Bucket, name blob.Name) []byte {
	t.Helper()
	p, err := ReadBlob(t.Context(), b, name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func remove(t testing.TB, b blob.Bucket, names ...blob.Name) {
	t.Helper()
	if err := b.Remove(t.Context(), names...); err != nil {
		t.Fatal(err)
	}
}

func names(t testing.TB, b blob.Bucket, prefix blob.Name) []blob.Name {
	t.Helper()
	var all []blob.Name
	for info, err := range b.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, info.Name)
	}
	return all
}

// findings returns the names that Verify has something against.
func findings(t testing.TB, a *Account) map[blob.Name]error {
	t.Helper()
	found := map[blob.Name]error{}
	for name, err := range a.Verify(t.Context()) {
		if err != nil {
			found[name] = err
		}
	}
	return found
}

// wantError fails unless err wraps want; a nil want wants no error.
func wantError(t testing.TB, what string, err, want error) {
	t.Helper()
	if want == nil && err != nil || want != nil && !errors.Is(err, want) {
		t.Fatalf("%s: got %v, want %v", what, err, want)
	}
}

var errCut = errors.New("power was cut")

// cutBucket fails every write after the first n.
type cutBucket struct {
	blob.Bucket
	left int
}

func (c *cutBucket) write() error {
	if c.left == 0 {
		return errCut
	}
	c.left--
	return nil
}

func (c *cutBucket) Put(ctx context.Context, name blob.Name, r io.Reader, size int64) error {
	if err := c.write(); err != nil {
		return err
	}
	return c.Bucket.Put(ctx, name, r, size)
}

func (c *cutBucket) Remove(ctx context.Context, names ...blob.Name) error {
	if err := c.write(); err != nil {
		return err
	}
	return c.Bucket.Remove(ctx, names...)
}
