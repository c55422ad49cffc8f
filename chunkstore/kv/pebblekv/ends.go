package pebblekv

import (
	"math"
	"strings"
	"sync"
	"sync/atomic"
)

// walEnds knows where the logs of Updates end that were written since Open: after the last Update that was acknowledged. An Update whose
// write or sync was refused may lie behind that, as a whole or in part, and must not be read when the files are opened again.
// It is safe for concurrent use.
type walEnds struct {
	mu   sync.Mutex
	logs map[string]*walEnd // by name
}

// A walEnd is of one log, in bytes of plain text.
type walEnd struct {
	fs      *sealedFS // that writes it
	written atomic.Uint64
	acked   uint64 // guarded by walEnds.mu
}

func newWALEnds() *walEnds { return &walEnds{logs: map[string]*walEnd{}} }

func isWAL(base string) bool { return strings.HasSuffix(base, ".log") }

// add notes a new log.
func (w *walEnds) add(base string, s *sealedFS) *walEnd {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := &walEnd{fs: s}
	w.logs[base] = e
	return e
}

// remove forgets a log that is there no more. Pebble does not use its name again.
func (w *walEnds) remove(base string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.logs, base)
}

// ack acknowledges all that was written to the logs of s.
func (w *walEnds) ack(s *sealedFS) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.logs {
		if e.fs == s {
			e.acked = e.written.Load()
		}
	}
}

// limit returns where a log ends for who reads it.
func (w *walEnds) limit(base string) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e := w.logs[base]; e != nil {
		return e.acked
	}
	return math.MaxUint64
}
