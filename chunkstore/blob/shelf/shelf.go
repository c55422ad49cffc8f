// Package shelf is what a device shows to its peers as one bucket: what it has put itself, the small blobs of others that it knows, and
// a shelf, where peers put what this device keeps for them. It decides nothing of who may do what.
//
//	Own     the bucket of what this device has put: only read here. Nobody from outside changes it
//	Mirror  small blobs of others, which this device has fetched and verified: read here, and removed from, heads only
//	Shelf   what peers put, and remove
//
// A blob that is in several of them is shown once: from Own, else from the Mirror, else from the Shelf. So a peer that copies what it has sees what is here, wherever
// that lies, and brings nothing twice. Nobody looks at what peers put before it lies on the Shelf: one with bad memory puts a head there that is damaged. When the
// sound one has come from elsewhere it is in the Mirror, and is what peers see, or nobody could go on after the damaged one, nor begin on it.
//
// Whoever writes index blobs removes older ones, whichever device has put them. Where these lie in Own they stay, and are shown no more, as long as the Bucket lives: a peer that saw
// them still would take them for not removed, and stop there at each of its turns. They have names that are used once, and nothing is lost with them.
package shelf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
	"sync"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// Options say what a Bucket is made of. All are needed.
type Options struct {
	Own, Mirror, Shelf blob.Bucket
	// Put is called when a peer has put a blob, or removed some; nil: nobody wants to know. It has to be quick.
	Put func()
}

// A Bucket is a [blob.Bucket]. It is safe for concurrent use.
type Bucket struct {
	o Options

	mu     sync.Mutex
	hidden map[blob.Name]struct{} // of Own, that peers have removed
}

var _ blob.Bucket = (*Bucket)(nil)

// New returns a Bucket. It closes none of what it is made of.
func New(o Options) *Bucket { return &Bucket{o: o, hidden: map[blob.Name]struct{}{}} }

// maxHidden is of how many blobs of Own it is kept that they are not shown: some 100 bytes each.
const maxHidden = 8192

// hides is what of Own peers can have shown no more. It is not for key slots: one that is damaged is written again under its name, by whoever has put it.
const hides = "index/"

// hide notes that peers have removed a blob of Own, if it is one of those that they may.
func (b *Bucket) hide(ctx context.Context, name blob.Name) error {
	if !strings.HasPrefix(string(name), hides) {
		return nil
	}
	r, err := b.o.Own.Get(ctx, name, 0, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	b.mu.Lock()
	if len(b.hidden) < maxHidden {
		b.hidden[name] = struct{}{}
	}
	b.mu.Unlock()
	return r.Close()
}

// shows reports whether peers see a blob of that name, if there is one.
func (b *Bucket) shows(name blob.Name) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, hidden := b.hidden[name]
	return !hidden
}

// heads are the blobs that are removed from the Mirror, too: a peer that has pruned its heads sees to it that they are gone.
const heads = "heads/"

// kept are the small blobs that nobody removes from outside: the drive does not open without them.
var kept = []string{"drive/", "members/"}

func (b *Bucket) in() []blob.Bucket { return []blob.Bucket{b.o.Own, b.o.Mirror, b.o.Shelf} }

// Put implements [blob.Bucket]: it puts on the Shelf, whatever Own has.
func (b *Bucket) Put(ctx context.Context, name blob.Name, r io.Reader, size int64) error {
	if err := b.o.Shelf.Put(ctx, name, r, size); err != nil {
		return err
	}
	b.mu.Lock()
	delete(b.hidden, name)
	b.mu.Unlock()
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
	if !b.shows(name) {
		return nil, fmt.Errorf("get %s: %w", name, fs.ErrNotExist)
	}
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
	return func(yield func(blob.Info, error) bool) {
		for info, err := range Merge(ctx, prefix, b.in()...) {
			if err == nil && !b.shows(info.Name) {
				continue
			}
			if !yield(info, err) {
				return
			}
		}
	}
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

// Remove implements [blob.Bucket]: it removes from the Shelf, and heads and key slots from the Mirror. What this device has put itself stays, and index blobs of it are shown no more. A name of what a drive does not open
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
	for _, name := range names {
		if err := b.hide(ctx, name); err != nil {
			return err
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
