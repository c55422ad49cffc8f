package cbor

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
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

// The examples of RFC 8949, appendix A, that are in our subset.
func TestAppend_GivesTheExamplesOfTheRFC(t *testing.T) {
	array := func(vs ...uint64) []byte {
		b := AppendArray(nil, len(vs))
		for _, v := range vs {
			b = AppendUint(b, v)
		}
		return b
	}
	for want, got := range map[string][]byte{
		"00":                 AppendUint(nil, 0),
		"01":                 AppendUint(nil, 1),
		"0a":                 AppendUint(nil, 10),
		"17":                 AppendUint(nil, 23),
		"1818":               AppendUint(nil, 24),
		"1819":               AppendUint(nil, 25),
		"1864":               AppendInt(nil, 100),
		"1903e8":             AppendInt(nil, 1000),
		"1a000f4240":         AppendUint(nil, 1000000),
		"1b000000e8d4a51000": AppendUint(nil, 1000000000000),
		"1bffffffffffffffff": AppendUint(nil, math.MaxUint64),
		"20":                 AppendInt(nil, -1),
		"29":                 AppendInt(nil, -10),
		"3863":               AppendInt(nil, -100),
		"3903e7":             AppendInt(nil, -1000),
		"3b7fffffffffffffff": AppendInt(nil, math.MinInt64),
		"f4":                 AppendBool(nil, false),
		"f5":                 AppendBool(nil, true),
		"40":                 AppendBytes(nil, nil),
		"4401020304":         AppendBytes(nil, []byte{1, 2, 3, 4}),
		"60":                 AppendText(nil, ""),
		"6449455446":         AppendText(nil, "IETF"),
		"62c3bc":             AppendText(nil, "ü"),
		"80":                 array(),
		"83010203":           array(1, 2, 3),
		"98190102030405060708090a0b0c0d0e0f101112131415161718181819": array(
			1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25),
		"a0":         AppendMap(nil, 0),
		"a201020304": AppendUint(AppendUint(AppendUint(AppendUint(AppendMap(nil, 2), 1), 2), 3), 4),
	} {
		if hex.EncodeToString(got) != want {
			t.Errorf("got %x, want %s", got, want)
		}
	}
}

var edges = []uint64{
	0, 1, 22, 23, 24, 25, 254, 255, 256, 257, 65534, 65535, 65536, 65537, 1<<32 - 2, 1<<32 - 1, 1 << 32, 1<<32 + 1,
	1<<62 - 1, 1 << 62, 1<<63 - 1, 1 << 63, 1<<64 - 2, 1<<64 - 1,
}

func TestInteger_RoundTripAtEveryEdge(t *testing.T) {
	for _, n := range edges {
		r := NewReader(AppendUint(nil, n))
		if got := r.Uint(); got != n || r.Close() != nil {
			t.Errorf("%d: got %d, %v", n, got, r.Err())
		}
		for _, i := range []int64{int64(n), -int64(n), -1 - int64(n)} {
			r := NewReader(AppendInt(nil, i))
			if got := r.Int(); got != i || r.Close() != nil {
				t.Errorf("%d: got %d, %v", i, got, r.Err())
			}
		}
	}
}

func TestReader_RefusesWhatIsNotCanonical(t *testing.T) {
	reads := map[string]func(*Reader){
		"uint":    func(r *Reader) { r.Uint() },
		"max":     func(r *Reader) { r.UintMax(100) },
		"int":     func(r *Reader) { r.Int() },
		"bytes":   func(r *Reader) { r.Bytes() },
		"bytes2":  func(r *Reader) { r.BytesMax(2) },
		"fixed":   func(r *Reader) { r.Fixed(make([]byte, 3)) },
		"text":    func(r *Reader) { r.Text() },
		"array":   func(r *Reader) { r.Array() },
		"arrayof": func(r *Reader) { r.ArrayOf(2); r.Uint(); r.Uint() },
		"map":     func(r *Reader) { r.Map() },
		"bool":    func(r *Reader) { r.Bool() },
		"keys": func(r *Reader) {
			last := int64(-1)
			for range r.Map() {
				r.Key(&last)
				r.Uint()
			}
		},
	}
	for _, c := range []struct{ read, hex, why string }{
		{"uint", "", "nothing"},
		{"uint", "1817", "23 in two bytes"},
		{"uint", "1900ff", "255 in three bytes"},
		{"uint", "1a0000ffff", "65535 in five bytes"},
		{"uint", "1b00000000ffffffff", "32 bits in nine bytes"},
		{"uint", "18", "cut"},
		{"uint", "1b01020304", "cut"},
		{"uint", "1c", "reserved"},
		{"uint", "1f", "indefinite"},
		{"uint", "20", "negative"},
		{"uint", "0000", "left over"},
		{"uint", "c000", "tag"},
		{"uint", "f6", "null"},
		{"uint", "f97e00", "float"},
		{"max", "1865", "101"},
		{"int", "3bffffffffffffffff", "below int64"},
		{"int", "1b8000000000000000", "above int64"},
		{"int", "40", "bytes"},
		{"int", "3817", "-24 in two bytes"},
		{"bytes", "41", "cut"},
		{"bytes", "5bffffffffffffffff", "huge"},
		{"bytes", "5f4100ff", "indefinite"},
		{"bytes", "60", "text"},
		{"bytes", "580100", "length in two bytes"},
		{"bytes2", "43010203", "three"},
		{"fixed", "420102", "two"},
		{"fixed", "4401020304", "four"},
		{"text", "61ff", "not UTF-8"},
		{"text", "63eda080", "surrogate"},
		{"text", "62c080", "overlong"},
		{"text", "7f60ff", "indefinite"},
		{"array", "83", "longer than what is left"},
		{"array", "9affffffff", "huge"},
		{"array", "9f", "indefinite"},
		{"arrayof", "830102", "another count"},
		{"arrayof", "810102", "another count"},
		{"map", "a101", "half a pair"},
		{"map", "bbffffffffffffffff", "huge"},
		{"map", "bf", "indefinite"},
		{"keys", "a201000100", "equal keys"},
		{"keys", "a202000100", "keys that fall"},
		{"keys", "a1400000", "key of bytes"},
		{"keys", "a11bffffffffffffffff00", "key too large"},
		{"bool", "f6", "null"},
		{"bool", "00", "integer"},
		{"bool", "f814", "false in two bytes"},
		{"bool", "", "nothing"},
	} {
		b, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		r := NewReader(b)
		reads[c.read](r)
		if err := r.Close(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s of %s (%s): got %v, want ErrMalformed", c.read, c.hex, c.why, err)
		}
	}
}

func TestReader_FirstErrorSticksAndGivesZeros(t *testing.T) {
	r := NewReader(AppendText(nil, "what follows must not be read"))
	r.Fail("first %d", 1)
	r.Fail("second")
	last := int64(-1)
	dst := []byte{1, 2}
	r.Fixed(dst)
	if r.Uint() != 0 || r.Int() != 0 || r.Bytes() != nil || r.Text() != "" || r.Array() != 0 || r.Map() != 0 || r.Bool() ||
		r.Len() != 0 || r.Key(&last) != math.MaxUint64 || last != -1 || !bytes.Equal(dst, []byte{1, 2}) {
		t.Error("a failed reader gave something")
	}
	if err := r.Close(); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "first 1") {
		t.Errorf("got %v, want the first failure", err)
	}
}

// A count of values never exceeds the bytes that are left, so nobody allocates
// what a stranger merely claims.
func TestReader_CountsAreBoundedByWhatIsLeft(t *testing.T) {
	r := random(t)
	for range 10_000 {
		b := appendHead(nil, []byte{majorArray, majorMap}[r.IntN(2)], edges[r.IntN(len(edges))])
		left := r.IntN(70)
		b = append(b, make([]byte, left)...)
		in := NewReader(b)
		n, least := 0, 1
		if b[0]&0xe0 == majorMap {
			n, least = in.Map(), 2
		} else {
			n = in.Array()
		}
		if n*least > left {
			t.Fatalf("%x: %d values in %d bytes", b, n, left)
		}
	}
}

func TestReader_SlicesCannotGrowIntoTheInput(t *testing.T) {
	b := AppendUint(AppendBytes(nil, []byte{1, 2}), 7)
	r := NewReader(b)
	p := append(r.Bytes(), 9)
	if r.Uint() != 7 || p[2] != 9 {
		t.Error("appending to a slice that was read changed the input")
	}
}

// copyValue reads any one value and writes it again.
func copyValue(r *Reader, out []byte, depth int) []byte {
	if r.Err() != nil || r.Len() == 0 || depth > 32 {
		r.Fail("no value")
		return out
	}
	switch r.b[0] & 0xe0 {
	case majorUint:
		return AppendUint(out, r.Uint())
	case majorInt:
		return AppendInt(out, r.Int())
	case majorBytes:
		return AppendBytes(out, r.Bytes())
	case majorText:
		return AppendText(out, r.Text())
	case majorArray:
		n := r.Array()
		out = AppendArray(out, n)
		for i := 0; i < n && r.Err() == nil; i++ {
			out = copyValue(r, out, depth+1)
		}
		return out
	case majorMap:
		n, last := r.Map(), int64(-1)
		out = AppendMap(out, n)
		for i := 0; i < n && r.Err() == nil; i++ {
			out = AppendUint(out, r.Key(&last))
			out = copyValue(r, out, depth+1)
		}
		return out
	}
	return AppendBool(out, r.Bool())
}

// appendRandom writes a random value.
func appendRandom(r *rand.Rand, b []byte, depth int) []byte {
	n := r.IntN(7)
	if depth == 0 {
		n = r.IntN(5)
	}
	switch n {
	case 0:
		return AppendUint(b, edges[r.IntN(len(edges))])
	case 1:
		return AppendInt(b, int64(edges[r.IntN(len(edges))]))
	case 2:
		return AppendBytes(b, make([]byte, r.IntN(300)))
	case 3:
		return AppendText(b, strings.Repeat("ü", r.IntN(200)))
	case 4:
		return AppendBool(b, r.IntN(2) == 0)
	case 5:
		k := r.IntN(30)
		b = AppendArray(b, k)
		for range k {
			b = appendRandom(r, b, depth-1)
		}
		return b
	}
	k, key := r.IntN(30), uint64(0)
	b = AppendMap(b, k)
	for range k {
		key += 1 + r.Uint64N(1<<20)
		b = appendRandom(r, AppendUint(b, key), depth-1)
	}
	return b
}

func TestReader_ReadsAllThatIsWritten(t *testing.T) {
	r := random(t)
	for range 2000 {
		b := appendRandom(r, nil, 2)
		in := NewReader(b)
		out := copyValue(in, nil, 0)
		if err := in.Close(); err != nil || !bytes.Equal(out, b) {
			t.Fatalf("%x: %v", b, err)
		}
		for range 20 { // and no part of it
			in := NewReader(b[:r.IntN(len(b))])
			copyValue(in, nil, 0)
			if err := in.Close(); !errors.Is(err, ErrMalformed) {
				t.Fatalf("a cut record: got %v, want ErrMalformed", err)
			}
		}
	}
}

// Whatever decodes encodes to the same bytes: there is one encoding of a value.
func FuzzReader(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 30 {
		f.Add(appendRandom(r, nil, 2))
	}
	f.Add([]byte{0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		in := NewReader(b)
		out := copyValue(in, nil, 0)
		if err := in.Close(); err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("got %v, want ErrMalformed", err)
			}
			return
		}
		if !bytes.Equal(out, b) {
			t.Errorf("%x decodes and encodes to %x", b, out)
		}
	})
}
