// Package testkit is what the tests of all rooms share: seeds, data, faults, canaries
// and the check that no goroutine stays behind. No product code imports it.
package testkit

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
)

// SeedEnv is the environment variable that gives a seed back to a random test.
const SeedEnv = "SHEAF_SEED"

// Seed returns the seed of a random test: that of SHEAF_SEED if it is set, else a
// new one. If the test fails, it prints how to run it again with the same seed.
func Seed(t testing.TB) int64 {
	t.Helper()
	seed := int64(rand.Uint64() >> 1)
	if s := os.Getenv(SeedEnv); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatalf("read %s: %v", SeedEnv, err)
		}
		seed = n
	}
	t.Logf("seed: %s=%d", SeedEnv, seed)
	return seed
}

// Environ returns the number in an environment variable, and otherwise if that is not set.
func Environ(t testing.TB, name string, otherwise uint64) uint64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
	return n
}

// Schedules returns how many schedules a test runs, and the seed of the first: SHEAF_SCHEDULES many, new ones or those from SHEAF_SEED on; otherwise as many as
// that, from seed 1, for new ones are for those who have the time.
func Schedules(t testing.TB, otherwise uint64) (first, n uint64) {
	t.Helper()
	const env = "SHEAF_SCHEDULES"
	if os.Getenv(env) != "" || os.Getenv(SeedEnv) != "" {
		return uint64(Seed(t)), Environ(t, env, otherwise)
	}
	return 1, otherwise
}

// Rand returns a source of chance that depends on the seed alone. It is not safe for
// concurrent use.
func Rand(seed int64) *rand.Rand { return rand.New(rand.NewPCG(uint64(seed), 0x5eaf)) }

// Random returns n bytes that no compression makes shorter.
func Random(r *rand.Rand, n int) []byte {
	p := make([]byte, n)
	fill(r, p)
	return p
}

func fill(r *rand.Rand, p []byte) {
	for len(p) >= 8 {
		v := r.Uint64()
		for i := range 8 {
			p[i] = byte(v >> (8 * i))
		}
		p = p[8:]
	}
	for i := range p {
		p[i] = byte(r.Uint32())
	}
}

// RandomReader returns a reader of n bytes that no compression makes shorter, in
// the same bytes for the same seed, whatever the sizes of the reads.
func RandomReader(seed, n int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8(chaSeed(seed)), n)
}

func chaSeed(seed int64) (s [32]byte) {
	text := fmt.Sprintf("sheaf testkit %d", seed)
	if copy(s[:], text) < len(text) { // the last digits count, too
		return sha256.Sum256([]byte(text))
	}
	return s
}

// words are what Text is made of.
var words = strings.Fields(`the drive a tree of manifests over chunks lie sealed in packs named blobs bucket head says
	which snapshot is now door shows remote has two faces engine knows copy and merge no third return err nil func`)

// Text returns n bytes of words and lines, which a compression makes much shorter.
func Text(r *rand.Rand, n int) []byte {
	p := make([]byte, 0, n+16)
	for len(p) < n {
		p = append(p, words[r.IntN(len(words))]...)
		if r.IntN(10) == 0 {
			p = append(p, '\n')
		} else {
			p = append(p, ' ')
		}
	}
	return p[:n]
}

// Zeros returns n zero bytes.
func Zeros(n int) []byte { return make([]byte, n) }
