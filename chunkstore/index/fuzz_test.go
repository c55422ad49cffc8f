package index

import (
	"bytes"
	"errors"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

func exampleRoot() root {
	r := root{gen: generation{7: 1}, bits: 1, packs: []Pack{{Name: name(1), Size: pack.Size, Body: 1000, Count: 2}, {Name: name(2), Size: 1 << 16, Body: 10, Count: 1, Doubles: true}}}
	r.shards = []shardInfo{{count: 1, size: 4096, hash: [32]byte{1}}, {count: 2, size: 8192, hash: [32]byte{2}}}
	return r
}

// Whatever parses as a root encodes to the same bytes.
func FuzzRoot(f *testing.F) {
	f.Add(appendRoot(nil, exampleRoot()))
	f.Add(appendRoot(nil, root{shards: make([]shardInfo, 1)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRoot(b)
		if err != nil {
			if !errors.Is(err, ErrBlob) {
				t.Fatalf("got %v, want ErrBlob", err)
			}
			return
		}
		if got := appendRoot(nil, r); !bytes.Equal(got, b) {
			t.Fatalf("%x encodes to %x", b, got)
		}
	})
}

// Whatever parses as a shard is in order and in bounds, and encodes to the same bytes.
func FuzzShard(f *testing.F) {
	r := exampleRoot()
	e := entry(1, 8)
	e.ID[0] = 0x80
	one := appendShardEntry(nil, e.ID, 1, entryLocation(name(1), e))
	e.ID[1]++
	f.Add(1, one)
	f.Add(1, appendShardEntry(one, e.ID, 0, entryLocation(name(0), e)))
	f.Add(0, []byte{})
	f.Fuzz(func(t *testing.T, no int, b []byte) {
		entries, err := parseShard(r, no, b)
		if err != nil {
			return
		}
		var out []byte
		for _, e := range entries {
			if shardOf(e.entry.ID, r.bits) != no || int64(e.entry.Off)+int64(e.entry.Len) > r.packs[e.pack].Size {
				t.Fatalf("entry out of bounds: %+v", e)
			}
			out = appendShardEntry(out, e.entry.ID, e.pack, entryLocation(r.packs[e.pack].Name, e.entry))
		}
		if !bytes.Equal(out, b) {
			t.Fatalf("%x encodes to %x", b, out)
		}
	})
}

// No blob opens that was not sealed, and none makes the reader panic.
func FuzzOpenBlob(f *testing.F) {
	good, err := sealBlob(&testKey, generation{1}, roleRoot, 0, []byte("content"), 0, bytes.NewReader(make([]byte, 24)))
	must(f, err)
	f.Add(good)
	f.Add(good[:60])
	f.Add([]byte(blobMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := openBlob(&testKey, generation{1}, roleRoot, 0, bytes.Clone(b)); err == nil && !bytes.Equal(b, good) {
			t.Fatalf("a blob that nobody sealed opens")
		}
	})
}

// Whatever is taken for the name of an index blob is the name of one.
func FuzzBlobName(f *testing.F) {
	f.Add(string(generation{1}.rootName()))
	f.Add(string(generation{1}.shardName(17)))
	f.Add("index/x/root")
	f.Fuzz(func(t *testing.T, s string) {
		g, shard, ok := parseBlobName(blob.Name(s))
		if !ok {
			return
		}
		if want := g.rootName(); shard < 0 && string(want) != s || shard >= 0 && string(g.shardName(shard)) != s {
			t.Fatalf("%q is taken for %v %d", s, g, shard)
		}
	})
}
