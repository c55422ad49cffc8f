package transfer

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"sync"
)

// Claims keep two copies of one process from writing one partial file. The zero Claims
// are ready. They are safe for concurrent use.
type Claims struct {
	mu    sync.Mutex
	taken map[string]bool
}

// Take claims a full path until release is called, or fails with ErrBusy.
func (c *Claims) Take(full string) (release func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.taken[full] {
		return nil, fmt.Errorf("%q: %w", full, ErrBusy)
	}
	if c.taken == nil {
		c.taken = map[string]bool{}
	}
	c.taken[full] = true
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.taken, full)
	}, nil
}

// partialName is the name under which name is written. It depends on name alone, so that
// a later copy finds what an earlier one left, and is short whatever name is.
func partialName(name string) string {
	h := sha256.Sum256([]byte(name))
	return partialPrefix + base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(h[:15])
}
