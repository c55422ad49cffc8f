package rest

import (
	"io"
	"sync"
)

// pipeRoom is how many bytes of an answer wait for their reader. A connection has such room too: a handler may answer before all
// that it was sent is taken.
const pipeRoom = 64 << 10

// A pipe is an io.Pipe with room. Closing it at the reader's end has writes fail, at the writer's end reads, once all was read.
type pipe struct {
	mu       sync.Mutex // guards the rest
	moved    *sync.Cond
	waiting  []byte
	end      error // of the writer; nil: it goes on
	deserted bool  // the reader is gone
}

func newPipe() *pipe {
	p := &pipe{}
	p.moved = sync.NewCond(&p.mu)
	return p
}

func (p *pipe) Write(b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(b) > 0 {
		for len(p.waiting) >= pipeRoom && !p.deserted {
			p.moved.Wait()
		}
		if p.deserted {
			return n, io.ErrClosedPipe
		}
		k := min(len(b), pipeRoom-len(p.waiting))
		p.waiting = append(p.waiting, b[:k]...)
		b, n = b[k:], n+k
		p.moved.Broadcast()
	}
	return n, nil
}

// finish ends what is written, with io.EOF or another error.
func (p *pipe) finish(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end = err
	p.moved.Broadcast()
}

func (p *pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.waiting) == 0 && p.end == nil && !p.deserted {
		p.moved.Wait()
	}
	switch {
	case p.deserted:
		return 0, io.ErrClosedPipe
	case len(p.waiting) == 0:
		return 0, p.end
	}
	n := copy(b, p.waiting)
	p.waiting = append(p.waiting[:0], p.waiting[n:]...)
	p.moved.Broadcast()
	return n, nil
}

// Close is the reader's.
func (p *pipe) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deserted = true
	p.moved.Broadcast()
	return nil
}
