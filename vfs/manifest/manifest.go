package manifest

import (
	"context"
	"errors"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
)

// ErrMalformed is wrapped by the error for a manifest that cannot be decoded,
// or that breaks a rule of the format.
var ErrMalformed = errors.New("malformed manifest")

// A Source reads chunks. *chunkstore.Store is one.
type Source interface {
	// Get appends the plain text of ref to dst and returns the longer slice.
	Get(ctx context.Context, dst []byte, ref chunk.Ref) ([]byte, error)
}

// A Sink stores chunks. *chunkstore.Store is one.
type Sink interface {
	// Put stores plain, which it does not keep, and returns the Ref to read it by.
	Put(ctx context.Context, kind chunk.Kind, plain []byte) (chunk.Ref, error)
}

// A Store is both.
type Store interface {
	Source
	Sink
}

// NodeID is the identity of one entry of a tree: 128 random bits, for the life of
// the entry, over renames and edits. RootID is the root's.
type NodeID [16]byte

// The two directories that every drive has. Neither has an Entry that a user
// made: the root has none at all; RecoveredID is the directory of entries whose
// parent was deleted by one device while another changed what was in it. It is
// shown in the root under RecoveredName only while it is not empty.
var (
	RootID      = NodeID{}
	RecoveredID = NodeID{15: 1}
)

// RecoveredName is the name of the directory RecoveredID.
const RecoveredName = "Recovered"

// MaxPast is the most Edits that an Entry remembers in Past. Forgetting one can cause a
// needless conflict copy, never a loss.
const MaxPast = 32

// MaxHidden is the most records that one Entry can hide. There are at most about as many
// as devices that wrote at the same time.
const MaxHidden = 1024

// An Entry is one name of a directory: what the thing is (Kind, Node, attributes), who
// it is (ID, which survives a rename), and which writes made it (Dot, Edit, Past,
// Place, Attr, From, Stored, Hidden), which is all that Join needs.
//
// An Entry is the view of an item, and mostly also its one record: what one write
// left. After two devices wrote at the same time an item has several records. Then the
// entry shows what they come to together, and Hidden holds those records that it
// is not itself equal to.
type Entry struct {
	Name string
	ID   NodeID
	// Link is zero, or the identity of a file with several names (hard links): each
	// name is an Entry with an ID of its own, and all with one Link are one
	// file. A write through one of them rewrites them all.
	Link   NodeID
	Kind   vfs.Kind // never changes for one ID
	Mode   vfs.Mode
	UID    uint32
	GID    uint32
	Rdev   uint32
	Size   int64
	Bytes  int64     // Size less the holes
	Node   chunk.Ref // a Dir node; a File node; or, for a file of one chunk, that Data chunk itself. Zero: empty, or all one hole
	Target string    // of a symbolic link
	MTime  time.Time
	CTime  time.Time
	ATime  time.Time // zero: as MTime
	BTime  time.Time
	Xattr  []Xattr // sorted by name

	Dot    causal.Dot   // the write that made this record, never used twice
	Edit   causal.Dot   // the write that made these bytes; of a directory zero
	Past   []causal.Dot // the Edits that these bytes replaced, newest first, at most MaxPast
	Place  causal.Stamp // the last real move, or the creation
	Attr   causal.Stamp // the last change of Mode, UID, GID or Xattr by a user, or the creation
	From   NodeID       // of a directory: the parent before the last move, for the repair of cycles
	Stored *Stored      // set only where the tree shows the entry elsewhere than its record says

	// Hidden holds the other records of the item that this entry stands for, sorted
	// by Dot, each with its own place in Stored. One may have the Dot of the entry itself: then
	// the entry is made up of several records, and this is the one with that Dot.
	// Whoever writes a new record in place of the entry drops them.
	Hidden []Entry
	// Conflict is set on every entry of a file of which there are several values,
	// also on the one that keeps the name. The entries have one ID.
	Conflict bool
	// Held is set on a directory that an entry cut from a cycle would return to.
	Held bool

	// Below is, for a directory, what is to be found under it at any depth: an entry
	// with a Stored or a Conflict (BelowStored), with a Link (BelowLink), or with a Held
	// (BelowHeld), so that a walk can find these without reading the rest.
	Below Below
}

// Flags returns what e adds to the Below of the directory that it is in.
func (e *Entry) Flags() Below {
	f := e.Below
	if e.Stored != nil || e.Conflict {
		f |= BelowStored
	}
	if e.Link != (NodeID{}) {
		f |= BelowLink
	}
	if e.Held {
		f |= BelowHeld
	}
	return f
}

// Below is a set of flags that a directory gathers from what lies under it.
type Below uint8

// The flags of Below.
const (
	BelowStored Below = 1 << iota
	BelowLink
	BelowHeld

	belowAll = BelowStored | BelowLink | BelowHeld
)

// Stored is the place of an entry as the last move wrote it, where the tree has to show it
// elsewhere: a cycle was cut, the parent is dead, the name is taken, or it is
// a conflict sibling. The view is computed from these; Join loses nothing.
type Stored struct {
	Parent NodeID
	Name   string
}

// Xattr is one extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// An Extent is a run of a file that one chunk holds whole. A zero Ref is a hole.
type Extent struct {
	Ref  chunk.Ref
	Size int64 // of a hole any positive figure; else Ref.Size
}

// A Snapshot is one state of a drive. A head points at one. Context says which
// writes it has seen, so that an entry that is missing here is known to be either
// deleted (its Dot is covered) or not yet seen (it is not).
type Snapshot struct {
	Root chunk.Ref // the Dir at the top; zero: empty
	// Top has the attributes of the root, which no directory has an entry of: an Entry with ID
	// RootID, the empty Name, KindDir, and neither Node nor Below. Kind 0: nobody set any.
	// Like any Entry it may hide records, and whoever writes a new one drops them.
	Top     Entry
	History chunk.Ref // the list of kept snapshots; zero: none
	Context causal.Context
	Lamport uint64        // the highest that it has seen
	Below   Below         // of the root
	Files   uint64        // information: entries in the tree, as far as its writer knew
	Bytes   uint64        // information: their bytes
	Device  causal.Device // who wrote it
	Time    time.Time     // information only: no decision ever rests on a clock
	Mark    uint64        // the writer's journal up to which this state has all; means nothing to others
}

// A Kept is one snapshot of the history of a drive. The history is a set joined by
// Dot like the tree: what is missing and covered was dropped.
type Kept struct {
	Dot    causal.Dot
	Time   time.Time
	Device causal.Device
	Root   chunk.Ref // the Dir at the top of the tree then; zero: empty
	Label  string    // of a snapshot that a person made; "" for one made by rule
	Pinned bool      // not dropped by the retention rule
	Files  uint64
	Bytes  uint64
}
