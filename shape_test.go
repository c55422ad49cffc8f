package sheaf

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/evil"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/index"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs"
)

// shapes are the names that a blob may have, and the sizes that go with them.
var shapes = []struct {
	name *regexp.Regexp
	size func(n int64) bool
}{
	{regexp.MustCompile(`^packs/[0-9a-f]{2}/[0-9a-f]{64}$`), pack.AllowedSize},
	{regexp.MustCompile(`^index/[0-9a-f]{32}/(root|[0-9a-f]{2})$`), index.BlobSize},
	{regexp.MustCompile(`^heads/[0-9a-f]{32}/[0-9a-f]{16}$`), func(n int64) bool { return n == 4<<10 }},
	{regexp.MustCompile(`^keys/[0-9a-f]{32}(\.2)?$`), func(n int64) bool { return n == 1<<10 }},
	{regexp.MustCompile(`^drive/[0-9a-f]{8}(\.2)?$`), func(n int64) bool { return n == 1<<10 }},
	{regexp.MustCompile(`^members/[0-9a-f]{32}(\.2)?$`), func(n int64) bool { return n >= 1<<10 && n <= 8<<10 && n%256 == 0 }},
}

func allowedShape(name blob.Name, size int64) bool {
	for _, s := range shapes {
		if s.name.MatchString(string(name)) {
			return s.size(size)
		}
	}
	return false
}

// looksRandom returns an error unless the bytes of p are distributed as those of noise are: their chi-square against
// the even distribution has a mean of 255 and a deviation of 22.6, and no noise in this world is 10 of them off.
func looksRandom(p []byte) error {
	var count [256]int
	for _, b := range p {
		count[b]++
	}
	want := float64(len(p)) / 256
	chi, entropy := 0.0, 0.0
	for _, n := range count {
		chi += (float64(n) - want) * (float64(n) - want) / want
		if n > 0 {
			f := float64(n) / float64(len(p))
			entropy -= f * math.Log2(f)
		}
	}
	// Of n random bytes the entropy is 8 - 255/(2 n ln 2) bit, a little less than 8.
	if least := 8 - 2*255/(2*float64(len(p))*math.Ln2); chi > 255+10*22.6 || entropy < least {
		return fmt.Errorf("chi-square %.0f, %.4f bit a byte, want at least %.4f", chi, entropy, least)
	}
	return nil
}

// shown is what a listing of a drive shows: under each prefix the sizes, sorted.
func shown(all map[blob.Name][]byte) map[string][]int {
	sizes := map[string][]int{}
	for n, p := range all {
		for _, prefix := range []string{"packs/", "index/", "heads/", "keys/", "drive/", "members/"} {
			if within(n, prefix) {
				sizes[prefix] = append(sizes[prefix], len(p))
			}
		}
	}
	for _, s := range sizes {
		slices.Sort(s)
	}
	return sizes
}

// K2: one large file or many small ones of the same bytes in all: a listing of either shows the same names but for the random ones,
// and the same sizes, to the byte, of packs and of all else. Manifests differ, 0.4 % of the total here, within what
// sums are rounded by. Short of SHEAF_LONG these are 40 MB, not 100, and twice as many seeds.
func TestShape_OneLargeFileOrManySmallOnes(t *testing.T) {
	total, small, rounds := 40_000_000, 100_000, 5
	if testing.Short() {
		rounds = 1
	}
	if long() {
		total, rounds = 100_000_000, 10
	}
	seed := uint64(testkit.Seed(t))
	for round := range rounds {
		var seen []map[string][]int
		for _, size := range []int{total, small} {
			rec := evil.NewRecorder(mem.New())
			m := newMachine(t, rec)
			d, _ := m.create(Secret{})
			rng := newNoise(seed + uint64(round))
			buf := make([]byte, size)
			for i := range total / size {
				rng.fill(buf)
				write(t, d.FS(), fmt.Sprintf("%04d", i), buf)
			}
			commit(t, d)
			if err := d.store.WriteIndex(t.Context()); err != nil {
				t.Fatal(err)
			}
			closeDrive(t, d)
			rec.Shapes(t, allowedShape)
			all := blobs(t, rec)
			seen = append(seen, shown(all))
			checkPacks(t, all, int64(total))
		}
		if diff := cmp.Diff(seen[0], seen[1]); diff != "" {
			t.Errorf("seed %d: a listing tells one large file from many small ones (-one +many):\n%s", seed+uint64(round), diff)
		}
	}
}

// A change of one file puts a pack and a head into the store, and nothing else, together less than 64 KiB, however many files there are.
// Short of SHEAF_LONG these are 4,000, not a million.
func TestShape_ASmallCommitIsSmall(t *testing.T) {
	dirs, files := 4, 1000
	if long() {
		dirs = 1000
	}
	rec := evil.NewRecorder(mem.New())
	d, _ := newMachine(t, rec).create(Secret{})
	for i := range dirs {
		if _, err := vfs.MkdirAll(t.Context(), d.FS(), fmt.Sprintf("dir %d", i), vfs.New{Mode: 0o755}); err != nil {
			t.Fatal(err)
		}
		for j := range files {
			write(t, d.FS(), fmt.Sprintf("dir %d/file %d", i, j), fmt.Appendf(nil, "%d %d", i, j))
		}
	}
	commit(t, d)
	before := blobs(t, rec)
	write(t, d.FS(), "dir 1/file 500", []byte("changed"))
	commit(t, d)
	count, sum := map[string]int{}, 0
	for n, p := range blobs(t, rec) {
		if _, ok := before[n]; !ok {
			prefix, _, _ := strings.Cut(string(n), "/")
			count[prefix]++
			sum += len(p)
		}
	}
	t.Logf("a small commit among %d files puts %d bytes", dirs*files, sum)
	if diff := cmp.Diff(map[string]int{"packs": 1, "heads": 1}, count); diff != "" || sum >= 64<<10 {
		t.Errorf("a small commit puts %d bytes (-want +got):\n%s", sum, diff)
	}
}

// checkPacks holds the packs of a drive against their names, the look of noise, and what may be added to the total.
func checkPacks(t *testing.T, all map[blob.Name][]byte, total int64) {
	t.Helper()
	sum := int64(0)
	for _, n := range named(all, "packs/") {
		p := all[n]
		if name := blake3.Sum256(p); pack.Name(name).BlobName() != string(n) {
			t.Errorf("%s is not the hash of its bytes", n)
		}
		if err := looksRandom(p[8:]); err != nil { // behind the magic
			t.Errorf("%s: %v", n, err)
		}
		sum += int64(len(p))
	}
	// 1.6 % for the ends of full packs, 3.2 % for the rounding, 0.5 % for manifests, and some small packs.
	if sum < total || sum > total*1053/1000+4*pack.MinSize {
		t.Errorf("packs of %d bytes in all, for %d bytes", sum, total)
	}
}

// K2: the sealed part of every blob looks random, of all kinds and in every pack, padding and directories too, and so do the names;
// of two drives with the same files no name is the same but that of the drive record.
func TestShape_BlobsAndNamesLookRandom(t *testing.T) {
	one, two := blobs(t, newVillage(t).store), blobs(t, newVillage(t).store)
	// What is clear at the front of each: magic, format, epoch, and of slots the ID, the cost, the salt and the padding behind.
	clear := map[string]int{"packs/": 8, "index/": 8, "heads/": 8, "drive/": 8, "members/": 8}
	for n, p := range one {
		if _, ok := two[n]; ok && !within(n, "drive/") {
			t.Errorf("two drives have a blob %s", n)
		}
		if !allowedShape(n, int64(len(p))) {
			t.Errorf("%s: %d bytes", n, len(p))
		}
		for prefix, skip := range clear {
			if !within(n, prefix) {
				continue
			}
			if err := looksRandom(p[skip:]); err != nil {
				t.Errorf("%s: %v", n, err)
			}
		}
	}
	// The control: what is not random does not look it.
	noise := make([]byte, 1<<10)
	newNoise(3).fill(noise)
	if err := looksRandom(noise); err != nil {
		t.Errorf("noise: %v", err)
	}
	for what, p := range map[string][]byte{
		"text": testkit.Text(testkit.Rand(1), 1<<10), "zeros at the end": append(noise[:900:900], make([]byte, 124)...),
	} {
		if looksRandom(p) == nil {
			t.Errorf("%s looks random", what)
		}
	}
}
