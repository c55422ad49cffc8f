package replica

import (
	"sync"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// progress counts what is done.
type progress struct {
	tell func(Progress)
	mu   sync.Mutex
	now  Progress
	told int64 // bytes at the last call of tell
	sent map[blob.Name]*counted
}

// counted counts the bytes of one blob once, however often it is sent. One goroutine at a time sends it.
type counted struct {
	p         *progress
	sent, max int64
}

func (c *counted) read(n int64) {
	if c.sent += n; c.sent > c.max {
		c.p.add(0, c.sent-c.max)
		c.max = c.sent
	}
}

// of returns the counter of a blob.
func (p *progress) of(name blob.Name) *counted {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sent == nil {
		p.sent = map[blob.Name]*counted{}
	}
	c := p.sent[name]
	if c == nil {
		c = &counted{p: p}
		p.sent[name] = c
	}
	return c
}

// step is how many bytes go by between two calls.
const step = 1 << 20

func (p *progress) add(blobs int, size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Blobs += blobs
	p.now.Bytes += size
	if p.tell != nil && (blobs > 0 || p.now.Bytes-p.told >= step) {
		p.told = p.now.Bytes
		p.tell(p.now)
	}
}

func (p *progress) expect(blobs int, size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.OfBlobs += blobs
	p.now.OfBytes += size
	if p.tell != nil && blobs > 0 {
		p.tell(p.now)
	}
}
