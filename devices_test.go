package sheaf

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
)

// opens reports which of the packs at a place the keys open.
func opens(t *testing.T, b blob.Bucket, all []chunkstore.Keys) map[blob.Name]bool {
	t.Helper()
	open := map[blob.Name]bool{}
	for name, body := range blobsAt(t, b, pack.Prefix) {
		for _, k := range all {
			_, err := pack.ReadDirectory(&k.PackDir, int64(len(body)), bytes.NewReader(body))
			open[name] = open[name] || err == nil
		}
	}
	return open
}

func blobsAt(t *testing.T, b blob.Bucket, prefix blob.Name) map[blob.Name][]byte {
	t.Helper()
	all := map[blob.Name][]byte{}
	for info, err := range b.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		body, err := blob.ReadAll(t.Context(), b, info.Name, info.Size)
		if err != nil {
			t.Fatal(err)
		}
		all[info.Name] = body
	}
	return all
}

// T-REV: while all drives are in use, one device is revoked. From then on nothing is written, by whoever has heard of it, that the keys which
// it had can open; what it writes itself is nobody's; all that was there before stays readable.
func TestDevices_RevokedOneReadsNothingNewAndWritesNothing(t *testing.T) {
	at := mem.New()
	a := newResident(t, place("nas", at))
	da, words := a.create()
	write(t, da.FS(), "old", []byte("old"))
	_ = exchange(t, da)
	b, c := newResident(t, place("nas", at)), newResident(t, place("nas", at))
	db, dc := b.join(words), c.join(words)
	write(t, dc.FS(), "of c", []byte("of c"))
	for _, d := range []*Drive{dc, db, da} {
		_ = exchange(t, d)
	}
	had := storeKeysOf(dc.refs.Members().Ring())
	before := map[blob.Name]bool{}
	for _, r := range []*resident{a, b, c} { // also what was not pushed yet
		maps.Copy(before, opens(t, r.own, had))
	}
	if len(before) == 0 {
		t.Fatal("there are no packs")
	}
	for name, open := range before {
		if !open {
			t.Fatalf("pack %s does not open before it is revoked: this shows nothing", name)
		}
	}
	write(t, dc.FS(), "late", []byte("late")) // nobody hears of it in time
	if err := dc.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}

	if _, err := da.Revoke(t.Context(), da.Info().Device); !errors.Is(err, ErrSelf) {
		t.Errorf("revoke itself: got %v, want ErrSelf", err)
	}
	if _, err := da.Revoke(t.Context(), "SHF-AAAAAAA"); !errors.Is(err, ErrNoDevice) {
		t.Errorf("revoke nobody: got %v, want ErrNoDevice", err)
	}
	id := dc.Info().Device
	if got, err := da.Revoke(t.Context(), id[:19]); err != nil || got.ID != id || !got.Revoked {
		t.Fatalf("revoke: got %+v and error %v", got, err)
	}
	if _, err := da.Revoke(t.Context(), id); !errors.Is(err, ErrRevoked) {
		t.Errorf("revoke twice: got %v, want ErrRevoked", err)
	}
	write(t, da.FS(), "new of a", []byte("new of a"))
	for range 2 {
		_ = exchange(t, da)
		_ = exchange(t, db)
	}
	write(t, db.FS(), "new of b", []byte("new of b"))
	write(t, db.FS(), "old", []byte("old, changed by b"))
	for range 2 {
		_ = exchange(t, db)
		_ = exchange(t, da)
	}
	var news []blob.Name
	for name, open := range opens(t, at, had) {
		if _, was := before[name]; was {
			continue
		}
		if news = append(news, name); open {
			t.Errorf("pack %s, of after the revocation, opens with the keys of before", name)
		}
	}
	if len(news) < 2 {
		t.Errorf("only %d packs are new: this shows nothing", len(news))
	}

	// The revoked one goes on, and pushes.
	write(t, dc.FS(), "later", []byte("later"))
	for range 2 { // it may not know yet, the first time
		_ = dc.Commit(t.Context())
		_ = dc.Replicas().Sync(t.Context())
	}
	write(t, dc.FS(), "much later", []byte("much later"))
	if err := dc.Commit(t.Context()); !errors.Is(err, keys.ErrNotMember) {
		t.Errorf("commit of the revoked device: got %v, want ErrNotMember", err)
	}
	for range 2 {
		_ = exchange(t, da)
		_ = exchange(t, db)
	}
	for who, d := range map[string]*Drive{"a": da, "b": db, "a new one": newResident(t, place("nas", at)).join(words)} {
		top, err := d.FS().Root(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for e, err := range top.List(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, e.Name)
		}
		if want := []string{"new of a", "new of b", "of c", "old"}; !slices.Equal(all, want) {
			t.Errorf("%s: got %q, want %q", who, all, want)
		}
		if got := read(t, d.FS(), "old"); string(got) != "old, changed by b" {
			t.Errorf("%s: old is %q", who, got)
		}
		devices, err := d.Devices(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range devices {
			if x.Revoked != (x.ID == id) {
				t.Errorf("%s: device %s: revoked is %v", who, x.ID, x.Revoked)
			}
		}
		clean(t, d)
	}
	_ = dc.Close(t.Context())
	if _, err := Open(t.Context(), c.settle()); !errors.Is(err, keys.ErrNotMember) {
		t.Errorf("open of the revoked device: got %v, want ErrNotMember", err)
	}
}
