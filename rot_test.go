package sheaf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/index"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/chunkstore/refs"
	"github.com/sheaf-drive/sheaf/chunkstore/seal"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// rotten shows a bucket in which one blob has other bytes, which the test changes at will. Listings
// show only what is asked for by only, so that a Verify spends its time on this blob.
type rotten struct {
	blob.Bucket
	name blob.Name
	body []byte
	only bool
}

func (r *rotten) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	if name != r.name {
		return r.Bucket.Get(ctx, name, off, n)
	}
	body := r.body[min(off, int64(len(r.body))):]
	if n >= 0 && n < int64(len(body)) {
		body = body[:n]
	}
	return io.NopCloser(bytes.NewReader(body)), nil
}

func (r *rotten) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		for info, err := range r.Bucket.List(ctx, prefix) {
			if r.only && info.Name != r.name && err == nil {
				continue
			}
			if info.Name == r.name {
				info.Size = int64(len(r.body))
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

// eachFlip calls fn with every step-th bit of body flipped, and flips it back. Short of SHEAF_LONG, where fn
// sees every bit, step is odd, so that all bits of a byte get their turn.
func eachFlip(body []byte, step int, fn func(bit int) error) (n int, err error) {
	for bit := 0; bit < 8*len(body); bit += step {
		body[bit/8] ^= 1 << (bit % 8)
		err := fn(bit)
		body[bit/8] ^= 1 << (bit % 8)
		if n++; err != nil {
			return n, fmt.Errorf("bit %d: %w", bit, err)
		}
	}
	return n, nil
}

// says returns nil if the sequence yields, for name, an error that wraps one of want.
func says(seq iter.Seq2[blob.Name, error], name blob.Name, want ...error) error {
	for at, err := range seq {
		if at != name {
			continue
		}
		for _, w := range want {
			if errors.Is(err, w) {
				return nil
			}
		}
		return fmt.Errorf("got %w, want one of %v", err, want)
	}
	return errors.New("not even looked at")
}

// K15, G6: every single flipped bit of every blob that is no pack is found by what Verify does with that
// blob. Verify is run over a listing of that one blob, for a drive per bit would take days:
// what it says of one blob follows from the bytes of that blob and from the keys alone (the check of each
// slot, record, member and head is one function of name and bytes; a shard is held against its root,
// which the listing of its generation keeps). That a whole drive is refused likewise is
// shown by the samples of TestRot_WholeDriveNeverShowsOtherBytes.
func TestRot_EveryFlippedBitOfSmallBlobsIsFound(t *testing.T) {
	v := newVillage(t)
	all := blobs(t, v.store)
	r := &rotten{Bucket: v.store, only: true}
	sound := v.clone(v.store)
	d := sound.open()
	ring, device, members := d.account.Ring, d.device, d.account.Members()
	// These two read by way of r from here on; Unlock itself needs a whole listing.
	r.only = false
	file, err := keys.ReadDevice(sound.dir)
	if err != nil {
		t.Fatal(err)
	}
	account, err := keys.Unlock(t.Context(), r, keys.Secret{Device: file}, keys.UnlockOptions{})
	if err != nil {
		t.Fatal(err)
	}
	heads, err := refs.Open(t.Context(), refs.Options{Bucket: r, KV: sound.db.Clone(), Device: device, Members: members})
	if err != nil {
		t.Fatal(err)
	}
	indexKey := ring.Derive(kdf.Index)
	step := 7
	if long() {
		step = 1
	}
	total := 0
	for name, body := range all {
		if within(name, "packs/") {
			continue
		}
		r.name, r.body, r.only = name, bytes.Clone(body), !within(name, "index/")
		step := step
		if bytes.Equal(body, all[name+".2"]) && !long() {
			step *= 11 // its copy is the same bytes under the same checks
		}
		n, err := eachFlip(r.body, step, func(int) error {
			switch {
			case within(name, "heads/"):
				return says(heads.Verify(t.Context()), name, refs.ErrTampered)
			case within(name, "index/"):
				return indexSays(t.Context(), r, &indexKey, name)
			}
			return says(account.Verify(t.Context()), name, keys.ErrTampered)
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		total += n
	}
	t.Logf("%d bits flipped, one by one", total)
	if total < 1000 {
		t.Error("too few to show anything")
	}
}

func within(name blob.Name, prefix string) bool {
	return len(name) > len(prefix) && string(name[:len(prefix)]) == prefix
}

// indexSays returns nil if the index blobs are not accepted because of name, nor used.
func indexSays(ctx context.Context, b blob.Bucket, key *[32]byte, name blob.Name) error {
	found := false
	err := index.CheckBlobs(ctx, b, key, func(at blob.Name, err error) {
		found = found || at == name && errors.Is(err, index.ErrBlob)
	})
	if err == nil && !found {
		err = errors.New("not found")
	}
	return err
}

// K15, G6: bits of packs. That Verify finds each is BLAKE3: the hash of a pack is its name. What has to
// be shown is that no read serves other bytes meanwhile, by whatever way it comes to them: the same Store
// code as a drive's reads every chunk, whole and in parts, past a cache that keeps nothing, while the bits flip.
func TestRot_FlippedBitsOfPacksAreNeverServed(t *testing.T) {
	v := newVillage(t)
	d := v.clone(v.store).open()
	want := chunksOf(t, d)
	r := &rotten{Bucket: v.store}
	s, err := chunkstore.Open(t.Context(), chunkstore.Options{
		Bucket: r, KV: v.db.Clone(), Keys: storeKeys(d), CacheBytes: -1, Level: seal.Fastest,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	step := 8191
	if long() {
		step = 61
	}
	all := blobs(t, v.store)
	flips, refused := 0, 0
	for _, name := range named(all, "packs/") {
		r.name, r.body = name, bytes.Clone(all[name])
		n, err := eachFlip(r.body, step, func(int) error {
			if sum := blake3.Sum256(r.body); fmt.Sprintf("packs/%x/%x", sum[:1], sum) == string(name) {
				return errors.New("the hash is the name still")
			}
			for ref, plain := range want {
				for _, read := range []func() ([]byte, error){
					func() ([]byte, error) { return s.Get(t.Context(), nil, ref) },
					func() ([]byte, error) {
						p := make([]byte, ref.Size)
						n, err := s.ReadAt(t.Context(), ref, p, 0)
						if errors.Is(err, io.EOF) {
							err = nil
						}
						return p[:n], err
					},
				} {
					switch p, err := read(); {
					case errors.Is(err, chunkstore.ErrCorrupt) && errors.Is(err, seal.ErrTampered):
						refused++
					case err != nil:
						return err
					case !bytes.Equal(p, plain):
						return fmt.Errorf("%w: chunk %s", errWrong, ref)
					}
				}
			}
			return nil
		})
		if flips += n; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Logf("%d bits of %d packs flipped, %d reads of %d chunks refused", flips, len(named(all, "packs/")), refused, len(want))
	if refused == 0 {
		t.Error("no flip met a chunk")
	}
}

func storeKeys(d *Drive) chunkstore.Keys { return storeKeysOf(d.account.Members().Ring())[0] }

// chunksOf returns all chunks that the head of this device reaches, and what is in them.
func chunksOf(t testing.TB, d *Drive) map[chunk.Ref][]byte {
	t.Helper()
	h, err := d.refs.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := map[chunk.Ref][]byte{}
	err = manifest.Walk(t.Context(), d.store, h.Root, func(ref chunk.Ref) bool { _, ok := all[ref]; return ok }, func(ref chunk.Ref) error {
		p, err := d.store.Get(t.Context(), nil, ref)
		all[ref] = p
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// K15, G6, X6: the whole drive, opened on its own device and anew by the recovery words, with single bits flipped.
func TestRot_WholeDriveNeverShowsOtherBytes(t *testing.T) {
	v := newVillage(t)
	rng := testkit.Rand(testkit.Seed(t))
	rounds := 3
	if long() {
		rounds = 200
	}
	all := blobs(t, v.store)
	for _, name := range slices.Sorted(names(all)) {
		for range rounds {
			body := bytes.Clone(all[name])
			bit := rng.IntN(8 * len(body))
			body[bit/8] ^= 1 << (bit % 8)
			b := v.store.Clone()
			putBlob(t, b, name, body)
			what := fmt.Sprintf("%s, bit %d", name, bit)
			v.mustFind(what, b)
		}
	}
}

func names[V any](m map[blob.Name]V) iter.Seq[blob.Name] {
	return func(yield func(blob.Name) bool) {
		for n := range m {
			if !yield(n) {
				return
			}
		}
	}
}

// mustFind opens a copy of the village on b, and joins b as a new device: both must notice that something is
// wrong, and show what is right or nothing.
func (v *village) mustFind(what string, b *mem.Bucket) {
	v.t.Helper()
	m := v.clone(b.Clone())
	found, err := inspect(v.t, m.tryOpen, v.want)
	if err != nil {
		v.t.Errorf("%s: on its device: %v", what, err)
	} else if found == nil {
		v.t.Errorf("%s: its device has not noticed", what)
	}
	if found, err = v.joined(b); err != nil {
		v.t.Errorf("%s: on a new device: %v", what, err)
	} else if found == nil {
		v.t.Errorf("%s: a new device has not noticed", what)
	}
}

// joined inspects what a new device makes of b.
func (v *village) joined(b *mem.Bucket) (found, err error) {
	v.t.Helper()
	n := newMachine(v.t, b.Clone())
	return inspect(v.t, func() (*Drive, error) {
		return Join(v.t.Context(), n.options(Secret{Recovery: v.words}), true)
	}, v.want)
}

// A7, A31: blobs that end too early, or go on too long, at the places where a parser could be fooled.
func TestRot_TruncationsAndExtensionsAreFound(t *testing.T) {
	v := newVillage(t)
	all := blobs(t, v.store)
	for i, name := range slices.Sorted(names(all)) {
		body := all[name]
		for k, c := range []struct {
			what string
			body []byte
		}{
			{"empty", nil},
			{"magic alone", body[:8]},
			{"half", body[:len(body)/2]},
			{"less its tag", body[:len(body)-16]},
			{"less a byte", body[:len(body)-1]},
			{"and a byte", append(bytes.Clone(body), 0)},
			{"twice", append(bytes.Clone(body), body...)},
		} {
			if testing.Short() && (i+k)%3 > 0 {
				continue // each form meets some blobs, and each blob some forms
			}
			b := v.store.Clone()
			putBlob(t, b, name, c.body)
			v.mustFind(string(name)+": "+c.what, b)
		}
	}
}

// Local files of a device: damage is a typed error or is mended; the recovery words open the rest.
func TestRot_DeviceFileAndKeyAreFound(t *testing.T) {
	v := newVillage(t)
	rng := testkit.Rand(testkit.Seed(t))
	rounds := 40
	if long() {
		rounds = 4000
	}
	for _, file := range []string{"device", "device.key"} {
		sound, err := os.ReadFile(filepath.Join(v.dir, file))
		if err != nil {
			t.Fatal(err)
		}
		m := v.clone(v.store)
		for i := range rounds + 3 {
			body := bytes.Clone(sound)
			switch i {
			case 0:
				body = nil
			case 1:
				body = body[:len(body)-1]
			case 2:
				body = append(body, 0)
			default:
				bit := rng.IntN(8 * len(body))
				body[bit/8] ^= 1 << (bit % 8)
			}
			if err := os.WriteFile(filepath.Join(m.dir, file), body, 0o600); err != nil {
				t.Fatal(err)
			}
			d, err := m.tryOpen()
			if err == nil {
				t.Errorf("%s, change %d: the drive opens", file, i)
				drop(t, d)
			} else if !typed(err) && !errors.Is(err, ErrNeedSecret) {
				t.Errorf("%s, change %d: error without a type: %v", file, i, err)
			}
		}
	}
}
