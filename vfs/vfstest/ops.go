package vfstest

import (
	"context"

	"github.com/sheaf-drive/sheaf/vfs/memfs"
)

// Ops makes up n random Ops that make sense one after the other on a tree that is empty at first.
func Ops(ctx context.Context, seed uint64, n int) ([]Op, error) {
	p, g := NewPlayer(memfs.New(memfs.Options{})), newGenerator(seed, false)
	ops := make([]Op, 0, n)
	for range n {
		if err := g.look(ctx, p.fs); err != nil {
			return nil, err
		}
		o := g.next()
		ops = append(ops, o)
		p.Apply(ctx, o)
	}
	return ops, p.Close(ctx)
}
