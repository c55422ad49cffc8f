// Package shelf is what a device shows to its peers as one bucket: what it has put itself, the small blobs of others that it knows, and
// a shelf, where peers put what this device keeps for them. It decides nothing of who may do what.
//
//	Own     the bucket of what this device has put: only read here. Nobody from outside changes it
//	Mirror  small blobs of others, which this device has fetched and verified: read here, and removed from, heads only
//	Shelf   what peers put, and remove
//
// A blob that is in several of them is shown once: from Own, else from the Shelf, else from the Mirror. So a peer that copies what it has sees what is here, wherever
// that lies, and brings nothing twice.
package shelf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// Options say what a Bucket is made of. All are needed.
type Options struct {
	Own, Mirror, Shelf blob.Bucket
	// Put is called when a peer has put a blob, or removed some; nil: nobody wants to know. It has to be quick.
	Put func()
}

// A Bucket is a [blob.Bucket]. It is safe for concurrent use.
type Bucket struct{ o Options }

var _ blob.Bucket = (*Bucket)(nil)

// New returns a Bucket. It closes none of what it is made of.
func New(o Options) *Bucket { return &Bucket{o} }

// heads are the blobs that are removed from the Mirror, too: a peer that has pruned its heads sees to it that they are gone.
const heads = "heads/"

// kept are the small blobs that nobody removes from outside: the drive does not open without them.
var kept = []string{"drive/", "members/"}

func (b *Bucket) in() []blob.Bucket { return []blob.Bucket{b.o.Own, b.o.Shelf, b.o.Mirror} }

// Put implements [blob.Bucket]: it puts on the Shelf, whatever Own has.
func (b *Bucket) Put(ctx context.Context, name blob.Name, r io.Reader, size int64) error {
	if err := b.o.Shelf.Put(ctx, name, r, size); err != nil {
		return err
	}
	b.tell()
	return nil
}

func (b *Bucket) tell() {
	if b.o.Put != nil {
		b.o.Put()
	}
}

// Get implements [blob.Bucket].
func (b *Bucket) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	var missing error
	for _, one := range b.in() {
		r, err := one.Get(ctx, name, off, n)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return r, err
		}
		missing = err
	}
	return nil, missing
}

// List implements [blob.Bucket].
func (b *Bucket) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	return Merge(ctx, prefix, b.in()...)
}

// Merge lists several Buckets as one, in order. Of a name that several have, the first of them counts. It has one blob of each in memory.
func Merge(ctx context.Context, prefix blob.Name, in ...blob.Bucket) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		type source struct {
			next func() (blob.Info, error, bool)
			info blob.Info
			ok   bool
		}
		var all []*source
		advance := func(s *source) error {
			info, err, ok := s.next()
			s.info, s.ok = info, ok
			return err
		}
		for _, one := range in {
			next, stop := iter.Pull2(one.List(ctx, prefix))
			defer stop()
			s := &source{next: next}
			if err := advance(s); err != nil {
				yield(blob.Info{}, err)
				return
			}
			all = append(all, s)
		}
		for {
			var first *source
			for _, s := range all {
				if s.ok && (first == nil || s.info.Name < first.info.Name) {
					first = s
				}
			}
			if first == nil {
				return
			}
			info := first.info
			for _, s := range all {
				if !s.ok || s.info.Name != info.Name {
					continue
				}
				if err := advance(s); err != nil {
					yield(blob.Info{}, err)
					return
				}
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

// Remove implements [blob.Bucket]: it removes from the Shelf, and heads from the Mirror. What this device has put itself stays. A name of what a drive does not open
// without is an error that wraps [errors.ErrUnsupported], and nothing is removed then.
func (b *Bucket) Remove(ctx context.Context, names ...blob.Name) error {
	var mirrored []blob.Name
	for _, name := range names {
		for _, dir := range kept {
			if strings.HasPrefix(string(name), dir) {
				return fmt.Errorf("remove %s: peers keep it for good: %w", name, errors.ErrUnsupported)
			}
		}
		if strings.HasPrefix(string(name), heads) || strings.HasPrefix(string(name), "keys/") {
			mirrored = append(mirrored, name)
		}
	}
	if err := b.o.Shelf.Remove(ctx, names...); err != nil {
		return err
	}
	if len(mirrored) > 0 {
		if err := b.o.Mirror.Remove(ctx, mirrored...); err != nil {
			return err
		}
	}
	b.tell()
	return nil
}
