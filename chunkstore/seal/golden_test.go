package seal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
)

var update = flag.Bool("update", false, "write testdata/chunks.json anew")

// vectors are the golden chunks. Binary fields are in hexadecimal. The file is
// for second implementations too; docs/FORMAT.md tells how to read it.
type vectors struct {
	CID    string   `json:"cid_key"`
	SIV    string   `json:"siv_key"`
	Chunk  string   `json:"chunk_key"`
	Chunks []vector `json:"chunks"`
}

type vector struct {
	Name string `json:"name"`
	// Plain is laid end to end.
	Plain  []part     `json:"plain"`
	Kind   chunk.Kind `json:"kind"`
	Suite  Suite      `json:"suite"`
	Codec  byte       `json:"codec"`
	CID    string     `json:"cid"`
	SIV    string     `json:"siv"`
	Ref    string     `json:"ref"`
	Length int        `json:"sealed_length"`
	// Sealed is the whole chunk, "" where that is long and no zstd is in it.
	Sealed string `json:"sealed,omitempty"`
}

// A part is Size bytes: Text again and again, or BLAKE3's output for the input XOF.
type part struct {
	Text string `json:"text,omitempty"`
	XOF  string `json:"xof,omitempty"`
	Size int    `json:"size"`
}

func (v *vector) plain() []byte {
	var b []byte
	for _, p := range v.Plain {
		piece := make([]byte, p.Size)
		if p.XOF != "" {
			h := blake3.New()
			_, _ = h.WriteString(p.XOF)
			_, _ = h.Digest().Read(piece)
		} else {
			for i := range piece {
				piece[i] = p.Text[i%len(p.Text)]
			}
		}
		b = append(b, piece...)
	}
	return b
}

func goldenVectors(t *testing.T) *vectors {
	t.Helper()
	var v vectors
	b, err := os.ReadFile("testdata/chunks.json")
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return &v
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The format of chunks, byte by byte. A raw chunk must be sealed to the very
// bytes. A compressed one must open; another version of the encoder may write
// another frame.
func TestGolden_Chunks(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	v := goldenVectors(t)
	sec := Secrets{[32]byte(unhex(t, v.CID)), [32]byte(unhex(t, v.SIV)), [32]byte(unhex(t, v.Chunk))}
	if len(v.Chunks) < 8 {
		t.Fatalf("%d vectors", len(v.Chunks))
	}
	for _, c := range v.Chunks {
		t.Run(c.Name, func(t *testing.T) {
			plain := c.plain()
			ref, err := chunk.ParseRef(unhex(t, c.Ref))
			if err != nil {
				t.Fatal(err)
			}
			if want := sec.KeyOf(SIV(unhex(t, c.SIV))); ref.Key != want {
				t.Error("the SIV does not give the key of the ref")
			}
			s, err := NewSealer(sec, c.Suite, Raw)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.CID(c.Kind, plain); hex.EncodeToString(got[:]) != c.CID {
				t.Errorf("CID: got %x, want %s", got, c.CID)
			}
			sealed := unhex(t, c.Sealed)
			if c.Codec == codecRaw {
				got, gotRef, siv, err := s.Seal(nil, c.Kind, plain)
				if err != nil {
					t.Fatal(err)
				}
				if gotRef != ref || hex.EncodeToString(siv[:]) != c.SIV || len(sealed) > 0 && !bytes.Equal(got, sealed) {
					t.Errorf("sealed to %s, want %s", gotRef, ref)
				}
				sealed = got
			}
			if len(sealed) != c.Length {
				t.Errorf("%d sealed bytes, want %d", len(sealed), c.Length)
			}
			got, err := NewOpener().Open(nil, ref, sealed)
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("opens to %d bytes, %v", len(got), err)
			}
		})
	}
}

func writeGolden(t *testing.T) {
	t.Helper()
	sec := testSecrets("golden")
	v := vectors{hex.EncodeToString(sec.CID[:]), hex.EncodeToString(sec.SIV[:]), hex.EncodeToString(sec.Chunk[:]), nil}
	text, random := "the sheaf is bound. ", "sheaf golden chunk"
	for _, c := range []vector{
		{Name: "empty", Kind: chunk.Data, Suite: AESGCM},
		{Name: "empty, chacha", Kind: chunk.Dir, Suite: ChaCha},
		{Name: "a few bytes", Kind: chunk.Data, Suite: AESGCM, Plain: []part{{Text: "hello, sheaf", Size: 12}}},
		{Name: "a few bytes, chacha", Kind: chunk.Data, Suite: ChaCha, Plain: []part{{Text: "hello, sheaf", Size: 12}}},
		{Name: "one segment", Kind: chunk.File, Suite: AESGCM, Plain: []part{{XOF: random, Size: SegmentSize}}},
		{Name: "three segments", Kind: chunk.Snapshot, Suite: AESGCM, Plain: []part{{XOF: random, Size: 300_000}}},
		{Name: "three segments, chacha", Kind: chunk.History, Suite: ChaCha, Plain: []part{{XOF: random, Size: 300_000}}},
		{Name: "zstd", Kind: chunk.Dir, Suite: AESGCM, Codec: codecZstd, Plain: []part{{Text: text, Size: 1000}}},
		{Name: "zstd, three segments, the last raw", Kind: chunk.Data, Suite: AESGCM, Codec: codecZstd, Plain: []part{{Text: text, Size: 2 * SegmentSize}, {XOF: random, Size: 50}}},
		{Name: "zstd, chacha", Kind: chunk.Data, Suite: ChaCha, Codec: codecZstd, Plain: []part{{Text: text, Size: SegmentSize + 1}}},
	} {
		level := Raw
		if c.Codec == codecZstd {
			level = Default
		}
		s, err := NewSealer(sec, c.Suite, level)
		if err != nil {
			t.Fatal(err)
		}
		plain := c.plain()
		cid := s.CID(c.Kind, plain)
		sealed, ref, siv := mustSeal(t, s, c.Kind, plain)
		if s.frame[2] != c.Codec {
			t.Fatalf("%s: codec %d", c.Name, s.frame[2])
		}
		c.CID, c.SIV, c.Ref = hex.EncodeToString(cid[:]), hex.EncodeToString(siv[:]), hex.EncodeToString(ref.Append(nil))
		c.Length = len(sealed)
		if len(sealed) < 2000 {
			c.Sealed = hex.EncodeToString(sealed)
		}
		v.Chunks = append(v.Chunks, c)
	}
	b, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("testdata/chunks.json", append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
