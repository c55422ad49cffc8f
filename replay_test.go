package sheaf

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/chunkstore/kv/memkv"
	"github.com/sheaf-drive/sheaf/chunkstore/refs"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live/journal"
)

// T-A6: any two blobs change places. Short of SHEAF_LONG a new device looks at one pair in three.
func TestReplay_SwappedBlobsAreFound(t *testing.T) {
	v := newVillage(t)
	rng := testkit.Rand(testkit.Seed(t))
	all := blobs(t, v.store)
	order := slices.Sorted(maps.Keys(all))
	pairs := 0
	for i, a := range order {
		for _, b := range order[i+1:] {
			if bytes.Equal(all[a], all[b]) {
				continue // the two copies of one record
			}
			pairs++
			store := v.store.Clone()
			putBlob(t, store, a, all[b])
			putBlob(t, store, b, all[a])
			m := v.clone(store.Clone())
			if found, err := inspect(t, m.tryOpen, v.want); err != nil || found == nil {
				t.Errorf("%s and %s on their device: found %v, error %v", a, b, found, err)
			}
			if !long() && rng.IntN(3) > 0 {
				continue
			}
			if found, err := v.joined(store); err != nil || found == nil {
				t.Errorf("%s and %s on a new device: found %v, error %v", a, b, found, err)
			}
		}
	}
	t.Logf("%d pairs of %d blobs", pairs, len(all))
}

// A20, A31: one blob is withheld, or an older state of one name is put back, and nothing else is touched. A new device
// cannot know of a head that no other device has seen, and without it shows the state before; the device itself can.
func TestReplay_OneBlobWithheldOrPutBack(t *testing.T) {
	v := newVillage(t)
	all := blobs(t, v.store)
	heads := named(all, "heads/")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		store := v.store.Clone()
		removeBlob(t, store, name)
		m := v.clone(store.Clone())
		found, err := inspect(t, m.tryOpen, v.want)
		// What an index blob says the packs say too, and the oldest head goes when heads are pruned. All else is missed.
		if err != nil || found == nil && !within(name, "index/") && name != heads[0] {
			t.Errorf("%s withheld, on its device: found %v, error %v", name, found, err)
		}
		if name == heads[len(heads)-1] {
			if !errors.Is(found, refs.ErrRollback) {
				t.Errorf("the newest head withheld: %v", found)
			}
			v.want = v.wants[1]
		}
		if _, err := v.joined(store); err != nil {
			t.Errorf("%s withheld, on a new device: %v", name, err)
		}
		v.want = v.wants[2]
	}
	for i, past := range v.past[:2] {
		for name, body := range blobs(t, past) {
			if bytes.Equal(all[name], body) {
				continue
			}
			store := v.store.Clone()
			putBlob(t, store, name, body)
			m := v.clone(store)
			if _, err := inspect(t, m.tryOpen, v.want); err != nil {
				t.Errorf("%s as it was after commit %d, on its device: %v", name, i, err)
			}
			if _, err := v.joined(store); err != nil {
				t.Errorf("%s as it was after commit %d, on a new device: %v", name, i, err)
			}
		}
	}
}

// T-A20a: the whole bucket, or the heads alone, as they were before.
func TestReplay_OlderHeadsAreRollback(t *testing.T) {
	v := newVillage(t)
	all := blobs(t, v.store)
	heads := named(all, "heads/")
	newest, before := heads[len(heads)-1], heads[len(heads)-2]
	for i, past := range v.past[:2] {
		if _, err := v.clone(past.Clone()).tryOpen(); !errors.Is(err, keys.ErrRollback) {
			t.Errorf("the bucket as it was after commit %d: %v, want ErrRollback", i, err)
		}
	}
	store := v.store.Clone()
	removeBlob(t, store, newest)
	if _, err := v.clone(store).tryOpen(); !errors.Is(err, keys.ErrRollback) {
		t.Errorf("without the newest head: %v, want ErrRollback", err)
	}
	putBlob(t, store, newest, all[before])
	if _, err := v.clone(store).tryOpen(); !errors.Is(err, keys.ErrTampered) {
		t.Errorf("an older head under the name of the newest: %v, want ErrTampered", err)
	}
}

// T-A20a, b, c: what one device has seen of another is neither set back nor shown otherwise to it (R3, R4),
// nor hidden from a third that has met it (R5).
func TestReplay_OtherDevicesNotice(t *testing.T) {
	v := newVillage(t)
	a := v.machine
	b := newMachine(t, v.store)
	d := b.join(v.words)
	write(t, d.FS(), "from b", []byte("b"))
	closeDrive(t, d)
	older := v.store.Clone()

	// Two states of the same clone of a, and b sees the first.
	twin := a.clone(v.store.Clone())
	for m, text := range map[*machine]string{a: "one", twin: "two"} {
		d := m.open()
		write(t, d.FS(), "which", []byte(text))
		closeDrive(t, d)
	}
	d = b.open()
	if got := read(t, d.FS(), "which"); string(got) != "one" {
		t.Errorf("b sees %q", got)
	}
	write(t, d.FS(), "from b", []byte("b, after it saw one"))
	closeDrive(t, d)

	if _, err := b.clone(twin.bucket).tryOpen(); !errors.Is(err, keys.ErrFork) && !errors.Is(err, keys.ErrRollback) {
		t.Errorf("b is shown the other world: %v", err)
	}
	if _, err := b.clone(older.Clone()).tryOpen(); !errors.Is(err, keys.ErrRollback) {
		t.Errorf("b is shown an older world: %v, want ErrRollback", err)
	}
	// Only the head of a is another one, or is hidden.
	all, other := blobs(t, v.store), blobs(t, twin.bucket)
	var forked []blob.Name
	for _, n := range named(other, "heads/") {
		if _, ok := all[n]; ok && !bytes.Equal(all[n], other[n]) {
			forked = append(forked, n)
		}
	}
	if len(forked) == 0 {
		t.Fatal("no head of one name in two worlds")
	}
	slices.Sort(forked)
	fork := v.store.Clone()
	for _, n := range forked {
		putBlob(t, fork, n, other[n])
	}
	if _, err := b.clone(fork).tryOpen(); !errors.Is(err, keys.ErrFork) {
		t.Errorf("b is shown another head of a: %v, want ErrFork", err)
	}
	if _, err := a.clone(fork).tryOpen(); !errors.Is(err, keys.ErrFork) {
		t.Errorf("a is shown another head of its own: %v, want ErrFork", err)
	}
	c := newMachine(t, fork)
	if _, err := Join(t.Context(), c.options(Secret{Recovery: v.words}), true); !errors.Is(err, keys.ErrFork) {
		t.Errorf("c, new, is shown another head of a than b has seen: %v, want ErrFork", err)
	}
	removeBlob(t, fork, forked[len(forked)-1])
	c = newMachine(t, fork)
	if _, err := Join(t.Context(), c.options(Secret{Recovery: v.words}), true); !errors.Is(err, keys.ErrIncomplete) {
		t.Errorf("c, new, is not shown a head that b has seen: %v, want ErrIncomplete", err)
	}
}

// has reports whether some file has these bytes, under whatever name.
func (s state) has(body string) bool {
	for _, c := range s {
		if c == "file "+body {
			return true
		}
	}
	return false
}

func mustHave(t *testing.T, who string, d *Drive, bodies ...string) {
	t.Helper()
	s, err := stateOf(t.Context(), d.FS())
	if err != nil {
		t.Errorf("%s: %v", who, err)
	}
	for _, b := range bodies {
		if !s.has(b) {
			t.Errorf("%s: %q is lost; there are %q", who, b, slices.Sorted(maps.Keys(s)))
		}
	}
}

// T-A20d: the folder of a device is copied and both copies run. The second one to commit notices, goes on as a
// new device when it is opened again, and nothing that either was told to keep is lost. more is how much
// the first one does in the meantime: the journals of both number what they did alike.
func TestReplay_ClonedDeviceBecomesANewOneAndLosesNothing(t *testing.T) {
	for _, more := range []int{0, 50} {
		t.Run(fmt.Sprint(more), func(t *testing.T) {
			v := newVillage(t)
			one := v.machine
			two := one.clone(v.store)
			d1, d2 := one.open(), two.open()
			write(t, d1.FS(), "note", []byte("note of one"))
			write(t, d1.FS(), "of one", []byte("body of one"))
			for i := range more {
				write(t, d1.FS(), "more", []byte(strings.Repeat("m", i)))
			}
			write(t, d2.FS(), "note", []byte("note of two"))
			write(t, d2.FS(), "of two", []byte("body of two"))
			write(t, d2.FS(), "x/of two", []byte("deeper, of two"))
			commit(t, d1)
			if err := d2.Commit(t.Context()); !errors.Is(err, keys.ErrFork) {
				t.Errorf("the second commits: %v, want ErrFork", err)
			}
			mustHave(t, "the second while it runs", d2, "body of two")
			before := d2.Info().Device
			drop(t, d2)
			closeDrive(t, d1)

			d2 = two.open()
			if d2.Info().Device == before {
				t.Error("the second goes on under the old name")
			}
			bodies := []string{"note of one", "body of one", "note of two", "body of two", "deeper, of two"}
			mustHave(t, "the second", d2, bodies...)
			commit(t, d2)
			clean(t, d2)
			closeDrive(t, d2)
			d1 = one.open()
			mustHave(t, "the first", d1, bodies...)
			clean(t, d1)
			closeDrive(t, d1)
			d2 = two.open()
			mustHave(t, "the second, later", d2, bodies...)
		})
	}
}

// What a device has in its journal only survives that others commit to the same names meanwhile.
func TestReplay_JournalSurvivesWhatOtherDevicesDo(t *testing.T) {
	v := newVillage(t)
	d := v.open()
	write(t, d.FS(), "same", []byte("same, of a"))
	write(t, d.FS(), "note", []byte("note of a"))
	write(t, d.FS(), "x/y/deep", []byte("deep, of a"))
	drop(t, d)
	b := newMachine(t, v.store)
	d = b.join(v.words)
	write(t, d.FS(), "same", []byte("same, of b"))
	write(t, d.FS(), "note", []byte("note of b"))
	if err := vfs.RemoveAll(t.Context(), d.FS(), "x/y"); err != nil {
		t.Fatal(err)
	}
	closeDrive(t, d)
	d = v.open()
	bodies := []string{"same, of a", "same, of b", "note of a", "note of b", "deep, of a"}
	mustHave(t, "a", d, bodies...)
	commit(t, d)
	clean(t, d)
	closeDrive(t, d)
	d = b.open()
	mustHave(t, "b", d, bodies...)
	clean(t, d)
}

// T-A20e: the state of a device is lost, in part or whole. It is a new device then, no sequence number is used
// twice, and nothing is lost or deleted anywhere.
func TestReplay_LostStateIsANewDevice(t *testing.T) {
	for what, lose := range map[string]func(m *machine){
		"database":             func(m *machine) { m.db = newMachine(m.t, m.bucket).db },
		"database and journal": func(m *machine) { m.db, m.wal = newMachine(m.t, m.bucket).db, journal.NewMemDir() },
	} {
		t.Run(what, func(t *testing.T) {
			v := newVillage(t)
			b := newMachine(t, v.store)
			d := b.join(v.words)
			write(t, d.FS(), "from b", []byte("body of b"))
			closeDrive(t, d)
			before := blobs(t, v.store)
			d = v.open()
			name := d.Info().Device
			closeDrive(t, d)
			lose(v.machine)
			d = v.open()
			if d.Info().Device == name {
				t.Error("it goes on under the old name")
			}
			want := maps.Clone(v.want)
			want["from b"] = "file body of b"
			if got, err := stateOf(t.Context(), d.FS()); err != nil {
				t.Error(err)
			} else if err := got.differs(want); err != nil {
				t.Error(err)
			}
			write(t, d.FS(), "new", []byte("new"))
			closeDrive(t, d)
			after := blobs(t, v.store)
			for n, body := range before {
				if within(n, "heads/") && !bytes.Equal(after[n], body) {
					t.Errorf("%s was written again", n)
				}
			}
			want["new"] = "file new"
			if found, err := inspect(t, b.tryOpen, want); found != nil || err != nil {
				t.Errorf("b: found %v, error %v", found, err)
			}
		})
	}
	// All of it: then it joins again by the words.
	v := newVillage(t)
	if err := os.RemoveAll(v.dir); err != nil {
		t.Fatal(err)
	}
	if _, err := v.tryOpen(); !errors.Is(err, ErrNoDrive) {
		t.Errorf("open without a folder: %v, want ErrNoDrive", err)
	}
	if found, err := v.joined(v.store); found != nil || err != nil {
		t.Errorf("joined again: found %v, error %v", found, err)
	}
}

// A copy of an older time of the device comes back from a backup: folder, database and journal fit together,
// and all is older than the bucket.
func TestReplay_DeviceFromABackupIsANewOne(t *testing.T) {
	v := newVillage(t)
	d := v.open()
	write(t, d.FS(), "in the journal", []byte("journaled before the backup"))
	write(t, d.FS(), "note", []byte("note before the backup"))
	backup := v.clone(v.store)
	commit(t, d)
	write(t, d.FS(), "note", []byte("note after the backup"))
	write(t, d.FS(), "later", []byte("later"))
	closeDrive(t, d)
	d = backup.open()
	mustHave(t, "the backup", d, "journaled before the backup", "note after the backup", "later")
	commit(t, d)
	clean(t, d)
}

// A machine that becomes a new device may stop at any write to the bucket on the way, and more than once. bare is
// without a database, else it is a copy that has one.
func TestReplay_StoppedWhileBecomingANewDevice(t *testing.T) {
	for _, bare := range []bool{true, false} {
		v := newVillage(t)
		d := v.open()
		write(t, d.FS(), "note", []byte("in the journal"))
		write(t, d.FS(), "x/new", []byte("new in the journal"))
		twin := v.clone(v.store)
		drop(t, d)
		if bare {
			d = v.open()
			closeDrive(t, d)
			d = v.open()
			write(t, d.FS(), "note", []byte("in the journal, later"))
			drop(t, d)
			v.db = memkv.New()
		} else {
			d = twin.open()
			write(t, d.FS(), "of twin", []byte("of twin"))
			closeDrive(t, d)
		}
		b := newMachine(t, v.store)
		d = b.join(v.words)
		write(t, d.FS(), "note", []byte("of b"))
		closeDrive(t, d)
		stops := int64(0)
		for ; ; stops++ {
			faults := testkit.NewFaults(v.store.Clone())
			m := v.clone(faults)
			for range 2 {
				faults.FailAfter(stops, nil)
				if d, err := m.tryOpen(); err == nil {
					drop(t, d)
				}
			}
			short := faults.Counts().Writes() > stops
			faults.Heal()
			d := m.open()
			bodies := []string{"of b", "in the journal, later", "new in the journal"}
			if !bare {
				bodies = []string{"of b", "of twin", "in the journal", "new in the journal"}
			}
			mustHave(t, fmt.Sprintf("bare %v, stopped at write %d", bare, stops), d, bodies...)
			commit(t, d)
			for _, f := range verify(t, d).Findings {
				t.Errorf("stopped at write %d: verify: %s %s", stops, f.Blob, f.Reason)
			}
			closeDrive(t, d)
			if !short {
				break
			}
		}
		t.Logf("bare %v: stopped at each of %d writes", bare, stops)
		if stops < 5 {
			t.Error("too few to show anything")
		}
	}
}

// A device that joined and wrote while this one was open loses nothing to the garbage collection of this one.
func TestReplay_GCSparesWhatNewDevicesWrote(t *testing.T) {
	v := newVillage(t)
	d := v.open()
	b := newMachine(t, v.store)
	e := b.join(v.words)
	write(t, e.FS(), "from b", []byte("body of b"))
	closeDrive(t, e)
	all, err := d.Snapshots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range all[1:] {
		if err := d.DropSnapshot(t.Context(), SnapshotID(k.Dot.String())); err != nil {
			t.Fatal(err)
		}
	}
	write(t, d.FS(), "note", []byte("so that something is dead"))
	if _, err := d.GC(t.Context(), GCOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	clean(t, d)
	closeDrive(t, d)
	e = b.open()
	mustHave(t, "b", e, "body of b", "so that something is dead")
	clean(t, e)
	closeDrive(t, e)
	d = v.open()
	mustHave(t, "a", d, "body of b")
	clean(t, d)
}
