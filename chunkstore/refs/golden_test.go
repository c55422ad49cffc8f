package refs

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
)

var update = flag.Bool("update", false, "write testdata/golden anew; only when the format is new")

const golden = "testdata/golden"

// goldenFacts is what a reader must get out of the golden drive: testdata/golden/facts.json.
type goldenFacts struct {
	Passphrase, Words string
	Drive, Device     string
	Chunker           string
	Suite             uint8
	Created           int64
	HeadKey           string // K(head) of the newest epoch
	ChunkKey          string // K(chunk) of it
	HeadBlob          string // the newest head's name
	Root              string // what it points at, as a Ref is encoded
	Seq               uint64
	Members           []string // the newest entries of the members log that it names
	Epochs            int
	Context           [][2]uint64
}

func tipsText(t keys.Tips) (text []string) {
	for _, h := range t {
		text = append(text, hex.EncodeToString(h[:]))
	}
	return text
}

// writeGolden makes the golden drive: two devices that were enrolled without knowing of each other, one of which has
// two heads and has revoked the other between them, and recovery words that were replaced.
func writeGolden(t *testing.T) {
	bucket := mem.New()
	f := goldenFacts{Passphrase: "golden passphrase", Chunker: hex.EncodeToString([]byte("chunker")), Suite: 1, Created: noon.UnixNano()}
	a, d, words, err := keys.Create(t.Context(), bucket, keys.CreateOptions{
		Passphrase: []byte(f.Passphrase), Argon: keys.Argon{Memory: 64 << 10, Time: 3, Threads: 1},
		Chunker: []byte("chunker"), Suite: 1, DeviceName: "golden", Now: noon,
	})
	wantError(t, "create", err, nil)
	n := node{bucket, newDB(), a, d, words}
	world := n
	world.bucket = bucket.Clone()
	world.enroll(t, keys.Writer|keys.Admin)
	gone := n.enroll(t, keys.Writer)
	for _, name := range names(t, world.bucket, "members/") {
		put(t, bucket, name, get(t, world.bucket, name))
	}
	r := n.mustOpen(t)
	move(t, r, 1)
	wantError(t, "revoke", a.Revoke(t.Context(), gone.device.ID(), keys.RevokeOptions{Now: noon}), nil)
	words, err = a.NewRecovery(t.Context())
	wantError(t, "new words", err, nil)
	wantError(t, "retire", a.RetireRecovery(t.Context(), words), nil)
	n.words = words
	r = n.mustOpen(t)
	h := move(t, r, 2)
	ring := a.Members().Ring()
	k, c := ring.Derive(kdf.Head), ring.Derive(kdf.ChunkKey)
	f.Epochs = int(ring.Epoch())
	f.Words, f.Drive, f.Device = words, a.Record.Drive.String(), d.Fingerprint().String()
	f.HeadKey, f.ChunkKey, f.HeadBlob = hex.EncodeToString(k[:]), hex.EncodeToString(c[:]), string(headName(r.dir, h.Seq))
	f.Root, f.Seq, f.Members = hex.EncodeToString(h.Root.Append(nil)), h.Seq, tipsText(h.Members)
	for _, s := range h.Context {
		f.Context = append(f.Context, [2]uint64{uint64(s.Device), s.Counter})
	}
	wantError(t, "clear", os.RemoveAll(filepath.Join(golden, "bucket")), nil)
	for _, name := range names(t, bucket, "") {
		path := filepath.Join(golden, "bucket", filepath.FromSlash(string(name)))
		wantError(t, "mkdir", os.MkdirAll(filepath.Dir(path), 0o755), nil)
		wantError(t, "write", os.WriteFile(path, get(t, bucket, name), 0o644), nil)
	}
	b, err := json.MarshalIndent(f, "", "\t")
	wantError(t, "encode", err, nil)
	wantError(t, "write", os.WriteFile(filepath.Join(golden, "facts.json"), append(b, '\n'), 0o644), nil)
}

// The golden drive holds the format fast: what it was written with once must read the same for ever.
func TestGolden_ADriveOfFormat1OpensAsItWasWritten(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	var want goldenFacts
	b, err := os.ReadFile(filepath.Join(golden, "facts.json"))
	wantError(t, "read", err, nil)
	wantError(t, "decode", json.Unmarshal(b, &want), nil)
	bucket := mem.New()
	dir := os.DirFS(filepath.Join(golden, "bucket"))
	wantError(t, "walk", fs.WalkDir(dir, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := fs.ReadFile(dir, path)
		put(t, bucket, blob.Name(path), b)
		return err
	}), nil)

	for _, s := range []keys.Secret{{Passphrase: []byte(want.Passphrase)}, {Recovery: want.Words}} {
		a, err := keys.Unlock(t.Context(), bucket, s, keys.UnlockOptions{})
		wantError(t, "unlock", err, nil)
		for name, err := range a.Verify(t.Context()) {
			wantError(t, string(name), err, nil)
		}
		dev, err := a.Enroll(t.Context(), keys.EnrollOptions{Roles: keys.Writer})
		wantError(t, "enroll", err, nil)
		r, err := Open(t.Context(), Options{Bucket: bucket, KV: newDB(), Device: dev, Members: a.Members(), Record: a.RecordMark})
		wantError(t, "open", err, nil)
		k, c := a.Ring.Derive(kdf.Head), a.Ring.Derive(kdf.ChunkKey)
		got := goldenFacts{
			Passphrase: want.Passphrase, Words: want.Words, Drive: a.Record.Drive.String(), Chunker: hex.EncodeToString(a.Record.Chunker),
			Suite: a.Record.Suite, Created: a.Record.Created.UnixNano(), HeadKey: hex.EncodeToString(k[:]), ChunkKey: hex.EncodeToString(c[:]), Epochs: int(a.Ring.Epoch()),
		}
		for h, err := range r.Heads(t.Context()) {
			wantError(t, "heads", err, nil)
			m, _ := a.Members().Member(h.Device)
			got.Device, got.Root = m.Public.Fingerprint().String(), hex.EncodeToString(h.Root.Append(nil))
			got.HeadBlob, got.Seq, got.Members = string(headName(folder(a.Ring, h.Device), h.Seq)), h.Seq, tipsText(h.Members)
			for _, s := range h.Context {
				got.Context = append(got.Context, [2]uint64{uint64(s.Device), s.Counter})
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}
