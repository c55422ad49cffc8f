package sheaf

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/evil"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/tier"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/engine"
)

// A resident is a machine whose drive is at several places, and in its own bucket.
type resident struct {
	*machine
	places []engine.Place
	mirror *mem.Bucket
	own    *mem.Bucket
	noted  string // where its tier keeps what it notes; "": nowhere
	limit  int64
}

func newResident(t testing.TB, places ...engine.Place) *resident {
	r := &resident{machine: newMachine(t, nil), places: places, mirror: mem.New(), own: mem.New()}
	r.log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	return r
}

func place(name string, b blob.Bucket) engine.Place {
	return engine.Place{Name: name, At: name, Open: func(context.Context) (blob.Bucket, error) { return b, nil }}
}

// settle makes the options of a drive that is opened now.
func (r *resident) settle() Options {
	r.t.Helper()
	tr, err := tier.Open(tier.Options{Local: r.own, Mirror: r.mirror, Dir: r.noted, Log: r.log})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = tr.Close() })
	o := r.options(Secret{})
	o.Bucket = nil
	o.Replication = &Replication{Tier: tr, Own: r.own, Mirror: r.mirror, Places: r.places, Poll: -1, Limit: r.limit}
	return o
}

func (r *resident) create() (*Drive, string) {
	r.t.Helper()
	d, words, err := Create(r.t.Context(), r.settle())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = d.Close(done()) })
	return d, words
}

func (r *resident) join(words string) *Drive {
	r.t.Helper()
	o := r.settle()
	o.Secret = Secret{Recovery: words}
	d, err := Join(r.t.Context(), o, true)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = d.Close(done()) })
	return d
}

// exchange gives each place of the drive a turn. Faults of places that lie are no failure.
func exchange(t testing.TB, d *Drive) error {
	t.Helper()
	if err := d.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d.Replicas().Sync(t.Context())
}

func onlyIn(prefix string) func(blob.Name) bool {
	return func(n blob.Name) bool { return strings.HasPrefix(string(n), prefix) }
}

// A place that lies about anything keeps nobody from what another place has.
func TestPlaces_OneThatLiesIsMadeGoodByAnother(t *testing.T) {
	type run struct {
		lie  evil.Lie
		what string
	}
	var all []run
	for _, lie := range slices.Concat(evil.Bytes, evil.Calls, evil.Listings) {
		if lie == evil.Slow || lie == evil.Endless {
			continue // these cost time: the tests of the tier have them
		}
		for _, what := range []string{"heads/", "members/", "keys/", "drive/", "packs/", "index/", ""} {
			all = append(all, run{lie, what})
		}
	}
	rnd := testkit.Rand(testkit.Seed(t))
	rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	if !long() {
		all = all[:8]
	}
	for _, r := range all {
		t.Run(fmt.Sprintf("%s/%s", r.lie, r.what), func(t *testing.T) { onePlaceLies(t, r.lie, r.what, rnd) })
	}
}

func onePlaceLies(t *testing.T, lie evil.Lie, what string, rnd *rand.Rand) {
	good, bad := mem.New(), mem.New()
	liar := evil.New(bad, rnd.Int64())
	a := newResident(t, place("good", good), place("liar", liar))
	da, words := a.create()
	big := make([]byte, 3<<20)
	for i := range big {
		big[i] = byte(rnd.Uint32())
	}
	write(t, da.FS(), "before", []byte("before"))
	if err := exchange(t, da); err != nil {
		t.Fatal(err)
	}
	places := []engine.Place{place("liar", liar), place("good", good)}
	if rnd.IntN(4) == 0 {
		slices.Reverse(places)
	}
	b := newResident(t, places...)
	db := b.join(words)
	_ = exchange(t, db)
	c := newResident(t, place("good", good)) // a third one, whose entry in the members log is news
	dc := c.join(words)
	write(t, dc.FS(), "third", []byte("third"))
	_ = exchange(t, dc)
	write(t, da.FS(), "after", []byte("after"))
	write(t, da.FS(), "big", big)
	for range 2 { // what it makes of what c did, too
		if err := exchange(t, da); err != nil {
			t.Fatal(err)
		}
	}
	liar.Set(lie, onlyIn(what))
	for range 3 {
		_ = db.Replicas().Sync(t.Context())
	}
	if lie == evil.Swap {
		// Directories of packs that change places are as good as any: only who reads whole packs finds out.
		verify(t, db)
		_ = db.Replicas().Sync(t.Context())
	}
	fsys := db.FS()
	for name, want := range map[string][]byte{"before": []byte("before"), "after": []byte("after"), "third": []byte("third"), "big": big} {
		if got := read(t, fsys, name); !bytes.Equal(got, want) {
			t.Errorf("%s: other bytes are read", name)
		}
	}
	write(t, fsys, "mine", []byte("mine"))
	_ = exchange(t, db)
	_ = exchange(t, da)
	if got := read(t, da.FS(), "mine"); string(got) != "mine" {
		t.Errorf("mine: got %q", got)
	}
}

// A head that nobody wrote, far above the good ones, keeps nobody from these: neither if the place shows it to a device that joins, nor later.
func TestPlaces_ForgedHeadIsNoObstacle(t *testing.T) {
	good, bad := mem.New(), mem.New()
	a := newResident(t, place("good", good), place("bad", bad))
	da, words := a.create()
	write(t, da.FS(), "one", []byte("one"))
	if err := exchange(t, da); err != nil {
		t.Fatal(err)
	}
	forge := func() {
		t.Helper()
		var dir string
		for info, err := range bad.List(t.Context(), "heads/") {
			if err != nil {
				t.Fatal(err)
			}
			dir = string(info.Name[:strings.LastIndexByte(string(info.Name), '/')+1])
			forged := make([]byte, info.Size)
			_, _ = crand.Read(forged)
			n := blob.Name(fmt.Sprintf("%s%016x", dir, 1<<40))
			if err := bad.Put(t.Context(), n, bytes.NewReader(forged), int64(len(forged))); err != nil {
				t.Fatal(err)
			}
		}
		if dir == "" {
			t.Fatal("there are no heads")
		}
	}
	forge()
	b := newResident(t, place("bad", bad)) // has nothing but the place that lies when it joins
	db := b.join(words)
	if got := read(t, db.FS(), "one"); string(got) != "one" {
		t.Errorf("got %q", got)
	}
	if err := db.Replicas().Add(place("good", good)); err != nil {
		t.Fatal(err)
	}
	write(t, da.FS(), "two", []byte("two"))
	_ = exchange(t, da)
	for range 2 {
		_ = exchange(t, db)
	}
	if got := read(t, db.FS(), "two"); string(got) != "two" {
		t.Errorf("got %q", got)
	}
	// It was in the mirror already, as from before there were checks.
	for info, err := range bad.List(t.Context(), "heads/") {
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(string(info.Name), "/0000010000000000") {
			continue
		}
		body, err := blob.ReadAll(t.Context(), bad, info.Name, info.Size)
		if err == nil {
			err = b.mirror.Put(t.Context(), info.Name, bytes.NewReader(body), int64(len(body)))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	closeDrive(t, db)
	db, err := Open(t.Context(), b.settle())
	if err != nil {
		t.Fatal(err)
	}
	defer closeDrive(t, db)
	write(t, da.FS(), "three", []byte("three"))
	_ = exchange(t, da)
	_ = exchange(t, db)
	if got := read(t, db.FS(), "three"); string(got) != "three" {
		t.Errorf("got %q", got)
	}
}

// TestPace_FollowsThePlaces: what is written is committed as soon as others wait for it, also if they came when the drive was open.
func TestPace_FollowsThePlaces(t *testing.T) {
	r := newResident(t)
	d, _ := r.create()
	defer closeDrive(t, d)
	devices := engine.Place{Name: "phone", Direct: true, Open: func(context.Context) (blob.Bucket, error) { return mem.New(), nil }}
	is := func(when string, wantIdle, wantAge time.Duration) {
		t.Helper()
		if idle, age := d.replicas.pace(); idle != wantIdle || age != wantAge {
			t.Errorf("%s: got %v and %v, want %v and %v", when, idle, age, wantIdle, wantAge)
		}
	}
	is("alone", 0, 0)
	for _, p := range []engine.Place{place("nas", mem.New()), devices} {
		if err := d.Replicas().Add(p); err != nil {
			t.Fatal(err)
		}
		if p.Direct {
			is("with a device", 200*time.Millisecond, 2*time.Second)
		} else {
			is("with a place", time.Second, 10*time.Second)
		}
	}
	if err := d.Replicas().Drop("phone"); err != nil {
		t.Fatal(err)
	}
	is("when the device is gone", time.Second, 10*time.Second)
}
