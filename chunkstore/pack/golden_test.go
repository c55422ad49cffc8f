package pack

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
	"github.com/sheaf-drive/sheaf/chunkstore/seal"
)

var update = flag.Bool("update", false, "write testdata/small.pack anew")

// goldenName is the name of testdata/small.pack, a pack of three chunks under keys
// that are kdf.Key(context, "golden") for each context.
const goldenName = "323809816fd7ae0e7c4cbc8820c22886a81501951bead1505eff162f37becb21"

var goldenChunks = []string{"hello, sheaf", "", "a third chunk"}

func TestGolden_Pack(t *testing.T) {
	of := func(c kdf.Context) [32]byte { return kdf.Key(c, []byte("golden")) }
	key := of(kdf.PackDir)
	secrets := seal.Secrets{CID: of(kdf.ChunkIDOwn), SIV: of(kdf.FrameSIV), Chunk: of(kdf.ChunkKey)}
	s, err := seal.NewSealer(secrets, seal.AESGCM, seal.Raw)
	if err != nil {
		t.Fatal(err)
	}
	w := NewWriter(make([]byte, Size))
	for i, text := range goldenChunks {
		kind := chunk.Kind(1 + i)
		sealed, ref, siv, err := s.Seal(nil, kind, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		e := Entry{ID: ref.ID, CID: s.CID(kind, []byte(text)), SIV: siv, Kind: kind, Plain: ref.Size}
		if _, err := w.Add(e, sealed); err != nil {
			t.Fatal(err)
		}
	}
	h := blake3.New()
	_, _ = h.WriteString("entropy of the golden pack")
	entries := w.Entries()
	made, name, err := w.Finish(&key, 0, h.Digest())
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("testdata/small.pack", made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile("testdata/small.pack")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(made, file) || name.String() != goldenName {
		t.Errorf("the pack written today is another: %s, want %s", name, goldenName)
	}
	got, err := ReadDirectory(&key, int64(len(file)), bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(entries, got); d != "" {
		t.Error(d)
	}
	o := seal.NewOpener()
	i := 0
	err = Verify(&key, name, file, func(e Entry, sealed []byte) error {
		ref := chunk.Ref{ID: e.ID, Key: secrets.KeyOf(e.SIV), Size: e.Plain, Kind: e.Kind}
		plain, err := o.Open(nil, ref, sealed)
		if string(plain) != goldenChunks[i] {
			t.Errorf("chunk %d opens to %q", i, plain)
		}
		i++
		return err
	})
	if err != nil || i != len(goldenChunks) {
		t.Errorf("%d chunks, %v", i, err)
	}
}
