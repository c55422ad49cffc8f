package kdf

import (
	"encoding/hex"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"github.com/zeebo/blake3"
)

// Keyed is BLAKE3's keyed hash, by the official test vectors: input bytes count
// from 0 to 250 again and again.
func TestKeyed_GivesTheOfficialVectors(t *testing.T) {
	key := [32]byte([]byte("whats the Elvish word for friend"))
	if got := Keyed(&key); hex.EncodeToString(got[:]) != "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26" {
		t.Errorf("of nothing: got %x", got)
	}
	if got := blake3.Sum256(nil); hex.EncodeToString(got[:]) != "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262" {
		t.Errorf("plain hash of nothing: got %x", got)
	}
	h := blake3.NewDeriveKey("BLAKE3 2019-12-27 16:29:52 test vectors context")
	if got := h.Sum(nil); hex.EncodeToString(got) != "2cc39783c223154fea8dfb7c1b1660f2ac2dcbd1c1de8277b0b0dd39b7e50d7d" {
		t.Errorf("derived of nothing: got %x", got)
	}
}

func TestMac_IsKeyedEachTime(t *testing.T) {
	key := [32]byte([]byte("whats the Elvish word for friend"))
	m := NewMac(&key)
	long := make([]byte, 3000)
	for i := range long {
		long[i] = byte(i % 251)
	}
	for _, parts := range [][][]byte{nil, {long}, {long[:5], long[5:70]}, {nil, long[:1]}, nil} {
		if m.Sum(parts...) != Keyed(&key, parts...) {
			t.Errorf("Sum of %d parts is not Keyed of them", len(parts))
		}
	}
	if n := testing.AllocsPerRun(100, func() { m.Sum(long[:8], long[8:56]) }); n > 0 {
		t.Errorf("Sum allocates %v times", n)
	}
}

// Parts run together: the callers must see to fixed lengths, and the output is a
// stream whose beginning does not depend on how much is taken.
func TestDerive_IsAStreamOverTheConcatenation(t *testing.T) {
	long := make([]byte, 77)
	Derive(ChunkSplit, long, []byte("ab"), []byte("c"))
	short := Key(ChunkSplit, []byte("abc"))
	if hex.EncodeToString(long[:32]) != hex.EncodeToString(short[:]) {
		t.Error("77 bytes and 32 bytes begin differently")
	}
	h := blake3.NewDeriveKey("sheaf/v1/chunk-split")
	_, _ = h.WriteString("abc")
	if got := h.Sum(nil); hex.EncodeToString(got) != hex.EncodeToString(short[:]) {
		t.Error("Key is not derive_key under the full context string")
	}
	if Key(ChunkKey, []byte("abc")) == short {
		t.Error("two contexts give one key")
	}
	if Keyed(&short, []byte("a"), []byte("bc")) != Keyed(&short, []byte("abc")) {
		t.Error("Keyed is not over the concatenation")
	}
}

// T-CTX: All names every constant of the source, so that the test of distinctness sees all.
func TestAll_IsComplete(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "kdf.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, c := range All() {
		known[strings.TrimPrefix(c.String(), "sheaf/v1/")] = true
	}
	found := 0
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); !ok || id.Name != "Context" {
			return true
		}
		for _, v := range spec.Values {
			found++
			if name := strings.Trim(v.(*ast.BasicLit).Value, `"`); !known[name] {
				t.Errorf("All lacks %q", name)
			}
		}
		return true
	})
	if found != len(All()) {
		t.Errorf("%d constants, All returns %d", found, len(All()))
	}
}
