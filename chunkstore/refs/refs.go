// Package refs holds the heads of a drive: for each device, where its newest state is. It
// is the only thing of a drive that moves. It does not read what a head points at,
// and merges nothing.
//
// A head is an immutable blob heads/<pseudonym of the device>/<sequence number>. A device
// writes its own heads only, so nobody has to lock a Bucket. Since a head is sealed and
// signed, a Bucket cannot make one; what it can do is to show old ones, hide
// new ones, or show different ones to different devices. Against that every device
// remembers the newest head that it has seen of each device, and says in its own heads which
// these are. The rules (SUNDR's fork consistency, Li et al., OSDI 2004):
//
//	R1  a head counts if its device was a member and writer by the members log that it names,
//	    and of a device that was revoked since then, if its revocation counts it
//	R2  sequence numbers have no gaps, and each head names the one before
//	R3  two heads in one place: ErrFork, and this device writes no more
//	R4  a newest head older than one seen before: ErrRollback
//	R5  a head that another device has seen but that is not shown: ErrIncomplete
//
// Gaps that are there because a device pruned its old heads are allowed, below what it still has.
//
// This device's own heads are stricter. It knows them all, so whatever it does not know was
// written by a copy of it, or before its state was lost or set back. Then it must
// not go on under its name: ErrStateLost, and the remedy is to enroll as a new device.
package refs

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
)

// The errors of this package. The first five are those of keys, so that a caller asks
// for one thing whichever chain it happened to.
var (
	ErrFork       = keys.ErrFork
	ErrRollback   = keys.ErrRollback
	ErrTampered   = keys.ErrTampered
	ErrIncomplete = keys.ErrIncomplete
	ErrFormat     = keys.ErrFormat

	// ErrMoved is the error of Move if the newest head is not the one that was expected.
	ErrMoved = errors.New("head has moved")

	// ErrStateLost is the error if there are heads of this device that it does not know: its
	// state was lost, set back or copied. It must enroll as a new device.
	ErrStateLost = errors.New("state of this device was lost")
)

// Options say whose heads are kept where. All but Record, Settle, Entropy and Log are needed.
type Options struct {
	Bucket  blob.Bucket
	KV      kv.DB // keys with the prefix "refs/" are this package's
	Device  *keys.Device
	Members *keys.Members
	Record  keys.Mark                   // Account.RecordMark: remembered, and held against what was
	Settle  func(context.Context) error // begins a new epoch if one is due, as Account.Settle does; nil: this device cannot
	Entropy io.Reader                   // nil: the system's
	Log     *slog.Logger
}

// Refs are the heads that a device knows, its own and others'. It is safe for concurrent
// use; Move, Poll and Prune run one after the other. It starts no goroutine and
// needs no Close.
type Refs struct {
	o    Options
	id   keys.DeviceID
	dir  blob.Name
	turn chan struct{} // holds one token; whoever has it may write

	// Only whoever has the turn uses these.
	next   *known                         // put by a Move that ended in an error: it may be in the Bucket or not
	agreed map[[2]keys.DeviceID]keys.Mark // the word of one device on another's head that was found true

	mu      sync.Mutex // guards what follows
	members *keys.Members
	known   map[keys.DeviceID]known // the newest verified head of each device
	faults  map[keys.DeviceID]error // what Poll found; the device's head in known is older than this
	frozen  error                   // why this device writes no more
	changed chan struct{}           // closed and made anew when known changes
}

// known is a verified head and its blob.
type known struct {
	Head
	blob []byte
}

// Open loads what this device remembers and holds the Bucket against it. A Move that
// was cut off by a crash is completed or forgotten, as the Bucket has it. The error
// wraps ErrStateLost, ErrRollback, ErrFork or ErrTampered if this device's own heads, the
// members log or the drive record are not as they were; keys.ErrNotMember if this
// device may not write. What is wrong with heads of others is no error here: Poll and Heads
// report it.
func Open(ctx context.Context, o Options) (*Refs, error) {
	if o.Entropy == nil {
		o.Entropy = rand.Reader
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	r := &Refs{
		o: o, id: o.Device.ID(), dir: folder(o.Members.Ring(), o.Device.ID()),
		turn:    make(chan struct{}, 1),
		members: o.Members,
		known:   map[keys.DeviceID]known{}, faults: map[keys.DeviceID]error{},
		changed: make(chan struct{}), agreed: map[[2]keys.DeviceID]keys.Mark{},
	}
	r.turn <- struct{}{}
	if err := checkWriter(o.Members, r.id); err != nil {
		return nil, fmt.Errorf("open heads: %w", err)
	}
	if err := r.remember(ctx); err != nil {
		return nil, fmt.Errorf("open heads: %w", err)
	}
	if err := errors.Join(r.checkForked(ctx), r.checkOwn(ctx)); err != nil {
		return nil, fmt.Errorf("open heads: %w", err)
	}
	err := r.poll(ctx)
	if own := r.ownFault(); own != nil {
		return nil, fmt.Errorf("open heads: %w", own)
	}
	if err != nil && !r.onlyFaults() {
		return nil, fmt.Errorf("open heads: %w", err)
	}
	if err != nil {
		o.Log.Warn("heads of other devices do not fit", "err", err)
	}
	return r, nil
}

func checkWriter(m *keys.Members, id keys.DeviceID) error {
	d, ok := m.Member(id)
	if !ok || d.Revoked || d.Roles&keys.Writer == 0 {
		return fmt.Errorf("%w: %s may not write", keys.ErrNotMember, id)
	}
	return nil
}

// checkOwn holds the Bucket's newest head of this device against the one remembered.
func (r *Refs) checkOwn(ctx context.Context) error {
	if err := r.settle(ctx); err != nil {
		if errors.Is(err, ErrFork) {
			return fmt.Errorf("%w: %w", ErrStateLost, err)
		}
		return err
	}
	seqs, err := r.list(ctx, r.dir)
	if err != nil {
		return err
	}
	var newest uint64
	if n := len(seqs); n > 0 {
		newest = seqs[n-1]
	}
	own := r.known[r.id]
	switch {
	case newest > own.Seq:
		if _, _, err := r.read(ctx, r.id, newest); err != nil {
			return err // it is no head of this device at all
		}
		return fmt.Errorf("%w: it has written %d heads and knows of %d", ErrStateLost, newest, own.Seq)
	case newest < own.Seq:
		return fmt.Errorf("%w: head %s is missing", ErrRollback, headName(r.dir, own.Seq))
	case newest == 0:
		return nil
	}
	h, _, err := r.read(ctx, r.id, newest)
	if err != nil {
		return err
	}
	if h.hash != own.hash {
		return fmt.Errorf("%w: head %s is another one now", ErrFork, headName(r.dir, newest))
	}
	return nil
}

// Members returns the members log as the last Open or Poll found it.
func (r *Refs) Members() *keys.Members {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.members
}

// Faults returns what the last Poll found wrong with the heads of single devices.
func (r *Refs) Faults() map[keys.DeviceID]error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.faults)
}

// take waits for the turn to write.
func (r *Refs) take(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-r.turn:
		return nil
	}
}

func (r *Refs) give() { r.turn <- struct{}{} }

// Head returns this device's newest head. The error wraps [io/fs.ErrNotExist] if it has none yet.
func (r *Refs) Head(ctx context.Context) (Head, error) {
	if err := r.take(ctx); err != nil {
		return Head{}, err
	}
	defer r.give()
	if err := r.settle(ctx); err != nil {
		return Head{}, fmt.Errorf("read head: %w", err)
	}
	own := r.own()
	if own.Seq == 0 {
		return Head{}, fmt.Errorf("read head: %w", fs.ErrNotExist)
	}
	return own.Head, nil
}

func (r *Refs) own() known {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known[r.id]
}

// Move puts a new head of this device: from the snapshot old to the snapshot new, which
// has seen causes. old is the zero Ref for the first head. All chunks that new names must
// be durable. When Move returns nil the head is durable in the Bucket, and so is
// the memory of it on this device. If the newest head is not old, the error wraps ErrMoved. now is
// kept as information, and so are up to MaxNear of near.
//
// After any other error the head may have been put or not: the next Move or Head finds
// out. A Move whose head turns out to be there already succeeds.
//
// Why no crash can forge or forget a head: the sealed head is first kept in KV as the
// next one, durably; then put; then remembered as the newest. After a crash the Bucket has
// either the old head, and the next one never was, or exactly the next one, which is put once more
// (it may not have been durable) and then remembered. A head in the Bucket that KV does not
// have as newest or next was not written by this state of this device. The memory is never
// ahead of what the Bucket has durably, and Move returns nil only when both agree.
func (r *Refs) Move(ctx context.Context, old, new chunk.Ref, causes causal.Context, now time.Time, near ...Near) (Head, error) {
	if err := r.take(ctx); err != nil {
		return Head{}, err
	}
	defer r.give()
	near = slices.Clone(near)
	slices.SortFunc(near, func(a, b Near) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	near = slices.CompactFunc(near, func(a, b Near) bool { return a.ID == b.ID })
	near = near[:min(len(near), MaxNear):min(len(near), MaxNear)]
	h, err := r.move(ctx, old, new, causes, now, func(h *Head) { h.Near = near })
	if err != nil {
		return Head{}, fmt.Errorf("move head: %w", err)
	}
	return h, nil
}

// move is Move, with the turn. say changes what the head says about collections and what is near; else that is what the one before says.
func (r *Refs) move(ctx context.Context, old, new chunk.Ref, causes causal.Context, now time.Time, say func(*Head)) (Head, error) {
	if new.Kind != chunk.Snapshot || !causes.Valid() || len(causes) > keys.MaxDevices {
		return Head{}, fmt.Errorf("%s is no snapshot, or its context is not valid", new)
	}
	doubt := r.next != nil
	if err := r.settle(ctx); err != nil {
		return Head{}, err
	}
	if err := r.settleEpoch(ctx); err != nil {
		return Head{}, err
	}
	own := r.own()
	if own.Root != old {
		if doubt && own.Root == new && own.Context.Equal(causes) {
			return own.Head, nil
		}
		return Head{}, fmt.Errorf("%w: it is at %s, not %s", ErrMoved, own.Root, old)
	}
	r.mu.Lock()
	frozen, members, seen := r.frozen, r.members, r.seen()
	r.mu.Unlock()
	if frozen != nil {
		return Head{}, fmt.Errorf("writing has stopped: %w", frozen)
	}
	if err := checkWriter(members, r.id); err != nil {
		return Head{}, err
	}
	next := Head{
		Device: r.id, Seq: own.Seq + 1, Prev: own.hash,
		Root: new, Context: slices.Clone(causes), Members: members.Tips(), Seen: seen, Time: now,
		Collection: own.Collection, Agreed: own.Agreed, Near: own.Near,
	}
	say(&next)
	h, b, err := seal(members.Ring(), r.o.Device, r.o.Entropy, next)
	if err != nil {
		return Head{}, err
	}
	return h, r.put(ctx, known{h, b})
}

// settleEpoch sees to it that no revoked device has the secret that a head is sealed with.
func (r *Refs) settleEpoch(ctx context.Context) error {
	if !r.members.Stale() {
		return nil
	}
	if r.o.Settle != nil {
		if err := r.o.Settle(ctx); err != nil {
			return err
		}
		if err := r.refreshMembers(ctx); err != nil {
			return err
		}
	}
	if r.members.Stale() {
		return fmt.Errorf("writing waits: %w", keys.ErrStale)
	}
	return nil
}

// seen lists the newest heads of others. The caller has mu.
func (r *Refs) seen() []Seen {
	var seen []Seen
	for id, k := range r.known {
		if id != r.id && k.Seq > 0 {
			seen = append(seen, Seen{Device: id, Mark: k.Mark()})
		}
	}
	slices.SortFunc(seen, func(a, b Seen) int { return slices.Compare(a.Device[:], b.Device[:]) })
	return seen
}

// put stores the next own head, in the order that Move tells.
func (r *Refs) put(ctx context.Context, k known) error {
	switch h, b, err := r.read(ctx, r.id, k.Seq); {
	case err == nil:
		common := uint64(Unknown)
		if h.Prev == k.Prev {
			common = k.Seq - 1
		}
		return r.lose(ctx, known{h, b}, common)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := r.saveNext(ctx, k); err != nil {
		return err
	}
	r.next = &k
	return r.finish(ctx, k)
}

// finish puts a head that KV has as the next one, and makes it the newest.
func (r *Refs) finish(ctx context.Context, k known) error {
	name := headName(r.dir, k.Seq)
	if err := r.o.Bucket.Put(ctx, name, bytes.NewReader(k.blob), int64(len(k.blob))); err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	if err := r.saveOwn(ctx, k); err != nil {
		return err
	}
	r.next = nil
	r.publish(map[keys.DeviceID]known{r.id: k})
	return nil
}

// settle finds out what became of a head whose Move ended in an error or a crash.
func (r *Refs) settle(ctx context.Context) error {
	if r.next == nil {
		return nil
	}
	h, _, err := r.read(ctx, r.id, r.next.Seq)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.next = nil
		return nil
	case err != nil:
		return err
	case h.hash != r.next.hash:
		name := headName(r.dir, h.Seq)
		return r.freeze(fmt.Errorf("%w: %s was written by a copy of this device", ErrFork, name))
	}
	return r.finish(ctx, *r.next)
}

// freeze stops all further writing for the reason err, which it returns.
func (r *Refs) freeze(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.frozen == nil {
		r.frozen = err
	}
	return err
}

// publish makes heads the newest of their devices and wakes the watchers.
func (r *Refs) publish(heads map[keys.DeviceID]known) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, k := range heads {
		r.known[id] = k
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

// Heads yields the newest head of every device, this one's too, in the order of the device IDs,
// as the last Poll or Move left them. Then, if Poll found something wrong with a device, it
// yields one error for all such devices; their heads are not yielded, not even
// older ones.
func (r *Refs) Heads(ctx context.Context) iter.Seq2[Head, error] {
	return func(yield func(Head, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(Head{}, err)
			return
		}
		heads, err := r.snapshot()
		for _, h := range heads {
			if !yield(h, nil) {
				return
			}
		}
		if err != nil {
			yield(Head{}, err)
		}
	}
}

// Verified returns the number of the newest head that is known of the device whose heads lie in dir, heads/<pseudonym>; 0 if none is known, or something was wrong
// with that device at the last Poll. It and what the last Poll found between it and those before it were verified.
func (r *Refs) Verified(dir blob.Name) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	id, _, ok := memberOf(r.members, dir+"/")
	if !ok || r.faults[id] != nil {
		return 0
	}
	return r.known[id].Seq
}

func (r *Refs) snapshot() ([]Head, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var heads []Head
	for id, k := range r.known {
		if r.faults[id] == nil && k.Seq > 0 {
			heads = append(heads, k.Head)
		}
	}
	slices.SortFunc(heads, func(a, b Head) int { return slices.Compare(a.Device[:], b.Device[:]) })
	return heads, joined(r.faults)
}

// Watch yields every head, of whichever device, that becomes the newest of its device after the call,
// until ctx is done. A slow reader misses steps but never the last one. Heads of others move
// by Poll.
func (r *Refs) Watch(ctx context.Context) iter.Seq[Head] {
	seen := map[keys.DeviceID]keys.Mark{}
	r.mu.Lock()
	for id, k := range r.known {
		seen[id] = k.Mark()
	}
	r.mu.Unlock()
	return func(yield func(Head) bool) {
		seen := cloneMarks(seen)
		for {
			r.mu.Lock()
			changed := r.changed
			r.mu.Unlock()
			heads, _ := r.snapshot()
			for _, h := range heads {
				if seen[h.Device] == h.Mark() {
					continue
				}
				if seen[h.Device] = h.Mark(); ctx.Err() != nil || !yield(h) {
					return
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
		}
	}
}

func cloneMarks(m map[keys.DeviceID]keys.Mark) map[keys.DeviceID]keys.Mark {
	c := make(map[keys.DeviceID]keys.Mark, len(m))
	for id, mark := range m {
		c[id] = mark
	}
	return c
}

// minKeep is the least number of own heads that Prune leaves.
const minKeep = 16

// Prune removes this device's heads but for the newest keep, and never leaves less than
// 16. The oldest go first, so that what is left has no gap wherever it is cut off.
func (r *Refs) Prune(ctx context.Context, keep int) error {
	if err := r.take(ctx); err != nil {
		return err
	}
	defer r.give()
	seqs, err := r.list(ctx, r.dir)
	if err != nil {
		return fmt.Errorf("prune heads: %w", err)
	}
	for len(seqs) > max(keep, minKeep) {
		n := min(len(seqs)-max(keep, minKeep), 64)
		var names []blob.Name
		for _, seq := range seqs[:n] {
			names = append(names, headName(r.dir, seq))
		}
		if err := r.o.Bucket.Remove(ctx, names...); err != nil {
			return fmt.Errorf("prune heads: %w", err)
		}
		seqs = seqs[n:]
	}
	return nil
}
