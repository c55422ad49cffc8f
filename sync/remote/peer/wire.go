package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/cbor"
)

// ErrProtocol says that the far side sent what no peer sends.
var ErrProtocol = errors.New("the peer does not keep to the protocol")

// frameKind is the first byte of a frame.
type frameKind uint8

const (
	frameCall   frameKind = 1 // opens each stream: what is asked for
	frameAnswer frameKind = 2 // what a call comes to, or a part of a listing
	frameData   frameKind = 3 // bytes of a blob
	frameEnd    frameKind = 4 // nothing follows, and nothing is missing
	frameFail   frameKind = 5 // the call came to nothing
)

// The limits of frames.
const (
	frameHead = 5         // kind, and the length of the rest in 32 bits, big endian
	maxData   = 256 << 10 // bytes of data in a frame
	maxHeader = 64 << 10  // bytes of any other frame
)

// The limits of calls.
const (
	maxBlob   = 64 << 20 // bytes of a blob
	maxNames  = 256      // of one remove or offer
	maxListed = 512      // blobs in one answer
	maxText   = 512      // bytes of what a failure says
)

// operation is what a call asks for.
type operation uint8

const (
	opHello  operation = 1 // who asks, and what there is
	opGet    operation = 2 // a range of a blob
	opTree   operation = 3 // the hashes by which a pack is verified
	opList   operation = 4 // blobs by prefix
	opPut    operation = 5 // a blob
	opRemove operation = 6 // blobs
	opNudge  operation = 7 // there is news at the side that calls
	opOffer  operation = 8 // packs that could be put
)

// A call is the first frame of a stream.
type call struct {
	op     operation
	name   blob.Name   // of get, tree, put; the prefix of list
	off, n int64       // of get; n -1: to the end
	size   int64       // of put
	names  []blob.Name // of remove and offer
}

// appendFrame appends a frame.
func appendFrame(b []byte, kind frameKind, payload []byte) []byte {
	b = append(b, byte(kind))
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	return append(b, payload...)
}

// readFrame reads a frame into buf, if it is long enough, or a longer one. Memory is taken for what kinds of frames may have only.
func readFrame(r io.Reader, buf []byte) (frameKind, []byte, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	kind, n := frameKind(head[0]), binary.BigEndian.Uint32(head[1:])
	limit := uint32(maxHeader)
	switch kind {
	case frameData:
		limit = maxData
	case frameEnd:
		limit = 0
	case frameCall, frameAnswer, frameFail:
	default:
		return 0, nil, fmt.Errorf("%w: a frame of kind %d", ErrProtocol, kind)
	}
	if n > limit {
		return 0, nil, fmt.Errorf("%w: a frame of %d bytes", ErrProtocol, n)
	}
	if uint32(cap(buf)) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := io.ReadFull(r, buf); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return kind, buf, nil
}

func (c *call) encode() []byte {
	b := cbor.AppendMap(nil, 6)
	b = cbor.AppendUint(cbor.AppendUint(b, 1), uint64(c.op))
	b = cbor.AppendBytes(cbor.AppendUint(b, 2), []byte(c.name))
	b = cbor.AppendInt(cbor.AppendUint(b, 3), c.off)
	b = cbor.AppendInt(cbor.AppendUint(b, 4), c.n)
	b = cbor.AppendInt(cbor.AppendUint(b, 5), c.size)
	b = cbor.AppendArray(cbor.AppendUint(b, 6), len(c.names))
	for _, n := range c.names {
		b = cbor.AppendBytes(b, []byte(n))
	}
	return b
}

// decodeCall is the inverse of encode. Numbers and names are in their limits afterwards; whether a name is legal is not looked at. The error wraps ErrProtocol.
func decodeCall(b []byte) (c call, err error) {
	r := cbor.NewReader(b)
	last := int64(-1)
	if n := r.Map(); n != 6 {
		r.Fail("%d pairs", n)
	}
	want := func(k uint64) {
		if got := r.Key(&last); got != k {
			r.Fail("key %d", got)
		}
	}
	want(1)
	c.op = operation(r.UintMax(uint64(opOffer)))
	want(2)
	c.name = readName(r)
	want(3)
	c.off = r.Int()
	want(4)
	c.n = r.Int()
	want(5)
	c.size = r.Int()
	want(6)
	n := r.Array()
	if n > maxNames {
		r.Fail("%d names", n)
	}
	for i := 0; i < n && r.Err() == nil; i++ {
		c.names = append(c.names, readName(r))
	}
	if c.op == 0 || c.off < 0 || c.n < -1 || c.size < 0 {
		r.Fail("a number out of range")
	}
	if err := r.Close(); err != nil {
		return call{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return c, nil
}

func readName(r *cbor.Reader) blob.Name {
	return blob.Name(r.BytesMax(blob.MaxName))
}

// hello is what a side says of itself.
type hello struct {
	version uint64
	drive   [16]byte // which drive's device it is
	takes   bool     // whether blobs may be put there by who asks
	name    string   // of the device, for people
}

// protocolVersion grows when a side could no longer understand the other.
const protocolVersion = 2

func (h *hello) encode() []byte {
	b := cbor.AppendMap(nil, 4)
	b = cbor.AppendUint(cbor.AppendUint(b, 1), h.version)
	b = cbor.AppendBytes(cbor.AppendUint(b, 2), h.drive[:])
	b = cbor.AppendBool(cbor.AppendUint(b, 3), h.takes)
	return cbor.AppendText(cbor.AppendUint(b, 4), h.name)
}

func decodeHello(b []byte) (h hello, err error) {
	r := cbor.NewReader(b)
	last := int64(-1)
	if n := r.Map(); n != 4 {
		r.Fail("%d pairs", n)
	}
	for k := uint64(1); k <= 4; k++ {
		if got := r.Key(&last); got != k {
			r.Fail("key %d", got)
		}
		switch k {
		case 1:
			h.version = r.Uint()
		case 2:
			r.Fixed(h.drive[:])
		case 3:
			h.takes = r.Bool()
		case 4:
			h.name = r.Text()
		}
	}
	if len(h.name) > 255 {
		r.Fail("a name of %d bytes", len(h.name))
	}
	if err := r.Close(); err != nil {
		return hello{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return h, nil
}

func encodeInfos(all []blob.Info) []byte {
	b := cbor.AppendArray(nil, len(all))
	for _, i := range all {
		b = cbor.AppendArray(b, 3)
		b = cbor.AppendBytes(b, []byte(i.Name))
		b = cbor.AppendInt(b, i.Size)
		var at int64
		if !i.ModTime.IsZero() {
			at = i.ModTime.UnixNano()
		}
		b = cbor.AppendInt(b, at)
	}
	return b
}

// decodeInfos is the inverse. Names are legal, begin with prefix, and come after last, in order.
func decodeInfos(b []byte, prefix, last blob.Name) (all []blob.Info, err error) {
	r := cbor.NewReader(b)
	n := r.Array()
	if n > maxListed {
		r.Fail("%d blobs", n)
	}
	for i := 0; i < n && r.Err() == nil; i++ {
		r.ArrayOf(3)
		info := blob.Info{Name: readName(r), Size: r.Int()}
		if at := r.Int(); at != 0 {
			info.ModTime = time.Unix(0, at)
		}
		if r.Err() == nil && (info.Name.Check() != nil || info.Name <= last || info.Size < 0 || !strings.HasPrefix(string(info.Name), string(prefix))) {
			r.Fail("blob %q has no place here", string(info.Name))
		}
		last = info.Name
		all = append(all, info)
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return all, nil
}

// failures are the errors that keep their meaning on the way, by their numbers.
var failures = []error{
	1: fs.ErrNotExist, 2: blob.ErrName, 3: blob.ErrNoSpace, 4: blob.ErrSize, 5: blob.ErrTemporary, 6: blob.ErrUnauthorized, 7: blob.ErrMangled,
	8: errors.ErrUnsupported, 9: ErrProtocol, 10: ErrWrongBytes,
}

// encodeFail says an error to the far side. What it says of this machine besides stays here.
func encodeFail(err error) []byte {
	code, text := uint64(0), "the peer could not do it"
	for i, e := range failures {
		if e != nil && errors.Is(err, e) {
			code, text = uint64(i), e.Error()
			break
		}
	}
	b := cbor.AppendMap(nil, 3)
	b = cbor.AppendUint(cbor.AppendUint(b, 1), code)
	b = cbor.AppendText(cbor.AppendUint(b, 2), text)
	return cbor.AppendUint(cbor.AppendUint(b, 3), uint64(blob.After(err).Milliseconds()))
}

// decodeFail returns the error that the far side had. What has no number is for now: the peer may have no disk.
func decodeFail(b []byte) error {
	r := cbor.NewReader(b)
	last := int64(-1)
	if n := r.Map(); n != 3 {
		r.Fail("%d pairs", n)
	}
	_ = r.Key(&last)
	code := r.Uint()
	_ = r.Key(&last)
	text := r.Text()
	_ = r.Key(&last)
	wait := r.UintMax(uint64(time.Hour.Milliseconds()))
	if len(text) > maxText {
		r.Fail("a text of %d bytes", len(text))
	}
	if err := r.Close(); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	err := fmt.Errorf("the peer says: %w", blob.ErrTemporary)
	if code > 0 && code < uint64(len(failures)) {
		err = fmt.Errorf("the peer says: %w", failures[code])
	}
	if wait > 0 {
		return blob.Later(err, time.Duration(wait)*time.Millisecond)
	}
	return err
}
