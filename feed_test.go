package sheaf

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/treefs"
	"github.com/sheaf-drive/sheaf/sync/remote/treetest"
	"github.com/sheaf-drive/sheaf/vfs"
)

// A drive that feeds keeps the whole contract of a place.
func TestFeed_Suite(t *testing.T) {
	treetest.Run(t, func(t *testing.T) treetest.Place {
		h := newHome(t)
		d, _ := h.create(Secret{})
		o := treefs.TreeOptions{Identity: "drive", Exact: true, Feed: d.Feed}
		return treetest.Place{Tree: treefs.NewTree(d.FS(), o), Again: treefs.NewTree(d.FS(), o)}
	})
}

// told returns what the place says changed since the cursor, in the order in which it says it.
func told(t *testing.T, at remote.Tree, since remote.Cursor) ([]remote.Change, remote.Cursor, error) {
	t.Helper()
	var all []remote.Change
	changes, next := at.Changes(t.Context(), since)
	for c, err := range changes {
		if err != nil {
			return nil, "", err
		}
		all = append(all, c)
	}
	return all, next(), nil
}

// A wrecker changes a tree at random.
type wrecker struct {
	t *testing.T
	r *rand.Rand
}

// wreck does up to n changes. What cannot be done is left out.
func (w wrecker) wreck(fsys vfs.FS, n int) {
	w.t.Helper()
	for range w.r.IntN(n) {
		err := w.change(fsys)
		cannot := func(is error) bool { return errors.Is(err, is) }
		if err != nil && !slices.ContainsFunc([]error{fs.ErrNotExist, fs.ErrExist, fs.ErrInvalid, fs.ErrPermission, vfs.ErrNotDir, vfs.ErrIsDir, vfs.ErrNotEmpty}, cannot) {
			w.t.Fatal(err)
		}
	}
}

func (w wrecker) path() string {
	p := make([]string, 1+w.r.IntN(3))
	for i := range p {
		p[i] = string(rune('a' + w.r.IntN(4)))
	}
	return strings.Join(p, "/")
}

func (w wrecker) change(fsys vfs.FS) error {
	ctx := w.t.Context()
	p := w.path()
	d, name, err := vfs.WalkParent(ctx, fsys, p)
	if err != nil {
		return err
	}
	switch w.r.IntN(8) {
	case 0, 1:
		_, err := d.Make(ctx, name, vfs.New{Kind: vfs.KindDir, Mode: 0o700})
		return err
	case 2:
		n, err := d.Lookup(ctx, name)
		if err != nil {
			return err
		}
		_, err = n.SetAttr(ctx, vfs.AttrChange{Set: vfs.SetMode, Mode: vfs.Mode(0o600 + w.r.IntN(8))})
		return err
	case 3:
		n, err := d.Lookup(ctx, name)
		if err != nil {
			return err
		}
		to, as, err := vfs.WalkParent(ctx, fsys, w.path())
		if err != nil {
			return err
		}
		return to.Link(ctx, as, n)
	case 4:
		if err := d.Remove(ctx, name, false); !errors.Is(err, vfs.ErrIsDir) {
			return err
		}
		return d.Remove(ctx, name, true)
	case 5, 6:
		to, as, err := vfs.WalkParent(ctx, fsys, w.path())
		if err != nil {
			return err
		}
		return d.Rename(ctx, name, to, as, []vfs.RenameFlag{0, vfs.RenameNoReplace, vfs.RenameExchange}[w.r.IntN(3)])
	}
	if n, err := d.Lookup(ctx, name); err == nil {
		if _, ok := n.(vfs.Dir); ok {
			return fs.ErrExist
		}
	}
	text := strconv.Itoa(w.r.IntN(1000))
	return vfs.WriteFile(ctx, fsys, p, []byte(text), vfs.New{Kind: vfs.KindFile, Mode: 0o600})
}

// Whoever follows the feed knows what one that lists everything knows, after whatever this device and another one did: also of names of one file, and of
// directories that were moved and replaced. What did not change is not told.
func TestFeed_TellsWhatAListingTells(t *testing.T) {
	w := wrecker{t, testkit.Rand(testkit.Seed(t))}
	at := mem.New()
	da, words := newResident(t, place("nas", at)).create()
	_ = exchange(t, da)
	db := newResident(t, place("nas", at)).join(words)

	all := treefs.NewTree(da.FS(), treefs.TreeOptions{Identity: "a"})
	feed := treefs.NewTree(da.FS(), treefs.TreeOptions{Identity: "a", Feed: da.Feed})
	known := map[string]remote.Item{}
	cursor, feeds, quiet, tellings, renamed := remote.Cursor(""), 0, 0, 0, 0
	for round := range 60 {
		w.wreck(da.FS(), 40)
		if round%3 == 0 {
			w.wreck(db.FS(), 20)
			for _, d := range []*Drive{db, da, db, da} {
				_ = exchange(t, d)
				if _, err := d.Adopt(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		changes, next, err := told(t, feed, cursor)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if cursor != "" {
			feeds++
		}
		tellings += len(changes)
		for _, c := range changes {
			if !c.Gone {
				known[c.Path] = c.Item
				continue
			}
			maps.DeleteFunc(known, func(p string, _ remote.Item) bool { return p == c.Path || strings.HasPrefix(p, c.Path+"/") })
		}
		cursor = next
		want := map[string]remote.Item{}
		listed, _, err := told(t, all, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range listed {
			want[c.Path] = c.Item
		}
		// Which of the values that two devices gave one file bears its number may change with the others. It is met with as ErrChanged when somebody wants to change it.
		for p, k := range known {
			if w, ok := want[p]; ok && k.ID != w.ID {
				renamed++
				known[p] = w
				if k.Version = remote.Version(strings.TrimSuffix(string(k.Version), k.ID)) + remote.Version(w.ID); k.Version != w.Version {
					t.Errorf("round %d: %s is known as %s and is %s", round, p, k.Version, w.Version)
				}
			}
		}
		if diff := differ(known, want); diff != "" {
			t.Fatalf("round %d, after %d changes:\n%s", round, len(changes), diff)
		}
		again, next, err := told(t, feed, cursor)
		if err != nil || len(again) > 0 {
			t.Fatalf("round %d: %v are told again, error %v", round, again, err)
		}
		if cursor == next {
			quiet++
		}
	}
	t.Logf("%d changes were told, %d numbers were not", tellings, renamed)
	if feeds != 59 || quiet != 60 || tellings < 300 || renamed > 5 {
		t.Errorf("%d feeds of %d changes, after %d of which nothing was new: this shows nothing", feeds, tellings, quiet)
	}
}

// differ says how two listings differ; "" for not at all.
func differ(got, want map[string]remote.Item) string {
	var b strings.Builder
	paths := map[string]bool{}
	for p := range got {
		paths[p] = true
	}
	for p := range want {
		paths[p] = true
	}
	for _, p := range slices.Sorted(maps.Keys(paths)) {
		g, inGot := got[p]
		w, inWant := want[p]
		if inGot != inWant || fmt.Sprint(g) != fmt.Sprint(w) {
			fmt.Fprintf(&b, "%s: known %v %v, there is %v %v\n", p, inGot, g, inWant, w)
		}
	}
	return b.String()
}

// A cursor is good for as long as its state is there. When that was collected it is none, like one that is no cursor of a drive: all is told anew.
func TestFeed_ACollectedStateIsNoCursor(t *testing.T) {
	h := newHome(t)
	d, _ := h.create(Secret{})
	feed := treefs.NewTree(d.FS(), treefs.TreeOptions{Identity: "a", Feed: d.Feed})
	for i := range 300 {
		write(t, d.FS(), fmt.Sprintf("file %d", i), []byte("x"))
	}
	_, cursor, err := told(t, feed, "")
	if err != nil {
		t.Fatal(err)
	}
	write(t, d.FS(), "file 7", []byte("another"))
	if got, _, err := told(t, feed, cursor); err != nil || len(got) != 1 || got[0].Path != "file 7" {
		t.Fatalf("got %v and error %v", got, err)
	}
	for i := range 300 {
		if err := vfs.RemoveAll(t.Context(), d.FS(), fmt.Sprintf("file %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, _, err := told(t, feed, cursor); err != nil || len(got) != 300 {
		t.Fatalf("%d changes are told while the state is kept, error %v", len(got), err)
	}
	all, err := d.Snapshots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range all[1:] {
		if err := d.DropSnapshot(t.Context(), SnapshotID(k.Dot.String())); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := d.GC(t.Context(), GCOptions{}, nil); err != nil || r.Freed == 0 {
		t.Fatalf("gc: %+v, %v", r, err)
	}
	closeDrive(t, d) // it may have the old state in memory
	d = h.open(Secret{})
	feed = treefs.NewTree(d.FS(), treefs.TreeOptions{Identity: "a", Feed: d.Feed})
	for _, c := range []remote.Cursor{cursor, "root:zz", "root:00", "of another place"} {
		if _, next, err := told(t, feed, c); !errors.Is(err, remote.ErrCursor) || next != "" {
			t.Errorf("from %s: got cursor %q and error %v, want ErrCursor", c, next, err)
		}
	}
}
