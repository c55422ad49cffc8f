package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
	"time"
)

// The errors of Trees, besides those of package blob and io/fs.
var (
	// ErrChanged says that what is at a path is not what the caller knows: it was changed, made or removed meanwhile. Nothing was
	// done. Whoever gets it looks again and plans anew; it never tries harder.
	ErrChanged = errors.New("it has changed meanwhile")
	// ErrCursor says that a place does not know how to go on from a cursor. One asks from the zero cursor, and gets everything.
	ErrCursor = errors.New("the place does not know this cursor any more")
	// ErrIncomplete says that a listing is not whole. What it lacks is not known to be gone.
	ErrIncomplete = errors.New("the listing is not complete")
	// ErrIllegal says that a place cannot have a name.
	ErrIllegal = errors.New("the place cannot have this name")
)

// Version is what a place says of one state of a file: an etag, a revision, or what a stat gives. Only the place that
// gave it can read it; all others may compare it and no more. "" is that of nothing: there is none.
type Version string

// Cursor is what a place has told already. Only the place that gave it can read it. "" is before everything.
type Cursor string

// ItemKind is what an Item is. It never changes for one thing: a file that becomes a directory is another thing.
type ItemKind uint8

// The kinds of items.
const (
	File ItemKind = iota
	Dir
	Symlink
	// Other is what a place has and cannot give as bytes: a device, a socket, a document that has no file. It is told so that
	// nobody takes its name for free, and neither copied nor removed.
	Other
)

// An Item is one thing in a Tree. What a place does not know is zero.
type Item struct {
	// Path is from the root of the Tree, with "/" between its elements and none at its ends. The root is "" and is no Item. The
	// bytes of each element are as the place has them.
	Path string
	Kind ItemKind
	// Size is in bytes. It is -1 if only reading tells it.
	Size int64
	// MTime is as exact as TreeCan.MTime of the place.
	MTime time.Time
	// Mode holds permission bits only. Zero: the place keeps none.
	Mode fs.FileMode
	// Target is what a Symlink says, unresolved.
	Target string
	// ID is who the thing is, and survives a move within the place. "" where a place knows no such thing. It may be given anew to
	// another thing when this one is gone.
	ID string
	// Version changes whenever the bytes do, and may change without.
	Version Version
	// Hashes are of the content, by name ("md5", "sha1", "sha256", "blake3", …), in lower-case hexadecimal. A place gives those that it has without
	// reading the file.
	Hashes map[string]string
}

// A Change is what became of a path.
type Change struct {
	Item
	// Gone says that nothing is there any more, nor below it. Of the Item only Path counts, and ID if the place tells it.
	Gone bool
}

// TreeCan is what a Tree can do. It is data, so that a wrapper hands it on.
type TreeCan struct {
	Write      bool // it can be changed at all
	ChangeFeed bool // Changes after a cursor costs what changed, and not what there is
	IDs        bool // Item.ID is set
	Ranges     bool // Open from the middle costs what is read
	ServerMove bool // Move costs the same for any size
	DirMove    bool // it moves a directory with all below it in one step
	ServerCopy bool // the Tree is a Copier
	Touch      bool // the Tree is a Toucher
	Watch      bool // the Tree is a Watcher
	EmptyDirs  bool // directories exist without files
	Symlinks   bool // Put takes Symlinks
	Modes      bool // Item.Mode is kept
	// MTime is how exact times are: 1 ns, 1 s, 2 s; 0: the place gives a file the time of its upload, or none.
	MTime time.Duration
	// Exact says that Put, Move and Remove hold to the known version in one step with what they do. Where it is false, the version is looked
	// at right before, and a change in between is overlooked.
	Exact bool
	// Fold says that names that differ in case only are one, Normal that those that differ in their Unicode form only are.
	Fold, Normal bool
	// NoDots says that no name begins with a dot: such paths are ErrIllegal, for the place would not list them.
	NoDots bool
	// Hashes are the names of those that Item.Hashes may have.
	Hashes []string
	Rate   Rate
}

// A Tree is a place of plain files with versions: a folder, a cloud drive, a mailbox, an archive of a backup, a drive. It differs from
// a vfs.FS in what the far side can do: whole files only, no open handles, and a version to hold a writer to.
//
// All methods are safe for concurrent use and stop when their context is done. A missing path is an error that wraps
// [fs.ErrNotExist]; a Tree that cannot do what it is asked wraps [errors.ErrUnsupported], and Can says so beforehand; a version
// that is not the known one is [ErrChanged]; a path that CheckPath refuses, or that the place cannot have, is [ErrIllegal]; the other errors are those of package blob
// (ErrUnauthorized, ErrNoSpace, ErrTemporary, …). No method follows a symbolic link, and none reaches outside of the root: what a path would
// reach through something that is no directory is not there. Every implementation must pass treetest.Run.
type Tree interface {
	// Can says what this Tree can do. It is the same for the life of the Tree.
	Can() TreeCan

	// Identity is which place this is, in bytes that can be compared: the same after a restart and for a place that was emptied by its users; another for
	// the empty folder that is left where a disk was unmounted, for another account, for a server that was set up anew. It fails if the place is not there.
	Identity(ctx context.Context) (string, error)

	// Changes yields what changed since the cursor, and next returns the cursor to go on from. From "" it yields everything that is there, each path once and
	// in the order of ComparePaths, parents before what they hold; from any other cursor, where Can has ChangeFeed, what changed, in an order in which parents that came come
	// before what they hold. A path may come again; only the last word about it counts. The sequence ends at its first
	// error, and next is "" then and before the sequence has ended: a listing that is not whole says nothing about what is gone. Without a ChangeFeed
	// each cursor means the same as "". A cursor that the place knows no more is ErrCursor.
	Changes(ctx context.Context, since Cursor) (changes iter.Seq2[Change, error], next func() Cursor)

	// List yields what the directory dir holds, and not what lies below that, in the byte order of the names; "" is the root. The
	// sequence ends at its first error. Where directories do not exist without files, one that is not there may be an empty one.
	List(ctx context.Context, dir string) iter.Seq2[Item, error]

	// Stat returns what is at path now.
	Stat(ctx context.Context, path string) (Item, error)

	// Open opens n bytes of the file at path from offset off >= 0; n < 0 means to its end. A range that passes the end is cut off there. The
	// caller closes the reader. What is no file is fs.ErrInvalid. If known is not "" and the file has another version, it is ErrChanged, from Open
	// or from a Read: a reader never gets the bytes of two versions without being told.
	Open(ctx context.Context, path string, off, n int64, known Version) (io.ReadCloser, error)

	// Put makes the file or the Symlink it.Path what it and r say (Kind, MTime, Mode and Target are taken as far as the place keeps them; r is nil for a Symlink), if what is
	// there has the version known; "" means that nothing is there. A reader sees the old file or all of the new one. Where Can has EmptyDirs, a
	// parent that is not there is fs.ErrNotExist; elsewhere it comes with what it holds. it.Size is what r gives, -1 if that is not known; another
	// number of bytes is blob.ErrSize, and nothing changes. Nobody reads r any more when Put has returned. When it returns nil the file is there as
	// durably as the place can say, and the Item returned is what it has become: where names fold, its Path has the name as the place has it.
	Put(ctx context.Context, it Item, r io.Reader, known Version) (Item, error)

	// A Mover, below, has what changes names.
	Mover
}

// A Mover is the part of a Tree that changes names.
type Mover interface {
	// Move moves the file, link or directory from, if it has the version known, to a name where nothing is (ErrChanged if something is). A
	// directory has no version: known is "" for it; to move one below itself is fs.ErrInvalid. What has moved keeps its ID. It is also the way to
	// change the case of a name where names fold. If from is not there it is fs.ErrNotExist.
	Move(ctx context.Context, from, to string, known Version) (Item, error)
	// Mkdir makes a directory in one that is there. One that is there already is no error; anything else is ErrChanged. Where directories do
	// not exist without files nothing is made, and it is no error.
	Mkdir(ctx context.Context, path string, mode fs.FileMode) (Item, error)
	// Remove removes a file or link that has the version known, or a directory (known is "") that is empty. One that is not
	// empty is ErrChanged. What is not there is fs.ErrNotExist. What is Other is fs.ErrInvalid.
	Remove(ctx context.Context, path string, known Version) error
}

// A Copier is a Tree that copies on its own side.
type Copier interface {
	// Copy makes to a copy of the file from, if that has the version known and nothing is at to.
	Copy(ctx context.Context, from, to string, known Version) (Item, error)
}

// A Toucher is a Tree that changes attributes of what is there without its bytes.
type Toucher interface {
	// Touch gives the thing at it.Path the MTime and the Mode of it that are not zero, if it has the version known ("" for a directory).
	Touch(ctx context.Context, it Item, known Version) (Item, error)
}

// A Watcher is a Tree that tells when it is worth to look.
type Watcher interface {
	// Watch yields paths at or below which something may have changed, "" for anywhere, until ctx is done or the watch ends for good, with an error. It is a hint: changes may
	// be missed, and what it yields may not be one.
	Watch(ctx context.Context) iter.Seq2[string, error]
}

// CheckPath returns an error that wraps ErrIllegal if path is none of an Item: its elements are not empty, neither "." nor "..", and without NUL.
func CheckPath(path string) error {
	for elem := range strings.SplitSeq(path, "/") {
		if elem == "" || elem == "." || elem == ".." || strings.IndexByte(elem, 0) >= 0 {
			return fmt.Errorf("path %q: %w", path, ErrIllegal)
		}
	}
	return nil
}

// ComparePaths orders paths as Changes does: by their elements, so that a directory comes right before what it holds.
func ComparePaths(a, b string) int {
	for i := range min(len(a), len(b)) {
		switch x, y := a[i], b[i]; {
		case x == y:
		case x == '/':
			return -1
		case y == '/':
			return 1
		default:
			return cmp.Compare(x, y)
		}
	}
	return cmp.Compare(len(a), len(b))
}

// Listing returns what Changes does, for a Tree whose list calls give with each change, and returns at once the error that give returns, if it does; its other errors
// are the last that is yielded, and the Cursor counts only if there is none.
func Listing(list func(give func(Change) error) (Cursor, error)) (changes iter.Seq2[Change, error], next func() Cursor) {
	var last Cursor
	return func(yield func(Change, error) bool) {
		last = ""
		cursor, err := list(func(c Change) error {
			if !yield(c, nil) {
				return errEnough
			}
			return nil
		})
		switch {
		case err == nil:
			last = cursor
		case !errors.Is(err, errEnough):
			yield(Change{}, err)
		}
	}, func() Cursor { return last }
}

// errEnough says that who reads a listing wants no more of it.
var errEnough = errors.New("no more is wanted")
