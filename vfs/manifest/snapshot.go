package manifest

import (
	"context"
	"fmt"
	"math"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/chunkstore/cbor"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
)

// The keys of a Snapshot.
const (
	snapRoot = 1 + iota
	snapHistory
	snapContext
	snapLamport
	snapBelow
	snapFiles
	snapBytes
	snapDevice
	snapTime
	snapMark
	snapTop
)

// The root has no entry in any directory. Its attributes are encoded like an entry with
// this name and ID, which mean nothing; so are the records that it hides.
const topName = "root"

var topID = NodeID{15: 2}

// maxDevices is the most devices of a Context.
const maxDevices = 1 << 16

// EncodeSnapshot appends the encoding of s to dst.
func EncodeSnapshot(dst []byte, s Snapshot) ([]byte, error) {
	if err := s.check(); err != nil {
		return dst, err
	}
	var f fields
	if !s.Root.IsZero() {
		f.key(snapRoot)
		f.b = appendRef(f.b, s.Root)
	}
	if !s.History.IsZero() {
		f.key(snapHistory)
		f.b = appendRef(f.b, s.History)
	}
	if len(s.Context) > 0 {
		f.key(snapContext)
		f.b = cbor.AppendArray(f.b, 2*len(s.Context))
		for _, c := range s.Context {
			f.b = cbor.AppendUint(f.b, uint64(c.Device))
			f.b = cbor.AppendUint(f.b, c.Counter)
		}
	}
	f.uint(snapLamport, s.Lamport, 0)
	f.uint(snapBelow, uint64(s.Below), 0)
	f.uint(snapFiles, s.Files, 0)
	f.uint(snapBytes, s.Bytes, 0)
	f.uint(snapDevice, uint64(s.Device), 0)
	f.time(snapTime, s.Time)
	f.uint(snapMark, s.Mark, 0)
	if s.Top.Kind != 0 {
		top := s.Top
		top.Name, top.ID = topName, topID
		f.key(snapTop)
		f.b = cbor.AppendBytes(f.b, appendEntry(nil, &top))
	}
	return f.appendTo(dst), nil
}

// checkTop returns an error if the attributes of the root are not those of one.
func checkTop(e Entry) error {
	if e.Kind == 0 {
		return nil
	}
	if e.Kind != vfs.KindDir || e.Name != "" || e.ID != RootID || e.Stored != nil || e.Held ||
		e.Below != 0 || !e.Node.IsZero() || e.From != (NodeID{}) {
		return fmt.Errorf("%w: root that is none", ErrMalformed)
	}
	e.Name, e.ID = topName, topID
	return check(&e, nil)
}

func (r *entryReader) top() Entry {
	b := r.Bytes()
	sub := &entryReader{b: b, Reader: cbor.NewReader(b)}
	e := sub.entry()
	if err := sub.Close(); err != nil || e.Name != topName || e.ID != topID {
		r.Fail("malformed root")
	}
	e.Name, e.ID = "", RootID
	return e
}

func (s *Snapshot) check() error {
	switch {
	case !s.Root.IsZero() && s.Root.Kind != chunk.Dir, !s.History.IsZero() && s.History.Kind != chunk.History:
		return fmt.Errorf("%w: snapshot of a chunk of the wrong kind", ErrMalformed)
	case !s.Context.Valid() || len(s.Context) > maxDevices:
		return fmt.Errorf("%w: context out of order", ErrMalformed)
	case s.Below&^belowAll != 0:
		return fmt.Errorf("%w: unknown flags", ErrMalformed)
	}
	return checkTop(s.Top)
}

// DecodeSnapshot is the inverse of EncodeSnapshot. The Snapshot owns its memory.
func DecodeSnapshot(plain []byte) (Snapshot, error) {
	var s Snapshot
	r := &entryReader{b: plain, Reader: cbor.NewReader(plain)}
	last := int64(-1)
	for n := r.Map(); n > 0 && r.Err() == nil; n-- {
		switch k := r.Key(&last); k {
		case snapRoot:
			s.Root = readRef(r.Reader)
		case snapHistory:
			s.History = readRef(r.Reader)
		case snapContext:
			s.Context = r.context()
		case snapLamport:
			s.Lamport = r.nonzero(math.MaxUint64)
		case snapBelow:
			s.Below = Below(r.nonzero(uint64(belowAll)))
		case snapFiles:
			s.Files = r.nonzero(math.MaxUint64)
		case snapBytes:
			s.Bytes = r.nonzero(math.MaxUint64)
		case snapDevice:
			s.Device = causal.Device(r.nonzero(math.MaxUint64))
		case snapTime:
			s.Time = r.time()
		case snapMark:
			s.Mark = r.nonzero(math.MaxUint64)
		case snapTop:
			s.Top = r.top()
		default:
			r.Fail("unknown key %d", k)
		}
	}
	if err := r.Close(); err != nil {
		return Snapshot{}, fmt.Errorf("%w: snapshot: %w", ErrMalformed, err)
	}
	if err := s.check(); err != nil {
		return Snapshot{}, err
	}
	return s, nil
}

func (r *entryReader) context() causal.Context {
	n := r.Array()
	if n == 0 || n%2 != 0 || n > 2*maxDevices {
		r.Fail("%d values in a context", n)
	}
	var c causal.Context
	for ; n > 0 && r.Err() == nil; n -= 2 {
		d, k := r.Uint(), r.Uint()
		c = append(c, causal.Seen{Device: causal.Device(d), Counter: k})
	}
	return c
}

// PutSnapshot stores s.
func PutSnapshot(ctx context.Context, sink Sink, s Snapshot) (chunk.Ref, error) {
	b, err := EncodeSnapshot(nil, s)
	if err != nil {
		return chunk.Ref{}, err
	}
	ref, err := sink.Put(ctx, chunk.Snapshot, b)
	if err != nil {
		return chunk.Ref{}, fmt.Errorf("put snapshot: %w", err)
	}
	return ref, nil
}

// GetSnapshot reads what PutSnapshot stored.
func GetSnapshot(ctx context.Context, src Source, ref chunk.Ref) (Snapshot, error) {
	if ref.Kind != chunk.Snapshot {
		return Snapshot{}, fmt.Errorf("%w: chunk of kind %s where a snapshot was due", ErrMalformed, ref.Kind)
	}
	b, err := src.Get(ctx, make([]byte, 0, ref.Size), ref)
	if err != nil {
		return Snapshot{}, fmt.Errorf("get snapshot: %w", err)
	}
	return DecodeSnapshot(b)
}
