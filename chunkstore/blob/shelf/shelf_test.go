package shelf_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"slices"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/blobtest"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/shelf"
)

func TestBucket(t *testing.T) {
	blobtest.Run(t, func(*testing.T) blob.Bucket {
		return shelf.New(shelf.Options{Own: mem.New(), Mirror: mem.New(), Shelf: mem.New()})
	})
}

func put(t *testing.T, b blob.Bucket, name blob.Name, body string) {
	t.Helper()
	if err := b.Put(t.Context(), name, bytes.NewReader([]byte(body)), int64(len(body))); err != nil {
		t.Fatal(err)
	}
}

// have returns what a Bucket lists, with the content.
func have(t *testing.T, b blob.Bucket) (all []string) {
	t.Helper()
	for info, err := range b.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		r, err := b.Get(t.Context(), info.Name, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		p, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
		all = append(all, string(info.Name)+"="+string(p))
	}
	return all
}

// A peer sees all that is here once, and changes nothing of what this device has put itself.
func TestBucket_ShowsAllAndGuardsTheOwn(t *testing.T) {
	own, mirror, own2 := mem.New(), mem.New(), []string{"heads/a/1=own", "packs/1=own"}
	s := mem.New()
	put(t, own, "packs/1", "own")
	put(t, own, "heads/a/1", "own")
	put(t, mirror, "heads/b/1", "mirror")
	put(t, mirror, "heads/b/2", "mirror")
	put(t, mirror, "members/1", "mirror")
	put(t, s, "heads/b/1", "shelf")
	put(t, s, "packs/2", "shelf")
	told := 0
	b := shelf.New(shelf.Options{Own: own, Mirror: mirror, Shelf: s, Put: func() { told++ }})
	want := []string{"heads/a/1=own", "heads/b/1=mirror", "heads/b/2=mirror", "members/1=mirror", "packs/1=own", "packs/2=shelf"}
	if got := have(t, b); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	put(t, b, "packs/1", "other")
	if err := b.Remove(t.Context(), "packs/1", "packs/2", "heads/a/1", "heads/b/1"); err != nil {
		t.Fatal(err)
	}
	if told != 2 {
		t.Errorf("told %d times, want 2", told)
	}
	if got := have(t, own); !slices.Equal(got, own2) {
		t.Errorf("what this device has put is %v now", got)
	}
	if _, err := b.Get(t.Context(), "heads/b/1", 0, -1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a head that was removed is there still: %v", err)
	}
	for _, name := range []blob.Name{"members/1", "drive/00000001"} {
		if err := b.Remove(t.Context(), "heads/b/2", name); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("remove %s: %v", name, err)
		}
	}
	if got := have(t, mirror); !slices.Equal(got, []string{"heads/b/2=mirror", "members/1=mirror"}) {
		t.Errorf("the mirror is %v now", got)
	}
}

// What a peer has put damaged is not shown once the sound blob, which was verified, is in the mirror, whatever the size of either.
func TestBucket_ShowsWhatWasVerifiedBeforeWhatPeersPut(t *testing.T) {
	for _, damaged := range []string{"sOund", "so"} {
		mirror, s := mem.New(), mem.New()
		b := shelf.New(shelf.Options{Own: mem.New(), Mirror: mirror, Shelf: s})
		put(t, b, "heads/d/4", damaged)
		put(t, b, "heads/d/5", "later")
		put(t, mirror, "heads/d/4", "sound")
		if got := have(t, b); !slices.Equal(got, []string{"heads/d/4=sound", "heads/d/5=later"}) {
			t.Errorf("peers see %v", got)
		}
		for info, err := range b.List(t.Context(), "heads/d/4") {
			if err != nil || info.Size != int64(len("sound")) {
				t.Errorf("it is listed as %+v: %v", info, err)
			}
		}
	}
}

// Index blobs a peer can remove, whoever has put them: it sees them no more, or it would try for ever. They lie here still. All else of what this device has put stays shown.
func TestBucket_ShowsNoMoreIndexBlobsThatPeersRemove(t *testing.T) {
	own := mem.New()
	b := shelf.New(shelf.Options{Own: own, Mirror: mem.New(), Shelf: mem.New()})
	for _, name := range []blob.Name{"heads/d/1", "index/1/root", "keys/1", "packs/1"} {
		put(t, own, name, "own")
		if err := b.Remove(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if got := have(t, b); !slices.Equal(got, []string{"heads/d/1=own", "keys/1=own", "packs/1=own"}) {
		t.Errorf("peers see %v", got)
	}
	if _, err := b.Get(t.Context(), "index/1/root", 0, -1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an index blob that was removed is given: %v", err)
	}
	if got := have(t, own); len(got) != 4 {
		t.Errorf("what this device has put is %v now", got)
	}
	put(t, b, "index/1/root", "other")
	if got := have(t, b); len(got) != 4 {
		t.Errorf("what was put again is not shown: %v", got)
	}
}
