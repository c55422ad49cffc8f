package pair_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/kv/memkv"
	"github.com/sheaf-drive/sheaf/sync/merge"
	"github.com/sheaf-drive/sheaf/sync/pair"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/memtree"
)

// A rig is two places in memory and a pair of them.
type rig struct {
	t    *testing.T
	tree [2]*memtree.Tree
	at   [2]remote.Tree // what the pair sees of them
	db   *memkv.DB
	o    pair.Options
	p    *pair.Pair
	now  time.Time
}

func newRig(t *testing.T, left, right memtree.Options) *rig {
	t.Helper()
	left.Name, right.Name = "left", "right"
	r := &rig{t: t, db: memkv.New(), now: time.Date(2026, 12, 1, 4, 0, 0, 0, time.UTC)}
	r.tree = [2]*memtree.Tree{memtree.New(left), memtree.New(right)}
	r.at = [2]remote.Tree{r.tree[0], r.tree[1]}
	r.o = pair.Options{Parallel: 1, Now: func() time.Time { return r.now }}
	r.o.Rule.Label = [2]string{"laptop", "cloud"}
	return r
}

func (r *rig) open() {
	r.t.Helper()
	r.o.KV, r.o.Tree = r.db, r.at
	p, err := pair.Open(r.t.Context(), r.o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.p = p
}

func (r *rig) run(o ...pair.RunOptions) (pair.Report, error) {
	r.t.Helper()
	if r.p == nil {
		r.open()
	}
	r.now = r.now.Add(time.Minute)
	return r.p.Run(r.t.Context(), append(o, pair.RunOptions{})[0])
}

func (r *rig) mustRun() pair.Report {
	r.t.Helper()
	rep, err := r.run()
	if err != nil {
		r.t.Fatalf("run: %v", err)
	}
	return rep
}

// put writes as a person does who uses the place.
func (r *rig) put(s merge.Side, path, body string) {
	r.t.Helper()
	r.now = r.now.Add(time.Second)
	if err := r.tree[s].SneakPut(remote.Item{Path: path, MTime: r.now}, []byte(body)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) remove(s merge.Side, path string) {
	r.t.Helper()
	if err := r.tree[s].SneakRemove(path); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) move(s merge.Side, from, to string) {
	r.t.Helper()
	it, err := r.tree[s].Stat(context.Background(), from)
	if err == nil {
		_, err = r.tree[s].Move(context.Background(), from, to, it.Version)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func body(t testing.TB, tree remote.Tree, path string) string {
	t.Helper()
	rd, err := tree.Open(context.Background(), path, 0, -1, "")
	if err != nil {
		t.Fatal(err)
	}
	defer rd.Close()
	b, err := io.ReadAll(rd)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// show lists a place: "path" of a directory with a "/" behind it, "path=content" of a file; the history only if hist.
func show(t testing.TB, tree remote.Tree, hist bool) (all []string) {
	t.Helper()
	changes, _ := tree.Changes(context.Background(), "")
	for c, err := range changes {
		if err != nil {
			t.Fatal(err)
		}
		if pair.InHistory(c.Path) != hist {
			continue
		}
		switch c.Kind {
		case remote.Dir:
			if !hist {
				all = append(all, c.Path+"/")
			}
		case remote.File:
			all = append(all, c.Path+"="+body(t, tree, c.Path))
		default:
			all = append(all, c.Path+"→"+c.Target)
		}
	}
	slices.Sort(all)
	return all
}

// want fails unless a side shows the lines.
func (r *rig) want(s merge.Side, lines ...string) {
	r.t.Helper()
	slices.Sort(lines)
	if got := show(r.t, r.tree[s], false); !slices.Equal(got, lines) {
		r.t.Errorf("the %s side has %q, want %q", s, got, lines)
	}
}

func (r *rig) both(lines ...string) {
	r.t.Helper()
	r.want(merge.Left, lines...)
	r.want(merge.Right, lines...)
	if rep := r.mustRun(); len(rep.Steps) > 0 {
		r.t.Errorf("there is something left to do: %q", rep.Steps)
	}
}

// kept fails unless the history of a side has the content.
func (r *rig) kept(s merge.Side, content string) {
	r.t.Helper()
	got := show(r.t, r.tree[s], true)
	if !slices.ContainsFunc(got, func(l string) bool { return strings.HasSuffix(l, "="+content) }) {
		r.t.Errorf("the history of the %s side has no %q: %q", s, content, got)
	}
}

var shapes = map[string]memtree.Options{
	"all it takes":     {},
	"a bucket":         {NoIDs: true, NoFeed: true, NoModes: true, NoSymlinks: true, NoEmptyDirs: true, NoDirMove: true, NoTouch: true, MTime: -1},
	"an old server":    {NoIDs: true, NoFeed: true, NoHashes: true, NoModes: true, NoCopy: true, NoTouch: true, NoDots: true, MTime: time.Second},
	"a stick":          {Fold: true, MTime: 2 * time.Second, NoFeed: true, NoHashes: true, NoModes: true, NoSymlinks: true},
	"a Mac":            {Fold: true, Normal: true},
	"a drive of a web": {NoModes: true, NoSymlinks: true},
}

func TestPair_KeepsPlacesOfAllSortsAlike(t *testing.T) {
	for lname, left := range shapes {
		for rname, right := range shapes {
			t.Run(lname+" and "+rname, func(t *testing.T) {
				r := newRig(t, left, right)
				r.put(merge.Left, "d/a", "1")
				r.put(merge.Left, "d/e/b", "22")
				r.put(merge.Right, "c", "333")
				r.mustRun()
				r.both("c=333", "d/", "d/a=1", "d/e/", "d/e/b=22")
				r.put(merge.Right, "d/a", "4444")
				r.put(merge.Left, "n", "new")
				r.mustRun()
				r.both("c=333", "d/", "d/a=4444", "d/e/", "d/e/b=22", "n=new")
				r.kept(merge.Left, "1")
				r.remove(merge.Left, "c")
				r.mustRun()
				r.both("d/", "d/a=4444", "d/e/", "d/e/b=22", "n=new")
				r.kept(merge.Right, "333")
				r.move(merge.Right, "n", "d/n")
				r.put(merge.Left, "n2", "x")
				r.mustRun()
				r.both("d/", "d/a=4444", "d/e/", "d/e/b=22", "d/n=new", "n2=x")
				r.put(merge.Left, "n2", "left")
				r.put(merge.Right, "n2", "the right")
				rep := r.mustRun()
				if len(rep.Conflicts) != 1 {
					t.Errorf("got %d conflicts, want 1: %+v", len(rep.Conflicts), rep)
				}
				all := show(t, r.tree[0], false)
				if !slices.ContainsFunc(all, func(l string) bool { return strings.HasSuffix(l, "=left") }) || !slices.ContainsFunc(all, func(l string) bool { return strings.HasSuffix(l, "=the right") }) {
					t.Errorf("a side of the conflict is missing: %q", all)
				}
				r.both(all...)
			})
		}
	}
}

func TestPair_MovesADirectoryAsOne(t *testing.T) {
	r := newRig(t, memtree.Options{}, memtree.Options{})
	for i := range 50 {
		r.put(merge.Left, fmt.Sprintf("big/sub/f%02d", i), fmt.Sprint("content ", i))
	}
	r.mustRun()
	r.move(merge.Left, "big", "large")
	r.put(merge.Right, "big/sub/f07", "edited meanwhile")
	rep := r.mustRun()
	if !slices.Equal(rep.Steps, []string{"right: move big to large", "left: replace large/sub/f07"}) || rep.Bytes > 100 {
		t.Errorf("got %q and %d bytes", rep.Steps, rep.Bytes)
	}
	if rep = r.mustRun(); len(rep.Steps) > 0 || rep.Agreed != 52 {
		t.Errorf("got %q and %d agreed, want nothing to do and 52", rep.Steps, rep.Agreed)
	}
}

func TestPair_PreviewIsWhatRunDoes(t *testing.T) {
	r := newRig(t, memtree.Options{}, memtree.Options{})
	r.put(merge.Left, "a", "1")
	r.put(merge.Left, "d/b", "2")
	r.put(merge.Right, "c", "3")
	r.open()
	pre, err := r.p.Preview(t.Context(), pair.PreviewOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r.want(merge.Right, "c=3")
	if rep := r.mustRun(); !slices.Equal(pre.Steps, rep.Steps) || len(rep.Steps) != 4 {
		t.Errorf("got %q, the preview said %q", rep.Steps, pre.Steps)
	}
}

func TestPair_ModesOfOneWay(t *testing.T) {
	for _, c := range []struct {
		mode        merge.Mode
		left, right []string
	}{
		{merge.CopyOnly, []string{"a=2", "d=new"}, []string{"a=2", "b=1", "d=new", "r=own"}},
		{merge.Send, []string{"a=2", "d=new"}, []string{"a=2", "d=new", "r=own"}},
		{merge.Mirror, []string{"a=2", "d=new"}, []string{"a=2", "d=new"}},
	} {
		r := newRig(t, memtree.Options{}, memtree.Options{})
		r.o.Rule.Mode = c.mode
		r.put(merge.Left, "a", "1")
		r.put(merge.Left, "b", "1")
		r.mustRun()
		r.put(merge.Left, "a", "2")
		r.remove(merge.Left, "b")
		r.put(merge.Left, "d", "new")
		r.put(merge.Right, "r", "own")
		r.mustRun()
		r.want(merge.Left, c.left...)
		r.want(merge.Right, c.right...)
	}
}

func TestPair_AFilterNeverDeletes(t *testing.T) {
	r := newRig(t, memtree.Options{}, memtree.Options{})
	r.put(merge.Left, "keep/a.o", "object")
	r.put(merge.Left, "keep/a.c", "source")
	r.mustRun()
	r.p, r.o.Out = nil, func(path string, _ bool, _ int64) bool { return strings.HasSuffix(path, ".o") }
	r.remove(merge.Left, "keep/a.o") // to make room: it is not here, and that is no wish
	r.mustRun()
	r.want(merge.Right, "keep/", "keep/a.c=source", "keep/a.o=object")
	r.remove(merge.Left, "keep")
	r.mustRun() // the directory holds something that is left out
	r.want(merge.Right, "keep/", "keep/a.o=object")
	r.p, r.o.Out = nil, nil
	r.mustRun()
	r.both("keep/", "keep/a.o=object")
}

func TestPair_ExplainsAndRemembersConflicts(t *testing.T) {
	r := newRig(t, memtree.Options{}, memtree.Options{})
	r.put(merge.Left, "a.txt", "1")
	r.put(merge.Right, "a.txt", "22")
	r.mustRun()
	all, err := r.p.Conflicts(t.Context())
	if err != nil || len(all) != 1 || all[0].Path != "a.txt" || all[0].Copy != "a (conflict, laptop, 2026-12-01).txt" {
		t.Fatalf("got %+v and error %v", all, err)
	}
	e, err := r.p.Explain(t.Context(), "a.txt")
	if err != nil || !e.Agreed || !e.On[0] || !e.On[1] || len(e.Decisions) == 0 || len(e.Next) > 0 {
		t.Errorf("got %+v and error %v", e, err)
	}
	if err := r.p.Dismiss(t.Context(), all[0].ID); err != nil {
		t.Fatal(err)
	}
	if all, err = r.p.Conflicts(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("got %+v and error %v", all, err)
	}
	r.mustRun() // both contents stay
	r.want(merge.Left, "a (conflict, laptop, 2026-12-01).txt=1", "a.txt=22")
}

func TestPair_ForgetsOldHistory(t *testing.T) {
	r := newRig(t, memtree.Options{}, memtree.Options{})
	r.put(merge.Left, "a", "1")
	r.mustRun()
	r.put(merge.Left, "a", "2")
	r.mustRun()
	r.now = r.now.Add(29 * 24 * time.Hour)
	r.mustRun()
	r.kept(merge.Right, "1")
	r.now = r.now.Add(2 * 24 * time.Hour)
	r.mustRun()
	if got := show(t, r.tree[1], true); len(got) > 0 {
		t.Errorf("the history has %q still", got)
	}
}
