package cdc

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/cbor"
)

// stream returns n bytes that never change: BLAKE3's output for a seed, which a
// second implementation can make too.
func stream(seed string, n int) []byte {
	b := make([]byte, n)
	h := blake3.New()
	_, _ = h.WriteString(seed)
	_, _ = h.Digest().Read(b)
	return b
}

// pinned returns the Params of the golden test.
func pinned(t testing.TB, algorithm string) Params {
	t.Helper()
	h := blake3.New()
	_, _ = h.WriteString("chunker " + algorithm)
	p, err := NewParams(algorithm, h.Digest())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

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

func mustNew(t testing.TB, p Params) *Chunker {
	t.Helper()
	c, err := New(p)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// lengths returns the lengths of all chunks of b.
func lengths(t testing.TB, c *Chunker, b []byte) []int {
	t.Helper()
	var out []int
	for len(b) > 0 {
		n := c.Cut(b, true)
		if n < 1 || n > len(b) || n > int(c.p.Max) || n < int(c.p.Min) && n != len(b) {
			t.Fatalf("a chunk of %d bytes out of %d", n, len(b))
		}
		out = append(out, n)
		b = b[n:]
	}
	return out
}

var algorithms = []string{Rabin, FastCDC, Fixed}

// The cuts are format: a drive whose chunker cuts otherwise after an upgrade would
// store everything a second time.
func TestCut_IsPinned(t *testing.T) {
	golden := map[string]struct {
		record string
		cuts   []int
	}{
		Rabin: {
			"a50165726162696e021a00040000031a00100000041a00400000061b003a3b1c088c4099",
			[]int{3075519, 278029, 928830, 3470018, 360570, 4194304, 318577, 1981228, 944001, 1226140},
		},
		FastCDC: {
			"a5016766617374636463021a00040000031a00100000041a0040000005582072255c97059f1d2b554c771af331e6c95329b9be8cf2ffc9e952cc084098bee0",
			[]int{1146308, 1151036, 1164251, 1063313, 2378636, 1148519, 1110813, 1929635, 1157728, 1180215, 1105904, 1158814, 1082044},
		},
		Fixed: {
			"a401656669786564021a00100000031a00100000041a00100000",
			[]int{1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20},
		},
	}
	b := stream("sheaf chunker test", 16<<20)
	for _, algorithm := range algorithms {
		p := pinned(t, algorithm)
		record := hex.EncodeToString(p.Append(nil))
		cuts := lengths(t, mustNew(t, p), b)
		want := golden[algorithm]
		if record != want.record {
			t.Errorf("%s: record %s, want %s", algorithm, record, want.record)
		}
		if d := cmp.Diff(want.cuts, cuts); d != "" {
			t.Errorf("%s: cuts %#v\n%s", algorithm, cuts, d)
		}
	}
}

func TestCut_DependsOnlyOnTheBytesSinceTheLastCut(t *testing.T) {
	r := random(t)
	b := make([]byte, 24<<20)
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	clear(b[9<<20 : 15<<20]) // a run that only Max ends
	for _, algorithm := range algorithms {
		p := pinned(t, algorithm)
		want := lengths(t, mustNew(t, p), b)
		// One Chunker, disturbed between the cuts, fed piece by piece.
		c := mustNew(t, p)
		off := 0
		for i, n := range want {
			rest := b[off:]
			c.Cut(b[r.IntN(len(b)/2):], r.IntN(2) == 0)
			for have := 0; ; have += 1 + r.IntN(1<<20) {
				have = min(have, len(rest))
				got := c.Cut(rest[:have], have == len(rest))
				if got == 0 && have < int(p.Max) && have < len(rest) {
					continue
				}
				if got != n {
					t.Fatalf("%s: chunk %d is %d bytes with %d at hand, want %d", algorithm, i, got, have, n)
				}
				break
			}
			off += n
		}
		if got := c.Cut(nil, true); got != 0 {
			t.Errorf("%s: nothing is cut to %d bytes", algorithm, got)
		}
	}
}

// A cut that is told before all bytes are there holds whatever follows.
func TestCut_IsNotTakenBack(t *testing.T) {
	r := random(t)
	for _, algorithm := range algorithms {
		c := mustNew(t, Params{
			Algorithm: algorithm, Min: 4096, Avg: 8192, Max: 32768,
			Seed: pinned(t, algorithm).Seed, Poly: pinned(t, algorithm).Poly,
		}.fixed())
		for range 300 {
			b := make([]byte, int(c.p.Max)+r.IntN(1000))
			for i := range b {
				b[i] = byte(r.IntN(1 + r.IntN(256)))
			}
			whole := c.Cut(b, false)
			if whole == 0 {
				t.Fatal("Max bytes were not enough")
			}
			for range 20 {
				part := r.IntN(len(b) + 1)
				if n := c.Cut(b[:part], false); n != 0 && n != whole {
					t.Fatalf("%s: %d bytes give %d, all give %d", algorithm, part, n, whole)
				}
				if part >= whole+1 && c.Cut(b[:part], false) != whole {
					t.Fatalf("%s: %d bytes do not give the cut at %d", algorithm, part, whole)
				}
			}
		}
	}
}

// fixed makes sizes fit the fixed algorithm.
func (p Params) fixed() Params {
	if p.Algorithm == Fixed {
		p.Min, p.Max = p.Avg, p.Avg
	}
	return p
}

// T-CDC-DEDUP: one byte inserted at the front of 64 MiB, of 1 GiB if SHEAF_LONG
// is set, leaves at least 99 % of the bytes in chunks that are there already.
func TestCut_FindsItsPlacesAgainAfterAnInsertion(t *testing.T) {
	size := 64 << 20
	if os.Getenv("SHEAF_LONG") != "" {
		size = 1 << 30
	}
	b := append([]byte{'x'}, stream("dedup", size)...)
	r := random(t)
	for _, algorithm := range []string{Rabin, FastCDC} {
		p := pinned(t, algorithm)
		c := mustNew(t, p)
		sums := func(b []byte) (all [][32]byte, sizes []int) {
			for _, n := range lengths(t, c, b) {
				all, sizes = append(all, blake3.Sum256(b[:n])), append(sizes, n)
				b = b[n:]
			}
			return all, sizes
		}
		old, sizes := sums(b[1:])
		known := map[[32]byte]bool{}
		for _, s := range old {
			known[s] = true
		}
		now, _ := sums(b)
		reused := 0
		for _, s := range now {
			if known[s] {
				reused++
			}
		}
		// 64 MiB have too few chunks for a share of 99 %: all but two will do.
		lost := len(now) - reused
		if lost > max(2, len(now)/100) {
			t.Errorf("%s: %d of %d chunks are new after one byte was inserted", algorithm, lost, len(now))
		}
		t.Logf("%s: %d of %d chunks reused, %.1f %%; mean %d bytes", algorithm, reused, len(now), 100*float64(reused)/float64(len(now)), size/len(sizes))

		// The same in the middle, at a place of chance.
		at := 1 + r.IntN(size-1)
		copy(b, b[1:at])
		b[at-1] ^= 0x55
		now, _ = sums(b[:size])
		reused = 0
		for _, s := range now {
			if known[s] {
				reused++
			}
		}
		if lost := len(now) - reused; lost > max(3, len(now)/100) {
			t.Errorf("%s: %d of %d chunks are new after byte %d changed", algorithm, lost, len(now), at)
		}
		copy(b[1:], stream("dedup", size))
	}
}

// Both algorithms cut after a run of zeros, be it in the middle of noise: the files
// of an archive are found again wherever they lie.
func TestCut_ARunOfZerosIsACut(t *testing.T) {
	for _, algorithm := range []string{Rabin, FastCDC} {
		c := mustNew(t, pinned(t, algorithm))
		for i := range 20 {
			b := stream(fmt.Sprint("zeros", i), 700<<10)
			at := 300<<10 + i*1000
			if n := c.Cut(b, false); n != 0 && n < at+100 {
				continue // cut earlier by its own bytes
			}
			clear(b[at : at+80])
			if n := c.Cut(b, false); n < at+40 || n > at+80 {
				t.Errorf("%s: zeros at %d, cut at %d", algorithm, at, n)
			}
		}
	}
}

// Another key or polynomial gives other cuts, else it would not be one.
func TestNewParams_DrawsItsOwnCuts(t *testing.T) {
	b := stream("keys", 32<<20)
	for _, algorithm := range []string{Rabin, FastCDC} {
		a := lengths(t, mustNew(t, pinned(t, algorithm)), b)
		other, err := NewParams(algorithm, bytes.NewReader(stream("another", 1<<20)))
		if err != nil {
			t.Fatal(err)
		}
		if cmp.Equal(a, lengths(t, mustNew(t, other), b)) {
			t.Errorf("%s: two keys give the same cuts", algorithm)
		}
		if _, err := NewParams(algorithm, bytes.NewReader(nil)); !errors.Is(err, io.EOF) {
			t.Errorf("%s: no entropy: got %v, want io.EOF", algorithm, err)
		}
	}
	if _, err := NewParams("buzhash", nil); !errors.Is(err, ErrParams) {
		t.Errorf("unknown algorithm: got %v, want ErrParams", err)
	}
}

func TestParams_RoundTrip(t *testing.T) {
	for _, algorithm := range algorithms {
		p := pinned(t, algorithm)
		got, err := ParseParams(p.Append(nil))
		if err != nil || got != p {
			t.Errorf("%s: got %v, %v, want %v", algorithm, got, err, p)
		}
	}
}

func TestParams_CheckRefuses(t *testing.T) {
	for what, change := range map[string]func(rabin, fast, fixed *Params) *Params{
		"zero":                  func(_, _, _ *Params) *Params { return &Params{} },
		"unknown algorithm":     func(_, f, _ *Params) *Params { f.Algorithm = "buzhash"; return f },
		"min too small":         func(_, f, _ *Params) *Params { f.Min = 4095; return f },
		"max too large":         func(_, f, _ *Params) *Params { f.Max = 16<<20 + 1; return f },
		"avg no power of two":   func(_, f, _ *Params) *Params { f.Avg++; return f },
		"avg zero":              func(_, f, _ *Params) *Params { f.Avg = 0; return f },
		"min over avg":          func(_, f, _ *Params) *Params { f.Min = f.Avg; return f },
		"avg over max":          func(r, _, _ *Params) *Params { r.Max = r.Avg; return r },
		"polynomial zero":       func(r, _, _ *Params) *Params { r.Poly = 0; return r },
		"polynomial reducible":  func(r, _, _ *Params) *Params { r.Poly = 1 << 53; return r },
		"polynomial too long":   func(r, _, _ *Params) *Params { r.Poly = 1<<63 | 1; return r },
		"polynomial and fast":   func(_, f, _ *Params) *Params { f.Poly = 1; return f },
		"seed and rabin":        func(r, _, _ *Params) *Params { r.Seed[0] = 1; return r },
		"seed and fixed":        func(_, _, x *Params) *Params { x.Seed[0] = 1; return x },
		"fixed with two sizes":  func(_, _, x *Params) *Params { x.Min--; return x },
		"fixed with other size": func(_, _, x *Params) *Params { x.Max++; return x },
	} {
		r, f, x := pinned(t, Rabin), pinned(t, FastCDC), pinned(t, Fixed)
		p := change(&r, &f, &x)
		if err := p.Check(); !errors.Is(err, ErrParams) {
			t.Errorf("%s: got %v, want ErrParams", what, err)
		}
		if _, err := New(*p); !errors.Is(err, ErrParams) {
			t.Errorf("%s: New: got %v, want ErrParams", what, err)
		}
	}
}

// Every flipped bit of a record is refused or gives other Params, never the same.
func TestParseParams_IsCanonical(t *testing.T) {
	for _, algorithm := range algorithms {
		p := pinned(t, algorithm)
		b := p.Append(nil)
		for i := range 8 * len(b) {
			b[i/8] ^= 1 << (i % 8)
			if got, err := ParseParams(b); err == nil && got == p {
				t.Errorf("%s: bit %d flipped gives the same", algorithm, i)
			}
			b[i/8] ^= 1 << (i % 8)
		}
		if _, err := ParseParams(append(b, 0)); !errors.Is(err, cbor.ErrMalformed) {
			t.Errorf("%s: a byte too many: got %v, want ErrMalformed", algorithm, err)
		}
	}
	// A field of zero that Append would leave out.
	b := pinned(t, Fixed).Append(nil)
	b[0]++
	b = cbor.AppendUint(cbor.AppendUint(b, keyPoly), 0)
	if _, err := ParseParams(b); !errors.Is(err, ErrParams) {
		t.Errorf("a zero field: got %v, want ErrParams", err)
	}
}

func FuzzParams(f *testing.F) {
	for _, algorithm := range algorithms {
		f.Add(pinned(f, algorithm).Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseParams(b)
		if err != nil {
			if !errors.Is(err, ErrParams) && !errors.Is(err, cbor.ErrMalformed) {
				t.Errorf("got %v", err)
			}
			return
		}
		if !bytes.Equal(p.Append(nil), b) {
			t.Error("what was parsed encodes to other bytes")
		}
		c, err := New(p)
		if err != nil {
			t.Fatal(err)
		}
		lengths(t, c, b)
	})
}

func BenchmarkCut(b *testing.B) {
	data := stream("bench", 64<<20)
	for _, algorithm := range algorithms {
		b.Run(fmt.Sprint(algorithm), func(b *testing.B) {
			c := mustNew(b, pinned(b, algorithm))
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				lengths(b, c, data)
			}
		})
	}
}
