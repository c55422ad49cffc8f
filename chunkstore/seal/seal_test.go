package seal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
)

// random returns a generator from SHEAF_SEED, or from the clock, and says which.
func random(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SHEAF_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("SHEAF_SEED: %v", err)
		}
	}
	t.Logf("SHEAF_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

func noise(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// prose returns n bytes that compress, and differently at every level.
func prose(r *rand.Rand, n int) []byte {
	words := make([]string, 400)
	for i := range words {
		words[i] = fmt.Sprintf("%x", r.Uint64N(1<<(4+r.Uint64N(28))))
	}
	var b bytes.Buffer
	for b.Len() < n {
		b.WriteString(words[int(float64(len(words))*r.Float64()*r.Float64())])
		b.WriteByte(' ')
	}
	return b.Bytes()[:n]
}

func testSecrets(drive string) Secrets {
	return Secrets{
		CID:   kdf.Key(kdf.ChunkIDOwn, []byte(drive)),
		SIV:   kdf.Key(kdf.FrameSIV, []byte(drive)),
		Chunk: kdf.Key(kdf.ChunkKey, []byte(drive)),
	}
}

func newSealer(t testing.TB, suite Suite, level Level) *Sealer {
	t.Helper()
	s, err := NewSealer(testSecrets("drive one"), suite, level)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustSeal(t testing.TB, s *Sealer, kind chunk.Kind, plain []byte) ([]byte, chunk.Ref, SIV) {
	t.Helper()
	sealed, ref, siv, err := s.Seal(nil, kind, plain)
	if err != nil {
		t.Fatal(err)
	}
	return sealed, ref, siv
}

var (
	suites = []Suite{AESGCM, ChaCha}
	levels = []Level{Raw, Fastest, Default, Better, Best}
	sizes  = []int{
		0, 1, 2, 100, 4096, SegmentSize - 1, SegmentSize, SegmentSize + 1,
		3*SegmentSize - 1, 3 * SegmentSize, 3*SegmentSize + 1, 1<<20 + 12345,
	}
)

func TestSeal_OpensToWhatWasSealed(t *testing.T) {
	r := random(t)
	o := NewOpener()
	for _, suite := range suites {
		for _, level := range levels {
			s := newSealer(t, suite, level)
			for _, n := range sizes {
				if level >= Better && n > SegmentSize+1 {
					continue // slow, and no other path
				}
				for _, plain := range [][]byte{noise(r, n), prose(r, n), make([]byte, n)} {
					kind := chunk.Kind(1 + r.IntN(5))
					prefix := noise(r, r.IntN(50))
					out, ref, siv, err := s.Seal(bytes.Clone(prefix), kind, plain)
					if err != nil {
						t.Fatalf("%s %s %d: %v", suite, level, n, err)
					}
					sealed := out[len(prefix):]
					if !bytes.Equal(out[:len(prefix)], prefix) {
						t.Fatal("Seal changed what stood in dst")
					}
					if len(sealed) > MaxSealed(ref.Size) || len(sealed) < MinSealed(ref.Size) {
						t.Errorf("%d plain bytes gave %d, outside [%d, %d]", n, len(sealed), MinSealed(ref.Size), MaxSealed(ref.Size))
					}
					if ref.Kind != kind || int(ref.Size) != n || ref.Key != testSecrets("drive one").KeyOf(siv) {
						t.Errorf("got ref of kind %s, size %d, or KeyOf differs; want %s, %d", ref.Kind, ref.Size, kind, n)
					}
					got, err := o.Open(bytes.Clone(prefix), ref, sealed)
					if err != nil {
						t.Fatalf("%s %s %d: %v", suite, level, n, err)
					}
					if !bytes.Equal(got, append(bytes.Clone(prefix), plain...)) {
						t.Errorf("%s %s %d: opens to other bytes", suite, level, n)
					}
				}
			}
		}
	}
}

func TestSeal_LargestChunk(t *testing.T) {
	s := newSealer(t, AESGCM, Fastest)
	plain := noise(random(t), chunk.MaxSize)
	copy(plain[chunk.MaxSize/2:], make([]byte, chunk.MaxSize/4))
	sealed, ref, _ := mustSeal(t, s, chunk.Data, plain)
	got, err := NewOpener().Open(nil, ref, sealed)
	if err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("largest chunk: %v", err)
	}
	if _, _, _, err := s.Seal(nil, chunk.Data, append(plain, 0)); !errors.Is(err, ErrArgument) {
		t.Errorf("a chunk too large: got %v, want ErrArgument", err)
	}
	if _, _, _, err := s.Seal(nil, 0, nil); !errors.Is(err, ErrArgument) {
		t.Errorf("a chunk of no kind: got %v, want ErrArgument", err)
	}
}

func TestSeal_IsDeterministic(t *testing.T) {
	r := random(t)
	for _, level := range levels {
		a, b := newSealer(t, AESGCM, level), newSealer(t, AESGCM, level)
		for range 6 {
			plain := prose(r, r.IntN(200<<10))
			_, _, _ = mustSeal(t, b, chunk.Dir, prose(r, 100)) // b has another past
			x, rx, sx := mustSeal(t, a, chunk.Data, plain)
			y, ry, sy := mustSeal(t, b, chunk.Data, plain)
			if !bytes.Equal(x, y) || rx != ry || sx != sy {
				t.Fatalf("level %s: two sealers disagree", level)
			}
		}
	}
}

func TestSeal_TakesRawWhereZstdGainsLittle(t *testing.T) {
	r := random(t)
	s := newSealer(t, AESGCM, Default)
	plain := append(noise(r, SegmentSize), prose(r, SegmentSize)...)
	sealed, _, _ := mustSeal(t, s, chunk.Data, plain)
	if len(sealed) != MaxSealed(2*SegmentSize) {
		t.Errorf("first segment random: got %d sealed bytes, want raw %d", len(sealed), MaxSealed(2*SegmentSize))
	}
	// The other way round, the first segment is compressed and the second raw.
	plain = append(prose(r, SegmentSize), noise(r, SegmentSize)...)
	sealed, ref, _ := mustSeal(t, s, chunk.Data, plain)
	l, err := NewOpener().Header(ref, sealed)
	if err != nil {
		t.Fatal(err)
	}
	if _, n, _ := l.Segment(0); n > SegmentSize/2 {
		t.Errorf("prose takes %d bytes, want less than half of %d", n, SegmentSize)
	}
	if _, n, _ := l.Segment(1); n != SegmentSize+tagSize {
		t.Errorf("random segment takes %d bytes, want %d", n, SegmentSize+tagSize)
	}
}

func TestCID_DiffersByKindAndDrive(t *testing.T) {
	s := newSealer(t, AESGCM, Raw)
	other, err := NewSealer(testSecrets("drive two"), AESGCM, Raw)
	if err != nil {
		t.Fatal(err)
	}
	p := []byte("the same bytes")
	if s.CID(chunk.Data, p) != newSealer(t, ChaCha, Best).CID(chunk.Data, p) {
		t.Error("CID depends on suite or level")
	}
	if s.CID(chunk.Data, p) == s.CID(chunk.Dir, p) || s.CID(chunk.Data, p) == other.CID(chunk.Data, p) {
		t.Error("CID is equal for two kinds or two drives")
	}
}

func TestNewSealer_RefusesUnknownSuiteAndLevel(t *testing.T) {
	for _, suite := range []Suite{0, 3, 255} {
		if _, err := NewSealer(Secrets{}, suite, Raw); !errors.Is(err, ErrArgument) {
			t.Errorf("suite %d: got %v, want ErrArgument", suite, err)
		}
	}
	if _, err := NewSealer(Secrets{}, AESGCM, Best+1); !errors.Is(err, ErrArgument) {
		t.Errorf("level %d: got %v, want ErrArgument", Best+1, err)
	}
}

func TestSecrets_PrintAsKey(t *testing.T) {
	s := Secrets{CID: [32]byte{0xab}, SIV: [32]byte{0xab}, Chunk: [32]byte{0xab}}
	for _, verb := range strings.Split("v +v #v s q x X d o b c t U e g", " ") { // fmt never asks a Formatter about p and T; vet refuses p
		got := fmt.Sprintf("%"+verb, s)
		if strings.Contains(strings.ToLower(got), "ab") || strings.Contains(got, "171") {
			t.Errorf("%%%s prints %q", verb, got)
		}
	}
	text, err := s.MarshalText()
	if err != nil || string(text) != "[key]" {
		t.Errorf("MarshalText: %q, %v", text, err)
	}
}

func TestSelfCheck_FindsWhatChangedOnTheWay(t *testing.T) {
	r := random(t)
	for _, plain := range [][]byte{noise(r, 1000), prose(r, 1000)} {
		s := newSealer(t, AESGCM, Default)
		sealed, ref, _ := mustSeal(t, s, chunk.Data, plain)
		for i := range 8 * len(sealed) {
			sealed[i/8] ^= 1 << (i % 8)
			if err := s.selfCheck(ref, sealed, plain); !errors.Is(err, ErrSelfCheck) {
				t.Fatalf("ciphertext bit %d flipped: got %v, want ErrSelfCheck", i, err)
			}
			sealed[i/8] ^= 1 << (i % 8)
		}
		// The plain bytes changed while they were encoded: the ciphertext is sound
		// but holds something else.
		plain[17] ^= 4
		if err := s.selfCheck(ref, sealed, plain); !errors.Is(err, ErrSelfCheck) {
			t.Fatalf("plain bit flipped: got %v, want ErrSelfCheck", err)
		}
	}
}

// The keyed and derived hashes of this package are those of kdf.
func TestHashes_AreThoseOfKDF(t *testing.T) {
	sec := testSecrets("drive one")
	s := newSealer(t, AESGCM, Raw)
	plain := []byte("some bytes of a file")
	if got, want := s.CID(chunk.File, plain), CID(kdf.Keyed(&sec.CID, []byte{byte(chunk.File)}, plain)); got != want {
		t.Errorf("CID: got %x, want %x", got, want)
	}
	_, ref, siv := mustSeal(t, s, chunk.File, plain)
	if want := SIV(kdf.Keyed(&sec.SIV, s.frame)); siv != want {
		t.Errorf("SIV: got %x, want %x", siv, want)
	}
	if want := chunk.Key(kdf.Keyed(&sec.Chunk, siv[:])); ref.Key != want {
		t.Error("key of the chunk is not the keyed hash of the SIV")
	}
	var keys [splitSize]byte
	kdf.Derive(kdf.ChunkSplit, keys[:], ref.Key[:])
	if keys != s.opener.keys {
		t.Error("split keys are not derived by kdf.Derive")
	}
}

func TestSeal_AllocatesLittle(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates too")
	}
	s := newSealer(t, AESGCM, Default)
	plain := prose(random(t), 1<<20)
	dst, ref, _ := mustSeal(t, s, chunk.Data, plain)
	o := NewOpener()
	out := make([]byte, 0, len(plain))
	// The two AEADs of sealing and checking, their boxes and digests; no buffer.
	if n := testing.AllocsPerRun(5, func() { _, _, _, _ = s.Seal(dst[:0], chunk.Data, plain) }); n > 14 {
		t.Errorf("Seal makes %.0f allocations, want at most 14", n)
	}
	if n := testing.AllocsPerRun(5, func() { _, _ = o.Open(out, ref, dst) }); n > 7 {
		t.Errorf("Open makes %.0f allocations, want at most 7", n)
	}
}

func BenchmarkSeal(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, size := range []int{1000, 1 << 20} {
		for name, plain := range map[string][]byte{"random": noise(r, size), "prose": prose(r, size)} {
			for _, level := range []Level{Raw, Fastest, Default} {
				b.Run(fmt.Sprintf("%s/%d/%s", name, size, level), func(b *testing.B) {
					s := newSealer(b, AESGCM, level)
					var dst []byte
					b.SetBytes(int64(size))
					b.ReportAllocs()
					for b.Loop() {
						var err error
						if dst, _, _, err = s.Seal(dst[:0], chunk.Data, plain); err != nil {
							b.Fatal(err)
						}
						s.CID(chunk.Data, plain)
					}
				})
			}
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	for name, plain := range map[string][]byte{"random": noise(r, 1<<20), "prose": prose(r, 1<<20)} {
		for _, suite := range suites {
			b.Run(fmt.Sprintf("%s/%s", name, suite), func(b *testing.B) {
				sealed, ref, _ := mustSeal(b, newSealer(b, suite, Default), chunk.Data, plain)
				o := NewOpener()
				var dst []byte
				b.SetBytes(int64(len(plain)))
				b.ReportAllocs()
				for b.Loop() {
					var err error
					if dst, err = o.Open(dst[:0], ref, sealed); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
