// Package cbor writes and reads the one canonical form of CBOR (RFC 8949) in
// which every record of a drive is encoded: shortest integers, definite
// lengths, text in valid UTF-8, map keys unsigned integers in ascending order,
// no floats, no tags. It is not a general CBOR library.
//
// One value has one encoding, so a hash or a signature over the bytes is one
// over the value, and a Reader accepts nothing that a Writer would not have
// written. The Reader is for bytes that a stranger may choose: it checks every
// declared length against what is left before anything is allocated.
package cbor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// ErrMalformed is wrapped by every error of a Reader.
var ErrMalformed = errors.New("malformed record")

// The major types of RFC 8949, section 3.1, shifted into place.
const (
	majorUint  = 0 << 5
	majorInt   = 1 << 5
	majorBytes = 2 << 5
	majorText  = 3 << 5
	majorArray = 4 << 5
	majorMap   = 5 << 5

	simpleFalse = 0xf4
	simpleTrue  = 0xf5
)

func appendHead(b []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n <= 0xff:
		return append(b, major|24, byte(n))
	case n <= 0xffff:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n <= 0xffffffff:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}

// AppendUint appends an unsigned integer.
func AppendUint(b []byte, n uint64) []byte { return appendHead(b, majorUint, n) }

// AppendInt appends a signed integer.
func AppendInt(b []byte, n int64) []byte {
	if n < 0 {
		return appendHead(b, majorInt, uint64(-1-n))
	}
	return appendHead(b, majorUint, uint64(n))
}

// AppendBytes appends a byte string.
func AppendBytes(b, p []byte) []byte { return append(appendHead(b, majorBytes, uint64(len(p))), p...) }

// AppendText appends a text string, which must be valid UTF-8. Names of files
// are bytes, not text: use AppendBytes.
func AppendText(b []byte, s string) []byte {
	return append(appendHead(b, majorText, uint64(len(s))), s...)
}

// AppendArray begins an array of n values, which the caller appends.
func AppendArray(b []byte, n int) []byte { return appendHead(b, majorArray, uint64(n)) }

// AppendMap begins a map of n pairs, which the caller appends: keys by
// AppendUint, in ascending order, each followed by its value.
func AppendMap(b []byte, n int) []byte { return appendHead(b, majorMap, uint64(n)) }

// AppendBool appends true or false.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, simpleTrue)
	}
	return append(b, simpleFalse)
}

// A Reader takes one value after the other off the front of a slice. The first
// error sticks: later calls return zero values, and Err or Close reports it. So a
// caller may read a whole record and check once, but must check before it uses
// a count to allocate; Array and Map return a count only if that many values can
// still follow. The slices it returns share memory with the input.
type Reader struct {
	b   []byte
	err error
}

// NewReader returns a Reader of b.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Err returns the first error.
func (r *Reader) Err() error { return r.err }

// Close returns the first error, or one if bytes are left over.
func (r *Reader) Close() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes left over", len(r.b))
	}
	return r.err
}

// Len returns how many bytes are left, 0 after an error.
func (r *Reader) Len() int { return len(r.b) }

// Fail makes the Reader fail with a reason, for rules of the record itself
// (a field out of range). Only the first failure is kept.
func (r *Reader) Fail(format string, args ...any) { r.fail(format, args...) }

func (r *Reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
	}
	r.b = nil
}

func (r *Reader) head(want byte) uint64 {
	major, n := r.anyHead()
	if r.err == nil && major != want {
		r.fail("type %d where %d was due", major>>5, want>>5)
	}
	if r.err != nil {
		return 0
	}
	return n
}

func (r *Reader) anyHead() (major byte, n uint64) {
	if r.err != nil {
		return 0, 0
	}
	if len(r.b) == 0 {
		r.fail("ends too early")
		return 0, 0
	}
	first := r.b[0]
	major, n = first&0xe0, uint64(first&0x1f)
	size := 0
	switch {
	case n < 24:
		r.b = r.b[1:]
		return major, n
	case n <= 27:
		size = 1 << (n - 24)
	default:
		r.fail("length of an unknown form")
		return 0, 0
	}
	if len(r.b) < 1+size {
		r.fail("ends too early")
		return 0, 0
	}
	n = 0
	for _, c := range r.b[1 : 1+size] {
		n = n<<8 | uint64(c)
	}
	least := [...]uint64{1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}[size]
	if n < least {
		r.fail("integer not in its shortest form")
		return 0, 0
	}
	r.b = r.b[1+size:]
	return major, n
}

// Uint reads an unsigned integer.
func (r *Reader) Uint() uint64 { return r.head(majorUint) }

// UintMax reads an unsigned integer of at most limit.
func (r *Reader) UintMax(limit uint64) uint64 {
	n := r.head(majorUint)
	if n > limit {
		r.fail("%d where at most %d was due", n, limit)
		return 0
	}
	return n
}

// Int reads a signed integer.
func (r *Reader) Int() int64 {
	major, n := r.anyHead()
	switch {
	case r.err != nil:
		return 0
	case n > 1<<63-1:
		r.fail("integer out of range")
	case major == majorUint:
		return int64(n)
	case major == majorInt:
		return -1 - int64(n)
	default:
		r.fail("type %d where an integer was due", major>>5)
	}
	return 0
}

func (r *Reader) take(n uint64) []byte {
	if r.err != nil {
		return nil
	}
	if n > uint64(len(r.b)) {
		r.fail("ends too early")
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

// Bytes reads a byte string. It shares memory with the input.
func (r *Reader) Bytes() []byte { return r.take(r.head(majorBytes)) }

// BytesMax reads a byte string of at most limit bytes.
func (r *Reader) BytesMax(limit int) []byte {
	n := r.head(majorBytes)
	if n > uint64(limit) {
		r.fail("%d bytes where at most %d were due", n, limit)
	}
	return r.take(n)
}

// Fixed reads a byte string of exactly len(dst) bytes into dst.
func (r *Reader) Fixed(dst []byte) {
	n := r.head(majorBytes)
	if r.err == nil && n != uint64(len(dst)) {
		r.fail("%d bytes where %d were due", n, len(dst))
	}
	copy(dst, r.take(n))
}

// Text reads a text string, which must be valid UTF-8.
func (r *Reader) Text() string {
	p := r.take(r.head(majorText))
	if !utf8.Valid(p) {
		r.fail("text is not UTF-8")
		return ""
	}
	return string(p)
}

// Array reads the beginning of an array and returns how many values follow,
// which is never more than there are bytes left.
func (r *Reader) Array() int { return r.count(majorArray, 1) }

// ArrayOf reads the beginning of an array that must have n values.
func (r *Reader) ArrayOf(n int) {
	if got := r.Array(); r.err == nil && got != n {
		r.fail("array of %d where %d were due", got, n)
	}
}

// Map reads the beginning of a map and returns how many pairs follow, which is
// never more than half the bytes left. Read each key by Key.
func (r *Reader) Map() int { return r.count(majorMap, 2) }

func (r *Reader) count(major byte, least int) int {
	n := r.head(major)
	if n > uint64(len(r.b)/least) {
		r.fail("count of %d in %d bytes", n, len(r.b))
		return 0
	}
	return int(n)
}

// Key reads the next key of a map, which must be greater than the last one;
// pass a *last of -1 for the first. On an error it returns the largest uint64, which
// no record uses as a key.
func (r *Reader) Key(last *int64) uint64 {
	n := r.head(majorUint)
	if r.err == nil && (n > 1<<62 || int64(n) <= *last) {
		r.fail("map keys out of order")
	}
	if r.err != nil {
		return 1<<64 - 1
	}
	*last = int64(n)
	return n
}

// Bool reads true or false.
func (r *Reader) Bool() bool {
	p := r.take(1)
	if r.err != nil {
		return false
	}
	if p[0] != simpleTrue && p[0] != simpleFalse {
		r.fail("neither true nor false")
		return false
	}
	return p[0] == simpleTrue
}
