package sheaf

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
	"github.com/sheaf-drive/sheaf/chunkstore/seal"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live/journal"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// T-A5, T-A1: a place plants blobs made of all that it can know: the drive's own blobs under other names, blobs of a drive
// of its own, and noise of the right shape. None of it is shown, and each is reported or stops the drive with a typed error.
func TestAttack_PlantedBlobsAreNotShown(t *testing.T) {
	v := newVillage(t)
	own := blobs(t, newVillage(t).store) // of a drive that the attacker has all keys of
	all := blobs(t, v.store)
	heads := named(all, "heads/")
	folder := heads[0][:len(heads[0])-16]
	next := folder + blob.Name(fmt.Sprintf("%016x", len(heads)+1))
	noise := func(n int, magic string) []byte {
		p := make([]byte, n)
		newNoise(9).fill(p)
		copy(p, magic)
		return p
	}
	ownHeads, ownIndex, ownMembers := named(own, "heads/"), named(own, "index/"), named(own, "members/")
	plants := map[string]map[blob.Name][]byte{
		"the newest head, as the next one": {next: all[heads[len(heads)-1]]},
		"the first head, as the next one":  {next: all[heads[0]]},
		"a head of noise":                  {next: noise(4<<10, "SHB\x01\x00\x00\x00\x01")},
		"a foreign head in our folder":     {next: own[ownHeads[len(ownHeads)-1]]},
		"a foreign device's heads":         pick(own, "heads/"),
		"a foreign drive record, newer":    {"drive/00000002": own["drive/00000001"], "drive/00000002.2": own["drive/00000001"]},
		"our drive record, as a newer one": {"drive/00000002": all["drive/00000001"], "drive/00000002.2": all["drive/00000001"]},
		"foreign members, renamed":         {"members/0123456789abcdef0123456789abcdef": own[ownMembers[0]], "members/0123456789abcdef0123456789abcdef.2": own[ownMembers[0]]},
		"foreign members":                  pick(own, "members/"),
		"our member, renamed":              {"members/0123456789abcdef0123456789abcdef": all[named(all, "members/")[0]]},
		"foreign packs":                    pick(own, "packs/"),
		"a foreign key slot":               pick(own, "keys/"),
		"foreign index blobs":              pick(own, "index/"),
		"a later index of noise":           {"index/7fffffffffffffff0123456789abcdef/root": noise(4<<10, "SHEAFIX1")},
		"a later index of foreign blobs":   {"index/7fffffffffffffff0123456789abcdef/root": own[ownIndex[1]], "index/7fffffffffffffff0123456789abcdef/00": own[ownIndex[0]]},
		"a pack of noise":                  {"packs/00/" + blob.Name(strings.Repeat("0", 64)): noise(64<<10, "SHEAFPK1")},
		"a file where none belongs":        {"readme.html": []byte("<html>"), "packs/readme": []byte("x"), "heads/readme": []byte("x"), "index/readme": []byte("x")},
		"all that the attacker has":        own,
	}
	for _, what := range slices.Sorted(maps.Keys(plants)) {
		store := v.store.Clone()
		for n, p := range plants[what] {
			if _, ok := all[n]; !ok {
				putBlob(t, store, n, p)
			}
		}
		m := v.clone(store.Clone())
		if found, err := inspect(t, m.tryOpen, v.want); err != nil || found == nil {
			t.Errorf("%s: on its device: found %v, error %v", what, found, err)
		}
		if found, err := v.joined(store); err != nil || found == nil {
			t.Errorf("%s: on a new device: found %v, error %v", what, found, err)
		}
	}
}

func pick(all map[blob.Name][]byte, prefix string) map[blob.Name][]byte {
	some := map[blob.Name][]byte{}
	for _, n := range named(all, prefix) {
		some[n] = all[n]
	}
	return some
}

// T-A8: a passphrase slot with a cheaper cost, or records of another format, are refused, before anything is computed with them.
func TestAttack_DowngradesAreRefused(t *testing.T) {
	phrase := Secret{Passphrase: []byte("correct horse battery staple")}
	m := newMachine(t, mem.New())
	d, words := m.create(phrase)
	closeDrive(t, d)
	all := blobs(t, m.bucket)
	changed := func(name blob.Name, from, to string) *mem.Bucket {
		t.Helper()
		body := all[name]
		if bytes.Count(body, []byte(from)) != 1 {
			t.Fatalf("%s has %x %d times", name, from, bytes.Count(body, []byte(from)))
		}
		b := m.bucket.(*mem.Bucket).Clone()
		for n := range all { // both copies
			if strings.TrimSuffix(string(n), ".2") == strings.TrimSuffix(string(name), ".2") {
				putBlob(t, b, n, bytes.Replace(body, []byte(from), []byte(to), 1))
			}
		}
		return b
	}
	// The cost in a slot: an array of Argon2id, 64 MiB, 3 passes, 1 thread, as cheap has it.
	const cost = "\x05\x84\x01\x1a\x00\x01\x00\x00\x03\x01"
	tried := 0
	for _, name := range named(all, "keys/") {
		if !bytes.Contains(all[name], []byte(cost)) {
			continue
		}
		for what, to := range map[string]string{
			"8 MiB": "\x05\x84\x01\x1a\x00\x00\x20\x00\x03\x01", "1 pass": "\x05\x84\x01\x1a\x00\x01\x00\x00\x01\x01",
			"no pass": "\x05\x84\x01\x1a\x00\x01\x00\x00\x00\x01", "no thread": "\x05\x84\x01\x1a\x00\x01\x00\x00\x03\x00",
			"argon2d": "\x05\x84\x00\x1a\x00\x01\x00\x00\x03\x01", "4 TiB": "\x05\x84\x01\x1a\xff\xff\xff\xff\x03\x01",
			"more passes": "\x05\x84\x01\x1a\x00\x01\x00\x00\x04\x01",
		} {
			if tried++; tried > 2 && !long() {
				break // each costs what a right one does, so that time tells nothing
			}
			if _, err := Open(t.Context(), m.clone(changed(name, cost, to)).options(phrase)); !errors.Is(err, ErrPassphrase) {
				t.Errorf("%s: %v, want ErrPassphrase", what, err)
			}
		}
	}
	if tried == 0 {
		t.Fatal("no slot has the cost where this test looks for it")
	}
	for prefix, magic := range map[string]string{"drive/": "SHB\x01", "members/": "SHB\x01", "heads/": "SHB\x01"} {
		store := m.bucket.(*mem.Bucket).Clone()
		for _, name := range named(all, prefix) { // both copies
			body := bytes.Clone(all[name])
			if string(body[:4]) != magic {
				t.Fatalf("%s begins with %q", name, body[:4])
			}
			body[3] = 0
			putBlob(t, store, name, body)
		}
		_, err := Open(t.Context(), m.clone(store).options(phrase))
		if len(named(all, prefix)) > 0 && !errors.Is(err, keys.ErrTampered) {
			t.Errorf("%s of format 0: %v, want ErrTampered", prefix, err)
		}
	}
	// What is untouched opens, both ways.
	d, err := Open(t.Context(), m.options(phrase))
	if err != nil {
		t.Fatal(err)
	}
	drop(t, d)
	other := newMachine(t, m.bucket)
	drop(t, other.join(words))
}

// entriesOf returns what the directory of each pack says, and the sealed bytes of each chunk.
func entriesOf(t testing.TB, all map[blob.Name][]byte, key [32]byte) map[chunk.ID]sealedChunk {
	t.Helper()
	found := map[chunk.ID]sealedChunk{}
	for _, n := range named(all, "packs/") {
		p := all[n]
		entries, err := pack.ReadDirectory(&key, int64(len(p)), bytes.NewReader(p))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			found[e.ID] = sealedChunk{e, p[e.Off : e.Off+e.Len]}
		}
	}
	return found
}

type sealedChunk struct {
	pack.Entry
	bytes []byte
}

// T-A14: two drives with the same files, made in the same way, have no pack, chunk, dedup ID, synthetic ID or chunk key in common, and
// the packs of one tell nothing to who has the keys of the other.
func TestAttack_TwoDrivesWithTheSameFilesShareNothing(t *testing.T) {
	seen := map[string]string{}
	var stores []map[blob.Name][]byte
	var dirKeys [][32]byte
	total := 0
	for i := range 2 {
		v := newVillage(t)
		d := v.open()
		secrets := storeKeys(d)
		all := blobs(t, v.store)
		stores, dirKeys = append(stores, all), append(dirKeys, secrets.PackDir)
		for _, n := range named(all, "packs/") {
			seen[string(n)] += fmt.Sprint(i)
		}
		for id, c := range entriesOf(t, all, secrets.PackDir) {
			key := secrets.Seal.KeyOf(c.SIV)
			for _, b := range [][]byte{id[:], c.CID[:], c.SIV[:], key[:]} {
				seen[string(b)] += fmt.Sprint(i)
				total++
			}
		}
		drop(t, d)
	}
	for b, in := range seen {
		if strings.Contains(in, "0") && strings.Contains(in, "1") {
			t.Errorf("both drives have %x", b)
		}
	}
	for _, n := range named(stores[0], "packs/") {
		p := stores[0][n]
		if _, err := pack.ReadDirectory(&dirKeys[1], int64(len(p)), bytes.NewReader(p)); !errors.Is(err, pack.ErrTampered) {
			t.Errorf("a pack opens with the key of another drive: %v", err)
		}
	}
	if total < 50 {
		t.Errorf("%d addresses and keys: too few to show anything", total)
	}
}

// T-A17: a file with exactly the bytes of a directory, a file node, a snapshot, a history, a head, a pack or a slot is a file, and no
// way to read it as the other thing: neither with its own Ref nor with one whose kind was changed.
func TestAttack_FileThatIsByteEqualToSomethingElse(t *testing.T) {
	v := newVillage(t)
	d := v.open()
	ctx := t.Context()
	bodies := map[string][]byte{}
	for ref, plain := range chunksOf(t, d) {
		if ref.Kind != chunk.Data {
			bodies[fmt.Sprintf("%s %x", ref.Kind, ref.ID[:4])] = plain
		}
	}
	all := blobs(t, v.store)
	for _, prefix := range []string{"heads/", "packs/", "keys/", "drive/", "members/", "index/"} {
		bodies[prefix] = all[named(all, prefix)[0]]
	}
	kinds := map[chunk.Kind]func(ref chunk.Ref, size int64) error{
		chunk.Dir: func(ref chunk.Ref, _ int64) error {
			for _, err := range manifest.Entries(ctx, d.store, ref, "") {
				if err != nil {
					return err
				}
			}
			return nil
		},
		chunk.File: func(ref chunk.Ref, size int64) error {
			for _, err := range manifest.Extents(ctx, d.store, ref, size, 0) {
				if err != nil {
					return err
				}
			}
			return nil
		},
		chunk.Snapshot: func(ref chunk.Ref, _ int64) error { _, err := manifest.GetSnapshot(ctx, d.store, ref); return err },
		chunk.History: func(ref chunk.Ref, _ int64) error {
			for _, err := range manifest.Kepts(ctx, d.store, ref) {
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	for what, body := range bodies {
		write(t, d.FS(), "fake", body)
		commit(t, d)
		head, err := d.head(ctx)
		if err != nil {
			t.Fatal(err)
		}
		s, err := d.snapshot(ctx, head)
		if err != nil {
			t.Fatal(err)
		}
		e, err := entryAt(ctx, d.store, s.Root, []string{"fake"})
		if err != nil || e == nil || e.Node.Kind != chunk.Data {
			t.Fatalf("%s: entry %+v, %v", what, e, err)
		}
		for kind, decode := range kinds {
			ref := e.Node
			if err := decode(ref, e.Size); err == nil && kind != chunk.File {
				t.Errorf("%s: the file's own Ref is read as %s", what, kind)
			}
			ref.Kind = kind
			if err := decode(ref, e.Size); !errors.Is(err, vfs.ErrCorrupt) || !errors.Is(err, seal.ErrTampered) {
				t.Errorf("%s: with the kind changed to %s: %v, want seal.ErrTampered", what, kind, err)
			}
		}
		if got := read(t, d.FS(), "fake"); !bytes.Equal(got, body) {
			t.Errorf("%s: the file has other bytes", what)
		}
	}
	clean(t, d)
	if len(bodies) < 9 {
		t.Errorf("%d kinds of bodies", len(bodies))
	}
}

// T-A18: a machine is copied with what is in its memory of the drive, and both go on and write, also the same. No key of a chunk
// is ever used on two different frames, and no nonce of a journal, a head or any other sealed blob is used twice.
func TestAttack_ClonesNeverReuseKeyAndNonce(t *testing.T) {
	v := newVillage(t)
	d := v.open()
	write(t, d.FS(), "in the journal", []byte("of both"))
	twins := []*machine{v.clone(v.store.Clone()), v.clone(v.store.Clone())}
	secrets := storeKeys(d)
	drop(t, d)
	byKey := map[chunk.Key][]byte{}
	nonces := map[string][]byte{} // of blobs and of journal records, with what stands behind
	rng := testkit.Rand(testkit.Seed(t))
	common := testkit.Text(rng, 400<<10)
	sealed := 0
	for i, m := range twins {
		d := m.open()
		for round := range 6 {
			body := append(bytes.Clone(common), fmt.Sprintf("round %d", round)...)
			body[rng.IntN(len(body))] ^= byte(i) // the second twin's differ in a byte
			write(t, d.FS(), "same name", body)
			write(t, d.FS(), "equal", []byte(fmt.Sprintf("equal in both, round %d", round)))
			if round%2 == 1 {
				commit(t, d)
			}
			collectNonces(t, nonces, m.wal)
		}
		drop(t, d)
		all := blobs(t, m.bucket)
		for n, p := range all {
			if within(n, "heads/") || within(n, "members/") || within(n, "drive/") {
				addNonce(t, nonces, p[8:32], p)
			}
			if within(n, "index/") {
				addNonce(t, nonces, p[8:32], p)
			}
		}
		for _, c := range entriesOf(t, all, secrets.PackDir) {
			key := secrets.Seal.KeyOf(c.SIV)
			if before, ok := byKey[key]; ok && !bytes.Equal(before, c.bytes) {
				t.Errorf("one key for two frames: chunk %s", c.ID)
			}
			byKey[key] = c.bytes
			sealed++
		}
	}
	t.Logf("%d chunks under %d keys, %d nonces", sealed, len(byKey), len(nonces))
	if sealed == len(byKey) || len(nonces) < 50 {
		t.Error("the twins share no chunk, or wrote too little: this shows nothing")
	}
}

func addNonce(t *testing.T, nonces map[string][]byte, nonce, what []byte) {
	t.Helper()
	if before, ok := nonces[string(nonce)]; ok && !bytes.Equal(before, what) {
		t.Errorf("nonce %x is used twice", nonce)
	}
	nonces[string(nonce)] = bytes.Clone(what)
}

// collectNonces adds the nonces of all records of a journal: see package journal for the format.
func collectNonces(t *testing.T, nonces map[string][]byte, wal *journal.MemDir) {
	t.Helper()
	names, err := wal.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		f, err := wal.Open(n)
		if err != nil {
			t.Fatal(err)
		}
		size, err := f.Size()
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, size)
		if _, err := f.ReadAt(p, 0); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		for p = p[64:]; len(p) > 64; {
			n := 64 + int(binary.BigEndian.Uint32(p))
			addNonce(t, nonces, p[24:48], p[64:n])
			p = p[n:]
		}
	}
}

// T-A19, T-A22: one chunk is served in the place of another of the same kind and size, by the place while somebody reads; and a Ref with another key, size or
// kind than its chunk's opens nothing, also when the chunk is in the cache.
func TestAttack_ChunkInThePlaceOfAnother(t *testing.T) {
	v := newVillage(t)
	d := v.clone(v.store).open()
	all := blobs(t, v.store)
	chunks := entriesOf(t, all, storeKeys(d).PackDir)
	reach := chunksOf(t, d)
	places := map[chunk.ID]blob.Name{}
	for _, n := range named(all, "packs/") {
		for id := range entriesOf(t, map[blob.Name][]byte{n: all[n]}, storeKeys(d).PackDir) {
			places[id] = n
		}
	}
	r := &rotten{Bucket: v.store}
	s, err := chunkstore.Open(t.Context(), chunkstore.Options{Bucket: r, KV: v.db.Clone(), Keys: storeKeys(d), CacheBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	served := 0
	for x := range reach {
		for y := range reach {
			if x == y || chunks[x.ID].Len != chunks[y.ID].Len {
				continue
			}
			r.name = places[y.ID]
			r.body = bytes.Clone(all[r.name])
			copy(r.body[chunks[y.ID].Off:], chunks[x.ID].bytes)
			if _, err := s.Get(t.Context(), nil, y); !errors.Is(err, chunkstore.ErrCorrupt) || !errors.Is(err, seal.ErrTampered) {
				t.Errorf("%s in the place of %s: %v", x, y, err)
			}
			served++
		}
	}
	r.name = ""
	if served == 0 {
		t.Error("no two chunks have one size: this shows nothing")
	}
	forms := 0
	for ref, plain := range reach {
		if len(plain) == 0 {
			continue
		}
		var readers []func(chunk.Ref) error
		for _, st := range []*chunkstore.Store{s, d.store.Store} { // without a cache, and with one
			readers = append(readers, func(r chunk.Ref) error { _, err := st.Get(t.Context(), nil, r); return err },
				func(r chunk.Ref) error { _, err := st.ReadAt(t.Context(), r, make([]byte, 1), 0); return err })
		}
		for _, get := range readers { // all caches have it now
			if err := get(ref); err != nil {
				t.Fatal(err)
			}
		}
		wrong := []chunk.Ref{ref, ref, ref, ref, ref}
		wrong[0].Key[31] ^= 1
		wrong[1].Key = chunk.Key{}
		wrong[2].Size++
		wrong[3].Size--
		wrong[4].Kind = wrong[4].Kind%5 + 1
		for i, w := range wrong {
			for j, get := range readers {
				if i == 3 && w.Size == 0 {
					continue
				}
				forms++
				if err := get(w); !errors.Is(err, seal.ErrTampered) {
					t.Errorf("%s, forged in way %d, reader %d: %v, want seal.ErrTampered", ref, i, j, err)
				}
			}
		}
	}
	t.Logf("%d chunks in the place of others, %d forged refs", served, forms)
}
