package sheaf

import (
	"context"
	"errors"
	"io/fs"

	"github.com/sheaf-drive/sheaf/chunkstore"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
)

// treeStore is the Store as a tree sees it: a chunk that is damaged or missing is vfs.ErrCorrupt, and
// never fs.ErrNotExist. A missing chunk wraps that, and whoever asks a tree for a name
// would take it for "nothing bears that name": a program that keeps two places equal would delete
// the file in the other one.
type treeStore struct{ *chunkstore.Store }

// Get is Get of chunkstore.Store.
func (s treeStore) Get(ctx context.Context, dst []byte, ref chunk.Ref) ([]byte, error) {
	p, err := s.Store.Get(ctx, dst, ref)
	return p, asDamage(err)
}

// ReadAt is ReadAt of chunkstore.Store.
func (s treeStore) ReadAt(ctx context.Context, ref chunk.Ref, p []byte, off int64) (int, error) {
	n, err := s.Store.ReadAt(ctx, ref, p, off)
	return n, asDamage(err)
}

// asDamage returns err, marked as damage if it says that stored bytes are damaged or missing.
func asDamage(err error) error {
	if errors.Is(err, chunkstore.ErrCorrupt) || errors.Is(err, chunkstore.ErrMissing) || errors.Is(err, fs.ErrNotExist) {
		return &damage{err}
	}
	return err
}

// damage is an error of stored bytes. It is vfs.ErrCorrupt and all that err is, but for fs.ErrNotExist.
type damage struct{ err error }

// Error implements error.
func (d *damage) Error() string { return vfs.ErrCorrupt.Error() + ": " + d.err.Error() }

// Is is called by errors.Is. There is no Unwrap beside it, which would show what is hidden here.
func (d *damage) Is(target error) bool {
	return target == vfs.ErrCorrupt || target != fs.ErrNotExist && errors.Is(d.err, target)
}
