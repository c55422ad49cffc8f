// Package journal is the save path of a writable tree: an append-only log of
// records in segment files, each record encrypted and authenticated, made durable
// for many callers by one sync. It knows nothing of what a record means.
//
// A record is durable when Sync has returned nil for its LSN. After a crash Open
// replays all records up to the first that is not whole. A record that was durable
// and is not whole any more is damage, not a crash: Open tells the two apart by the sync
// marks that lie behind durable records, and returns ErrDamaged.
//
// The bytes of a segment are described in docs/FORMAT.md, "Journal".
package journal

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// The errors of a Journal.
var (
	ErrDamaged = errors.New("journal is damaged")
	ErrFailed  = errors.New("journal failed to write")
	ErrClosed  = errors.New("journal is closed")
)

// LSN numbers records, from 1, without gaps, for the life of a device's journal.
type LSN = uint64

// MaxData is the most bytes of data that one record may carry. Larger data goes
// into several records, so that reading a part of it back costs little.
const MaxData = 128 << 10

// maxSealed bounds the sealed bytes of one record: type, meta and data.
const maxSealed = 1 + 4 + 192<<10 + MaxData + overhead

// MaxMeta is the most bytes of meta that one record may carry.
const MaxMeta = 192 << 10

// Type says what a record is. The Journal hands it through; 0 is its own.
type Type uint8

const typeMark Type = 0

// A Record is what goes in: a type above 0, a short description, and data.
type Record struct {
	Type Type
	Meta []byte
	Data []byte
}

// A Pos says where the data of a record lies, for ReadData. The zero Pos is nowhere.
type Pos struct {
	seg  *segment
	off  int64  // of the record's header
	size uint32 // sealed bytes
	skip uint32 // type and meta before the data
	n    uint32 // data
}

// Len returns the bytes of data at p.
func (p Pos) Len() int { return int(p.n) }

// A Replayed record is one that Open found. Meta and Data are only valid during the call.
type Replayed struct {
	LSN LSN
	Record
	Pos Pos
}

// Options say where a journal lies. All but SegmentSize and Suite are needed.
type Options struct {
	Dir     Dir
	Key     [32]byte  // of the device's drive; each segment has a key of its own derived from it
	Entropy io.Reader // crypto/rand.Reader
	// SegmentSize is about how large a segment grows before the next is begun; 0 means 2
	// GiB: each costs two syncs of the disk when it is made, which wait for all that is
	// being written just then, and whoever trims the journal ends a segment by Rotate.
	SegmentSize int64
	// Suite encrypts new segments; 0 is the fastest one of this processor.
	Suite Suite
}

// A Journal is an open journal. It is safe for concurrent use.
type Journal struct {
	o Options

	mu       sync.Mutex
	turn     *sync.Cond // a sync ended
	segs     []*segment // oldest first; the last one is written
	next     LSN
	synced   LSN // all up to here are durable
	proved   LSN // found by Open: the highest that a record says is durable
	syncing  bool
	err      error        // of a closed journal
	failed   error        // a sync failed: what is not durable must be written again
	number   uint64       // of the newest segment that was begun, or tried to
	free     [][]byte     // see hold
	holders  int          // buffers that exist
	bytes    atomic.Int64 // of all segments; read without mu, for every writer asks it
	unnamed  unnamed
	sealPool sync.Pool
	ahead    *ahead
}

// Open opens the journal in o.Dir, hands every record after the LSN from to
// replay, in order, and is then ready to take more. What lies at or before from is ignored.
func Open(ctx context.Context, o Options, from LSN, replay func(Replayed) error) (*Journal, error) {
	if o.SegmentSize <= 0 {
		o.SegmentSize = 2 << 30
	}
	if o.Suite == 0 {
		o.Suite = fastest()
	}
	j := &Journal{o: o, next: from + 1}
	j.turn = sync.NewCond(&j.mu)
	if err := j.recover(ctx, from, replay); err != nil {
		j.closeSegments()
		return nil, err
	}
	// What survived the death of a process may still be in the system's memory only, and
	// clean in spite of that, if a sync failed before.
	if err := j.refresh(); err != nil {
		j.closeSegments()
		return nil, fmt.Errorf("write journal again: %w", err)
	}
	for _, s := range j.segs {
		if err := s.f.Sync(); err != nil {
			j.closeSegments()
			return nil, fmt.Errorf("sync journal: %w", err)
		}
	}
	j.synced = j.next - 1
	if err := j.begin(); err != nil {
		j.closeSegments()
		return nil, err
	}
	j.ahead = startAhead()
	return j, nil
}

// Append adds the records, next to each other and all or none, and returns the
// LSN of the last one and, in pos (which must be as long as recs, or nil), where their data lies. When it returns,
// the records survive the death of this process, but not yet that of the machine: see Sync.
func (j *Journal) Append(recs []Record, pos []Pos) (LSN, error) {
	p, err := j.Prepare(recs)
	if err != nil {
		return 0, err
	}
	defer p.Drop()
	return p.Append(pos)
}

// Prepared are records that are encrypted already, for one Append at most.
type Prepared struct {
	j    *Journal
	seg  *segment // whose key they are encrypted with
	recs []Record
	b    *sealed
}

// Prepare does the part of Append that costs most and needs no order: it encrypts the records. Whoever
// calls it gives the memory back by Drop. recs and what they point to must stay as they are until then.
func (j *Journal) Prepare(recs []Record) (*Prepared, error) {
	j.mu.Lock()
	seg, err := j.tail()
	j.mu.Unlock()
	if err != nil {
		return nil, err
	}
	p := &Prepared{j: j, seg: seg, recs: recs}
	if p.b, _ = j.sealPool.Get().(*sealed); p.b == nil {
		p.b = &sealed{}
	}
	if err := p.b.seal(seg, recs, j.o.Entropy); err != nil {
		p.Drop()
		return nil, err
	}
	return p, nil
}

// Append adds the records, as Journal.Append does.
func (p *Prepared) Append(pos []Pos) (LSN, error) {
	j := p.j
	for {
		j.mu.Lock()
		now, err := j.tail()
		if err != nil {
			j.mu.Unlock()
			return 0, err
		}
		if now == p.seg {
			break
		}
		j.mu.Unlock()
		p.seg = now // the segment was changed meanwhile, and with it the key
		if err := p.b.seal(now, p.recs, j.o.Entropy); err != nil {
			return 0, err
		}
	}
	defer j.mu.Unlock()
	last, err := j.write(p.seg, p.b, pos)
	if err != nil {
		return 0, err
	}
	if p.seg.size >= j.o.SegmentSize {
		// What was written is written: a failure to begin the next segment shows
		// at the next Append, which tries again.
		_ = j.begin()
	}
	return last, nil
}

// Drop gives the memory of p back. p is of no use afterwards.
func (p *Prepared) Drop() {
	if p.b != nil {
		p.j.sealPool.Put(p.b)
		p.b = nil
	}
}

// write puts the sealed records at the end of seg. j.mu is held.
func (j *Journal) write(seg *segment, b *sealed, pos []Pos) (LSN, error) {
	at := seg.size
	for i := range b.parts {
		p := &b.parts[i]
		b.finishHeader(seg, b.buf[p.off:], j.next+uint64(i), j.synced)
		if pos != nil {
			pos[i] = Pos{seg: seg, off: at + int64(p.off), size: uint32(p.size), skip: uint32(p.skip), n: uint32(p.n)}
		}
	}
	if _, err := seg.f.WriteAt(b.buf, at); err != nil {
		// The end of the file may hold some of the records, even whole ones, that are not to be. So nothing
		// is written behind them: the next segment begins with the LSN of the first of them.
		seg.spoilt = true
		return 0, fmt.Errorf("write journal: %w", err)
	}
	j.hold(seg, at, b.buf)
	seg.size += int64(len(b.buf))
	j.bytes.Add(int64(len(b.buf)))
	j.next += uint64(len(b.parts))
	seg.last = j.next - 1
	if j.ahead != nil {
		j.ahead.grown(seg)
	}
	return seg.last, nil
}

// sound returns why nothing can be added, if so. j.mu is held.
func (j *Journal) sound() error {
	if j.err == nil && j.failed != nil {
		return j.rescue()
	}
	return j.err
}

// tail returns the segment that is written. j.mu is held.
func (j *Journal) tail() (*segment, error) {
	if err := j.sound(); err != nil {
		return nil, err
	}
	seg := j.segs[len(j.segs)-1]
	if seg.size >= j.o.SegmentSize || seg.spoilt {
		if err := j.begin(); err != nil {
			return nil, err
		}
		seg = j.segs[len(j.segs)-1]
	}
	return seg, nil
}

// Last returns the LSN of the last record.
func (j *Journal) Last() LSN {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.next - 1
}

// Size returns the bytes that the journal takes.
func (j *Journal) Size() int64 {
	return j.bytes.Load()
}

// Sync returns nil when all records up to the LSN upto are durable. One sync of the disk
// serves all who wait for it. After a failed one the kernel may have dropped the bytes while it calls
// the pages clean, so no later one can be believed. The records are written again then, to another segment; only
// if that fails too does Sync, with an error that wraps ErrFailed, and the next call tries again.
func (j *Journal) Sync(upto LSN) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.synced < upto {
		if j.err != nil {
			return j.err
		}
		if j.syncing {
			j.turn.Wait()
			continue
		}
		if err := j.sound(); err != nil {
			return err
		}
		if j.synced < upto {
			j.syncOnce()
		}
	}
	return nil
}

// syncOnce makes all that is written durable. j.mu is held, and given back meanwhile.
func (j *Journal) syncOnce() {
	target := j.next - 1
	var dirty []*segment
	for _, s := range j.segs {
		if s.syncedSize < s.size {
			dirty = append(dirty, s)
		}
	}
	sizes := make([]int64, len(dirty))
	for i, s := range dirty {
		sizes[i] = s.size
	}
	j.syncing = true
	j.mu.Unlock()
	var err error
	for _, s := range dirty {
		if err = s.f.Sync(); err != nil {
			break
		}
	}
	j.mu.Lock()
	j.syncing = false
	for i, s := range dirty {
		if err == nil {
			s.syncedSize = max(s.syncedSize, sizes[i])
			j.release(s, s.syncedSize)
		}
	}
	if err != nil {
		j.failed = fmt.Errorf("%w: %w", ErrFailed, err)
	} else {
		j.synced = max(j.synced, target)
		j.mark()
	}
	j.turn.Broadcast()
}

// mark notes behind the durable records that they are. It needs no sync of its
// own: it serves to tell damage from a torn end. j.mu is held.
func (j *Journal) mark() {
	seg := j.segs[len(j.segs)-1]
	if seg.size == headerSize || seg.last <= seg.marked || seg.spoilt {
		return
	}
	var b sealed
	if err := b.seal(seg, []Record{{Type: typeMark}}, j.o.Entropy); err != nil {
		return
	}
	if _, err := j.write(seg, &b, nil); err == nil {
		seg.marked = seg.last
	}
}

// Rotate begins a new segment and returns the LSN of the last record before it.
func (j *Journal) Rotate() (LSN, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.sound(); err != nil {
		return 0, err
	}
	if seg := j.segs[len(j.segs)-1]; seg.size > headerSize || seg.spoilt {
		if err := j.begin(); err != nil {
			return 0, err
		}
	}
	return j.next - 1, nil
}

// Trim removes the segments that hold no record after upto: what is in these is durable elsewhere. A Pos in them can still be read:
// their files lose their names, and are closed when nothing points to them any more. So a
// file that was removed while it is open keeps its bytes.
func (j *Journal) Trim(upto LSN) error {
	j.mu.Lock()
	var gone []*segment
	for len(j.segs) > 1 && j.segs[0].last <= upto {
		gone = append(gone, j.segs[0])
		j.bytes.Add(-j.segs[0].size)
		j.release(j.segs[0], math.MaxInt64)
		j.segs[0] = nil // or the array would keep it, and its file, for long
		j.segs = j.segs[1:]
	}
	j.synced = max(j.synced, min(upto, j.next-1)) // no sync of this journal is needed for them any more
	j.mu.Unlock()
	for _, s := range gone {
		j.unnamed.add(s)
	}
	for _, s := range gone {
		if err := j.o.Dir.Remove(s.name); err != nil {
			return fmt.Errorf("trim journal: %w", err)
		}
	}
	return nil
}

// Reclaim gives the disk back what trimmed segments take that nothing points to any more. That happens by itself, too, but
// only when memory is collected, which a quiet process does every two minutes. It costs a collection, so it is for a
// disk that is full.
func (j *Journal) Reclaim() {
	if j.unnamed.count() == 0 {
		return
	}
	runtime.GC()
	// The files are closed by other goroutines, right after it. Some may still be read, and stay.
	for range 50 {
		if j.unnamed.count() == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// ReadData fills dst with the data of the record at p from byte off on. It fails
// with ErrDamaged if the record is not what was written.
func (j *Journal) ReadData(p Pos, dst []byte, off int) error {
	if p.seg == nil || off < 0 || off+len(dst) > int(p.n) {
		return fmt.Errorf("read journal: %d bytes at %d of a record of %d", len(dst), off, p.n)
	}
	b, _ := j.sealPool.Get().(*sealed)
	if b == nil {
		b = &sealed{}
	}
	defer j.sealPool.Put(b)
	at, _ := p.now()
	plain, err := at.seg.open(b, at.off, int(p.size))
	runtime.KeepAlive(at.seg) // its file is closed when nobody has it
	if err != nil {
		// The disk may have lost what no sync has covered.
		var herr error
		if plain, herr = j.readHeld(p, b); herr != nil {
			return err
		}
	}
	copy(dst, plain[int(p.skip)+off:])
	return nil
}

// Close makes all durable and gives the journal back. No file of it is open afterwards, so that what it lies on can be taken
// away; a Pos cannot be read any more.
func (j *Journal) Close() error {
	err := j.Sync(j.Last())
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.syncing {
		j.turn.Wait()
	}
	if j.err == nil || !errors.Is(j.err, ErrClosed) {
		j.err = ErrClosed
		j.ahead.end()
		j.closeSegments()
	}
	return err
}

func (j *Journal) closeSegments() {
	for _, s := range j.segs {
		_ = s.f.Close()
	}
	j.segs = nil
	j.unnamed.close()
}

// begin makes the next segment. j.mu is held, or the Journal is not shared yet.
func (j *Journal) begin() error {
	// A number is used once, for what a failure leaves may stay there.
	j.number++
	seg, err := create(j.o, j.number, j.next)
	if err != nil {
		if n := len(j.segs); n > 0 {
			// What was begun may be there in spite of that, or be there again after a power cut, and would say that
			// the one before it ends here. So it does.
			j.segs[n-1].spoilt = true
		}
		return fmt.Errorf("begin journal segment: %w", err)
	}
	j.segs = append(j.segs, seg)
	j.bytes.Add(seg.size)
	return nil
}

type segment struct {
	name       string
	number     uint64
	first      LSN
	last       LSN // first-1 while empty
	marked     LSN // of the last mark
	size       int64
	syncedSize int64
	begun      int64 // the disk was told to begin with what is before
	f          File
	aead       cipher.AEAD
	macKey     [32]byte
	retired    bool // dropped by Open
	spoilt     bool // a write failed: behind size there may be anything
	held       []held
	moved      atomic.Pointer[map[int64]Pos] // records that were written again elsewhere
}
