package pack

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
	"github.com/sheaf-drive/sheaf/chunkstore/seal"
)

// A source is a seeded generator that is a reader too.
type source struct {
	*rand.Rand
	c *rand.ChaCha8
}

func (s source) Read(p []byte) (int, error) { return s.c.Read(p) }

func seeded(seed uint64) source {
	c := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24), byte(seed >> 32), byte(seed >> 40), byte(seed >> 48), byte(seed >> 56)})
	return source{rand.New(c), c}
}

// random returns a generator from SHEAF_SEED, or from the clock, and says which.
func random(t testing.TB) source {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SHEAF_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("SHEAF_SEED: %v", err)
		}
	}
	t.Logf("SHEAF_SEED=%d", seed)
	return seeded(seed)
}

var testKey = kdf.Key(kdf.PackDir, []byte("a drive"))

// fake returns bytes that a pack cannot tell from a sealed chunk of plain bytes.
func fake(r source, plain int) (Entry, []byte) {
	sealed := make([]byte, seal.MaxSealed(uint32(plain)))
	_, _ = r.Read(sealed)
	e := Entry{ID: blake3.Sum256(sealed), Kind: chunk.Kind(1 + r.IntN(5)), Plain: uint32(plain)}
	_, _ = r.Read(e.CID[:])
	_, _ = r.Read(e.SIV[:])
	return e, sealed
}

// fill adds fake chunks of up to most plain bytes until one does not fit or n are in.
func fill(t testing.TB, w *Writer, r source, n, most int) {
	t.Helper()
	for range n {
		e, sealed := fake(r, r.IntN(most+1))
		if !w.Fits(len(sealed)) {
			return
		}
		if _, err := w.Add(e, sealed); err != nil {
			t.Fatal(err)
		}
	}
}

func finish(t testing.TB, w *Writer, full bool, r source) ([]byte, Name) {
	t.Helper()
	size := int64(0)
	if full {
		size = Size
	}
	file, name, err := w.Finish(&testKey, size, r)
	if err != nil {
		t.Fatal(err)
	}
	return file, name
}

func TestWriter_GivesBackWhatWasAdded(t *testing.T) {
	r := random(t)
	buf := make([]byte, Size)
	for _, most := range []int{0, 100, 5000, 1 << 20} {
		for _, full := range []bool{false, true} {
			w := NewWriter(buf)
			want := map[chunk.ID][]byte{}
			for range 1 + r.IntN(20) {
				e, sealed := fake(r, r.IntN(most+1))
				off, err := w.Add(e, sealed)
				if err != nil {
					t.Fatal(err)
				}
				want[e.ID] = sealed
				if !bytes.Equal(w.View(off, uint32(len(sealed))), sealed) {
					t.Error("View of an open pack shows other bytes")
				}
			}
			entries := append([]Entry(nil), w.Entries()...)
			file, name := finish(t, w, full, r)
			if full != (len(file) == Size) || !AllowedSize(int64(len(file))) {
				t.Errorf("full %v: pack of %d bytes", full, len(file))
			}
			got, err := ReadDirectory(&testKey, int64(len(file)), bytes.NewReader(file))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(entries, got); d != "" {
				t.Error(d)
			}
			n := 0
			err = Verify(&testKey, name, file, func(e Entry, sealed []byte) error {
				if !bytes.Equal(want[e.ID], sealed) {
					t.Errorf("chunk %s has other bytes", e.ID)
				}
				n++
				return nil
			})
			if err != nil || n != len(entries) {
				t.Errorf("Verify: %v, after %d of %d chunks", err, n, len(entries))
			}
		}
	}
}

func TestWriter_FillsToTheLastByte(t *testing.T) {
	r := random(t)
	w := NewWriter(make([]byte, Size))
	// Whatever room is left, a chunk that fits is taken and one byte more is not.
	for {
		fill(t, w, r, 3, 1<<20)
		room := Size - (w.Len() - len(magic)) - overhead(len(w.Entries())+1)
		if room < 8<<20 {
			if w.Fits(room+1) || !w.Fits(room) {
				t.Fatalf("room for %d bytes, yet Fits says otherwise", room)
			}
			// A chunk of about that size, a little compressed.
			e := Entry{ID: chunk.ID{1}, Kind: chunk.Data, Plain: uint32(room)}
			if _, err := w.Add(e, make([]byte, room+1)); !errors.Is(err, ErrFull) {
				t.Fatalf("one byte too many: got %v, want ErrFull", err)
			}
			if _, err := w.Add(e, make([]byte, room)); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	file, name := finish(t, w, true, r)
	if len(file) != Size {
		t.Errorf("pack of %d bytes, want %d", len(file), Size)
	}
	if _, err := ReadDirectory(&testKey, Size, bytes.NewReader(file)); err != nil {
		t.Error(err)
	}
	if Name(blake3.Sum256(file)) != name {
		t.Error("name is not the hash of the file")
	}
}

func TestWriter_LargestChunkFitsAnEmptyPack(t *testing.T) {
	if !NewWriter(make([]byte, Size)).Fits(seal.MaxSealed(chunk.MaxSize)) {
		t.Error("it does not")
	}
}

func TestWriter_RefusesUnsoundEntries(t *testing.T) {
	r := random(t)
	w := NewWriter(make([]byte, Size))
	e, sealed := fake(r, 1000)
	if _, err := w.Add(e, sealed); err != nil {
		t.Fatal(err)
	}
	before := w.Len()
	other, _ := fake(r, 1000)
	for what, bad := range map[string]func() (Entry, []byte){
		"double":              func() (Entry, []byte) { return e, sealed },
		"no kind":             func() (Entry, []byte) { b := other; b.Kind = 0; return b, sealed },
		"too large":           func() (Entry, []byte) { b := other; b.Plain = chunk.MaxSize + 1; return b, sealed },
		"shorter than can be": func() (Entry, []byte) { return other, sealed[:seal.MinSealed(1000)-1] },
		"longer than can be":  func() (Entry, []byte) { return other, append(bytes.Clone(sealed), 0) },
	} {
		b, s := bad()
		if _, err := w.Add(b, s); !errors.Is(err, ErrEntry) {
			t.Errorf("%s: got %v, want ErrEntry", what, err)
		}
	}
	if w.Len() != before || len(w.Entries()) != 1 {
		t.Error("a refused chunk left something behind")
	}
	if w.View(uint32(before-1), 2) != nil || w.View(1<<32-1, 1<<32-1) != nil {
		t.Error("View shows what is not written")
	}
}

func TestFinish_Refuses(t *testing.T) {
	r := random(t)
	w := NewWriter(make([]byte, Size))
	if _, _, err := w.Finish(&testKey, Size, r); !errors.Is(err, ErrEntry) {
		t.Errorf("no chunks: got %v, want ErrEntry", err)
	}
	fill(t, w, r, 1, 10)
	if _, _, err := w.Finish(&testKey, Size, io.LimitReader(r, 79)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("entropy runs dry: got %v, want io.ErrUnexpectedEOF", err)
	}
}

// T-A13b, for what lies in a store: packs have no other lengths than the allowed.
func TestFinish_GivesOnlyAllowedSizes(t *testing.T) {
	r := random(t)
	allowed := map[int64]bool{Size: true}
	for n := int64(MinSize); n <= Size; n++ {
		if AllowedSize(n) {
			allowed[n] = true
		}
	}
	if len(allowed) > 320 {
		t.Errorf("%d allowed sizes, want at most 320", len(allowed))
	}
	w := NewWriter(make([]byte, Size))
	// 10,000 fills without the cost of hashing 32 MiB each: the size of a pack
	// follows from its fill alone. Every four hundredth is finished indeed.
	for i := range 10_000 {
		count := 1 + r.IntN(50)
		need := int64(overhead(count))
		need += r.Int64N(Size - need + 1)
		got := max(MinSize, padme(need))
		if !allowed[got] || got < need {
			t.Fatalf("%d bytes are padded to %d", need, got)
		}
		most := 0.0313
		if need < 64<<10 {
			most = 0.0626
		}
		if over := float64(got-need) / float64(need); need > MinSize && over > most {
			t.Fatalf("%d bytes are padded to %d, by %.1f %%", need, got, 100*over)
		}
		if i%400 > 0 {
			continue
		}
		w = NewWriter(w.buf)
		fill(t, w, r, 1+r.IntN(8), 1<<(4+r.IntN(18)))
		file, _ := finish(t, w, i%800 == 0, r)
		if !allowed[int64(len(file))] {
			t.Fatalf("a pack of %d bytes", len(file))
		}
	}
}

// A fixed list, so that no change of padme goes unseen: sizes are format.
func TestPadme_IsPinned(t *testing.T) {
	for n, want := range map[int64]int64{
		MinSize: 32_768, MinSize + 1: 34_816, 65_536: 65_536, 65_537: 67_584, 100_000: 100_352, 131_072: 131_072, 131_073: 135_168,
		1_000_000: 1_015_808, 20_000_000: 20_447_232, Size - 1: Size, Size: Size,
	} {
		if got := padme(n); got != want {
			t.Errorf("padme(%d): got %d, want %d", n, got, want)
		}
	}
	for _, n := range []int64{-1, 0, 1, MinSize - 1, MinSize + 1, Size - 1, Size + 1, 2 * Size} {
		if AllowedSize(n) {
			t.Errorf("size %d is allowed", n)
		}
	}
}

// The fill of a pack shows nowhere: no byte of it but the magic is constant, and
// bytes are as frequent as random ones.
func TestFinish_LooksRandomButForTheMagic(t *testing.T) {
	r := random(t)
	buf := make([]byte, Size)
	s, err := seal.NewSealer(seal.Secrets{CID: testKey, SIV: testKey, Chunk: testKey}, seal.AESGCM, seal.Default)
	if err != nil {
		t.Fatal(err)
	}
	var first []byte
	var differs [MinSize]bool
	starts := [256]int{}
	for i := range 40 {
		w := NewWriter(buf)
		// Real chunks, for a constant byte at their front would betray where they begin.
		for j := range 20 {
			sealed, ref, siv, err := s.Seal(nil, chunk.Data, []byte{byte(i), byte(j)})
			if err != nil {
				t.Fatal(err)
			}
			off, err := w.Add(Entry{ID: ref.ID, SIV: siv, Kind: ref.Kind, Plain: ref.Size}, sealed)
			if err != nil {
				t.Fatal(err)
			}
			starts[buf[off+32]]++
		}
		file, _ := finish(t, w, false, r)
		if first == nil {
			first = bytes.Clone(file)
		}
		for k := range file {
			differs[k] = differs[k] || file[k] != first[k]
		}
	}
	for k, d := range differs {
		if d == (k < len(magic)) {
			t.Errorf("byte %d of 40 packs: differs %v", k, d)
		}
	}
	for c, n := range starts {
		if n > 20 { // 800 chunks: 3.1 each on average
			t.Errorf("byte 32 of %d of 800 chunks is %d", n, c)
		}
	}
}

func TestBlobName_RoundTrip(t *testing.T) {
	n := Name(blake3.Sum256([]byte("x")))
	if got, err := ParseBlobName(n.BlobName()); err != nil || got != n {
		t.Errorf("got %s, %v", got, err)
	}
	s := n.BlobName()
	for _, bad := range []string{
		"", "packs/", n.String(), strings.ToUpper(s), s + "0", s[:len(s)-1], "x" + s, "packs/00/" + n.String(),
		"/" + s, s + "/", strings.Replace(s, "packs/", "packs//", 1), s[:len(s)-1] + "g", "index/" + s[6:],
	} {
		if _, err := ParseBlobName(bad); !errors.Is(err, ErrName) {
			t.Errorf("%q: got %v, want ErrName", bad, err)
		}
	}
}
