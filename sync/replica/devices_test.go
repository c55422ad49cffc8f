package replica_test

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"

	"github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/evil"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/tier"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/replica"
	"github.com/sheaf-drive/sheaf/vfs"
)

// device is one of a drive's, with a bucket of its own and one remote.
type device struct {
	t      *testing.T
	dir    string
	own    *mem.Bucket
	mirror *mem.Bucket
	tier   *tier.Tier
	remote blob.Bucket
}

func newDevice(t *testing.T, remote blob.Bucket) *device {
	d := &device{t: t, dir: t.TempDir(), own: mem.New(), mirror: mem.New(), remote: remote}
	var err error
	if d.tier, err = tier.Open(tier.Options{Local: d.own, Mirror: d.mirror, Dir: filepath.Join(d.dir, "tier")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.tier.Close() })
	d.tier.SetRemotes(tier.Remote{Name: "remote", Bucket: remote})
	return d
}

func (d *device) fetch() replica.News {
	d.t.Helper()
	news, err := replica.Fetch(d.t.Context(), d.remote, d.mirror, replica.FetchOptions{
		Own: d.own, Packs: !d.tier.Knows("remote"), Learn: func(c *catalog.Table) error { return d.tier.Learn("remote", c) },
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return news
}

func (d *device) push() replica.Report {
	d.t.Helper()
	removed, err := d.tier.Removed(d.t.Context(), "remote")
	if err != nil {
		d.t.Fatal(err)
	}
	rep, err := replica.Push(d.t.Context(), d.own, d.remote, replica.PushOptions{Removed: removed})
	if err != nil {
		d.t.Fatal(err)
	}
	if err := d.tier.RemovedDone("remote", append(rep.Removed, rep.Kept...)...); err != nil {
		d.t.Fatal(err)
	}
	if err := d.tier.Learn("remote", rep.At); err != nil {
		d.t.Fatal(err)
	}
	if n, _, err := d.tier.Missing(d.t.Context(), "remote"); n > 0 || err != nil {
		d.t.Errorf("after a push the remote lacks %d, %v", n, err)
	}
	return rep
}

func (d *device) options(s sheaf.Secret) sheaf.Options {
	return home{context.Background(), filepath.Join(d.dir, "home"), d.tier}.options(s)
}

// Two devices that share nothing but a remote: what one has pushed the other reads, only the grid of it leaves, and what is removed on
// one goes at the remote and is not read any more.
func TestDevices_ShareADriveThroughARemote(t *testing.T) {
	ctx := t.Context()
	place := mem.New()
	one, rec := newDevice(t, place), evil.NewRecorder(place)
	two := newDevice(t, rec)
	d, words, err := sheaf.Create(ctx, one.options(sheaf.Secret{}))
	if err != nil {
		t.Fatal(err)
	}
	big := testkit.Random(testkit.Rand(testkit.Seed(t)), 5<<20)
	for name, body := range map[string][]byte{"small": []byte("hello"), "big": big} {
		if err := vfs.WriteFile(ctx, d.FS(), name, body, vfs.New{Kind: vfs.KindFile, Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if rep := one.push(); rep.Packs == 0 || rep.Heads == 0 {
		t.Errorf("pushed %+v", rep)
	}

	if news := two.fetch(); len(news.Heads) == 0 || news.Table == nil {
		t.Errorf("fetched %+v", news)
	}
	e, err := sheaf.Join(ctx, two.options(sheaf.Secret{Recovery: words}), true)
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string][]byte{"small": []byte("hello"), "big": big} {
		if got, err := vfs.ReadFile(ctx, e.FS(), name, 1<<30); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%s: got %d bytes, %v", name, len(got), err)
		}
	}
	rec.Ranges(t, func(n blob.Name, off, size int64) bool {
		return catalog.Packs != n[:6] || off%tier.Grid == 0 && (size < 0 || size%tier.Grid == 0)
	})
	for info := range two.own.List(ctx, "packs/") {
		for other := range one.own.List(ctx, info.Name) {
			t.Errorf("a pack of another device was put into the own bucket: %s", other.Name)
		}
	}
	if err := vfs.WriteFile(ctx, e.FS(), "of two", []byte("2"), vfs.New{Kind: vfs.KindFile, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(ctx); err != nil {
		t.Fatal(err)
	}
	two.push()

	// One fetches, and sees the head of two; what one then removes goes at the remote with the next push, once.
	if news := one.fetch(); len(news.Heads) == 0 {
		t.Errorf("fetched %+v", news)
	}
	var name blob.Name
	for info := range one.own.List(ctx, "packs/") {
		name = info.Name
	}
	if err := one.tier.Remove(ctx, name); err != nil {
		t.Fatal(err)
	}
	if rep := one.push(); len(rep.Removed) != 1 {
		t.Errorf("removed %v", rep.Removed)
	}
	if rep := one.push(); len(rep.Removed) != 0 {
		t.Errorf("removed %v again", rep.Removed)
	}
	for info := range place.List(ctx, name) {
		t.Errorf("%s is there still", info.Name)
	}
}
