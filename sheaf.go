// Package sheaf puts a drive together: an encrypted, deduplicated tree of files
// over a bucket of sealed packs. It constructs, hands out and closes; what
// decides something belongs to a floor below.
package sheaf

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// The errors of a drive, besides those of vfs and chunkstore.
var (
	ErrNoDrive    = errors.New("no drive here")
	ErrExists     = errors.New("a drive is here already")
	ErrLocked     = errors.New("another process has the drive open")
	ErrPassphrase = errors.New("wrong passphrase or recovery words")
	ErrNeedSecret = errors.New("the drive is locked: a passphrase or the recovery words are needed")
	ErrNoSnapshot = errors.New("no such snapshot")
)

// A Secret opens a drive. The zero Secret means the key that Create left on the
// device, if it did.
type Secret struct {
	Passphrase []byte // not empty: the passphrase
	Recovery   string // not empty: the 24 words
}

// Options say where a drive lies and how it is opened. Dir and Bucket are needed.
type Options struct {
	// Dir is the folder of this device's own state of the drive: the device key, the
	// key-value database, the journal. It is made if it is not there.
	Dir string
	// Bucket is where the sealed packs lie.
	Bucket blob.Bucket
	Secret Secret
	// DeviceName is how this device is shown to people; "" for the host's name.
	DeviceName string
	// Chunker names the chunker of a new drive ("rabin" or "fastcdc"); "" for the default.
	Chunker string
	// Log takes what sheaf has to say; nil discards it.
	Log *slog.Logger
}

// A Drive is an open drive. It is safe for concurrent use.
type Drive struct{}

// Create makes a new drive in an empty Bucket and opens it. It returns the 24
// recovery words, which are nowhere stored. Without a passphrase in o.Secret a
// key that opens the drive is kept in o.Dir, readable by its owner only.
func Create(ctx context.Context, o Options) (d *Drive, recovery string, err error) {
	panic("not wired yet")
}

// Open opens a drive that Create or Join made on this device.
func Open(ctx context.Context, o Options) (*Drive, error) { panic("not wired yet") }

// Join opens an existing drive from its Bucket alone, as a new device. The
// Secret is the passphrase or the recovery words. With keepKey, the drive
// opens on this device without a passphrase from then on.
func Join(ctx context.Context, o Options, keepKey bool) (*Drive, error) { panic("not wired yet") }

// Info says who the drive and this device are.
type Info struct {
	Drive      string // 32 hexadecimal digits
	Device     string // SHF-…
	DeviceName string
	Chunker    string
	Created    time.Time
	Passphrase bool // a passphrase slot exists
}

// Info returns who the drive and this device are.
func (d *Drive) Info() Info { panic("not wired yet") }

// FS returns the writable tree as it is now.
func (d *Drive) FS() vfs.FS { panic("not wired yet") }

// Pending returns how many bytes are durable in the journal only, and not yet in packs.
func (d *Drive) Pending() int64 { panic("not wired yet") }

// Commit puts all that was written into packs and moves the head, and returns
// when that is durable.
func (d *Drive) Commit(ctx context.Context) error { panic("not wired yet") }

// A SnapshotID names a kept snapshot: "device@counter" of its Dot, as Dot.String has
// it. "latest" is the newest.
type SnapshotID string

// Snapshots returns the kept snapshots, newest first.
func (d *Drive) Snapshots(ctx context.Context) ([]manifest.Kept, error) { panic("not wired yet") }

// Resolve finds a kept snapshot by its ID, its label, or "latest".
func (d *Drive) Resolve(ctx context.Context, id SnapshotID) (manifest.Kept, error) {
	panic("not wired yet")
}

// ResolveTime finds the newest kept snapshot that is not younger than at.
func (d *Drive) ResolveTime(ctx context.Context, at time.Time) (manifest.Kept, error) {
	panic("not wired yet")
}

// Snapshot commits and keeps the state under a label until DropSnapshot.
func (d *Drive) Snapshot(ctx context.Context, label string) (manifest.Kept, error) {
	panic("not wired yet")
}

// DropSnapshot forgets kept snapshots. What only they hold is freed by GC.
func (d *Drive) DropSnapshot(ctx context.Context, ids ...SnapshotID) error { panic("not wired yet") }

// At returns the tree of a kept snapshot, read-only.
func (d *Drive) At(ctx context.Context, k manifest.Kept) (vfs.FS, error) { panic("not wired yet") }

// Difference is one path in which two snapshots differ.
type Difference struct {
	Path     string
	Old, New *manifest.Entry // nil: not there
}

// Diff yields how two snapshots differ, in the order of the paths.
func (d *Drive) Diff(ctx context.Context, from, to manifest.Kept) iter.Seq2[Difference, error] {
	panic("not wired yet")
}

// A Version is one state of a path in the history.
type Version struct {
	Snapshot manifest.Kept   // the oldest kept snapshot with this state
	Entry    *manifest.Entry // nil: the path was not there
}

// History yields the versions of a path, newest first.
func (d *Drive) History(ctx context.Context, path string) iter.Seq2[Version, error] {
	panic("not wired yet")
}

// Progress is told how far a long work is: of Total units, Done are done. Total is 0 while unknown.
type Progress func(Done, Total int64)

// Finding is one damaged or missing thing that Verify found.
type Finding struct {
	Blob   string // the blob or file, if it is one
	Path   string // the path in the tree, if it is known
	Reason string
	Err    error
}

// VerifyReport is what Verify did.
type VerifyReport struct {
	Packs, Chunks, Bytes int64
	Findings             []Finding
}

// Verify reads and checks all that the store holds: every blob, every chunk, and that
// all that any head or kept snapshot names is there.
func (d *Drive) Verify(ctx context.Context, p Progress) (VerifyReport, error) { panic("not wired yet") }

// GCReport is what GC did, in bytes of packs.
type GCReport struct {
	Live, Freed, Kept int64 // bytes of live chunks; of packs that are gone; of dead chunks that stay for now
	Condemned         int64 // chunks that were found dead and wait for the second phase
	Packs             int64 // packs removed
}

// GC frees what nothing reaches, while the drive is in use, in two phases.
func (d *Drive) GC(ctx context.Context, p Progress) (GCReport, error) { panic("not wired yet") }

// Stats is what the store holds.
type Stats struct {
	Packs, PackBytes   int64 // as they lie in the bucket
	Chunks, ChunkBytes int64 // sealed
	PlainBytes         int64 // before compression, after deduplication
	JournalBytes       int64
	Snapshots          int64
}

// Stats returns what the store holds.
func (d *Drive) Stats(ctx context.Context) (Stats, error) { panic("not wired yet") }

// Unique returns the bytes of chunks under path: all, each chunk counted once, and
// as they are stored.
func (d *Drive) Unique(ctx context.Context, path string) (logical, unique, stored int64, err error) {
	panic("not wired yet")
}

// SetPassphrase replaces the passphrase (an empty one removes it and keeps a
// key on this device instead). Nothing but the slot is written again.
func (d *Drive) SetPassphrase(ctx context.Context, passphrase []byte) error { panic("not wired yet") }

// NewRecovery replaces the recovery words and returns the new ones.
func (d *Drive) NewRecovery(ctx context.Context) (string, error) { panic("not wired yet") }

// Close commits what it can, unlocks and closes. With a done ctx it only closes:
// what is not committed stays in the journal.
func (d *Drive) Close(ctx context.Context) error { panic("not wired yet") }
