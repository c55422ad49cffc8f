// Package blob is the joint below the chunk store: a flat place for sealed
// blobs, such as a folder, a cloud provider, a peer or a share. It knows neither
// what is in a blob nor how to open it.
package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"
)

// Name is the name of a blob: one to eight elements of [a-z0-9._-], joined by
// single slashes, at most 200 bytes in all; no element begins or ends with a
// dot, or is a device of Windows ("con", "nul.x"). So a name is legal on every
// provider and file system, also where case is folded.
type Name string

// MaxName is the longest Name in bytes.
const MaxName = 200

// The errors of a Bucket, besides those of io/fs and errors.ErrUnsupported.
var (
	ErrName    = errors.New("illegal blob name")
	ErrNoSpace = errors.New("no space left for blobs")              // the place is full, or a quota is
	ErrSize    = errors.New("body and declared size are not equal") // of Put

	// ErrTemporary says that a place cannot be reached, or does not answer as it should, for now: the same call may succeed
	// later. It says nothing of whether the blob is there, so no error wraps both it and fs.ErrNotExist.
	ErrTemporary = errors.New("the place does not answer for now")
)

// Check returns an error that wraps ErrName if n is not a legal name.
func (n Name) Check() error {
	if len(n) == 0 || len(n) > MaxName || strings.Count(string(n), "/") > 7 {
		return fmt.Errorf("%w: %q", ErrName, string(n))
	}
	for elem := range strings.SplitSeq(string(n), "/") {
		if elem == "" || elem[0] == '.' || elem[len(elem)-1] == '.' || isDevice(elem) {
			return fmt.Errorf("%w: %q", ErrName, string(n))
		}
		for _, c := range []byte(elem) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
				return fmt.Errorf("%w: %q", ErrName, string(n))
			}
		}
	}
	return nil
}

// isDevice reports whether Windows takes elem for a device, whatever its extension.
func isDevice(elem string) bool {
	stem, _, _ := strings.Cut(elem, ".")
	switch stem {
	case "con", "prn", "aux", "nul":
		return true
	}
	return len(stem) == 4 && (stem[:3] == "com" || stem[:3] == "lpt") && stem[3] >= '0' && stem[3] <= '9'
}

// Info is what a listing says of one blob.
type Info struct {
	Name    Name
	Size    int64     // bytes
	ModTime time.Time // when it was put, as far as the Bucket knows; zero if it does not. Information only.
}

// A Bucket is a flat place for sealed blobs: a folder, a cloud provider, a
// peer, a share. All that leaves this machine goes through a Bucket, and all
// of it is ciphertext.
//
// Every method is safe for concurrent use and stops when its context is done.
// A missing blob is reported as an error that wraps [io/fs.ErrNotExist]; a
// Bucket that cannot do what it is asked wraps [errors.ErrUnsupported]; an
// illegal name wraps [ErrName]. Every implementation must pass blobtest.Run.
type Bucket interface {
	// Put stores the size bytes of r under name. When it returns nil the blob is
	// durable. A reader of the Bucket sees all of the blob or none of it, also
	// after a crash or a failed Put. Putting a name that is there already replaces it;
	// blobs named by their hash are never put twice by sheaf. If r yields
	// fewer or more than size bytes, Put fails with [ErrSize] and nothing is stored.
	// A full place is reported as [ErrNoSpace]. Nobody reads r any more when Put has returned, whatever it
	// returned: its memory is used again. No name is another one with a slash
	// and more behind it: a Bucket made of folders refuses that with [ErrName].
	Put(ctx context.Context, name Name, r io.Reader, size int64) error

	// Get opens n bytes of the blob from offset off (off >= 0); n < 0 means to
	// its end. A range that passes the end is cut off there; one that begins at or
	// after the end yields no bytes. The caller closes the reader.
	Get(ctx context.Context, name Name, off, n int64) (io.ReadCloser, error)

	// List yields the blobs whose name starts with prefix (any string prefix, ""
	// for all), in the byte order of their names. The sequence ends at the first
	// error. A blob that is put or removed meanwhile may be yielded or not.
	List(ctx context.Context, prefix Name) iter.Seq2[Info, error]

	// Remove removes the blobs, durably. A blob that is not there is no error.
	Remove(ctx context.Context, names ...Name) error
}

// ReadAll returns the whole blob, or an error if it is longer than limit bytes.
func ReadAll(ctx context.Context, b Bucket, name Name, limit int64) ([]byte, error) {
	r, err := b.Get(ctx, name, 0, limit+1)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	p, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", name, err)
	}
	if int64(len(p)) > limit {
		return nil, fmt.Errorf("read blob %s: longer than %d bytes", name, limit)
	}
	return p, nil
}
