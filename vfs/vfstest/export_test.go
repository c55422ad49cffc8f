package vfstest

import (
	"testing"

	"github.com/sheaf-drive/sheaf/vfs/memfs"
)

// PlayedOp is one Op and what it returned.
type PlayedOp struct {
	Op     Op
	Result Result
}

// Played makes up n Ops and does them on the oracle.
func Played(t *testing.T, seed uint64, n int) (done []PlayedOp) {
	t.Helper()
	p, g := NewPlayer(memfs.New(memfs.Options{})), newGenerator(seed, false)
	for range n {
		if err := g.look(t.Context(), p.fs); err != nil {
			t.Fatal(err)
		}
		o := g.next()
		done = append(done, PlayedOp{o, p.Apply(t.Context(), o)})
	}
	if err := p.Close(t.Context()); err != nil {
		t.Error(err)
	}
	return done
}

// Shrink is shrink.
func Shrink(ops []Op, fails func([]Op) bool) []Op { return shrink(ops, fails) }
