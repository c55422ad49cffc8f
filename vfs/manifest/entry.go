package manifest

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/chunkstore/cbor"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
)

// The keys of an entry, see docs/FORMAT.md. What has its default is left out.
const (
	keyName = 1 + iota
	keyID
	keyLink
	keyKind
	keyMode
	keyUID
	keyGID
	keyRdev
	keySize
	keyBytes
	keyNode
	keyTarget
	keyMTime
	keyCTime
	keyATime
	keyBTime
	keyXattr
	keyDot
	keyEdit
	keyPast
	keyPlace
	keyAttr
	keyFrom
	keyStored
	keyHidden
	keyConflict
	keyHeld
	keyBelow
)

// fields counts the pairs of a map while they are appended, for the count stands
// in front of them.
type fields struct {
	b []byte
	n int
}

func (f *fields) key(k uint64) {
	f.n++
	f.b = cbor.AppendUint(f.b, k)
}

func (f *fields) uint(k, v, unless uint64) {
	if v != unless {
		f.key(k)
		f.b = cbor.AppendUint(f.b, v)
	}
}

func (f *fields) id(k uint64, id NodeID) {
	if id != (NodeID{}) {
		f.key(k)
		f.b = cbor.AppendBytes(f.b, id[:])
	}
}

func (f *fields) flag(k uint64, v bool) {
	if v {
		f.key(k)
		f.b = cbor.AppendBool(f.b, v)
	}
}

func (f *fields) time(k uint64, t time.Time) {
	if !t.IsZero() {
		f.key(k)
		f.b = appendTime(f.b, t)
	}
}

func (f *fields) pair(k, a, b uint64) {
	f.key(k)
	f.b = cbor.AppendArray(f.b, 2)
	f.b = cbor.AppendUint(f.b, a)
	f.b = cbor.AppendUint(f.b, b)
}

// appendTo appends the map to dst.
func (f *fields) appendTo(dst []byte) []byte {
	return append(cbor.AppendMap(dst, f.n), f.b...)
}

// The seconds whose nanoseconds fit an int64 whatever their fraction.
const (
	minNanoSec = math.MinInt64/1_000_000_000 + 1
	maxNanoSec = math.MaxInt64/1_000_000_000 - 1
)

// appendTime appends a time as nanoseconds since 1970 or, outside of about 1678 to 2262, as
// an array of seconds and nanoseconds.
func appendTime(b []byte, t time.Time) []byte {
	if s := t.Unix(); s >= minNanoSec && s <= maxNanoSec {
		return cbor.AppendInt(b, t.UnixNano())
	}
	b = cbor.AppendArray(b, 2)
	b = cbor.AppendInt(b, t.Unix())
	return cbor.AppendUint(b, uint64(t.Nanosecond()))
}

// readTime reads what appendTime wrote; peek is the first byte of it.
func readTime(r *cbor.Reader, peek byte) time.Time {
	if peek>>5 != 4 {
		n := r.Int()
		t := time.Unix(0, n).UTC()
		if s := t.Unix(); s < minNanoSec || s > maxNanoSec {
			r.Fail("time not in its one form")
		}
		return t
	}
	r.ArrayOf(2)
	s, ns := r.Int(), r.UintMax(999_999_999)
	t := time.Unix(s, int64(ns)).UTC()
	if r.Err() == nil && (s >= minNanoSec && s <= maxNanoSec || t.IsZero() || t.Unix() != s) {
		r.Fail("time not in its one form")
	}
	return t
}

// appendEntry appends the encoding of e, which check has passed.
func appendEntry(dst []byte, e *Entry) []byte { return appendRecord(dst, e, false) }

func appendRecord(dst []byte, e *Entry, hidden bool) []byte {
	f := fields{b: make([]byte, 0, 256)}
	if !hidden {
		f.key(keyName)
		f.b = cbor.AppendBytes(f.b, []byte(e.Name))
		f.id(keyID, e.ID)
	}
	f.id(keyLink, e.Link)
	if !hidden {
		f.uint(keyKind, uint64(e.Kind), 0)
	}
	f.uint(keyMode, uint64(e.Mode), 0)
	f.uint(keyUID, uint64(e.UID), 0)
	f.uint(keyGID, uint64(e.GID), 0)
	f.uint(keyRdev, uint64(e.Rdev), 0)
	f.uint(keySize, uint64(e.Size), 0)
	f.uint(keyBytes, uint64(e.Bytes), uint64(e.Size))
	if !e.Node.IsZero() {
		f.key(keyNode)
		f.b = appendRef(f.b, e.Node)
	}
	if e.Target != "" {
		f.key(keyTarget)
		f.b = cbor.AppendBytes(f.b, []byte(e.Target))
	}
	f.time(keyMTime, e.MTime)
	f.time(keyCTime, e.CTime)
	f.time(keyATime, e.ATime)
	f.time(keyBTime, e.BTime)
	if len(e.Xattr) > 0 {
		f.key(keyXattr)
		f.b = cbor.AppendArray(f.b, 2*len(e.Xattr))
		for _, x := range e.Xattr {
			f.b = cbor.AppendBytes(f.b, []byte(x.Name))
			f.b = cbor.AppendBytes(f.b, x.Value)
		}
	}
	appendCausality(&f, e)
	return f.appendTo(dst)
}

func appendCausality(f *fields, e *Entry) {
	if !e.Dot.IsZero() {
		f.pair(keyDot, uint64(e.Dot.Device), e.Dot.Counter)
	}
	if e.Edit != defaultEdit(e) {
		f.pair(keyEdit, uint64(e.Edit.Device), e.Edit.Counter)
	}
	if len(e.Past) > 0 {
		f.key(keyPast)
		f.b = cbor.AppendArray(f.b, 2*len(e.Past))
		for _, d := range e.Past {
			f.b = cbor.AppendUint(f.b, uint64(d.Device))
			f.b = cbor.AppendUint(f.b, d.Counter)
		}
	}
	if e.Place != (causal.Stamp{}) {
		f.pair(keyPlace, e.Place.Lamport, uint64(e.Place.Device))
	}
	if e.Attr != e.Place {
		f.pair(keyAttr, e.Attr.Lamport, uint64(e.Attr.Device))
	}
	f.id(keyFrom, e.From)
	if e.Stored != nil {
		f.key(keyStored)
		f.b = cbor.AppendArray(f.b, 2)
		f.b = cbor.AppendBytes(f.b, e.Stored.Parent[:])
		f.b = cbor.AppendBytes(f.b, []byte(e.Stored.Name))
	}
	if len(e.Hidden) > 0 {
		f.key(keyHidden)
		f.b = cbor.AppendArray(f.b, len(e.Hidden))
		for i := range e.Hidden {
			f.b = appendRecord(f.b, &e.Hidden[i], true)
		}
	}
	f.flag(keyConflict, e.Conflict)
	f.flag(keyHeld, e.Held)
	f.uint(keyBelow, uint64(e.Below), 0)
}

// defaultEdit is the Edit that an encoding without one has: a file that was not touched
// since its bytes were written has the Edit of its Dot.
func defaultEdit(e *Entry) causal.Dot {
	if e.Kind == vfs.KindFile {
		return e.Dot
	}
	return causal.Dot{}
}

func appendRef(b []byte, r chunk.Ref) []byte {
	var p [chunk.RefSize]byte
	return cbor.AppendBytes(b, r.Append(p[:0]))
}

func readRef(r *cbor.Reader) chunk.Ref {
	var p [chunk.RefSize]byte
	r.Fixed(p[:])
	if r.Err() != nil {
		return chunk.Ref{}
	}
	ref, err := chunk.ParseRef(p[:])
	if err == nil && ref.IsZero() {
		err = chunk.ErrRef
	}
	if err != nil {
		r.Fail("%v", err)
	}
	return ref
}

// An entryReader reads entries out of b, and keeps sight of b itself, for the Reader does not
// say where it stands.
type entryReader struct {
	b []byte
	*cbor.Reader
}

func (r *entryReader) pos() int { return len(r.b) - r.Len() }

func (r *entryReader) peek() byte {
	if r.Err() != nil || r.Len() == 0 {
		return 0
	}
	return r.b[r.pos()]
}

// entry reads one entry. The Entry owns its memory.
func (r *entryReader) entry() Entry {
	var e Entry
	r.record(&e, nil)
	return e
}

func (r *entryReader) id() (id NodeID) {
	r.Fixed(id[:])
	if id == (NodeID{}) {
		r.Fail("zero identity")
	}
	return id
}

func (r *entryReader) nonzero(limit uint64) uint64 {
	n := r.UintMax(limit)
	if n == 0 {
		r.Fail("default written out")
	}
	return n
}

func (r *entryReader) time() time.Time { return readTime(r.Reader, r.peek()) }

func (r *entryReader) pair() (uint64, uint64) {
	r.ArrayOf(2)
	return r.Uint(), r.Uint()
}

func (r *entryReader) dot() causal.Dot {
	d, c := r.pair()
	return causal.Dot{Device: causal.Device(d), Counter: c}
}

func (r *entryReader) stamp() causal.Stamp {
	l, d := r.pair()
	return causal.Stamp{Lamport: l, Device: causal.Device(d)}
}

func (r *entryReader) yes() bool {
	v := r.Bool()
	if !v {
		r.Fail("default written out")
	}
	return v
}

// record reads one record into e; of is nil, or the entry that hides it.
func (r *entryReader) record(e, of *Entry) {
	if of != nil {
		e.ID, e.Kind = of.ID, of.Kind
	}
	var seen uint64 // the keys met, as bits
	last := int64(-1)
	for n := r.Map(); n > 0 && r.Err() == nil; n-- {
		k := r.Key(&last)
		if of != nil && (k == keyName || k == keyID || k == keyKind || k >= keyHidden) || k == 0 || k > keyBelow {
			r.Fail("key %d has no place here", k)
			return
		}
		seen |= 1 << k
		if k < keyDot {
			r.field(k, e)
		} else {
			r.causality(k, e)
		}
	}
	if r.Err() != nil {
		return
	}
	if seen&(1<<keyBytes) == 0 {
		e.Bytes = e.Size
	} else if e.Bytes == e.Size {
		r.Fail("default written out")
	}
	if seen&(1<<keyEdit) == 0 {
		e.Edit = defaultEdit(e)
	} else if e.Edit == defaultEdit(e) {
		r.Fail("default written out")
	}
	if seen&(1<<keyAttr) == 0 {
		e.Attr = e.Place
	} else if e.Attr == e.Place {
		r.Fail("default written out")
	}
	if of != nil && e.Stored != nil {
		e.Name = e.Stored.Name
	}
	if err := check(e, of); err != nil {
		r.Fail("%v", err)
	}
}

func (r *entryReader) field(k uint64, e *Entry) {
	switch k {
	case keyName:
		e.Name = string(r.BytesMax(vfs.MaxName))
	case keyID:
		e.ID = r.id()
	case keyLink:
		e.Link = r.id()
	case keyKind:
		e.Kind = vfs.Kind(r.nonzero(math.MaxUint8))
	case keyMode:
		e.Mode = vfs.Mode(r.nonzero(uint64(vfs.ModeMask)))
	case keyUID:
		e.UID = uint32(r.nonzero(math.MaxUint32))
	case keyGID:
		e.GID = uint32(r.nonzero(math.MaxUint32))
	case keyRdev:
		e.Rdev = uint32(r.nonzero(math.MaxUint32))
	case keySize:
		e.Size = int64(r.nonzero(vfs.MaxSize))
	case keyBytes:
		e.Bytes = int64(r.UintMax(vfs.MaxSize))
	case keyNode:
		e.Node = readRef(r.Reader)
	case keyTarget:
		e.Target = string(r.BytesMax(vfs.MaxTarget))
	case keyMTime:
		e.MTime = r.time()
	case keyCTime:
		e.CTime = r.time()
	case keyATime:
		e.ATime = r.time()
	case keyBTime:
		e.BTime = r.time()
	case keyXattr:
		n := r.Array()
		if n == 0 || n%2 != 0 {
			r.Fail("%d values in a list of pairs", n)
		}
		for ; n > 0 && r.Err() == nil; n -= 2 {
			name := string(r.BytesMax(vfs.MaxXattrName))
			e.Xattr = append(e.Xattr, Xattr{Name: name, Value: bytes.Clone(r.BytesMax(vfs.MaxXattrValue))})
		}
	}
}

func (r *entryReader) causality(k uint64, e *Entry) {
	switch k {
	case keyDot:
		e.Dot = r.dot()
		if e.Dot.IsZero() {
			r.Fail("default written out")
		}
	case keyEdit:
		e.Edit = r.dot()
	case keyPast:
		n := r.Array()
		if n == 0 || n%2 != 0 || n > 2*MaxPast {
			r.Fail("%d values in a list of past edits", n)
		}
		for ; n > 0 && r.Err() == nil; n -= 2 {
			d, c := r.Uint(), r.Uint()
			e.Past = append(e.Past, causal.Dot{Device: causal.Device(d), Counter: c})
		}
	case keyPlace:
		e.Place = r.stamp()
		if e.Place == (causal.Stamp{}) {
			r.Fail("default written out")
		}
	case keyAttr:
		e.Attr = r.stamp()
	case keyFrom:
		e.From = r.id()
	case keyStored:
		r.ArrayOf(2)
		s := &Stored{}
		r.Fixed(s.Parent[:]) // zero is the root
		s.Name = string(r.BytesMax(vfs.MaxName))
		e.Stored = s
	case keyHidden:
		n := r.Array()
		if n == 0 || n > MaxHidden {
			r.Fail("%d hidden records", n)
		}
		for ; n > 0 && r.Err() == nil; n-- {
			var h Entry
			r.record(&h, e)
			e.Hidden = append(e.Hidden, h)
		}
	case keyConflict:
		e.Conflict = r.yes()
	case keyHeld:
		e.Held = r.yes()
	case keyBelow:
		e.Below = Below(r.nonzero(uint64(belowAll)))
	}
}

// check returns an error that wraps ErrMalformed if e, hidden by of or by none, breaks a
// rule of the format. It is asked before an entry is written and after one is read.
func check(e, of *Entry) error {
	if err := checkShape(e); err != nil {
		return fmt.Errorf("%w: entry %x: %w", ErrMalformed, e.ID, err)
	}
	if err := checkCausality(e, of); err != nil {
		return fmt.Errorf("%w: entry %x: %w", ErrMalformed, e.ID, err)
	}
	return nil
}

func checkShape(e *Entry) error {
	if err := vfs.CheckName(e.Name); err != nil {
		return err
	}
	isDir, isFile := e.Kind == vfs.KindDir, e.Kind == vfs.KindFile
	switch {
	case e.ID == RootID:
		return errRule("the root has no entry")
	case e.Kind < vfs.KindFile || e.Kind > vfs.KindBlock:
		return errRule("unknown kind")
	case e.Mode&^vfs.ModeMask != 0:
		return errRule("mode out of range")
	case e.Size < 0 || e.Bytes < 0 || e.Bytes > e.Size:
		return errRule("size out of range")
	case isDir && !e.Node.IsZero() && e.Node.Kind != chunk.Dir,
		isFile && !e.Node.IsZero() && e.Node.Kind != chunk.File && e.Node.Kind != chunk.Data,
		!isDir && !isFile && !e.Node.IsZero():
		return errRule("node is of the wrong kind")
	case e.Node.Kind == chunk.Data && int64(e.Node.Size) > e.Size:
		return errRule("chunk is longer than its file")
	case (e.Kind == vfs.KindLink) != (e.Target != "") || len(e.Target) > vfs.MaxTarget || strings.IndexByte(e.Target, 0) >= 0:
		return errRule("target of a link is missing, too long, or none of a link")
	case isDir && e.Link != (NodeID{}):
		return errRule("hard link of a directory")
	}
	total := 0
	for i, x := range e.Xattr {
		if x.Name == "" || len(x.Name) > vfs.MaxXattrName || len(x.Value) > vfs.MaxXattrValue ||
			strings.IndexByte(x.Name, 0) >= 0 || i > 0 && e.Xattr[i-1].Name >= x.Name {
			return errRule("extended attributes out of range or order")
		}
		total += len(x.Name) + len(x.Value)
	}
	if total > vfs.MaxXattrTotal {
		return errRule("extended attributes are too long")
	}
	return nil
}

func checkCausality(e, of *Entry) error {
	isDir := e.Kind == vfs.KindDir
	whole := func(d causal.Dot) bool { return d.Device != 0 && d.Counter != 0 }
	stamped := func(s causal.Stamp) bool { return s.Device != 0 && s.Lamport != 0 }
	switch {
	case e.ID == RecoveredID:
		if !isDir || !e.Dot.IsZero() || e.Place != (causal.Stamp{}) || e.Attr != e.Place || e.Stored != nil || len(e.Hidden) > 0 {
			return errRule("the directory of recovered entries has a record")
		}
	case !whole(e.Dot) || !stamped(e.Place) || !stamped(e.Attr):
		return errRule("dot or stamp is missing")
	}
	switch {
	case isDir && (!e.Edit.IsZero() || e.Conflict):
		return errRule("edit of a directory")
	case !isDir && (e.From != NodeID{} || e.Held || e.Below != 0):
		return errRule("field of a directory")
	case !e.Edit.IsZero() && !whole(e.Edit) || e.Edit.IsZero() && (e.Kind == vfs.KindFile || len(e.Past) > 0):
		return errRule("edit is missing or broken")
	case len(e.Past) > MaxPast || !all(e.Past, whole):
		return errRule("past edits out of range")
	case len(e.Hidden) > MaxHidden:
		return errRule("too many hidden records")
	}
	if e.Stored != nil {
		if err := vfs.CheckName(e.Stored.Name); err != nil {
			return err
		}
	}
	if of != nil && (e.Stored == nil || e.Name != e.Stored.Name || e.ID != of.ID || e.Kind != of.Kind ||
		len(e.Hidden) > 0 || e.Conflict || e.Held || e.Below != 0 || isDir && !e.Node.IsZero()) {
		return errRule("hidden record is no plain record")
	}
	for i := range e.Hidden {
		if i > 0 && e.Hidden[i-1].Dot.Compare(e.Hidden[i].Dot) >= 0 {
			return errRule("hidden records out of order")
		}
		if err := check(&e.Hidden[i], e); err != nil {
			return err
		}
	}
	return nil
}

func all[T any](s []T, ok func(T) bool) bool {
	return !slices.ContainsFunc(s, func(v T) bool { return !ok(v) })
}

// errRule is a broken rule of the format; check wraps it.
type errRule string

func (e errRule) Error() string { return string(e) }
