package testkit_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/blobtest"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

func TestSeed_IsTakenFromTheEnvironment(t *testing.T) {
	t.Setenv(testkit.SeedEnv, "42")
	if got := testkit.Seed(t); got != 42 {
		t.Errorf("got %d, want 42", got)
	}
	t.Setenv(testkit.SeedEnv, "")
	if a, b := testkit.Seed(t), testkit.Seed(t); a == b {
		t.Errorf("two new seeds are %d both", a)
	}
}

func TestData_DependsOnTheSeedAlone(t *testing.T) {
	for name, gen := range map[string]func() []byte{
		"random": func() []byte { return testkit.Random(testkit.Rand(7), 1003) },
		"text":   func() []byte { return testkit.Text(testkit.Rand(7), 1003) },
		"reader": func() []byte { p, _ := io.ReadAll(testkit.RandomReader(7, 1003)); return p },
	} {
		a, b := gen(), gen()
		if !bytes.Equal(a, b) || len(a) != 1003 {
			t.Errorf("%s: got %d and %d bytes that differ or are too few", name, len(a), len(b))
		}
	}
	a, _ := io.ReadAll(testkit.RandomReader(7, 5000))
	b, _ := io.ReadAll(iotest.OneByteReader(testkit.RandomReader(7, 5000)))
	if !bytes.Equal(a, b) {
		t.Error("the reader yields other bytes in small reads")
	}
}

func TestTree_IsTheSameForTheSameSeed(t *testing.T) {
	a, err := testkit.Tree(testkit.Rand(3), t.TempDir(), 200)
	if err != nil {
		t.Fatal(err)
	}
	b, err := testkit.Tree(testkit.Rand(3), t.TempDir(), 200)
	if err != nil || a != b || a == 0 {
		t.Errorf("got %d and %d bytes, error %v", a, b, err)
	}
}

// The control of every canary scan: it finds what is there.
func TestCanary_IsFoundInEveryForm(t *testing.T) {
	r := testkit.Rand(testkit.Seed(t))
	c := testkit.NewCanary(r)
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	text := []byte(c.Text())
	padded := append(append(testkit.Text(r, 5000), text...), testkit.Text(r, 5000)...)
	for name, p := range map[string][]byte{
		"raw": text, "hex": []byte(hex.EncodeToString(text)), "HEX": []byte(strings.ToUpper(hex.EncodeToString(text))),
		"base64 0": []byte(base64.StdEncoding.EncodeToString(text)),
		"base64 1": []byte(base64.StdEncoding.EncodeToString(append([]byte("x"), text...))),
		"base64 2": []byte(base64.URLEncoding.EncodeToString(append(append([]byte("xy"), text...), "tail"...))),
		"percent":  []byte("%" + strings.ToUpper(strings.TrimSuffix(strings.ReplaceAll(hexPairs(text), " ", "%"), "%"))),
		"zstd":     enc.EncodeAll(padded, nil),
		"two zstd": append(enc.EncodeAll(testkit.Random(r, 100), nil), enc.EncodeAll(padded, nil)...),
	} {
		p = append(append(testkit.Random(r, 777), p...), testkit.Random(r, 777)...)
		if c.Find(p) == "" {
			t.Errorf("%s: not found", name)
		}
	}
	if form := c.Find(testkit.Random(r, 1<<20)); form != "" {
		t.Errorf("found in random bytes as %s", form)
	}
	if form := c.Find([]byte(testkit.NewCanary(r).Text())); form != "" {
		t.Errorf("found in another canary as %s", form)
	}
}

func hexPairs(p []byte) string {
	var s strings.Builder
	for _, b := range p {
		s.WriteString(hex.EncodeToString([]byte{b}) + " ")
	}
	return s.String()
}

func TestFaults_WithoutAPlanIsABucket(t *testing.T) {
	blobtest.Run(t, func(*testing.T) blob.Bucket { return testkit.NewFaults(mem.New()) })
}

func TestFaults_FailsAsPlanned(t *testing.T) {
	f := testkit.NewFaults(mem.New())
	put := func(name blob.Name, n int) error {
		return f.Put(t.Context(), name, bytes.NewReader(make([]byte, n)), int64(n))
	}
	want := func(what string, got, want error) {
		t.Helper()
		if !errors.Is(got, want) {
			t.Errorf("%s: got error %v, want %v", what, got, want)
		}
	}
	f.FailWrite(2, nil)
	want("first", put("a", 10), nil)
	want("second", put("b", 10), testkit.ErrFault)
	want("third", put("b", 10), nil)
	f.FailAfter(1, io.ErrUnexpectedEOF)
	want("one more", f.Remove(t.Context(), "a"), nil)
	want("then no more", f.Remove(t.Context(), "b"), io.ErrUnexpectedEOF)
	want("then no more", put("c", 10), io.ErrUnexpectedEOF)
	f.Heal()
	f.Space(25)
	want("room for 25", put("c", 20), nil)
	want("room for 5", put("d", 6), blob.ErrNoSpace)
	want("room for 5", put("d", 5), nil)
	f.Heal()
	want("healed", put("e", 100), nil)
	p, err := blob.ReadAll(t.Context(), f, "e", 1000)
	if err != nil || len(p) != 100 {
		t.Errorf("got %d bytes and error %v", len(p), err)
	}
	if got, want := f.Counts(), (testkit.Counts{Puts: 8, Removes: 2, Gets: 1, PutBytes: 145, GetBytes: 100}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// recorder takes the failure that a check under test must give.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Errorf(string, ...any) { r.failed = true }
func (r *recorder) Helper()               {}

func TestGoroutines_FindsOneThatStays(t *testing.T) {
	before := testkit.Goroutines(t)
	before.Check(t)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { <-stop; close(done) }()
	r := &recorder{TB: t}
	before.Check(r)
	if !r.failed {
		t.Error("a goroutine that stays was not found")
	}
	close(stop)
	<-done
	before.Check(t)
}

// Seeds as Seed makes them, of 19 digits, differ in their last digit only, and give other bytes all the same.
func TestRandomReader_EveryDigitOfASeedCounts(t *testing.T) {
	seen := map[string]int64{}
	for _, seed := range []int64{1, 2, 8506432772647937830, 8506432772647937831, 8506432772647937838} {
		b, err := io.ReadAll(testkit.RandomReader(seed, 64))
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[string(b)]; ok {
			t.Errorf("the seeds %d and %d give the same bytes", other, seed)
		}
		seen[string(b)] = seed
	}
}

func TestFreeAddr_IsOutsideOfWhatTheSystemGives(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		addr := testkit.FreeAddr(t)
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(port)
		if err != nil || n < 10_000 || n >= 32_000 || seen[addr] {
			t.Fatalf("got %s, %v; before: %v", addr, err, seen[addr])
		}
		seen[addr] = true
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
	}
}
