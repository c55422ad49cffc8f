package pairtest

import (
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/sync/merge"
	"github.com/sheaf-drive/sheaf/sync/pair"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

const (
	left  = merge.Left
	right = merge.Right
)

// Run holds a rule between two places to all scenarios. fresh returns two empty places. cannot says by its name of a scenario that these places do not stand, and why; nil: they stand all.
func Run(t *testing.T, fresh func(t *testing.T) [2]remote.Tree, cannot map[string]string) {
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			if why := cannot[sc.name]; why != "" {
				t.Skip(why)
			}
			sc.run(newRig(t, fresh(t)))
		})
	}
}

// scenarios have the names that docs/SYNC-SCENARIOS.md lists.
var scenarios = []struct {
	name string
	run  func(r *rig)
}{
	{"basic", func(r *rig) {
		r.nine()
		r.write(left, "subdir/file20.txt", "twenty")
		r.write(right, "file1.txt", "from the right")
		r.turn(nil)
		if got := read(r.t, r.tree[left], "file1.txt"); got != "from the right" {
			r.t.Errorf("the left side has %q", got)
		}
		if got := read(r.t, r.tree[right], "subdir/file20.txt"); got != "twenty" {
			r.t.Errorf("the right side has %q", got)
		}
		r.again()
		if rep := r.turn(nil); len(rep.Steps) > 0 {
			r.t.Errorf("something is left to do: %q", rep.Steps)
		}
	}},
	{"changes", func(r *rig) { changes(r); r.alike(changed(r)...) }},
	{"compare all, no modtime", func(r *rig) { // with times that tell nothing: contents of another size are seen all the same
		r.nine()
		at := time.Now().Add(-time.Hour).Truncate(time.Minute)
		r.writeAt(left, "file1.txt", "another size", at)
		r.writeAt(right, "file2.txt", "and on the right", at)
		r.turn(nil)
		if a, b := read(r.t, r.tree[right], "file1.txt"), read(r.t, r.tree[left], "file2.txt"); a != "another size" || b != "and on the right" {
			r.t.Errorf("got %q and %q", a, b)
		}
		r.kept(right, "x")
		r.kept(left, "xx")
	}},
	{"backup dir", func(r *rig) { // what is replaced or removed is in the history of its own side
		r.nine()
		r.write(left, "file1.txt", "anew")
		r.remove(right, "file2.txt")
		r.turn(nil)
		r.kept(right, "x")
		r.kept(left, "xx")
	}},
	{"dry run", func(r *rig) {
		changes(r)
		r.again()
		r.nineMore()
		before := [2][]string{show(r.t, r.tree[0], false), show(r.t, r.tree[1], false)}
		rep, err := r.open().Preview(r.t.Context(), pair.PreviewOptions{})
		if err != nil || len(rep.Steps) == 0 {
			r.t.Fatalf("a preview of %q, error %v", rep.Steps, err)
		}
		if after := [2][]string{show(r.t, r.tree[0], false), show(r.t, r.tree[1], false)}; !slices.Equal(before[0], after[0]) || !slices.Equal(before[1], after[1]) {
			r.t.Errorf("a preview changed something: %q, then %q", before, after)
		}
		did := r.turn(nil)
		for _, s := range rep.Steps {
			if !slices.Contains(did.Steps, s) {
				r.t.Errorf("the preview had %q, and the turn %q", s, did.Steps)
			}
		}
	}},
	{"equal", func(r *rig) { // what both sides have changed into the same is no conflict
		r.write(left, "same", "1")
		r.write(left, "other", "1")
		r.turn(nil)
		r.write(left, "same", "as on the right")
		r.write(right, "same", "as on the right")
		r.write(left, "other", "left")
		r.write(right, "other", "right, and newer")
		rep := r.turn(nil)
		if len(rep.Conflicts) != 1 || rep.Conflicts[0].Path != "other" {
			r.t.Errorf("conflicts: %+v", rep.Conflicts)
		}
		r.bothContents("left", "right, and newer")
	}},
	{"resolve", func(r *rig) { // who keeps the name is said by the rule; the other content stays beside it
		for i, c := range []struct {
			w                 merge.Winner
			left, right, want string
		}{
			{merge.LeftOne, "left, old", "right", "left, old"},
			{merge.RightOne, "left, too", "the right", "the right"},
			{merge.Larger, "the larger of both", "small", "the larger of both"},
		} {
			r.o.Rule.Winner = c.w
			r.again()
			name := fmt.Sprint("file", i)
			r.write(left, name, "1")
			r.turn(nil)
			r.write(left, name, c.left)
			r.write(right, name, c.right)
			r.turn(nil)
			for s := range r.tree {
				if got := read(r.t, r.tree[s], name); got != c.want {
					r.t.Errorf("winner %d: side %d has %q, want %q", c.w, s, got, c.want)
				}
			}
			r.bothContents(c.left, c.right)
		}
	}},
	{"conflict reuse", func(r *rig) { // a conflict again, where there was one: no copy is overwritten
		r.write(left, "file", "1")
		r.turn(nil)
		want := []string{"left the second", "right side the second"}
		for _, n := range []string{"one", "the second"} { // of another length: some places tell files of one second apart by nothing else
			r.write(left, "file", "left "+n)
			r.write(right, "file", "right side "+n)
			r.turn(nil)
			r.bothContents("left "+n, "right side "+n)
			for _, l := range show(r.t, r.tree[left], false) {
				if name, body, _ := strings.Cut(l, "="); n == "one" && name != "file" {
					want = append(want, body) // what keeps the name is replaced by both, who have seen it
				}
			}
		}
		r.bothContents(want...)
	}},
	{"conflict window, concurrent, volatile", func(r *rig) { // a file that is written while a turn is under way
		r.write(left, "file", "1")
		r.write(left, "quiet", "22")
		r.turn(nil)
		r.write(left, "file", "left")
		r.o.Tree[right] = &meddled{Tree: r.tree[right], before: func() { r.write(right, "file", "written meanwhile") }}
		r.again()
		r.turn(nil)
		r.o.Tree[right] = r.tree[right]
		r.again()
		r.turn(nil)
		r.turn(nil)
		r.bothContents("left", "written meanwhile", "22")
	}},
	{"equal, skipped", func(r *rig) { // both made the same file, and neither is taken for new later
		r.write(left, "file1", "the same")
		r.write(right, "file1", "the same")
		if rep := r.turn(nil); len(rep.Conflicts) > 0 {
			r.t.Errorf("conflicts: %+v", rep.Conflicts)
		}
		r.write(right, "file1", "changed since")
		r.turn(nil)
		r.alike("file1=changed since")
		r.remove(right, "file1")
		r.write(left, "stays", "so that not all is gone")
		r.turn(nil)
		r.alike("stays=so that not all is gone")
	}},
	{"max delete", func(r *rig) {
		lines := r.nine()
		r.o.Rule.Brake = merge.Brake{Files: 4, Percent: 50}
		r.again()
		r.remove(left, "file1.txt", "file2.txt", "file3.txt", "file4.txt", "file5.txt")
		r.turn(pair.ErrBraked)
		r.has(right, lines...)
		r.turn(pair.ErrBraked, pair.RunOptions{AllowFiles: 4})
		r.turn(nil, pair.RunOptions{AllowFiles: 5})
		r.alike(lines[5:]...)
	}},
	{"max delete, renames", func(r *rig) { // renames are no deletes where the place tells one from the other
		r.nine()
		r.o.Rule.Brake = merge.Brake{Files: 4, Percent: 50}
		r.again()
		for _, n := range []string{"1", "2", "3", "4", "5"} {
			r.move(left, "file"+n+".txt", "renamed"+n+".txt")
		}
		can := r.tree[left].Can()
		want := error(nil)
		if !can.IDs && len(can.Hashes) == 0 {
			want = pair.ErrBraked // as many deletes as anybody can tell, and nothing is done
		}
		r.turn(want, pair.RunOptions{})
		if want != nil {
			r.turn(nil, pair.RunOptions{AllowFiles: 5})
		}
		for _, n := range []string{"1", "5"} {
			if got := read(r.t, r.tree[right], "renamed"+n+".txt"); got != strings.Repeat("x", int(n[0]-'0')) {
				r.t.Errorf("renamed%s.txt is %q", n, got)
			}
		}
	}},
	{"all changed", func(r *rig) { // other times on all files are no danger: nothing is lost, and nobody has to be asked
		lines := r.nine()
		for _, l := range lines {
			name, body, _ := strings.Cut(l, "=")
			r.write(left, name, body)
		}
		r.turn(nil)
		r.alike(lines...)
	}},
	{"check access", func(r *rig) { // a place that is not the one that it was deletes nothing, without any file that tells
		lines := r.nine()
		r.o.Tree[right] = &swapped{r.tree[right]}
		r.again()
		r.turn(pair.ErrSwapped)
		r.has(left, lines...)
		r.o.Tree[right] = r.tree[right]
		r.again()
		r.alike(lines...)
	}},
	{"check access, lost page", func(r *rig) { // a listing that lacks things deletes nothing
		lines := r.nine()
		r.o.Tree[right] = &partial{Tree: r.tree[right], skip: "file3.txt"}
		r.again()
		if rep := r.turn(nil); len(rep.Steps) > 0 {
			r.t.Errorf("it did %q", rep.Steps)
		}
		r.o.Tree[right] = r.tree[right]
		r.again()
		r.alike(lines...)
	}},
	{"interrupted", func(r *rig) { // no turn that is cut off needs anything but the next one
		changes(r)
		for n := 1; n <= 3; n++ {
			ctx, cancel := context.WithCancel(r.t.Context())
			done := 0
			_, _ = r.open().Run(ctx, pair.RunOptions{Told: func(pair.Event) {
				if done++; done == n {
					cancel()
				}
			}})
			cancel()
			r.again()
		}
		r.turn(nil)
		r.alike(changed(r)...)
	}},
	{"resync that is not needed", func(r *rig) { // a database that is gone loses nothing, and brings nothing back that is on neither side
		lines := r.nine()
		r.remove(left, "file1.txt")
		r.turn(nil)
		r.o.KV = newRig(r.t, r.tree).o.KV
		r.again()
		r.turn(nil)
		r.alike(lines[1:]...)
	}},
	{"create empty source dirs", func(r *rig) {
		if !r.tree[left].Can().EmptyDirs || !r.tree[right].Can().EmptyDirs {
			r.t.Skip("one of the places has no empty folders")
		}
		r.write(left, "subdir/placeholder", "x")
		r.write(left, "file", "1")
		r.turn(nil)
		r.remove(left, "subdir/placeholder")
		r.turn(nil)
		r.alike("file=1", "subdir/")
		r.removeDir(left, "subdir")
		r.turn(nil)
		r.has(right, "file=1")
	}},
	{"rmdirs", func(r *rig) { // a folder that was removed with all in it
		r.write(left, "d/e/file1", "1")
		r.write(left, "d/file2", "22")
		r.write(left, "stays", "333")
		r.turn(nil)
		r.remove(right, "d/e/file1", "d/file2")
		if r.tree[right].Can().EmptyDirs {
			r.removeDir(right, "d/e")
			r.removeDir(right, "d")
		}
		r.turn(nil)
		r.alike("stays=333")
		if it, err := r.tree[left].Stat(r.t.Context(), "d"); err == nil && r.tree[left].Can().EmptyDirs && r.tree[right].Can().EmptyDirs {
			r.t.Errorf("the left side still has %+v", it)
		}
	}},
	{"extended filenames", func(r *rig) {
		for i, name := range extended {
			s := merge.Side(i % 2)
			r.write(s, name, strings.Repeat("x", i+1))
		}
		r.turn(nil)
		if l, rt := show(r.t, r.tree[left], false), show(r.t, r.tree[right], false); !slices.Equal(files(l), files(rt)) || len(files(l)) != len(extended) {
			r.t.Errorf("left %q, right %q", l, rt)
		}
		if rep := r.turn(nil); len(rep.Steps) > 0 {
			r.t.Errorf("something is left to do: %q", rep.Steps)
		}
	}},
	{"normalization", func(r *rig) { // both forms of a name, and both cases, are kept, on places that tell them apart and on those that do not
		r.write(left, "caf\u00e9.txt", "composed")
		r.write(right, "cafe\u0301.txt", "decomposed!")
		r.write(left, "Case", "upper")
		r.write(right, "case", "lower, newer")
		r.turn(nil)
		r.bothContents("composed", "decomposed!", "upper", "lower, newer")
		if rep := r.turn(nil); len(rep.Steps) > 0 {
			r.t.Errorf("something is left to do: %q", rep.Steps)
		}
	}},
	{"filters", func(r *rig) {
		r.o.Out = func(path string, _ bool, _ int64) bool {
			return strings.HasSuffix(path, "fileZ.txt") && path == "fileZ.txt"
		}
		r.write(left, "fileZ.txt", "left out")
		r.write(left, "subdir/fileZ.txt", "not left out")
		r.turn(nil)
		r.has(right, "subdir/fileZ.txt=not left out")
	}},
	{"filters file checks", func(r *rig) { // a filter that changes needs no word, and deletes nothing
		lines := r.nine()
		r.o.Limits = pair.Limits{MaxSize: 4}
		r.again()
		r.write(left, "file1.txt", "grown over the limit")
		if rep := r.turn(nil); len(rep.Steps) > 0 {
			r.t.Errorf("it did %q", rep.Steps)
		}
		r.has(right, lines...)
		r.o.Limits = pair.Limits{}
		r.o.Out = func(path string, _ bool, _ int64) bool { return path == "file9.txt" }
		r.again()
		r.turn(nil)
		lines[0] = "file1.txt=grown over the limit"
		r.has(right, lines...)
		r.has(left, lines...)
		r.o.Out = nil
		r.again()
		r.turn(nil)
		r.alike(lines...)
	}},
	{"mirror, copy", func(r *rig) {
		r.o.Rule.Mode = merge.CopyOnly
		r.write(left, "a", "1")
		r.write(left, "b", "22")
		r.write(right, "own", "333")
		r.turn(nil)
		r.has(right, "a=1", "b=22", "own=333")
		r.has(left, "a=1", "b=22")
		r.remove(left, "b")
		r.turn(nil)
		r.has(right, "a=1", "b=22", "own=333")
	}},
}

// extended are names that places and programs stumble over.
var extended = []string{
	"name with spaces", "d\u00edr \u4e2d\u6587/f\u00efl\u00e9", "per%20cent", "plus+and&", "quote'\"", "brackets[1]{2}(3)", "#hash", "emoji \U0001F600", "tilde~", "comma,semicolon;", "$dollar", "equals=",
}

func files(all []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(l string) bool { return strings.HasSuffix(l, "/") })
}

// changes makes every kind of change that one side or both can make to a file, and has a turn before and after.
func changes(r *rig) {
	r.t.Helper()
	r.nine()
	r.write(right, "file10.txt", "new on the right")
	r.write(right, "file1.txt", "newer on the right")
	r.write(left, "file11.txt", "new on the left")
	r.write(left, "file2.txt", "newer on the left")
	r.remove(right, "file3.txt")
	r.remove(left, "file4.txt")
	r.write(left, "file5.txt", "left")
	r.write(right, "file5.txt", "right, and newer")
	r.remove(left, "file6.txt")
	r.write(right, "file6.txt", "newer than the delete")
	r.write(left, "file7.txt", "newer than the delete of the right")
	r.remove(right, "file7.txt")
	r.remove(left, "file8.txt")
	r.remove(right, "file8.txt")
	r.turn(nil)
}

// changed is what changes comes to. Who keeps the name of file5.txt depends on what the places tell of times.
func changed(r *rig) []string {
	r.t.Helper()
	lines := []string{
		"file10.txt=new on the right", "file1.txt=newer on the right", "file11.txt=new on the left", "file2.txt=newer on the left", "file6.txt=newer than the delete",
		"file7.txt=newer than the delete of the right", "file9.txt=xxxxxxxxx",
	}
	r.bothContents("left", "right, and newer")
	for _, l := range show(r.t, r.tree[left], false) {
		if strings.HasPrefix(l, "file5") {
			lines = append(lines, l)
		}
	}
	return lines
}

// nineMore changes a few files again.
func (r *rig) nineMore() {
	r.t.Helper()
	r.write(left, "file9.txt", "once more")
	r.write(right, "another", "one")
	r.remove(left, "file10.txt")
}

// bothContents fails unless each side has these contents, under whatever names, once.
func (r *rig) bothContents(bodies ...string) {
	r.t.Helper()
	for s := range merge.Side(2) {
		all := show(r.t, r.tree[s], false)
		for _, body := range bodies {
			n := 0
			for _, l := range all {
				if strings.HasSuffix(l, "="+body) {
					n++
				}
			}
			if n != 1 {
				r.t.Errorf("the %s side has %q %d times: %q", s, body, n, all)
			}
		}
	}
}

func (r *rig) removeDir(s merge.Side, path string) {
	r.t.Helper()
	if err := r.tree[s].Remove(r.t.Context(), path, ""); err != nil {
		r.t.Fatal(err)
	}
}

// meddled is a place on which somebody writes right before the first file is put.
type meddled struct {
	remote.Tree
	before func()
}

func (m *meddled) Put(ctx context.Context, it remote.Item, r io.Reader, known remote.Version) (remote.Item, error) {
	if m.before != nil && !pair.InHistory(it.Path) {
		do := m.before
		m.before = nil
		do()
	}
	return m.Tree.Put(ctx, it, r, known)
}

// swapped is another place.
type swapped struct{ remote.Tree }

func (swapped) Identity(context.Context) (string, error) { return "another place", nil }

// partial is a place that does not list one path, and has it.
type partial struct {
	remote.Tree
	skip string
}

func (p *partial) Can() remote.TreeCan {
	can := p.Tree.Can()
	can.ChangeFeed = false
	return can
}

func (p *partial) Changes(ctx context.Context, _ remote.Cursor) (iter.Seq2[remote.Change, error], func() remote.Cursor) {
	all, next := p.Tree.Changes(ctx, "")
	return func(yield func(remote.Change, error) bool) {
		for c, err := range all {
			if err == nil && c.Path == p.skip {
				continue
			}
			if !yield(c, err) {
				return
			}
		}
	}, next
}
