// Package replica brings the blobs of a drive from one bucket to another, as they lie: it knows no key, opens nothing
// and never looks at a tree. It is not the engine: it does one thing when it is asked, and remembers nothing.
//
// [Copy] brings to one place what another has. [Push] does the same for what this device has put itself, and then removes
// what this device has removed. [Fetch] brings the small blobs of others near, and tells which packs there are. [Verify] finds packs
// that are damaged, and [Heal] replaces them from any place that has them.
//
// # The order
//
// Heads are listed first, and put last. In between go key slots, drive records and members entries, which have the keys to what comes then: packs, and
// index blobs (the shards of a generation before its root). Before the first head is put
//
//   - each blob that was put is seen at the far side, by a listing or by reading from it: a place that says that it stored
//     what it did not gets it again, and no head before it has it;
//   - the packs of the near side are listed anew, until a listing shows all that the one before had, and nothing that the far side lacks.
//     (A pack that is compacted while a listing is under way may show neither under its old name nor under its new one.)
//     So are the key slots, drive records and members entries.
//
// The heads of one device are put in ascending order, each is read back before the next. So whenever a run is cut off, no
// head at the far side refers to what is not there, as long as that was so at the near side. Whatever is missing is
// brought by the next run: there is nothing to resume but that. (But for heads below the lowest that the far side has of their device. These
// count as pruned there, and nobody needs them.)
//
// What no run without keys can find is a near side that hides the same pack in two listings in a row. It is as if
// that place had lost the pack: whoever has the keys finds it by chunkstore's Verify.
//
// # What is never done
//
// No blob is removed at the far side but those that [PushOptions].Removed names, and old heads where [Options].Bridge says so. Old
// generations of index blobs are not: the device that replaced them has removed them from its bucket, so they come as Removed; and where nobody does, the
// generations that a place ever had are a geometric series, 9 times the newest (0.1 % of the packs) at most.
//
// No head, members entry, drive record or key slot is ever overwritten. Another content under the same name is evidence of
// a fork, or damage: a [Fault] with [ErrDiffers]. Packs are: the name says what they have to be. Index
// blobs are: they are only a copy of what the packs say.
//
// # Cost
//
// Beside the listings of both places, the cost is in proportion to what is missing: each missing pack is read once and put once, each
// missing small blob is looked for, put, and read back. The memory is 36 bytes for each pack of both places, 16 for each head, some
// 150 for each other blob, at most 150 MiB for a place that lists what it likes; and what Put needs for [Options].Parallel streams.
package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
)

// Errors of this package, each in a [Fault] that names the blob.
var (
	// ErrDamaged says that a pack has other bytes than its name says, or a blob another length than is listed.
	ErrDamaged = errors.New("blob is damaged")
	// ErrDiffers says that one name has different bytes at two places. Heads, members entries, drive records and key slots never
	// change, so a device was cloned, or one place is damaged or lies.
	ErrDiffers = errors.New("two places have different blobs under one name")
	// ErrForked says that a device has written two heads under one name: it was set back or copied.
	ErrForked = errors.New("a device has written two heads under one name")
	// ErrNotStored says that a place said that it stored a blob, repeatedly, and does not have it.
	ErrNotStored = errors.New("the place did not store what it said it had")
	// ErrNotRemoved says that a place said that it removed a blob, repeatedly, and has it still.
	ErrNotRemoved = errors.New("the place did not remove what it said it had")
	// ErrWithheld says that a place lists a blob and does not hand it out.
	ErrWithheld = errors.New("the place lists a blob that it does not hand out")
	// ErrMissing says that a place does not list a blob that should be there.
	ErrMissing = errors.New("it is not there")
	// ErrGap says that heads of a device are missing in between. Those above the gap are not put.
	ErrGap = errors.New("heads are missing in between")
	// ErrUnsettled says that a place changes faster than it can be listed; it is blob.ErrTemporary, too.
	ErrUnsettled = fmt.Errorf("the place changes while it is listed: %w", blob.ErrTemporary)
	// ErrEarly is for Check: the blob comes after one that is not at the far side yet. It is tried again when others are.
	ErrEarly = errors.New("what the blob comes after is not here yet")
	// ErrTooMany says that a place lists more than a drive may have.
	ErrTooMany = errors.New("the place lists more blobs than a drive has")
)

// A Fault is what is wrong with one blob. It wraps the reason.
type Fault struct {
	Name blob.Name // of the blob; of a gap, the first head that is missing
	Err  error
}

func (f *Fault) Error() string { return fmt.Sprintf("blob %s: %v", f.Name, f.Err) }

// Unwrap returns the reason.
func (f *Fault) Unwrap() error { return f.Err }

// OnlyFaults reports whether an error of this package says nothing but what is wrong with single blobs: all else was done.
func OnlyFaults(err error) bool {
	if _, ok := err.(*Fault); ok { //nolint:errorlint // the tree is walked here
		return true
	}
	switch e := err.(type) { //nolint:errorlint // the same
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			if !OnlyFaults(err) {
				return false
			}
		}
		return len(e.Unwrap()) > 0
	case interface{ Unwrap() error }:
		return e.Unwrap() != nil && OnlyFaults(e.Unwrap())
	}
	return false
}

// maxFaults is how many Faults an error joins. A place where more is wrong is given up.
const maxFaults = 64

// Progress is how far a run is. The first two numbers never fall and count only what is stored at the far side; the
// others rise when more is found that has to be brought.
type Progress struct {
	Blobs   int   // that are done
	Bytes   int64 // of them
	OfBlobs int   // that have to be brought, as far as is known
	OfBytes int64
}

// A Gap is a place in the heads of one device at the far side, where some are missing that the near side has no more.
type Gap struct {
	Folder blob.Name // heads/<pseudonym>
	Last   uint64    // the highest seq at the far side
	First  uint64    // the lowest above it that the near side has
}

// Options are common to all runs. The zero value works.
type Options struct {
	// Parallel is how many blobs are under way at once, 1 to 64; 0 means 4.
	Parallel int
	// Deep reads what both places have, too: packs of the far side whose bytes are not those of their name are put again, and small
	// blobs are compared. It costs reading the whole far side.
	Deep bool
	// Check, if not nil, is asked before a small blob is put, and refuses it with an error: who has keys opens it. The bytes are
	// only lent. A head that is refused is a Fault; so nothing of its device above it is put.
	Check func(name blob.Name, body []byte) error
	// Index, if not nil, is asked before an index blob is put, and refuses it with an error: who has keys opens it. The bytes are only lent. Its name does not tell what
	// has to be in it, so what a place gives wrong would be wrong at the next one, too. One that is refused is read again, and left out in the end: nothing needs it. Each is in memory
	// as a whole then, up to 64 MiB.
	Index func(name blob.Name, body []byte) error
	// Differs, if not nil, is told when a Push, or a Fetch, finds at the place another head than the own bucket has under that name, what that is, and the name of the newest
	// head that is the same in both, "" if there is none. It returns an error if the device has written both: the place has a Fault with ErrForked then, and the heads of that device are left alone. Else one of the two is damaged.
	Differs func(name blob.Name, theirs []byte, same blob.Name) error
	// Bridge, if not nil, is asked what to do about a Gap. The heads above it are worth nothing to a device that reads
	// from below it, so they are not put (a Fault with ErrGap), unless Bridge returns true: then they are, and all heads of this device
	// from Last down are removed afterwards. Only who has verified the heads can know that they are no forgery which takes the place
	// of good ones. Push needs none for heads that its own device has removed.
	Bridge func(Gap) bool
	// Forget, if not nil, is called when what the near side gives of a pack is damaged, before it is read again: a near side that has
	// it from one of several places takes it from another one then.
	Forget func(ctx context.Context, name blob.Name) error
	// Lacking, if not nil, is asked about packs that the near side lists and does not give, or not whole. If it returns nil, no
	// head needs them, as far as who has keys can tell, and all goes on as if they were not listed. Else each of them is a Fault with that
	// error, and no head is put. Without it, one that cannot be read now ends the run.
	Lacking func(ctx context.Context, packs []blob.Name) error
	// Offer, if not nil, asks the far side which packs it wants now, at most 64 at a time: it answers each, and wants at most room of them. It is used where much is
	// missing, and others may bring the same: so each comes from one of them. Where all answers are Later it has waited for a moment. Rank, if not nil, says who
	// else could bring a pack; it is asked often, and must not say NotNow for ever. Sent, if not nil, is called when a pack was put, or could not be.
	Offer func(ctx context.Context, packs []blob.Name, room int, rank Rank) ([]Answer, error)
	Rank  func(name blob.Name) Rank
	Sent  func(name blob.Name)
	// Progress, if not nil, is called after each blob and each MiB, by one goroutine at a time. It must be quick.
	Progress func(Progress)
	// Log takes what is odd and not an error; nil discards it.
	Log *slog.Logger

	// MaxHeads and MaxSmall are how many heads, and how many other small blobs, a place may list before it is
	// ErrTooMany: 0 means 2^20 and 2^16.
	MaxHeads, MaxSmall int
}

func (o Options) filled() Options {
	if o.Parallel <= 0 {
		o.Parallel = 4
	}
	o.Parallel = min(o.Parallel, 64)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxHeads <= 0 {
		o.MaxHeads = 1 << 20
	}
	if o.MaxSmall <= 0 {
		o.MaxSmall = 1 << 16
	}
	return o
}

// PushOptions are those of Push.
type PushOptions struct {
	Options
	// Removed are names that this device has removed from its own bucket and that are to go at the far side as well, after all that
	// is missing was put. One that is in the own bucket again is passed over.
	Removed []blob.Name
}

// A Report says what a run did. It is true also if the run failed.
type Report struct {
	Packs, Index, Small, Heads int   // blobs put at the far side, by kind
	Bytes                      int64 // of them
	Mended                     int   // packs of these that were there and damaged
	// Removed are the names of PushOptions.Removed that are gone at the far side; Kept those that are not, because the own bucket has them again.
	Removed, Kept []blob.Name
	// Spared are packs that the near side lists, did not give, and that were left out because Options.Lacking said so.
	Spared []blob.Name
	// At is what the far side has of packs and index blobs after the run, for a tier's Learn. It is nil if that is not known.
	At *catalog.Table
}

// Copy brings all blobs of from that to lacks, in the order that the package comment says. It never
// removes anything, but for what Options.Bridge says. It is safe to run while others read and write both
// places, also by a Copy of their own. The error joins a Fault for each blob that could not be brought, and then no head was put that
// might need it; or it is the error of a place that failed.
func Copy(ctx context.Context, from, to blob.Bucket, o Options) (Report, error) {
	r := newRun(from, to, o)
	err := r.all(ctx, nil)
	if err != nil {
		err = fmt.Errorf("copy blobs: %w", err)
	}
	return r.report, err
}

// Push is Copy from this device's own bucket, and then removes at the far side what o.Removed names: heads first, the oldest of them
// first, then what they need, packs last. It removes nothing unless all that own has is there.
//
// What own heads refer to may lie in packs of other devices. So the far side has to be a place to which these push, too, or own has to be
// a tier, which shows what others have as well: then Push brings all of that there, from wherever the tier finds it.
func Push(ctx context.Context, own, to blob.Bucket, o PushOptions) (Report, error) {
	r := newRun(own, to, o.Options)
	err := r.all(ctx, o.Removed)
	if err == nil {
		err = r.remove(ctx, o.Removed)
	}
	if err != nil {
		err = fmt.Errorf("push blobs: %w", err)
	}
	return r.report, err
}

// run is one Copy or Push.
type run struct {
	from, to blob.Bucket
	o        Options
	progress progress

	had    *catalog.Table       // packs and index blobs that the far side had before
	spared map[blob.Name]bool   // packs that the near side lists and nothing needs
	last   map[blob.Name]uint64 // FetchOptions.Last; nil when it is not fetched

	mu     sync.Mutex // guards what follows
	report Report
	faults []error
}

func newRun(from, to blob.Bucket, o Options) *run {
	o = o.filled()
	return &run{from: from, to: to, o: o, spared: map[blob.Name]bool{}, progress: progress{tell: o.Progress}}
}

// fault takes note of what is wrong with a blob. It returns an error once there is too much.
func (r *run) fault(name blob.Name, err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, &Fault{name, err})
	if len(r.faults) >= maxFaults {
		return errors.Join(r.faults...)
	}
	return nil
}

func (r *run) faulty() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.faults...)
}

func (r *run) hasFaults() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.faults) > 0
}

// count changes the report.
func (r *run) count(f func(*Report)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.report)
}

// readWhole returns the bytes of a small blob: at most limit of them, and want if that is not negative.
func readWhole(ctx context.Context, b blob.Bucket, name blob.Name, want, limit int64) ([]byte, error) {
	r, err := b.Get(ctx, name, 0, limit+1)
	if err != nil {
		return nil, err
	}
	p, err := io.ReadAll(io.LimitReader(r, limit+1))
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("read blob %s: %w", name, err)
	case int64(len(p)) > limit || want >= 0 && int64(len(p)) != want:
		return nil, fmt.Errorf("%w: it has %d bytes or more, not %d", ErrDamaged, len(p), want)
	}
	return p, nil
}
