package pack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"

	"github.com/zeebo/blake3"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
)

// small returns a pack of MinSize bytes.
func small(t testing.TB, r source) ([]byte, Name) {
	t.Helper()
	w := NewWriter(make([]byte, Size))
	fill(t, w, r, 10, 2500)
	file, name := finish(t, w, false, r)
	if len(file) != MinSize {
		t.Fatalf("a pack of %d bytes, want %d", len(file), MinSize)
	}
	return file, name
}

// Every 61st bit of a 32 KiB pack, chunks, padding and tail; every single one of the
// 262,144 if SHEAF_LONG is set. (What is read without the name is tried below, whole.)
func TestVerify_FindsEveryFlippedBit(t *testing.T) {
	r := random(t)
	file, name := small(t, r)
	step := 61
	if os.Getenv("SHEAF_LONG") != "" {
		step = 1
	}
	for i := 0; i < 8*len(file); i += step {
		file[i/8] ^= 1 << (i % 8)
		if err := Verify(&testKey, name, file, nil); !errors.Is(err, ErrTampered) {
			t.Fatalf("bit %d: got %v, want ErrTampered", i, err)
		}
		file[i/8] ^= 1 << (i % 8)
	}
}

// Without the name, as when only parts of a pack are read, all that ReadDirectory
// reads is authenticated: every bit of it, exhaustively.
func TestReadDirectory_FindsEveryFlippedBit(t *testing.T) {
	r := random(t)
	file, _ := small(t, r)
	n := len(readDir(t, file))
	dir := len(file) - footerSize - n*entrySize - sealSize
	flip := func(i int) {
		file[i/8] ^= 1 << (i % 8)
		if _, err := ReadDirectory(&testKey, int64(len(file)), bytes.NewReader(file)); !errors.Is(err, ErrTampered) {
			t.Fatalf("bit %d: got %v, want ErrTampered", i, err)
		}
		file[i/8] ^= 1 << (i % 8)
	}
	for i := 8 * dir; i < 8*len(file); i++ {
		flip(i)
	}
}

func readDir(t testing.TB, file []byte) []Entry {
	t.Helper()
	entries, err := ReadDirectory(&testKey, int64(len(file)), bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func TestReadDirectory_RefusesPartsOfOtherPacks(t *testing.T) {
	r := random(t)
	a, _ := small(t, r)
	b, _ := small(t, r)
	dirOff := func(f []byte) int { return len(f) - footerSize - len(readDir(t, f))*entrySize - sealSize }
	cut := dirOff(b)
	if dirOff(a) != cut {
		t.Fatal("the two packs have directories of two lengths")
	}
	mixed := append(bytes.Clone(a[:cut]), b[cut:len(b)-footerSize]...)
	mixed = append(mixed, a[len(a)-footerSize:]...)
	if _, err := ReadDirectory(&testKey, MinSize, bytes.NewReader(mixed)); !errors.Is(err, ErrTampered) {
		t.Errorf("directory of another pack: got %v, want ErrTampered", err)
	}
	other := testKey
	other[31] ^= 1
	if _, err := ReadDirectory(&other, MinSize, bytes.NewReader(a)); !errors.Is(err, ErrTampered) {
		t.Errorf("another key: got %v, want ErrTampered", err)
	}
	// A pack stretched to the next allowed size, with its tail moved along.
	longer := slices.Concat(a[:cut], make([]byte, padme(MinSize+1)-MinSize), a[cut:])
	if _, err := ReadDirectory(&testKey, int64(len(longer)), bytes.NewReader(longer)); !errors.Is(err, ErrTampered) {
		t.Errorf("stretched pack: got %v, want ErrTampered", err)
	}
	for _, size := range []int64{-1, 0, 1, 127, MinSize - 1, MinSize + 1, 2 * Size, 1 << 62} {
		if _, err := ReadDirectory(&testKey, size, bytes.NewReader(a)); !errors.Is(err, ErrTampered) {
			t.Errorf("size %d: got %v, want ErrTampered", size, err)
		}
	}
	if _, err := ReadDirectory(&testKey, MinSize, bytes.NewReader(a[:MinSize-1])); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("reader ends early: got %v, want io.ErrUnexpectedEOF", err)
	}
}

// forge returns a pack of MinSize bytes whose directory and footer are sealed under
// the right key but say what the caller wants.
func forge(dir []byte, count, end, dirOff, dirLen uint32, tail byte) []byte {
	file := make([]byte, MinSize)
	copy(file, magic)
	aead, err := chacha20poly1305.NewX(testKey[:])
	if err != nil {
		panic(err)
	}
	nonce := make([]byte, nonceSize)
	sealed := append(bytes.Clone(nonce), aead.Seal(nil, nonce, dir, aad(dirContext, MinSize))...)
	copy(file[MinSize-footerSize-len(sealed):], sealed)
	sum := blake3.Sum256(sealed)
	footer := make([]byte, footerSize-sealSize)
	for i, n := range []uint32{count, end, dirOff, dirLen} {
		binary.BigEndian.PutUint32(footer[4*i:], n)
	}
	copy(footer[16:], sum[:])
	footer[len(footer)-1] = tail
	copy(file[MinSize-footerSize:], append(nonce, aead.Seal(nil, nonce, footer, aad(footerContext, MinSize))...))
	return file
}

// Whoever has the key of a drive can still not make a reader go wrong.
func TestReadDirectory_RefusesForgedContents(t *testing.T) {
	r := random(t)
	e1, s1 := fake(r, 100)
	e2, s2 := fake(r, 200)
	e1.Len, e2.Len = uint32(len(s1)), uint32(len(s2))
	with := func(change func(a, b *Entry)) []byte {
		a, b := e1, e2
		change(&a, &b)
		return appendEntry(appendEntry(nil, &a), &b)
	}
	nothing := func(_, _ *Entry) {}
	end := uint32(len(magic)) + e1.Len + e2.Len
	const dirLen = 2*entrySize + sealSize
	const dirOff = MinSize - footerSize - dirLen
	check := func(what string, file []byte, sound bool) {
		t.Helper()
		_, err := ReadDirectory(&testKey, MinSize, bytes.NewReader(file))
		if sound && err != nil || !sound && !errors.Is(err, ErrTampered) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	check("control", forge(with(nothing), 2, end, dirOff, dirLen, 0), true)
	check("footer does not end in zeros", forge(with(nothing), 2, end, dirOff, dirLen, 1), false)
	check("chunks end earlier", forge(with(nothing), 2, end-1, dirOff, dirLen, 0), false)
	check("chunks end later", forge(with(nothing), 2, end+1, dirOff, dirLen, 0), false)
	check("chunks reach into the directory", forge(with(nothing), 2, dirOff+1, dirOff, dirLen, 0), false)
	for _, count := range []uint32{0, 1, 3, 1 << 20, 1<<32 - 1} {
		check(fmt.Sprintf("count %d", count), forge(with(nothing), count, end, dirOff, dirLen, 0), false)
		check(fmt.Sprintf("count %d with its length", count),
			forge(with(nothing), count, end, dirOff, count*entrySize+sealSize, 0), false)
	}
	for _, off := range []uint32{0, dirOff - 1, dirOff + 1, MinSize, 1<<32 - 1} {
		check(fmt.Sprintf("directory at %d", off), forge(with(nothing), 2, end, off, dirLen, 0), false)
	}
	check("one chunk twice", forge(with(func(a, b *Entry) { b.ID = a.ID }), 2, end, dirOff, dirLen, 0), false)
	check("no kind", forge(with(func(a, _ *Entry) { a.Kind = 0 }), 2, end, dirOff, dirLen, 0), false)
	check("unknown kind", forge(with(func(a, _ *Entry) { a.Kind = 6 }), 2, end, dirOff, dirLen, 0), false)
	check("too large a chunk", forge(with(func(a, _ *Entry) { a.Plain = chunk.MaxSize + 1 }), 2, end, dirOff, dirLen, 0), false)
	check("plain longer than it can be", forge(with(func(a, _ *Entry) { a.Plain = 1 << 20 }), 2, end, dirOff, dirLen, 0), false)
	check("length beyond the pack", forge(with(func(a, _ *Entry) { a.Len = 1<<32 - 1 }), 2, end, dirOff, dirLen, 0), false)
	check("no length", forge(with(func(a, _ *Entry) { a.Len = 0 }), 2, end-e1.Len, dirOff, dirLen, 0), false)
}

func TestVerify_FindsAChunkThatIsNotItsID(t *testing.T) {
	r := random(t)
	w := NewWriter(make([]byte, Size))
	e, sealed := fake(r, 100)
	e.ID[0] ^= 1
	if _, err := w.Add(e, sealed); err != nil {
		t.Fatal(err)
	}
	file, name := finish(t, w, false, r)
	if err := Verify(&testKey, name, file, nil); !errors.Is(err, ErrTampered) {
		t.Errorf("got %v, want ErrTampered", err)
	}
	stop := errors.New("stop")
	file, name = small(t, r)
	if err := Verify(&testKey, name, file, func(Entry, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want the error of each", err)
	}
}

func FuzzDirectory(f *testing.F) {
	r := seeded(1)
	e, sealed := fake(r, 100)
	e.Len = uint32(len(sealed))
	dir := appendEntry(nil, &e)
	end := uint32(len(magic) + len(sealed))
	f.Add(dir, uint32(1), end, uint32(MinSize-footerSize-entrySize-sealSize), uint32(entrySize+sealSize), byte(0))
	f.Add([]byte{}, uint32(0), uint32(8), uint32(0), uint32(sealSize), byte(0))
	f.Add(append(dir, dir...), uint32(2), end, uint32(100), uint32(1<<31), byte(1))
	f.Fuzz(func(t *testing.T, dir []byte, count, end, dirOff, dirLen uint32, tail byte) {
		if len(dir) > MinSize-footerSize-sealSize-len(magic) {
			t.Skip()
		}
		// Sealed under the right key, so that the parser behind the AEAD is reached.
		file := forge(dir, count, end, dirOff, dirLen, tail)
		entries, err := ReadDirectory(&testKey, MinSize, bytes.NewReader(file))
		if err == nil {
			// What is read is what a Writer would have written: it encodes equal.
			var again []byte
			for i := range entries {
				again = appendEntry(again, &entries[i])
			}
			if !bytes.Equal(again, dir) || int(count) != len(entries) {
				t.Error("what was read encodes to other bytes")
			}
		} else if !errors.Is(err, ErrTampered) {
			t.Errorf("got %v, want ErrTampered", err)
		}
		// The parser alone, without the footer's bounds.
		if entries, err := parseDirectory(dir, int64(end)); err == nil {
			at := uint32(len(magic))
			for _, e := range entries {
				if e.Off != at {
					t.Fatal("chunks are not back to back")
				}
				at += e.Len
			}
			if at != end {
				t.Fatal("chunks do not end where the footer says")
			}
		}
	})
}

func FuzzBlobName(f *testing.F) {
	f.Add(Name{1}.BlobName())
	f.Add("packs/00/")
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseBlobName(s); err == nil && n.BlobName() != s {
			t.Errorf("%q parses to %s", s, n.BlobName())
		}
	})
}

func BenchmarkFinish(b *testing.B) {
	r := seeded(1)
	buf := make([]byte, Size)
	chunks := make([][]byte, 28)
	entries := make([]Entry, len(chunks))
	for i := range chunks {
		entries[i], chunks[i] = fake(r, 1<<20)
	}
	b.SetBytes(Size)
	for b.Loop() {
		w := NewWriter(buf)
		for i := range chunks {
			if _, err := w.Add(entries[i], chunks[i]); err != nil {
				b.Fatal(err)
			}
		}
		if _, _, err := w.Finish(&testKey, Size, r); err != nil {
			b.Fatal(err)
		}
	}
}
