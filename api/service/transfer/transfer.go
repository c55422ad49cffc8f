// Package transfer copies trees between places: a folder of this machine, the
// drive, a past state of the drive. It is no sync: it looks at one side and
// makes the other have what is there, and it deletes nothing.
package transfer

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live"
)

// The errors of a copy, besides those of vfs.
var (
	ErrChanged = errors.New("changed while it was read")
	ErrBusy    = errors.New("another copy writes this file")
	errCannot  = errors.New("this pair of places cannot")
)

// partialPrefix begins the name under which a file is written until it is whole.
const partialPrefix = ".sheaf-partial-"

// Item is one node of a tree.
type Item struct {
	Kind   vfs.Kind
	Mode   vfs.Mode
	UID    uint32
	GID    uint32
	Rdev   uint32
	Size   int64
	ATime  time.Time
	MTime  time.Time
	CTime  time.Time // zero if the place cannot keep it for its next reader
	Target string    // of a symbolic link
	Nlink  uint32
	Same   Identity // equal for all names of one file; set if Nlink > 1
}

// Identity tells files of one place apart.
type Identity struct{ Dev, Ino uint64 }

// Xattr is one extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// Child is one node in a listing.
type Child struct {
	Name string
	Item Item
}

// A Source is a tree that is copied from. Paths are relative, with "/", and "" is the
// top. Links are not followed. It is safe for concurrent use.
type Source interface {
	// Stat returns what is at path, or an error that wraps fs.ErrNotExist.
	Stat(ctx context.Context, path string) (Item, error)
	// List yields the children of a directory.
	List(ctx context.Context, path string) iter.Seq2[Child, error]
	// Open opens a file for reading.
	Open(ctx context.Context, path string) (Reader, error)
	// Xattrs returns the extended attributes that can be read, sorted by name.
	Xattrs(ctx context.Context, path string) ([]Xattr, error)
}

// A Reader is an open file of a Source.
type Reader interface {
	// ReadAt is as vfs.Handle has it.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	// Data returns the first run of data that ends after off, or io.EOF if none follows. It
	// may take a hole for data.
	Data(ctx context.Context, off int64) (from, to int64, err error)
	// Stat returns the file as it is now, so that the copier can tell if it changed.
	Stat(ctx context.Context) (Item, error)
	// Xattrs is as Source has it.
	Xattrs(ctx context.Context) ([]Xattr, error)
	// Close gives it back.
	Close() error
}

// A Target is a tree that is copied to. It is a Source too, for what is there already.
type Target interface {
	Source
	// Make makes a node that is no file. What is there and is no directory is
	// replaced in one step; a directory that is there stays as it is.
	Make(ctx context.Context, path string, it Item) error
	// Link gives the file at old the name path too, replacing what is no directory.
	Link(ctx context.Context, old, path string) error
	// Begin opens what an earlier copy to path left, or begins anew. Fails with
	// ErrBusy if another copy to path goes on in this process.
	Begin(ctx context.Context, path string, it Item) (Writer, error)
	// SetAttr gives a node the mode, owner, times and extended attributes of it, as far as
	// the place and this user's rights go.
	SetAttr(ctx context.Context, path string, it Item, x []Xattr) error
	// Rename gives what is at path another name in its directory, and fails with fs.ErrExist if
	// that is taken. The top can be renamed too.
	Rename(ctx context.Context, path, name string) error
	// Name returns the name of what is at path in its directory.
	Name(path string) string
	// Sync returns when all is durable.
	Sync(ctx context.Context) error
}

// A Writer is a file on its way to a Target. It lies beside its later name, under
// a partial name.
type Writer interface {
	// Size is how much an earlier copy left.
	Size() int64
	// ReadAt and WriteAt are as vfs.Handle has them.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	WriteAt(ctx context.Context, p []byte, off int64) (int, error)
	// CopyFrom copies a range without carrying its bytes, or returns errCannot.
	CopyFrom(ctx context.Context, r Reader, off, n int64) (int64, error)
	// Give writes what a Load stored, which is of the tree that is written to, or returns errCannot.
	Give(ctx context.Context, l *live.Load, s live.Stored) error
	// Commit makes the file it.Size long, gives it its attributes and its name, and closes it.
	// What bore the name and is no directory is replaced in one step.
	Commit(ctx context.Context, it Item, x []Xattr) error
	// Close closes it if Commit did not. What was written stays for the next Begin.
	Close() error
}
