package index

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	mrand "math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/kv/memkv"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
	"github.com/sheaf-drive/sheaf/chunkstore/seal"
)

var testKey = [32]byte{1, 2, 3}

func testRand(t testing.TB) *mrand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if v := os.Getenv("SHEAF_SEED"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatalf("SHEAF_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("SHEAF_SEED=%d", seed)
	return mrand.New(mrand.NewPCG(seed, 1))
}

func openIndex(t testing.TB, db kv.DB) *Index {
	t.Helper()
	x, err := Open(t.Context(), db, nil)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// entry returns the entry of chunk number n, different for each place.
func entry(n, off uint32) pack.Entry {
	e := pack.Entry{Kind: chunk.Data, Plain: 100 + n%50, Off: off, Len: 200 + n%50}
	binary.LittleEndian.PutUint32(e.ID[4:], n)
	e.ID[0], e.ID[1] = byte(n*37), byte(n)
	binary.LittleEndian.PutUint32(e.CID[:], n+1)
	e.SIV[0] = byte(n)
	return e
}

func name(n int) pack.Name { return pack.Name{byte(n), byte(n >> 8), 0xaa} }

// mark returns the mark of the pack of that name.
func mark(n pack.Name) Mark { return Mark(n[:16]) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// modelPack and model do what the Index should, in the plainest way.
type modelPack struct {
	entries map[chunk.ID]pack.Entry
	proven  bool
}

type model struct {
	packs map[pack.Name]*modelPack
	at    map[chunk.ID]pack.Name
	gone  map[chunk.ID]bool // removed once: packs may hold it without knowing of a double
}

func (m *model) add(n pack.Name, entries []pack.Entry, wins bool) {
	p := &modelPack{entries: map[chunk.ID]pack.Entry{}, proven: wins}
	for _, e := range entries {
		p.entries[e.ID] = e
		if _, ok := m.at[e.ID]; !ok || wins {
			m.at[e.ID] = n
		}
	}
	m.packs[n] = p
}

// prove says what pack n holds in truth.
func (m *model) prove(n pack.Name, entries []pack.Entry) {
	was := m.packs[n]
	if !was.proven {
		m.drop(n)
	}
	p := &modelPack{entries: map[chunk.ID]pack.Entry{}, proven: true}
	for _, e := range entries {
		p.entries[e.ID] = e
		if at, ok := m.at[e.ID]; !was.proven && (!ok || !m.packs[at].proven) {
			m.at[e.ID] = n
		}
	}
	m.packs[n] = p
}

func (m *model) drop(n pack.Name) {
	delete(m.packs, n)
	maps.DeleteFunc(m.at, func(_ chunk.ID, at pack.Name) bool { return at == n })
}

// check holds the whole Index against the model.
func (m *model) check(t *testing.T, x *Index, chunks uint32) {
	t.Helper()
	live := map[pack.Name]uint32{}
	liveBytes := map[pack.Name]int64{}
	for n := range chunks {
		id, cid := entry(n, 0).ID, entry(n, 0).CID
		at, want := m.at[id]
		loc, ok, err := x.Lookup(t.Context(), id)
		must(t, err)
		if ok != want || ok && (loc.Pack != at || loc.Entry(id) != m.packs[at].entries[id]) {
			t.Fatalf("chunk %d: got %v %v, want %v %v", n, loc.Pack, ok, at, want)
		}
		got, _, ok, err := x.ByCID(t.Context(), cid)
		must(t, err)
		if ok != want || ok && got != id {
			t.Fatalf("plain bytes of chunk %d: got %v, want %v", n, ok, want)
		}
		if want {
			live[at]++
			liveBytes[at] += int64(loc.Len)
		}
	}
	packs := x.Packs()
	if len(packs) != len(m.packs) || x.Len() != len(m.packs) {
		t.Fatalf("got %d packs, want %d", len(packs), len(m.packs))
	}
	for _, p := range packs {
		if p.Live != live[p.Name] || p.LiveBytes != liveBytes[p.Name] || int(p.Count) != len(m.packs[p.Name].entries) {
			t.Fatalf("pack %v: got %+v, want %d live of %d bytes", p.Name, p, live[p.Name], liveBytes[p.Name])
		}
		if p.Proven != m.packs[p.Name].proven {
			t.Fatalf("pack %v: proven %v", p.Name, p.Proven)
		}
		if p.Live < p.Count && !p.Doubles {
			for id := range m.packs[p.Name].entries {
				if at, ok := m.at[id]; ok && at != p.Name && !m.gone[id] {
					t.Fatalf("pack %v has a double and does not know it", p.Name)
				}
			}
		}
	}
}

func byID(entries []pack.Entry) map[chunk.ID]pack.Entry {
	m := map[chunk.ID]pack.Entry{}
	for _, e := range entries {
		m[e.ID] = e
	}
	return m
}

func TestIndex_AgreesWithAModel(t *testing.T) {
	rnd := testRand(t)
	const chunks = 60
	for range 30 {
		db := memkv.New()
		x := openIndex(t, db)
		m := &model{packs: map[pack.Name]*modelPack{}, at: map[chunk.ID]pack.Name{}, gone: map[chunk.ID]bool{}}
		var known []pack.Name
		truth := map[pack.Name][]pack.Entry{}
		for step := range 60 {
			n := name(step)
			switch op := rnd.IntN(12); {
			case op >= 10 && len(known) > 0: // is read whole
				p := known[rnd.IntN(len(known))]
				was := m.packs[p]
				lie := !was.proven && len(was.entries) > 0 && !maps.Equal(was.entries, byID(truth[p]))
				if changed, err := x.Prove(t.Context(), p, pack.Size, truth[p], mark(p)); err != nil || lie && !changed || was.proven && changed {
					t.Fatalf("prove: got %v, %v; it was a lie: %v", changed, err, lie)
				}
				m.prove(p, truth[p])
			case op < 4:
				var entries []pack.Entry
				for _, c := range rnd.Perm(chunks)[:1+rnd.IntN(12)] {
					entries = append(entries, entry(uint32(c), rnd.Uint32N(1000)))
				}
				truth[n] = entries
				if op < 2 {
					must(t, x.Add(t.Context(), n, pack.Size, entries, mark(n)))
				} else {
					if i := rnd.IntN(2 * (len(known) + 1)); i < len(known) { // another pack is shown
						entries = truth[known[i]]
					}
					must(t, x.Learn(t.Context(), n, pack.Size, entries, mark(n)))
				}
				m.add(n, entries, op < 2)
				known = append(known, n)
			case op < 6 && len(known) > 0: // vanishes
				i := rnd.IntN(len(known))
				must(t, x.Drop(t.Context(), known[i]))
				m.drop(known[i])
				known = append(known[:i], known[i+1:]...)
			case op < 8 && len(known) > 0: // merges one pack into a new one
				i := rnd.IntN(len(known))
				var moved []Moved
				var entries []pack.Entry
				for id, e := range m.packs[known[i]].entries {
					if rnd.IntN(8) > 0 && m.at[id] == known[i] {
						e.Off++
						moved = append(moved, Moved{Entry: e, From: known[i]})
						entries = append(entries, e)
					}
				}
				must(t, x.Move(t.Context(), n, pack.Size, mark(n), moved, known[i:i+1]))
				for _, e := range entries {
					delete(m.at, e.ID)
				}
				m.drop(known[i])
				m.add(n, entries, true)
				known[i], truth[n] = n, entries
			case op < 9: // collects garbage
				id := entry(rnd.Uint32N(chunks), 0).ID
				wrong := rnd.IntN(2) == 0
				at, ok := m.at[id]
				if wrong {
					at = pack.Name{0xff}
				} else if ok && m.packs[at].proven {
					delete(m.at, id)
					m.gone[id] = true
				}
				must(t, x.Remove(t.Context(), []Dead{{ID: id, Pack: at}}))
			default:
				if rnd.IntN(2) == 0 {
					x = openIndex(t, db) // anew
				}
				if rnd.IntN(2) == 0 {
					must(t, x.FillFilter(t.Context()))
				}
			}
			m.check(t, x, chunks)
		}
	}
}

// A number is never given twice, so that what an old pack left behind is nobody's.
func TestIndex_NumbersAreNotUsedAgain(t *testing.T) {
	db := memkv.New()
	x := openIndex(t, db)
	must(t, x.Add(t.Context(), name(1), pack.Size, []pack.Entry{entry(1, 8)}, mark(name(1))))
	must(t, x.Drop(t.Context(), name(1)))
	x = openIndex(t, db)
	must(t, x.Add(t.Context(), name(2), pack.Size, []pack.Entry{entry(2, 8)}, mark(name(2))))
	if _, ok, err := x.Lookup(t.Context(), entry(1, 0).ID); ok || err != nil {
		t.Fatalf("a chunk of a dropped pack: got %v, %v", ok, err)
	}
	orphans := 0
	for it, err := range x.All(t.Context()) {
		must(t, err)
		if it.Orphan {
			orphans++
			must(t, x.RemoveOrphans(t.Context(), []chunk.ID{it.ID}))
		}
	}
	if orphans != 1 {
		t.Fatalf("got %d orphans, want 1", orphans)
	}
	for it, err := range x.All(t.Context()) {
		must(t, err)
		if it.ID != entry(2, 0).ID {
			t.Fatalf("got %v", it)
		}
	}
}

func TestIndex_CondemnPardonAndCycles(t *testing.T) {
	x := openIndex(t, memkv.New())
	a, b := entry(1, 0).ID, entry(2, 0).ID
	one, err := x.NextCycle(t.Context())
	must(t, err)
	two, err := x.NextCycle(t.Context())
	must(t, err)
	if two <= one {
		t.Fatalf("cycles %d, %d", one, two)
	}
	at := time.Unix(1000, 0)
	must(t, x.Condemn(t.Context(), one, at, []chunk.ID{a, b}))
	must(t, x.Condemn(t.Context(), two, at.Add(time.Hour), []chunk.ID{a}))
	must(t, x.Pardon(t.Context(), []chunk.ID{b}))
	var got []Condemned
	for c, err := range x.Condemned(t.Context()) {
		must(t, err)
		got = append(got, c)
	}
	if d := cmp.Diff([]Condemned{{ID: a, Cycle: one, At: at}}, got); d != "" {
		t.Fatal(d)
	}
}

func TestIndex_DamagedRecordsAreErrDamaged(t *testing.T) {
	for _, key := range []string{"xp\x00\x00\x00\x01", "xl" + string(make([]byte, 32))} {
		db := memkv.New()
		must(t, db.Update(t.Context(), func(tx kv.Tx) error { return tx.Put([]byte(key), []byte("nonsense")) }))
		x, err := Open(t.Context(), db, nil)
		if err == nil {
			_, _, err = x.Lookup(t.Context(), chunk.ID{})
		}
		if !errors.Is(err, kv.ErrDamaged) {
			t.Errorf("%x: got %v, want kv.ErrDamaged", key, err)
		}
	}
}

func TestSet_NeverForgets(t *testing.T) {
	rnd := testRand(t)
	var s Set
	want := map[[32]byte]bool{}
	for i := range 100_000 {
		var h [32]byte
		binary.LittleEndian.PutUint64(h[:], rnd.Uint64N(70_000)*0x100000001)
		if fresh := s.Add(h); fresh == want[h] {
			t.Fatalf("add %d: got %v", i, fresh)
		}
		want[h] = true
	}
	for i := range uint64(70_000) {
		var h [32]byte
		binary.LittleEndian.PutUint64(h[:], i*0x100000001)
		if s.Has(h) != want[h] {
			t.Fatalf("has %d: got %v, want %v", i, s.Has(h), want[h])
		}
	}
	if s.Len() != len(want) || s.Bytes() > 32*len(want) {
		t.Fatalf("got %d in %d bytes, want %d", s.Len(), s.Bytes(), len(want))
	}
}

// fill makes an index of n packs with k chunks each, and returns what lies in the bucket.
func fill(t testing.TB, x *Index, n, k int) map[pack.Name]int64 {
	t.Helper()
	present := map[pack.Name]int64{}
	for i := range n {
		var entries []pack.Entry
		for j := range k {
			entries = append(entries, entry(uint32(i*k+j), uint32(8+300*j)))
		}
		must(t, x.Add(t.Context(), name(i), pack.Size, entries, mark(name(i))))
		present[name(i)] = pack.Size
	}
	return present
}

func wantSame(t *testing.T, got, want *Index, chunks int) {
	t.Helper()
	for n := range chunks {
		id := entry(uint32(n), 0).ID
		a, aok, err := got.Lookup(t.Context(), id)
		must(t, err)
		b, bok, err := want.Lookup(t.Context(), id)
		must(t, err)
		if a != b || aok != bok {
			t.Fatalf("chunk %d: got %v %v, want %v %v", n, a, aok, b, bok)
		}
	}
	packs := want.Packs()
	for i := range packs { // what blobs tell is hearsay
		packs[i].Proven, packs[i].Own = false, false
	}
	if d := cmp.Diff(packs, got.Packs()); d != "" {
		t.Fatal(d)
	}
}

func TestBlobs_BringTheIndexBack(t *testing.T) {
	for _, size := range []struct{ packs, chunks int }{{1, 1}, {3, 100}, {70, 400}} {
		bucket := mem.New()
		x := openIndex(t, memkv.New())
		present := fill(t, x, size.packs, size.chunks)
		must(t, x.WriteBlobs(t.Context(), bucket, &testKey, rand.Reader))
		if c, err := x.Coverage(t.Context()); err != nil || c.Uncovered != 0 || c.Covered != size.packs {
			t.Fatalf("got %d uncovered, %d covered, %v", c.Uncovered, c.Covered, err)
		}
		for info, err := range bucket.List(t.Context(), "") {
			must(t, err)
			if !BlobSize(info.Size) || !BlobOf(info.Name) || info.Name.Check() != nil {
				t.Fatalf("blob %q of %d bytes", info.Name, info.Size)
			}
		}
		fresh := openIndex(t, memkv.New())
		must(t, fresh.Load(t.Context(), bucket, &testKey, present))
		wantSame(t, fresh, x, size.packs*size.chunks)
		if c, err := fresh.Coverage(t.Context()); err != nil || c.Uncovered != 0 || c.Covered != size.packs {
			t.Fatalf("loaded: got %d uncovered, %d covered, %v", c.Uncovered, c.Covered, err)
		}
		must(t, CheckBlobs(t.Context(), bucket, &testKey, func(n blob.Name, err error) { t.Errorf("%s: %v", n, err) }))
	}
}

func TestBlobs_PacksThatAreNotPresentAreNotLearned(t *testing.T) {
	bucket := mem.New()
	x := openIndex(t, memkv.New())
	present := fill(t, x, 5, 10)
	must(t, x.WriteBlobs(t.Context(), bucket, &testKey, rand.Reader))
	delete(present, name(2))
	present[name(3)] = 1 << 16 // another size
	fresh := openIndex(t, memkv.New())
	must(t, fresh.Load(t.Context(), bucket, &testKey, present))
	for i := range 5 {
		_, ok, err := fresh.Lookup(t.Context(), entry(uint32(i*10), 0).ID)
		must(t, err)
		if _, known := fresh.Pack(name(i)); ok != known || ok != (i != 2 && i != 3) {
			t.Errorf("pack %d: got known %v, its chunk %v", i, known, ok)
		}
	}
}

func TestBlobs_OldGenerationsGoAndOldestServeIfTheNewestIsDamaged(t *testing.T) {
	bucket := mem.New()
	x := openIndex(t, memkv.New())
	present := fill(t, x, 2, 10)
	must(t, x.WriteBlobs(t.Context(), bucket, &testKey, rand.Reader))
	first := bucket.Clone()
	must(t, x.WriteBlobs(t.Context(), bucket, &testKey, rand.Reader))
	count := 0
	for info, err := range bucket.List(t.Context(), "") {
		must(t, err)
		count++
		body, err := blob.ReadAll(t.Context(), bucket, info.Name, info.Size)
		must(t, err)
		body[len(body)/2] ^= 1
		must(t, first.Put(t.Context(), info.Name, bytes.NewReader(body), int64(len(body))))
	}
	if count != 2 {
		t.Fatalf("got %d blobs, want one root and one shard", count)
	}
	fresh := openIndex(t, memkv.New())
	must(t, fresh.Load(t.Context(), first, &testKey, present))
	wantSame(t, fresh, x, 20)
}

// Flipped bits and cuts of root and shard, wherever they are, are found, and leaves the
// index as it was.
func TestBlobs_DamageIsFoundAndHarmless(t *testing.T) {
	rnd := testRand(t)
	bucket := mem.New()
	x := openIndex(t, memkv.New())
	present := fill(t, x, 3, 5)
	must(t, x.WriteBlobs(t.Context(), bucket, &testKey, rand.Reader))
	for info, err := range bucket.List(t.Context(), "") {
		must(t, err)
		body, err := blob.ReadAll(t.Context(), bucket, info.Name, info.Size)
		must(t, err)
		try := func(what string, bad []byte) {
			t.Helper()
			b := bucket.Clone()
			must(t, b.Put(t.Context(), info.Name, bytes.NewReader(bad), int64(len(bad))))
			fresh := openIndex(t, memkv.New())
			if err := fresh.Load(t.Context(), b, &testKey, present); !errors.Is(err, ErrBlob) {
				t.Fatalf("%s, %s: got %v, want ErrBlob", info.Name, what, err)
			}
			if fresh.Len() != 0 {
				t.Fatalf("%s, %s: packs became known", info.Name, what)
			}
			found := 0
			must(t, CheckBlobs(t.Context(), b, &testKey, func(blob.Name, error) { found++ }))
			if found == 0 {
				t.Fatalf("%s, %s: CheckBlobs found nothing", info.Name, what)
			}
		}
		for bit := rnd.IntN(61); bit < 8*len(body); bit += 61 {
			if bit > 8*4096 { // of what is behind, most of it padding, a few hundred
				bit += rnd.IntN(len(body) / 16)
			}
			bad := bytes.Clone(body)
			bad[min(bit/8, len(body)-1)] ^= 1 << (bit % 8)
			try("bit "+strconv.Itoa(bit), bad)
		}
		for _, n := range []int{0, 1, 7, 8, 31, 32, 47, 48, 52, len(body) - 1} {
			try("cut at "+strconv.Itoa(n), body[:n])
		}
		try("longer", append(bytes.Clone(body), 0))
	}
}

// A store that is too young for index blobs has none, or the shards of a generation that was cut off: that is no damage.
func TestBlobs_NoneYet(t *testing.T) {
	x := openIndex(t, memkv.New())
	present := fill(t, x, 3, 5)
	fresh := openIndex(t, memkv.New())
	must(t, fresh.Load(t.Context(), mem.New(), &testKey, present))
	b := &failingBucket{Bucket: mem.New(), left: 1}
	if err := x.WriteBlobs(t.Context(), b, &testKey, rand.Reader); err == nil {
		t.Fatal("the bucket did not fail")
	}
	must(t, fresh.Load(t.Context(), b.Bucket, &testKey, present))
	if fresh.Len() != 0 {
		t.Errorf("%d chunks became known", fresh.Len())
	}
}

// What is sealed as one blob is not taken for another (attack A17), nor by another key.
func TestBlobs_AreBoundToTheirPlace(t *testing.T) {
	g, other := generation{1}, generation{2}
	b, err := sealBlob(&testKey, g, roleShard, 3, []byte("content"), 0, rand.Reader)
	must(t, err)
	if got, err := openBlob(&testKey, g, roleShard, 3, bytes.Clone(b)); err != nil || string(got) != "content" {
		t.Fatalf("got %q, %v", got, err)
	}
	for i, open := range []func(b []byte) ([]byte, error){
		func(b []byte) ([]byte, error) { return openBlob(&[32]byte{9}, g, roleShard, 3, b) },
		func(b []byte) ([]byte, error) { return openBlob(&testKey, other, roleShard, 3, b) },
		func(b []byte) ([]byte, error) { return openBlob(&testKey, g, roleRoot, 3, b) },
		func(b []byte) ([]byte, error) { return openBlob(&testKey, g, roleShard, 4, b) },
	} {
		if _, err := open(bytes.Clone(b)); !errors.Is(err, ErrBlob) {
			t.Errorf("case %d: got %v, want ErrBlob", i, err)
		}
	}
}

// A crash while blobs are written leaves the older generation in use; the next writing clears up.
func TestBlobs_CrashWhileWriting(t *testing.T) {
	bucket := mem.New()
	x := openIndex(t, memkv.New())
	present := fill(t, x, 4, 600)
	must(t, x.WriteBlobs(t.Context(), bucket, &testKey, rand.Reader))
	for n := 1; ; n++ {
		b := &failingBucket{Bucket: bucket.Clone(), left: n}
		err := x.WriteBlobs(t.Context(), b, &testKey, rand.Reader)
		fresh := openIndex(t, memkv.New())
		must(t, fresh.Load(t.Context(), b.Bucket, &testKey, present))
		wantSame(t, fresh, x, 2400)
		// What is left may be another writer's work; it goes once a later one is complete.
		must(t, x.WriteBlobs(t.Context(), b.Bucket, &testKey, rand.Reader))
		must(t, x.WriteBlobs(t.Context(), b.Bucket, &testKey, rand.Reader))
		gens := map[string]bool{}
		for info, err := range b.List(t.Context(), "") {
			must(t, err)
			gens[string(info.Name[:38])] = true
		}
		if len(gens) != 1 {
			t.Fatalf("crash at change %d: %d generations are left", n, len(gens))
		}
		if err == nil {
			if n < 4 {
				t.Fatalf("only %d changes", n)
			}
			return
		}
	}
}

// failingBucket fails from the n-th change on.
type failingBucket struct {
	*mem.Bucket
	left int
}

func (b *failingBucket) Put(ctx context.Context, n blob.Name, r io.Reader, size int64) error {
	if b.left--; b.left < 0 {
		return errors.New("injected fault")
	}
	return b.Bucket.Put(ctx, n, r, size)
}

func (b *failingBucket) Remove(ctx context.Context, names ...blob.Name) error {
	if b.left--; b.left < 0 {
		return errors.New("injected fault")
	}
	return b.Bucket.Remove(ctx, names...)
}

func BenchmarkIndex_ByCIDUnknown(b *testing.B) {
	x := openIndex(b, memkv.New())
	fill(b, x, 100, 100)
	must(b, x.FillFilter(b.Context()))
	var cid seal.CID
	n := uint64(0)
	for b.Loop() {
		n++
		binary.BigEndian.PutUint64(cid[:], n<<20)
		if _, _, ok, _ := x.ByCID(b.Context(), cid); ok {
			b.Fatal("found")
		}
	}
}
