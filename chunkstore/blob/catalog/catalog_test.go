package catalog_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

func hashOf(i int) [32]byte { return blake3.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i))) }

// some returns n packs and the index blobs of a few generations, in byte order.
func some(n int) []blob.Info {
	var all []blob.Info
	for i := range n {
		all = append(all, blob.Info{Name: catalog.PackName(hashOf(i)), Size: int64(32768 + i)})
	}
	for g := range 3 {
		gen := hashOf(-g - 1)
		for s := range 4 {
			all = append(all, blob.Info{Name: blob.Name(fmt.Sprintf("index/%x/%02x", gen[:16], s*80)), Size: int64(4096 + s)})
		}
		all = append(all, blob.Info{Name: blob.Name(fmt.Sprintf("index/%x/root", gen[:16])), Size: 8192})
	}
	slices.SortFunc(all, func(a, b blob.Info) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return all
}

func build(t testing.TB, infos ...blob.Info) *catalog.Table {
	t.Helper()
	var b catalog.Builder
	for _, info := range infos {
		if ok, err := b.Add(info); err != nil || !ok {
			t.Fatalf("add %s: %v, %v", info.Name, ok, err)
		}
	}
	return b.Table()
}

func TestTable_HasWhatWasAddedInOrder(t *testing.T) {
	r := testkit.Rand(testkit.Seed(t))
	want := some(1000)
	mixed := append(slices.Clone(want), want[:500]...) // some come twice
	r.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
	tab := build(t, mixed...)
	sum := int64(0)
	for _, info := range want {
		sum += info.Size
		if n, ok := tab.Size(info.Name); !ok || n != info.Size {
			t.Errorf("%s: got %d, %v", info.Name, n, ok)
		}
	}
	if tab.Len() != len(want) || tab.Bytes() != sum {
		t.Errorf("got %d blobs of %d bytes, want %d of %d", tab.Len(), tab.Bytes(), len(want), sum)
	}
	prefixes := []blob.Name{"", "p", "packs/", "packs/0", "packs/0f/", "packs/zz", "index/", "index", "i", "heads/", "z", "a", "packs/ff/ff"}
	for range 200 {
		n := want[r.IntN(len(want))].Name
		prefixes = append(prefixes, n[:r.IntN(len(n)+1)], n+"x")
	}
	for _, prefix := range prefixes {
		var wanted []blob.Info
		for _, info := range want {
			if strings.HasPrefix(string(info.Name), string(prefix)) {
				wanted = append(wanted, info)
			}
		}
		if diff := cmp.Diff(wanted, slices.Collect(tab.All(prefix))); diff != "" {
			t.Fatalf("all of %q (-want +got):\n%s", prefix, diff)
		}
	}
	if _, ok := tab.Size(catalog.PackName(hashOf(1 << 40))); ok {
		t.Error("a pack that was not added is there")
	}
}

func TestBuilder_TheLastSizeCounts(t *testing.T) {
	n := catalog.PackName(hashOf(1))
	tab := build(t, blob.Info{Name: n, Size: 5}, blob.Info{Name: catalog.PackName(hashOf(2)), Size: 5}, blob.Info{Name: n, Size: 6})
	if size, _ := tab.Size(n); size != 6 || tab.Len() != 2 {
		t.Errorf("got size %d of %d blobs", size, tab.Len())
	}
	tab = build(t, blob.Info{Name: n, Size: 1 << 40}, blob.Info{Name: catalog.PackName(hashOf(2)), Size: -1})
	if size, _ := tab.Size(n); size != 1<<32-1 || tab.Bytes() != 1<<32-1 {
		t.Errorf("got size %d of %d bytes", size, tab.Bytes())
	}
}

func TestBuilder_PassesOverWhatIsNoPackAndNoIndex(t *testing.T) {
	good := string(catalog.PackName(hashOf(1)))
	for _, n := range []string{
		"", "packs", "packs/", good[:len(good)-1], good + "0", strings.ToUpper(good), "packs/zz" + good[8:], "packs/00/" + good[9:][:63] + "g",
		"index/", "index/00112233445566778899aabbccddeeff", "index/00112233445566778899aabbccddeeff/", "index/00112233445566778899aabbccddeeff/0",
		"index/00112233445566778899aabbccddeeff/Root", "index/00112233445566778899aabbccddeeff/0G", "index/00112233445566778899aabbccddeefg/root",
		"heads/00112233445566778899aabbccddeeff/0000000000000001", "members/x", "packs/" + strings.Repeat("€", 22) + "/",
	} {
		var b catalog.Builder
		if ok, err := b.Add(blob.Info{Name: blob.Name(n)}); ok || err != nil {
			t.Errorf("%q: got %v, %v", n, ok, err)
		}
	}
	gen, root, ok := catalog.Generation("index/00112233445566778899aabbccddeeff/root")
	if !ok || !root || gen[1] != 0x11 {
		t.Errorf("got %x, %v, %v", gen, root, ok)
	}
}

func TestBuilder_IsFull(t *testing.T) {
	if testing.Short() {
		t.Skip("four million names take a while")
	}
	var b catalog.Builder
	for i := range catalog.Limit {
		var h [32]byte
		binary.BigEndian.PutUint64(h[:], uint64(i))
		if _, err := b.Add(blob.Info{Name: catalog.PackName(h)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Add(blob.Info{Name: catalog.PackName(hashOf(1))}); !errors.Is(err, catalog.ErrFull) {
		t.Errorf("got error %v, want ErrFull", err)
	}
}

func TestTable_With(t *testing.T) {
	all := some(50)
	tab := build(t, all[5:]...)
	got, err := tab.With(slices.Values(all[:7]), func(n blob.Name) bool { return n == all[20].Name })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(slices.Delete(slices.Clone(all), 20, 21), slices.Collect(got.All(""))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n, size := build(t, all...).Missing(got); n != 1 || size != all[20].Size {
		t.Errorf("missing: got %d of %d bytes", n, size)
	}
	if n, _ := build(t, all...).Missing(nil); n != len(all) {
		t.Errorf("missing of nothing: got %d", n)
	}
}

func TestParse_IsTheInverseOfAppend(t *testing.T) {
	for _, n := range []int{0, 1, 100} {
		tab := build(t, some(n)...)
		p := tab.Append([]byte("before"))[6:]
		got, err := catalog.Parse(p)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(slices.Collect(tab.All("")), slices.Collect(got.All(""))); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		for i := range p { // each byte counts
			q := bytes.Clone(p)
			q[i] ^= 1 << (i % 8)
			if _, err := catalog.Parse(q); !errors.Is(err, catalog.ErrDamaged) {
				t.Fatalf("byte %d: got error %v, want ErrDamaged", i, err)
			}
		}
		if _, err := catalog.Parse(p[:len(p)-1]); !errors.Is(err, catalog.ErrDamaged) {
			t.Errorf("cut off: got error %v", err)
		}
	}
	var none *catalog.Table
	if got, err := catalog.Parse(none.Append(nil)); err != nil || got.Len() != 0 {
		t.Errorf("nothing: got %v, %v", got, err)
	}
}

// FuzzParse: whatever the bytes are, with a right sum or not, what is taken is what Append writes.
func FuzzParse(f *testing.F) {
	f.Add(build(f, some(3)...).Append(nil), true)
	f.Add([]byte("SHEAFCT1"), false)
	f.Fuzz(func(t *testing.T, p []byte, sum bool) {
		if sum && len(p) >= 32 {
			s := blake3.Sum256(p[:len(p)-32])
			p = append(bytes.Clone(p[:len(p)-32]), s[:]...)
		}
		tab, err := catalog.Parse(p)
		if err != nil {
			if !errors.Is(err, catalog.ErrDamaged) {
				t.Fatalf("got error %v", err)
			}
			return
		}
		if !bytes.Equal(tab.Append(nil), p) {
			t.Error("it is taken, and written otherwise")
		}
		last := blob.Name("")
		for info := range tab.All("") {
			if info.Name <= last || info.Name.Check() != nil {
				t.Fatalf("%q after %q", info.Name, last)
			}
			last = info.Name
			if n, ok := tab.Size(info.Name); !ok || n != info.Size {
				t.Fatalf("%s: %d, %v", info.Name, n, ok)
			}
		}
	})
}

func BenchmarkTable_Size(b *testing.B) {
	all := some(100_000)
	tab := build(b, all...)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		tab.Size(all[i%len(all)].Name)
	}
}
