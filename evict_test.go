package sheaf

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs"
)

// fill writes n files of 3 MiB and brings them to the places.
func fill(t *testing.T, d *Drive, n int) map[string][]byte {
	t.Helper()
	rng := testkit.Rand(testkit.Seed(t))
	files := map[string][]byte{}
	for i := range n {
		name := fmt.Sprint("file ", i)
		files[name] = testkit.Random(rng, 3<<20)
		write(t, d.FS(), name, files[name])
	}
	if err := exchange(t, d); err != nil {
		t.Fatal(err)
	}
	return files
}

// all reads files and compares them.
func all(t *testing.T, what string, d *Drive, files map[string][]byte) {
	t.Helper()
	for name, body := range files {
		if !bytes.Equal(read(t, d.FS(), name), body) {
			t.Errorf("%s: %s is another one", what, name)
		}
	}
}

func packsOf(t *testing.T, b blob.Bucket) (names []blob.Name) { return named(blobs(t, b), pack.Prefix) }

// M13 for what this device wrote itself: it leaves the device when places have it, and the drive is what it was: here, after a start without
// any place, at a place that comes later, for another device; and what nothing needs any more is collected.
func TestEvict_TheDriveIsWhatItWas(t *testing.T) {
	nas, cloud := &parted{Bucket: mem.New()}, mem.New()
	r := newResident(t, nas.place("nas"))
	r.noted = t.TempDir()
	d, words := r.create()
	if rep, err := d.Evict(t.Context(), EvictOptions{}, nil); err != nil || rep.Packs != 0 {
		t.Errorf("before any turn: %+v, %v", rep, err)
	}
	files := fill(t, d, 14)
	before := len(packsOf(t, r.own))
	rep, err := d.Evict(t.Context(), EvictOptions{Keep: 8 << 20}, nil)
	if err != nil || rep.Packs == 0 || rep.Kept > 8<<20 || rep.Short != 0 {
		t.Fatalf("%+v, %v", rep, err)
	}
	if rep, err = d.Evict(t.Context(), EvictOptions{}, nil); err != nil || rep.Kept != 0 || len(packsOf(t, r.own)) != 0 {
		t.Fatalf("%+v, %v; %d of %d packs are here", rep, err, len(packsOf(t, r.own)), before)
	}
	all(t, "after it", d, files)
	if at := whereIs(t, d, ""); at.Copies != 1 || at.Places != 2 || at.Waiting {
		t.Errorf("copies: %+v", at)
	}
	clean(t, d)
	closeDrive(t, d)

	nas.is = true
	o := r.settle()
	d, err = Open(t.Context(), o)
	if err != nil {
		t.Fatalf("without its place: %v", err)
	}
	names := 0
	root, err := vfs.Walk(t.Context(), d.FS(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range root.(vfs.Dir).List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		names++
	}
	if names != len(files) {
		t.Errorf("%d names without the place, want %d", names, len(files))
	}
	nas.is = false
	if err := d.Replicas().Add(place("cloud", cloud)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(exchange(t, d), exchange(t, d)); err != nil {
		t.Fatal(err)
	}
	all(t, "opened again", d, files)
	other := newResident(t, place("cloud", cloud))
	od := other.join(words)
	all(t, "at the place that came later", od, files)
	if err := exchange(t, od); err != nil {
		t.Fatal(err)
	}
	for name := range files {
		if err := vfs.RemoveAll(t.Context(), d.FS(), name); err != nil {
			t.Fatal(err)
		}
	}
	thin(t, d)
	for range 6 { // with the other device's word
		mustGC(t, d)
		mustExchange(t, d, od, d)
	}
	for what, b := range map[string]blob.Bucket{"nas": nas, "cloud": cloud} {
		size := 0
		for name, body := range blobs(t, b) {
			if _, err := pack.ParseBlobName(string(name)); err == nil {
				size += len(body)
			}
		}
		if size > 4<<20 {
			t.Errorf("%d bytes of packs are left at %s, of 42 MiB that nothing needs", size, what)
		}
	}
}

// What is pinned, and what no place has, stays.
func TestEvict_LeavesWhatIsPinnedOrNowhereElse(t *testing.T) {
	r := newResident(t, place("nas", mem.New()))
	d, _ := r.create()
	rng := testkit.Rand(testkit.Seed(t))
	pinnedFile := map[string][]byte{"kept": testkit.Random(rng, 3<<20)}
	write(t, d.FS(), "kept", pinnedFile["kept"])
	commit(t, d) // to packs of its own
	fill(t, d, 10)
	if err := d.Pin(t.Context(), []string{"kept"}, nil); err != nil {
		t.Fatal(err)
	}
	write(t, d.FS(), "new", testkit.Random(rng, 5<<20))
	commit(t, d)
	if _, err := d.Evict(t.Context(), EvictOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	if at := whereIs(t, d, "kept"); at.Here != at.Stored || !at.Pinned {
		t.Errorf("what is pinned: %+v, %s", at, at)
	}
	if at := whereIs(t, d, "new"); at.Here != at.Stored {
		t.Errorf("what no place has: %+v, %s", at, at)
	}
	if at := whereIs(t, d, "file 3"); at.Here == at.Stored {
		t.Errorf("what was to go: %+v, %s", at, at)
	}
	all(t, "after it", d, pinnedFile)
}

// A limit holds by itself, as soon as places have what is beyond it.
func TestLimit_HoldsByItself(t *testing.T) {
	r := newResident(t, place("nas", mem.New()))
	r.limit = 12 << 20
	o := r.settle()
	o.Replication.Poll = 50 * time.Millisecond
	d, _, err := Create(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer closeDrive(t, d)
	files := fill(t, d, 14)
	size := func() (n int64) {
		for info, err := range o.Replication.Tier.Kept(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			n += info.Size
		}
		return n
	}
	for end := time.Now().Add(time.Minute); size() > r.limit; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after a minute %d bytes are here, limit %d", size(), r.limit)
		}
	}
	all(t, "below the limit", d, files)
}
