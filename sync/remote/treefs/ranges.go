package treefs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

const (
	block = 1 << 20 // bytes that are asked for at a time
	most  = 12      // blocks that are kept of an open file
	ahead = 4       // blocks that are asked for before their turn, when a file is read on and on
)

// ranges read one version of a file by blocks, and keep the last of them: at most 12 MiB.
type ranges struct {
	f    *FS
	path string
	it   remote.Item
	ctx  context.Context // of what is read ahead; it ends with close
	end  context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	blocks map[int64]*part
	used   []int64 // the blocks, the one that was used last at the end
	last   int64   // block that was read last
	given  bool    // somebody got bytes
}

// A part is one block. When done is closed, the rest may be read.
type part struct {
	done chan struct{}
	data []byte
	err  error
}

func newRanges(f *FS, path string, it remote.Item) *ranges {
	ctx, end := context.WithCancel(context.Background())
	return &ranges{f: f, path: path, it: it, ctx: ctx, end: end, blocks: map[int64]*part{}, last: -2}
}

// close ends what is under way, and waits for it.
func (r *ranges) close() {
	r.end()
	r.wg.Wait()
}

func (r *ranges) readAt(ctx context.Context, p []byte, off int64) (n int, err error) {
	for n < len(p) {
		at := off + int64(n)
		if at >= r.it.Size || at < 0 {
			return n, io.EOF
		}
		data, err := r.get(ctx, at/block)
		if err != nil {
			return n, err
		}
		from := at % block
		if from >= int64(len(data)) {
			return n, io.EOF
		}
		n += copy(p[n:], data[from:])
		r.mu.Lock()
		r.given = true
		r.mu.Unlock()
	}
	return n, nil
}

// began reports whether somebody got bytes of this version.
func (r *ranges) began() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.given
}

// get returns a block.
func (r *ranges) get(ctx context.Context, i int64) ([]byte, error) {
	for try := 0; ; try++ {
		r.mu.Lock()
		one := r.start(i)
		if i == r.last+1 {
			for next := i + 1; next <= i+ahead && next*block < r.it.Size; next++ {
				r.start(next)
			}
		}
		r.last = i
		r.mu.Unlock()
		select {
		case <-one.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if one.err == nil {
			return one.data, nil
		}
		r.mu.Lock()
		if r.blocks[i] == one {
			delete(r.blocks, i)
		}
		r.mu.Unlock()
		if try == 2 || !errors.Is(one.err, blob.ErrTemporary) {
			return nil, one.err
		}
	}
}

// start asks for a block, if it is not there. mu is held.
func (r *ranges) start(i int64) *part {
	for k, u := range r.used {
		if u == i {
			r.used = append(r.used[:k], r.used[k+1:]...)
			break
		}
	}
	r.used = append(r.used, i)
	if one := r.blocks[i]; one != nil {
		return one
	}
	for len(r.used) > most {
		delete(r.blocks, r.used[0])
		r.used = r.used[1:]
	}
	one := &part{done: make(chan struct{})}
	r.blocks[i] = one
	r.wg.Go(func() {
		defer close(one.done)
		one.data, one.err = r.fetch(i)
	})
	return one
}

func (r *ranges) fetch(i int64) (data []byte, err error) {
	n := min(block, r.it.Size-i*block)
	in, err := r.f.t.Open(r.ctx, r.path, i*block, n, r.it.Version)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	data = make([]byte, n)
	if m, err := io.ReadFull(in, data); err != nil {
		return nil, fmt.Errorf("%d bytes from %d of %q: got %d: %w", n, i*block, r.path, m, err)
	}
	// The end of the reader says whether it was the version that it should be.
	if _, err := in.Read(make([]byte, 1)); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return data, nil
}
