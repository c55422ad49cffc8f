package seal

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
)

// readdress returns ref with the ID of sealed: what a stranger gains who can
// make a reader ask for the hash of the stranger's bytes. Only the commitment and the
// AEADs are left to refuse.
func readdress(ref chunk.Ref, sealed []byte) chunk.Ref {
	ref.ID = blake3.Sum256(sealed)
	return ref
}

// mustRefuse holds that sealed opens neither by ref nor by ref with its own hash.
func mustRefuse(t *testing.T, o *Opener, what string, ref chunk.Ref, sealed []byte) {
	t.Helper()
	for _, r := range []chunk.Ref{ref, readdress(ref, sealed)} {
		got, err := o.Open(nil, r, sealed)
		if !errors.Is(err, ErrTampered) || got != nil {
			t.Fatalf("%s: got %d bytes and %v, want ErrTampered", what, len(got), err)
		}
		if err != nil && err.Error() != ErrTampered.Error() {
			t.Fatalf("%s: the error tells more: %v", what, err)
		}
	}
}

func TestOpen_FindsEveryFlippedBit(t *testing.T) {
	r := random(t)
	o := NewOpener()
	for _, suite := range suites {
		for _, plain := range [][]byte{nil, noise(r, 1), noise(r, 60), prose(r, 500)} {
			sealed, ref, _ := mustSeal(t, newSealer(t, suite, Default), chunk.Data, plain)
			for i := range 8 * len(sealed) {
				sealed[i/8] ^= 1 << (i % 8)
				mustRefuse(t, o, "flipped bit", ref, sealed)
				sealed[i/8] ^= 1 << (i % 8)
			}
			// And every bit of the ref.
			b := ref.Append(nil)
			for i := range 8 * len(b) {
				b[i/8] ^= 1 << (i % 8)
				if other, err := chunk.ParseRef(b); err == nil {
					if _, err := o.Open(nil, other, sealed); !errors.Is(err, ErrTampered) {
						t.Fatalf("bit %d of the ref: got %v, want ErrTampered", i, err)
					}
				}
				b[i/8] ^= 1 << (i % 8)
			}
			for n := range sealed {
				mustRefuse(t, o, "truncated", ref, sealed[:n])
			}
			mustRefuse(t, o, "extended", ref, append(bytes.Clone(sealed), 0))
		}
	}
}

func TestHeaderAndOpenSegment_FindEveryFlippedBit(t *testing.T) {
	r := random(t)
	o := NewOpener()
	plain := prose(r, SegmentSize+300)
	sealed, ref, _ := mustSeal(t, newSealer(t, AESGCM, Default), chunk.Data, plain)
	size := HeaderSize(ref.Size)
	for i := range 8 * size {
		sealed[i/8] ^= 1 << (i % 8)
		if _, err := o.Header(ref, sealed[:size]); !errors.Is(err, ErrTampered) {
			t.Fatalf("bit %d of the header: got %v, want ErrTampered", i, err)
		}
		sealed[i/8] ^= 1 << (i % 8)
	}
	l, err := o.Header(ref, sealed[:size])
	if err != nil {
		t.Fatal(err)
	}
	off, n, _ := l.Segment(1)
	stored := sealed[off : off+n]
	for i := range 8 * len(stored) {
		stored[i/8] ^= 1 << (i % 8)
		if _, err := o.OpenSegment(nil, l, 1, stored); !errors.Is(err, ErrTampered) {
			t.Fatalf("bit %d of the segment: got %v, want ErrTampered", i, err)
		}
		stored[i/8] ^= 1 << (i % 8)
	}
	for _, i := range []int{-1, 0, 2, 1 << 30} {
		if _, err := o.OpenSegment(nil, l, i, stored); !errors.Is(err, ErrTampered) {
			t.Errorf("segment %d with the bytes of segment 1: got %v, want ErrTampered", i, err)
		}
	}
}

// T-A7: segments dropped, doubled, swapped, and the chunk cut at each boundary.
func TestOpen_RefusesRearrangedSegments(t *testing.T) {
	r := random(t)
	o := NewOpener()
	for _, suite := range suites {
		s := newSealer(t, suite, Raw)
		plain := noise(r, 3*SegmentSize)
		sealed, ref, _ := mustSeal(t, s, chunk.Data, plain)
		l, err := o.Header(ref, sealed)
		if err != nil {
			t.Fatal(err)
		}
		head := sealed[:HeaderSize(ref.Size)]
		var parts [][]byte
		for i := range l.Segments() {
			off, n, _ := l.Segment(i)
			parts = append(parts, sealed[off:off+n])
		}
		join := func(order ...int) []byte {
			b := bytes.Clone(head)
			for _, i := range order {
				b = append(b, parts[i]...)
			}
			return b
		}
		if _, err := o.Open(nil, ref, join(0, 1, 2)); err != nil {
			t.Fatalf("control: %v", err)
		}
		// All ways to lay up to four of the three segments one after the other.
		var lay func(order []int)
		lay = func(order []int) {
			if !slices.Equal(order, []int{0, 1, 2}) {
				b := join(order...)
				if _, err := o.Open(nil, readdress(ref, b), b); !errors.Is(err, ErrTampered) {
					t.Fatalf("segments %v: got %v, want ErrTampered", order, err)
				}
			}
			if len(order) == 4 {
				return
			}
			for i := range parts {
				lay(append(slices.Clone(order), i))
			}
		}
		lay(nil)
		// A shorter ref that ends on a boundary: length and final mark are bound.
		for n := range 3 {
			short := readdress(ref, sealed)
			short.Size = uint32(n * SegmentSize)
			mustRefuse(t, o, "shorter ref", short, join([]int{0, 1, 2}[:n]...))
		}
		// The parts of one chunk do not go into another of equal shape.
		other, otherRef, _ := mustSeal(t, s, chunk.Data, noise(r, 3*SegmentSize))
		at := HeaderSize(ref.Size)
		mustRefuse(t, o, "body of another", otherRef, append(bytes.Clone(other[:at]), sealed[at:]...))
		mustRefuse(t, o, "head of another", ref, append(bytes.Clone(other[:at]), sealed[at:]...))
	}
}

// T-A17: bytes of one kind are never taken for another, though they are equal.
func TestOpen_RefusesAnotherKind(t *testing.T) {
	r := random(t)
	o := NewOpener()
	s := newSealer(t, AESGCM, Default)
	body := prose(r, 3000) // stands for a valid directory, that someone stored as a file
	type made struct {
		sealed []byte
		ref    chunk.Ref
		cid    CID
	}
	all := map[chunk.Kind]made{}
	for k := chunk.Data; k.Valid(); k++ {
		sealed, ref, _ := mustSeal(t, s, k, body)
		all[k] = made{sealed, ref, s.CID(k, body)}
	}
	for k, a := range all {
		for other := range 256 {
			ref := a.ref
			ref.Kind = chunk.Kind(other)
			if ref.Kind == k {
				continue
			}
			mustRefuse(t, o, "kind of another", ref, a.sealed)
			if _, err := o.Header(ref, a.sealed); !errors.Is(err, ErrTampered) {
				t.Fatalf("header of %s read as %s: got %v, want ErrTampered", k, ref.Kind, err)
			}
		}
		for other, b := range all {
			if other != k && (a.ref.Key == b.ref.Key || a.ref.ID == b.ref.ID || a.cid == b.cid) {
				t.Errorf("%s and %s share key, ID or CID", k, other)
			}
		}
	}
	// The plain bytes of a file may be a whole sealed directory; that opens nothing.
	dir := all[chunk.Dir]
	sealed, ref, _ := mustSeal(t, s, chunk.Data, dir.sealed)
	ref.Key, ref.Kind, ref.Size = dir.ref.Key, dir.ref.Kind, dir.ref.Size
	mustRefuse(t, o, "chunk in a chunk", ref, sealed)
}

// T-NONCE: one plain chunk at five levels gives five frames and five keys.
func TestSeal_NoKeyIsSharedByTwoEncodings(t *testing.T) {
	plain := prose(random(t), 2*SegmentSize)
	keys, frames := map[[32]byte]Level{}, map[string]Level{}
	var cids []CID
	for _, level := range levels {
		s := newSealer(t, AESGCM, level)
		_, _, _ = mustSeal(t, s, chunk.Data, plain)
		ek := [32]byte(s.opener.keys[:32])
		if other, double := keys[ek]; double {
			t.Errorf("levels %s and %s share a key", level, other)
		}
		if other, double := frames[string(s.frame)]; double {
			t.Fatalf("levels %s and %s give one frame: the test needs other bytes", level, other)
		}
		keys[ek], frames[string(s.frame)] = level, level
		cids = append(cids, s.CID(chunk.Data, plain))
	}
	if len(slices.Compact(cids)) != 1 {
		t.Error("the dedup ID depends on the level")
	}
}

// T-A18: four devices of one drive, one of them a clone of another, at several
// levels, over contents that repeat: no key and nonce meets two frames.
func TestSeal_NoKeyAndNonceMeetTwoFrames(t *testing.T) {
	n := 100_000
	if testing.Short() || raceEnabled {
		n = 10_000
	}
	r := random(t)
	var devices []*Sealer
	for _, level := range []Level{Default, Default, Raw, Fastest} {
		devices = append(devices, newSealer(t, AESGCM, level))
	}
	base := prose(r, 4096)
	type pair [32 + nonceSize]byte
	frames := make(map[pair][32]byte, n)
	var dst []byte
	repeats := 0
	for range n {
		s := devices[r.IntN(len(devices))]
		plain := base[:r.IntN(400)]
		at := r.IntN(len(base))
		base[at] = byte('a' + r.IntN(2)) // contents of now and then come again
		var err error
		if dst, _, _, err = s.Seal(dst[:0], chunk.Kind(1+r.IntN(5)), plain); err != nil {
			t.Fatal(err)
		}
		p, frame := pair(s.opener.keys[:32+nonceSize]), blake3.Sum256(s.frame)
		old, met := frames[p]
		if met && old != frame {
			t.Fatal("one key and nonce for two frames")
		}
		if met {
			repeats++
		}
		frames[p] = frame
	}
	t.Logf("%d frames, %d of them seen before", n, repeats)
	if repeats == 0 {
		t.Error("no frame came twice: the test tests nothing")
	}
}

// forge seals any head and segments under ref's key, as one could who has it.
func forge(t testing.TB, ref chunk.Ref, suite Suite, head []byte, segments ...[]byte) ([]byte, chunk.Ref) {
	t.Helper()
	o := NewOpener()
	b, mask, err := o.box(&ref, func(byte) Suite { return suite })
	if err != nil {
		t.Fatal(err)
	}
	out := append(bytes.Clone(b.com()), byte(suite)^mask)
	out = o.scratch.seal(out, b, 0, len(segments) == 0, head)
	for i, s := range segments {
		out = o.scratch.seal(out, b, i+1, i == len(segments)-1, s)
	}
	return out, readdress(ref, out)
}

func head(v byte, kind chunk.Kind, codec byte, plain uint32, table ...int) []byte {
	h := make([]byte, frameHead(len(table)))
	putFixedHead(h, kind, codec, plain)
	h[0] = v
	for i, n := range table {
		putUint24(h[fixedHead+3*i:], n)
	}
	return h
}

// Whoever has a chunk's key can seal what a Sealer never would. A reader takes
// none of it, and never more memory than the ref declares.
func TestOpen_RefusesForgedFrames(t *testing.T) {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	pack := func(n int) []byte { return enc.EncodeAll(make([]byte, n), nil) }
	skippable := append([]byte{0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0}, 1, 2, 3, 4)
	ref := chunk.Ref{Key: chunk.Key{1, 2, 3}, Size: 1000, Kind: chunk.Dir}
	kb := make([]byte, 1000)
	o := NewOpener()
	for _, c := range []struct {
		what  string
		sound bool
		head  []byte
		body  []byte
	}{
		{"control, raw", true, head(1, chunk.Dir, codecRaw, 1000, 1000), kb},
		{"control, zstd", true, head(1, chunk.Dir, codecZstd, 1000, len(pack(1000))), pack(1000)},
		{"control, raw under zstd", true, head(1, chunk.Dir, codecZstd, 1000, 1000), kb},
		{"version 0", false, head(0, chunk.Dir, codecRaw, 1000, 1000), kb},
		{"version 2", false, head(2, chunk.Dir, codecRaw, 1000, 1000), kb},
		{"codec 2", false, head(1, chunk.Dir, 2, 1000, 1000), kb},
		{"another kind", false, head(1, chunk.Data, codecRaw, 1000, 1000), kb},
		{"another length", false, head(1, chunk.Dir, codecRaw, 999, 1000), kb},
		{"raw and shorter", false, head(1, chunk.Dir, codecRaw, 1000, 999), kb[:999]},
		{"raw and longer", false, head(1, chunk.Dir, codecRaw, 1000, 1001), append(kb, 0)},
		{"an empty segment", false, head(1, chunk.Dir, codecZstd, 1000, 0), nil},
		{"table beyond the chunk", false, head(1, chunk.Dir, codecZstd, 1000, 1<<24-1), kb},
		{"table and segment disagree", false, head(1, chunk.Dir, codecZstd, 1000, 10), pack(1000)},
		{"a bomb of 100 MB", false, head(1, chunk.Dir, codecZstd, 1000, len(pack(100e6))), pack(100e6)},
		{"one byte more", false, head(1, chunk.Dir, codecZstd, 1000, len(pack(1001))), pack(1001)},
		{"one byte less", false, head(1, chunk.Dir, codecZstd, 1000, len(pack(999))), pack(999)},
		{"no frame", false, head(1, chunk.Dir, codecZstd, 1000, 4), []byte("abcd")},
		{"frame of nothing", false, head(1, chunk.Dir, codecZstd, 1000, len(skippable)), skippable},
	} {
		sealed, ref := forge(t, ref, AESGCM, c.head, c.body)
		got, err := o.Open(nil, ref, sealed)
		if c.sound && (err != nil || !bytes.Equal(got, kb)) || !c.sound && !errors.Is(err, ErrTampered) {
			t.Errorf("%s: got %d bytes, %v", c.what, len(got), err)
		}
	}
	// A chunk of nothing has no segment; one that has is refused.
	none := chunk.Ref{Key: chunk.Key{9}, Kind: chunk.Data}
	sealed, none := forge(t, none, ChaCha, head(1, chunk.Data, codecRaw, 0))
	if got, err := o.Open(nil, none, sealed); err != nil || len(got) != 0 {
		t.Errorf("empty chunk: %d bytes, %v", len(got), err)
	}
	if _, err := o.Open(nil, chunk.Ref{}, nil); !errors.Is(err, ErrTampered) {
		t.Errorf("zero ref: got %v, want ErrTampered", err)
	}
	// Suites that are none.
	sealed, ref = forge(t, ref, AESGCM, head(1, chunk.Dir, codecRaw, 1000, 1000), kb)
	for x := 1; x < 256; x++ {
		b := bytes.Clone(sealed)
		b[comSize] ^= byte(x)
		mustRefuse(t, o, "another suite", ref, b)
	}
}

func TestHeader_ReadsAnySegmentAlone(t *testing.T) {
	r := random(t)
	o := NewOpener()
	for _, level := range []Level{Raw, Default} {
		for _, n := range sizes {
			plain := prose(r, n)
			sealed, ref, _ := mustSeal(t, newSealer(t, ChaCha, level), chunk.File, plain)
			l, err := o.Header(ref, sealed[:HeaderSize(ref.Size)])
			if err != nil {
				t.Fatal(err)
			}
			if l.Len() != int64(len(sealed)) {
				t.Errorf("Len: got %d, want %d", l.Len(), len(sealed))
			}
			at := n
			for i := l.Segments() - 1; i >= 0; i-- { // backwards: no order is needed
				off, stored, size := l.Segment(i)
				at -= size
				got, err := o.OpenSegment([]byte("x"), l, i, sealed[off:off+stored])
				if err != nil || !bytes.Equal(got[1:], plain[at:at+size]) {
					t.Fatalf("segment %d of %d bytes: %v", i, n, err)
				}
			}
			if at != 0 {
				t.Errorf("segments hold %d bytes less than the chunk", at)
			}
			for short := range HeaderSize(ref.Size) {
				if short%97 == 0 || short > HeaderSize(ref.Size)-20 {
					if _, err := o.Header(ref, sealed[:short]); !errors.Is(err, ErrTampered) {
						t.Fatalf("%d bytes of a header: got %v, want ErrTampered", short, err)
					}
				}
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	s := newSealer(f, AESGCM, Default)
	for _, plain := range [][]byte{nil, []byte("x"), prose(r, 3000)} {
		sealed, ref, _ := mustSeal(f, s, chunk.Data, plain)
		f.Add(ref.Key[:], uint32(len(plain)), byte(1), sealed, bytes.Clone(s.frame))
	}
	o := NewOpener()
	f.Fuzz(func(t *testing.T, key []byte, size uint32, kind byte, sealed, frame []byte) {
		var ref chunk.Ref
		copy(ref.Key[:], key)
		ref.Size, ref.Kind = size, chunk.Kind(kind)
		// Any bytes under their own address. Nobody finds a commitment by chance
		// but in the seeds, which are sound.
		check(t, o, readdress(ref, sealed), sealed)
		// Any frame, sealed by one who has the key.
		ref.Size %= 3*SegmentSize + 2
		n := segments(ref.Size)
		if len(frame) < frameHead(n) {
			return
		}
		h, body := frame[:frameHead(n)], frame[frameHead(n):]
		var parts [][]byte
		for i := range n {
			k := min(uint24(h[fixedHead+3*i:]), len(body))
			parts, body = append(parts, body[:k]), body[k:]
		}
		forged, ref := forge(t, ref, ChaCha, h, parts...)
		check(t, o, ref, forged)
	})
}

// check opens a chunk in both ways, which must agree.
func check(t *testing.T, o *Opener, ref chunk.Ref, sealed []byte) {
	t.Helper()
	got, err := o.Open(nil, ref, sealed)
	if err != nil && !errors.Is(err, ErrTampered) || err == nil && len(got) != int(ref.Size) || err != nil && got != nil {
		t.Fatalf("got %d bytes of %d, %v", len(got), ref.Size, err)
	}
	l, headErr := o.Header(ref, sealed)
	if headErr != nil {
		if err == nil || !errors.Is(headErr, ErrTampered) {
			t.Fatalf("Open: %v, Header: %v", err, headErr)
		}
		return
	}
	var parts []byte
	for i := range l.Segments() {
		off, n, _ := l.Segment(i)
		if off+n > int64(len(sealed)) {
			if err == nil {
				t.Fatal("Open read a chunk whose segment lies outside")
			}
			return
		}
		var segErr error
		if parts, segErr = o.OpenSegment(parts, l, i, sealed[off:off+n]); segErr != nil {
			if err == nil || !errors.Is(segErr, ErrTampered) {
				t.Fatalf("Open: %v, segment %d: %v", err, i, segErr)
			}
			return
		}
	}
	if err == nil && !bytes.Equal(parts, got) {
		t.Fatal("segments and whole differ")
	}
}

func FuzzHeader(f *testing.F) {
	s := newSealer(f, AESGCM, Default)
	sealed, ref, _ := mustSeal(f, s, chunk.Data, []byte("some bytes"))
	f.Add(ref.Append(nil), sealed)
	f.Add(make([]byte, chunk.RefSize), []byte{})
	o := NewOpener()
	f.Fuzz(func(t *testing.T, b, prefix []byte) {
		ref, err := chunk.ParseRef(b)
		if err != nil {
			return
		}
		l, err := o.Header(ref, prefix)
		if err != nil {
			if !errors.Is(err, ErrTampered) {
				t.Errorf("got %v", err)
			}
			return
		}
		if l.Segments() > maxTable || l.Len() > int64(MaxSealed(ref.Size)) || l.Len() < int64(MinSealed(ref.Size)) {
			t.Errorf("a layout of %d segments, %d bytes for %d", l.Segments(), l.Len(), ref.Size)
		}
	})
}
