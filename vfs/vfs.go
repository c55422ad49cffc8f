// Package vfs is the joint between a tree of files and the doors that show it
// (mount, WebDAV, the API): FS, its nodes and handles, and their errors. It knows
// neither where a tree comes from nor who looks at it.
package vfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"
	"time"
)

// The errors of a tree, besides those of io/fs: fs.ErrNotExist, fs.ErrExist,
// fs.ErrPermission, fs.ErrInvalid and fs.ErrClosed. Errors wrap one of them, and a
// door translates them in one place (mount/errno for the mounts).
var (
	ErrReadOnly  = errors.New("file system is read-only")
	ErrNotDir    = errors.New("not a directory")
	ErrIsDir     = errors.New("is a directory")
	ErrNotEmpty  = errors.New("directory is not empty")
	ErrName      = errors.New("illegal name")
	ErrNameLen   = errors.New("name is too long")
	ErrTooBig    = errors.New("file is too big")
	ErrTooMany   = errors.New("too many links")
	ErrNoXattr   = errors.New("no such extended attribute")
	ErrRange     = errors.New("value does not fit")
	ErrNoSpace   = errors.New("no space left")
	ErrQuota     = errors.New("quota is used up")
	ErrCrossTree = errors.New("node is of another tree")
	ErrNoData    = errors.New("no data or hole beyond this offset") // of Seek, lseek(2)'s ENXIO
	ErrCorrupt   = errors.New("stored bytes are damaged")
)

// Limits of names and values, as Linux has them.
const (
	MaxName       = 255       // bytes in a name
	MaxTarget     = 4095      // bytes in the target of a symbolic link
	MaxXattrName  = 255       // bytes in the name of an extended attribute
	MaxXattrValue = 64 << 10  // bytes in its value
	MaxXattrTotal = 128 << 10 // bytes of all names and values of one node
	MaxSize       = 1<<63 - 1 // bytes in a file
)

// Kind says what a node is. It never changes for one node.
type Kind uint8

// The kinds of nodes. They are part of the stored format.
const (
	KindFile   Kind = 1
	KindDir    Kind = 2
	KindLink   Kind = 3
	KindFIFO   Kind = 4
	KindSocket Kind = 5
	KindChar   Kind = 6
	KindBlock  Kind = 7
)

// Mode holds the lower twelve bits of a Unix mode: rwx for user, group and
// others, and setuid (04000), setgid (02000) and sticky (01000).
type Mode uint16

// ModeMask has all bits of a Mode.
const ModeMask Mode = 0o7777

// modeBits pairs the bits above rwx with those of package io/fs.
var modeBits = [...]struct {
	own Mode
	std fs.FileMode
}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}}

// FileMode returns m as package io/fs has it, without a type.
func (m Mode) FileMode() fs.FileMode {
	f := fs.FileMode(m & 0o777)
	for _, b := range modeBits {
		if m&b.own != 0 {
			f |= b.std
		}
	}
	return f
}

// ModeOf returns the twelve bits of what package io/fs has.
func ModeOf(f fs.FileMode) Mode {
	m := Mode(f.Perm())
	for _, b := range modeBits {
		if f&b.std != 0 {
			m |= b.own
		}
	}
	return m
}

// Attr is what is known of a node.
type Attr struct {
	Ino   uint64 // stable for the life of the node, also over a remount; never 0
	Kind  Kind
	Mode  Mode
	Nlink uint32 // names of a file; 0 once it has none; a directory has always 1
	UID   uint32
	GID   uint32
	Rdev  uint32 // of a device node, as Linux encodes it
	Size  int64  // bytes of a file; length of a link's target; of a directory any figure
	Bytes int64  // bytes that the file's data takes before compression: its size less its holes
	ATime time.Time
	MTime time.Time
	CTime time.Time
	BTime time.Time // when it was made; zero if not known
}

// AttrSet says which fields of an AttrChange are meant.
type AttrSet uint16

// The fields of an AttrChange.
const (
	SetMode AttrSet = 1 << iota
	SetUID
	SetGID
	SetSize // files only: as Handle.Truncate
	SetATime
	SetMTime
	SetCTime // for a door that keeps time itself (a kernel with a write-back cache); else CTime is now
)

// AttrChange is a change of some attributes of a node.
type AttrChange struct {
	Set   AttrSet
	Mode  Mode
	UID   uint32
	GID   uint32
	Size  int64
	ATime time.Time
	MTime time.Time
	CTime time.Time
}

// Usage is the room of a tree, in bytes and files, as statfs(2) has it.
type Usage struct {
	Bytes, BytesFree uint64 // all and free
	Files, FilesFree uint64
}

// XattrFlag is how SetXattr treats a name that is there or is not.
type XattrFlag uint8

// The values of XattrFlag.
const (
	XattrAny     XattrFlag = 0
	XattrCreate  XattrFlag = 1 // fail with fs.ErrExist if it is there
	XattrReplace XattrFlag = 2 // fail with ErrNoXattr if it is not
)

// RenameFlag is how Rename treats a new name that is taken.
type RenameFlag uint8

// The values of RenameFlag.
const (
	RenameReplace   RenameFlag = 0
	RenameNoReplace RenameFlag = 1 // fail with fs.ErrExist
	RenameExchange  RenameFlag = 2 // both must be there; they change places
)

// Entry is one child in a listing.
type Entry struct {
	Name string
	Ino  uint64
	Kind Kind
}

// EntryAttr is one child in a listing, with what Attr says of it.
type EntryAttr struct {
	Name   string
	Attr   Attr
	Target string // of a Link
}

// An AttrLister is a Dir that lists attributes for less than a Lookup of each child costs.
type AttrLister interface {
	// ListAttr is as Dir.List.
	ListAttr(ctx context.Context, after string) iter.Seq2[EntryAttr, error]
}

// Change says what changed behind the door's back, so that it can drop what it
// has cached of it.
type Change struct {
	Node Node   // the node that changed; nil: anything may have
	Name string // if not "", only this name of the directory Node; else attributes and content of Node
}

// An FS is a tree of nodes. Doors (mount, webdav, api) need nothing else to serve
// one. All methods of an FS, its nodes and handles are safe for concurrent use.
// Every implementation must pass vfstest.Run.
//
// A tree does not check permissions: that is the door's (the kernel's, for a
// mount). Errors wrap one of this package's Err values or one of io/fs's. A
// read-only FS returns [ErrReadOnly] from all that would change it.
//
// A method whose context is done may return its error, but not once it has begun
// to change the tree: a change is made whole or not at all. If several errors
// apply to one call, any of them may be returned.
//
// Times are those of POSIX, but that reading changes none: what is made has all four
// times of that moment; a change of a file's bytes or size, or of a directory's names, sets
// its MTime and CTime; a change of attributes, extended attributes or names of a node
// sets its CTime. A write of no bytes, and a SetAttr of nothing, change no time.
type FS interface {
	// Root returns the root directory.
	Root(ctx context.Context) (Dir, error)
	// Usage reports the room taken and the room left.
	Usage(ctx context.Context) (Usage, error)
	// Sync returns when all that was written before the call is durable on this
	// machine. It does not wait for any remote.
	Sync(ctx context.Context) error
	// Changes yields the nodes that changed behind the door's back, that is not by
	// a call through this FS, until ctx is done. A slow reader may get one Change
	// with a nil Node in place of many.
	Changes(ctx context.Context) iter.Seq[Change]
}

// Unhearing is an FS that knows what the reader of its Changes has not dealt with yet.
type Unhearing interface {
	// Unheard reports whether the content of node was changed behind the door's back, and the reader of Changes has not gone on past
	// the Change that says so. It is true before the new content can be read.
	Unheard(node Node) bool
}

// Still is an FS that knows whether it ever changes.
type Still interface {
	// Still reports that nothing in it will ever change: it is read-only, and a state that is past.
	Still() bool
}

// Stating is an FS that can say where the content of its files is.
type Stating interface {
	// State says it in a few words, of which the first tells most; "" if there is nothing to say. It does no network I/O.
	State(ctx context.Context, node Node) (string, error)
}

// ErrStale is the error of Remove and Rename if a name is not that of the expected node any more: see Expect.
var ErrStale = errors.New("another node has that name by now")

type expectKey struct{}

// Expected is the node that is taken for the child of that name.
type Expected struct {
	Dir  Dir
	Name string
	Node Node
}

// Expect returns a context with which Remove and Rename, of a Dir that heeds it, fail with ErrStale and change nothing unless a
// child that they remove, move or exchange is what it is taken for. A door that has told of a node uses it, so that nobody removes what
// another device has put there meanwhile.
func Expect(ctx context.Context, what ...Expected) context.Context {
	return context.WithValue(ctx, expectKey{}, what)
}

// ExpectedIn returns what Expect was told.
func ExpectedIn(ctx context.Context) []Expected {
	what, _ := ctx.Value(expectKey{}).([]Expected)
	return what
}

// A Node is a file, a directory or a symbolic link: the thing itself, not its
// name. It stays usable after it was renamed or removed. Of one FS, two Nodes
// are equal (==) if and only if they are the same thing, as long as one of them is
// held.
type Node interface {
	// Attr returns what is known of the node. It does no network I/O.
	Attr(ctx context.Context) (Attr, error)
	// SetAttr changes the attributes that are set in c, all or none, and returns
	// the new ones. SetSize on anything but a file is ErrIsDir or fs.ErrInvalid.
	// Setuid and setgid bits are cleared by nothing but SetMode: to drop them when
	// a file is written or given away is the door's.
	SetAttr(ctx context.Context, c AttrChange) (Attr, error)
	// Xattr, SetXattr, ListXattr, RemoveXattr are as in xattr(7). The slices that go
	// in and out belong to the caller; names are sorted. Every kind of node takes
	// every name that CheckXattrName lets pass. A value longer than MaxXattrValue is ErrRange,
	// and what would exceed MaxXattrTotal is ErrNoSpace.
	Xattr(ctx context.Context, name string) ([]byte, error)
	SetXattr(ctx context.Context, name string, value []byte, flag XattrFlag) error
	ListXattr(ctx context.Context) ([]string, error)
	RemoveXattr(ctx context.Context, name string) error
	// Sync returns when all that was done to this node before the call is durable
	// on this machine: its attributes, a file's bytes, a directory's names.
	Sync(ctx context.Context) error
}

// New says what a new node is to be. In a directory that has the setgid bit, the
// new node gets the GID of the directory, and a new directory the bit too; UID, GID
// and Mode are otherwise taken as they are (the umask is the door's).
type New struct {
	Kind   Kind
	Mode   Mode
	UID    uint32
	GID    uint32
	Rdev   uint32 // of KindChar and KindBlock
	Target string // of KindLink, 1 to MaxTarget bytes
}

// A Dir is a Node with children. A name is one path element of 1 to MaxName
// bytes without NUL and '/', neither "." nor ".."; it is kept byte for byte. What a
// plain place folds (case, Unicode form) is settled at its edge. Nothing can
// be made in a directory that was removed: that is fs.ErrNotExist.
type Dir interface {
	Node
	// Lookup returns the child of that name. Its type says its kind: Dir, File,
	// Link, or just Node for a FIFO, socket or device.
	Lookup(ctx context.Context, name string) (Node, error)
	// List yields the children whose name is greater than after ("" for all), in
	// the byte order of their names. What is made or removed meanwhile may be
	// yielded or not; all else is yielded once. The sequence ends at the first error.
	List(ctx context.Context, after string) iter.Seq2[Entry, error]
	// Create makes a file and opens it as Open does. If the name is taken it
	// returns fs.ErrExist. what.Kind must be KindFile.
	Create(ctx context.Context, name string, what New, flag OpenFlag) (File, Handle, error)
	// Make makes a node of any kind, and fails with fs.ErrExist if the name is taken.
	Make(ctx context.Context, name string, what New) (Node, error)
	// Link gives node, which is of the same FS (else ErrCrossTree) and no
	// directory (else fs.ErrPermission), one more name. A node without any name
	// left cannot get one: fs.ErrNotExist.
	Link(ctx context.Context, name string, node Node) error
	// Remove removes the child. With dir, the child must be an empty directory
	// (else ErrNotDir or ErrNotEmpty); without, it must not be one (else ErrIsDir).
	Remove(ctx context.Context, name string, dir bool) error
	// Rename moves the child to newName in newDir, which is of the same FS, and
	// replaces what bore that name unless flag forbids it: a directory only an empty
	// directory (else ErrNotDir or ErrNotEmpty), anything else only what is no
	// directory (else ErrIsDir). Moving a directory below itself is fs.ErrInvalid. If both
	// names are of one node, nothing is done, but RenameNoReplace fails as always.
	// The step is atomic, also over a crash.
	Rename(ctx context.Context, name string, newDir Dir, newName string, flag RenameFlag) error
}

// OpenFlag is how a file is opened.
type OpenFlag uint8

// The bits of OpenFlag. A Handle does what it was opened for and returns
// fs.ErrPermission for the rest: ReadAt and the source of CopyTo need OpenRead;
// WriteAt, Truncate, Allocate and the target of CopyTo need OpenWrite; Seek and Sync
// need neither. OpenTrunc empties the file with or without OpenWrite. A door keeps O_APPEND
// itself.
const (
	OpenRead  OpenFlag = 1
	OpenWrite OpenFlag = 2
	OpenTrunc OpenFlag = 4
)

// A File is a Node with bytes.
type File interface {
	Node
	// Open opens the file. It stays readable and writable through the handle
	// also when its last name is removed.
	Open(ctx context.Context, flag OpenFlag) (Handle, error)
}

// A Link is a Node that points elsewhere by name.
type Link interface {
	Node
	// Target returns what the link says, unresolved.
	Target(ctx context.Context) (string, error)
}

// AllocMode is what Allocate does to a range.
type AllocMode uint8

// The values of AllocMode, after fallocate(2).
const (
	AllocReserve  AllocMode = iota // the range reads as before; the file grows to its end
	AllocKeepSize                  // as AllocReserve, but the size stays
	AllocPunch                     // the range becomes a hole; the size stays
	AllocZero                      // the range reads as zeros; the file grows to its end
	AllocZeroKeep                  // the range reads as zeros; the size stays
)

// Whence is what Seek looks for.
type Whence uint8

// The values of Whence.
const (
	SeekData Whence = iota // the first data at or after the offset
	SeekHole               // the first hole, the end of the file counting as one
)

// A Handle is an open file. Reads and writes carry their own offset, so a Handle is
// safe for concurrent use and has no cursor. After Close all is fs.ErrClosed. A
// negative offset, size or count is fs.ErrInvalid, and what would end beyond MaxSize
// ErrTooBig. What one call writes is seen whole or not at all by one call that reads.
type Handle interface {
	// ReadAt is like [io.ReaderAt] with a context: it fills p or returns why not,
	// io.EOF at the end of the file. A hole reads as zeros.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	// WriteAt is like [io.WriterAt], with a context. The bytes are seen by every
	// other Handle of this file at once; they are durable after Sync. p is not
	// kept. Writing past the end leaves a hole.
	WriteAt(ctx context.Context, p []byte, off int64) (int, error)
	// Truncate makes the file size bytes long; what is added is a hole.
	Truncate(ctx context.Context, size int64) error
	// Allocate changes n > 0 bytes from off as mode says; n = 0 is fs.ErrInvalid.
	Allocate(ctx context.Context, mode AllocMode, off, n int64) error
	// Seek returns the offset of the next data or hole, or ErrNoData if off is at or
	// beyond the end, or no data follows. It may take a hole for data, never data for
	// a hole.
	Seek(ctx context.Context, off int64, whence Whence) (int64, error)
	// CopyTo copies n bytes from off of this file to dst, which is of the same FS
	// (else ErrCrossTree) and may be of the same file, at dstOff. It stops at this
	// file's end; if what is left of the ranges then overlaps in one file it is
	// fs.ErrInvalid. It shares stored chunks where it can, and returns how many bytes
	// it copied.
	CopyTo(ctx context.Context, off int64, dst Handle, dstOff, n int64) (int64, error)
	// Sync returns when the writes of this file are durable on this machine.
	Sync(ctx context.Context) error
	// Close gives the handle back. A write that failed late is reported here.
	Close(ctx context.Context) error
}

// CheckName returns an error that wraps ErrName or ErrNameLen if name is no
// legal name of a child.
func CheckName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return &fs.PathError{Op: "name", Path: name, Err: ErrName}
	case len(name) > MaxName:
		return &fs.PathError{Op: "name", Path: name[:32] + "…", Err: ErrNameLen}
	}
	for i := range len(name) {
		if name[i] == 0 || name[i] == '/' {
			return &fs.PathError{Op: "name", Path: name, Err: ErrName}
		}
	}
	return nil
}

// CheckNew returns an error that wraps fs.ErrInvalid or ErrNameLen if nothing like
// what can be made: its Kind is none, or it is a link whose Target is empty, has
// a NUL or is longer than MaxTarget.
func CheckNew(what New) error {
	if what.Kind < KindFile || what.Kind > KindBlock {
		return fmt.Errorf("make node of kind %d: %w", what.Kind, fs.ErrInvalid)
	}
	if what.Kind != KindLink {
		return nil
	}
	if len(what.Target) > MaxTarget {
		return fmt.Errorf("target of %d bytes: %w", len(what.Target), ErrNameLen)
	}
	if what.Target == "" || strings.IndexByte(what.Target, 0) >= 0 {
		return fmt.Errorf("target %q: %w", what.Target, fs.ErrInvalid)
	}
	return nil
}

// CheckXattrName returns an error that wraps fs.ErrInvalid or ErrRange if name is no
// legal name of an extended attribute: it must have 1 to MaxXattrName bytes and no NUL.
func CheckXattrName(name string) error {
	if len(name) > MaxXattrName {
		return fmt.Errorf("name of extended attribute of %d bytes: %w", len(name), ErrRange)
	}
	if name == "" || strings.IndexByte(name, 0) >= 0 {
		return fmt.Errorf("name of extended attribute %q: %w", name, fs.ErrInvalid)
	}
	return nil
}
