package tier

import (
	"bytes"
	"testing"

	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
)

func withSum(p []byte) []byte {
	if len(p) < 32 {
		return p
	}
	sum := blake3.Sum256(p[:len(p)-32])
	return append(bytes.Clone(p[:len(p)-32]), sum[:]...)
}

// FuzzKnowledge: the file of what remotes have is taken only as it is written.
func FuzzKnowledge(f *testing.F) {
	var b catalog.Builder
	if _, err := b.Add(blob.Info{Name: catalog.PackName([32]byte{1}), Size: 4096}); err != nil {
		f.Fatal(err)
	}
	f.Add(appendKnowledge(nil, map[string]*catalog.Table{"a": b.Table(), "bb": nil}))
	f.Add([]byte(knownMagic))
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, p := range [][]byte{p, withSum(p)} {
			if all, err := parseKnowledge(p); err == nil && !bytes.Equal(appendKnowledge(nil, all), p) {
				t.Error("it is taken, and written otherwise")
			}
		}
	})
}

// FuzzHeader: the same of the header of a cached pack, and of the file of pins.
func FuzzHeader(f *testing.F) {
	h := header{hash: [32]byte{1, 2}, size: 3 << 20}
	h.sums[2] = [16]byte{7}
	f.Add(appendHeader(nil, h))
	f.Add(appendPins(nil, map[[32]byte]bool{{1}: true, {2}: true}))
	f.Fuzz(func(t *testing.T, p []byte) {
		q := bytes.Clone(p)
		if len(q) >= 64 {
			sum := blake3.Sum256(q[:48])
			copy(q[48:], sum[:16])
		}
		for _, p := range [][]byte{p, q} {
			if h, err := parseHeader(p); err == nil && (!bytes.Equal(appendHeader(nil, h), p) || h.size < 1 || h.size > maxPieces*Grid) {
				t.Errorf("%+v is taken, and written otherwise", h)
			}
		}
		for _, p := range [][]byte{p, withSum(p)} {
			if pins, err := parsePins(p); err == nil && !bytes.Equal(appendPins(nil, pins), p) {
				t.Error("pins are taken, and written otherwise")
			}
		}
	})
}

// FuzzRemoved: what the note of removed blobs yields can be written and is read again as it was; what follows a record that is not
// whole is not looked at.
func FuzzRemoved(f *testing.F) {
	f.Add(appendRecords([]byte(removedMagic), kindRemove, "a", []blob.Name{"keys/x", "keys/y"}), true)
	f.Add(appendRecords([]byte(removedMagic), kindDone, "a", []blob.Name{"keys/x"}), false)
	f.Fuzz(func(t *testing.T, p []byte, sum bool) {
		if head := len(removedMagic) + recordHead; sum && len(p) > head { // one record with a good sum
			payload := p[head:]
			s := blake3.Sum256(payload)
			p = append([]byte(removedMagic), 0, byte(len(payload)>>16), byte(len(payload)>>8), byte(len(payload)))
			p = append(append(p, s[:16]...), payload...)
		}
		again := []byte(removedMagic)
		var records int
		good := parseRemoved(p, func(kind byte, remote string, names []blob.Name) {
			records++
			for _, n := range names {
				if n.Check() != nil {
					t.Errorf("%q is taken for a name", n)
				}
			}
			again = appendRecords(again, kind, remote, names)
		})
		if good > len(p) || records > 0 && good == 0 {
			t.Errorf("%d of %d bytes are good, %d records", good, len(p), records)
		}
		if good > 0 && parseRemoved(p[:good], func(byte, string, []blob.Name) {}) != good {
			t.Error("what was good is not")
		}
		if parseRemoved(again, func(byte, string, []blob.Name) {}) != len(again) {
			t.Error("what was read cannot be written")
		}
	})
}

// A piece is found to be damaged only when a process reads it for the first time; from then on ranges are read as they lie.
func BenchmarkGet_Cached(b *testing.B) {
	body := make([]byte, 32<<20)
	name := catalog.PackName(blake3.Sum256(body))
	c, err := openCache(b.TempDir(), "", 1<<30, nil)
	if err != nil {
		b.Fatal(err)
	}
	hash, _ := catalog.PackHash(name)
	for no := range maxPieces {
		c.write(hash, int64(len(body)), no, body[:Grid])
	}
	b.SetBytes(128 << 10)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, ok := c.read(hash, int64(len(body)), i%32, 64<<10, 128<<10); !ok {
			b.Fatal("it is not there")
		}
	}
}
