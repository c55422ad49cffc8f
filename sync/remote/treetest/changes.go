package treetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

var changeTests = []test{
	{"everything is told once, parents before what they hold", func(s *suite) {
		for _, d := range []string{"a", "a/b", "a-", "z"} {
			s.dir(d)
		}
		for _, f := range []string{"a/b/1", "a/2", "a-/3", "a+", "b", "z/4", "a/b-"} {
			s.put(f, f)
		}
		all, next := s.all(s.Tree)
		if next == "" {
			s.Error("the cursor after everything is that of before everything")
		}
		got := paths(all)
		if !ordered(got) {
			s.Errorf("not in the order of ComparePaths: %q", got)
		}
		s.same("what is there", got, []string{"a", "a/2", "a/b", "a/b/1", "a/b-", "a+", "a-", "a-/3", "b", "z", "z/4"})
		for _, it := range all {
			st, err := s.Tree.Stat(s.ctx, it.Path)
			s.ok(err)
			s.alike("Changes and Stat of "+it.Path, it, st)
		}
	}},
	{"a listing that was not read to its end has no cursor", func(s *suite) {
		for i := range 3 {
			s.put(fmt.Sprint("file", i), "x")
		}
		seq, next := s.Tree.Changes(s.ctx, "")
		if c := next(); c != "" {
			s.Errorf("before it began: got cursor %q, want none", c)
		}
		for _, err := range seq {
			s.ok(err)
			break
		}
		if c := next(); c != "" {
			s.Errorf("got cursor %q, want none", c)
		}
	}},
	{"what changed is told after a cursor", func(s *suite) {
		s.need(s.can.ChangeFeed, "a feed of changes")
		s.dir("d")
		keep := s.put("d/keep", "1")
		edit := s.put("d/edit", "2")
		del := s.put("d/del", "3")
		_, cursor := s.all(s.Tree)
		if got, _ := s.since(cursor); len(got) != 0 {
			s.Errorf("nothing changed: got %v", got)
		}
		edit = s.replace("d/edit", "22", edit.Version)
		s.ok(s.Tree.Remove(s.ctx, "d/del", del.Version))
		s.dir("new")
		s.put("new/file", "4")
		got, cursor := s.since(cursor)
		if c, ok := got["d/edit"]; !ok || c.Gone || c.Version != edit.Version {
			s.Errorf("d/edit: got %+v, want version %q", c, edit.Version)
		}
		if c, ok := got["d/del"]; !ok || !c.Gone {
			s.Errorf("d/del: got %+v, want it gone", c)
		}
		for _, p := range []string{"new", "new/file"} {
			if c, ok := got[p]; !ok || c.Gone {
				s.Errorf("%s: got %+v, want it", p, c)
			}
		}
		_, err := s.Tree.Move(s.ctx, "d/keep", "new/keep", keep.Version)
		s.ok(err)
		got, cursor = s.since(cursor)
		if c := got["d/keep"]; !c.Gone {
			s.Errorf("d/keep: got %+v, want it gone", c)
		}
		if c, ok := got["new/keep"]; !ok || c.Gone || s.can.IDs && c.ID != keep.ID {
			s.Errorf("new/keep: got %+v, want it with ID %q", c, keep.ID)
		}
		_ = cursor
	}},
	{"a cursor of another place, or of nowhere, is not known", func(s *suite) {
		s.need(s.can.ChangeFeed, "a feed of changes")
		s.put("file", "x")
		seq, next := s.Tree.Changes(s.ctx, "no such cursor")
		var err error
		for _, err = range seq {
			if err != nil {
				break
			}
		}
		s.fails("changes", err, remote.ErrCursor)
		if c := next(); c != "" {
			s.Errorf("got cursor %q, want none", c)
		}
	}},
	{"without a feed a cursor means everything", func(s *suite) {
		if s.can.ChangeFeed {
			s.Skip("it has a feed")
		}
		s.put("file", "x")
		_, cursor := s.all(s.Tree)
		got, _ := s.since(cursor)
		if _, ok := got["file"]; !ok || len(got) != 1 {
			s.Errorf("got %v, want everything", got)
		}
	}},
	{"what is told keeps a copy like the place, whatever happens", func(s *suite) {
		seed := uint64(time.Now().UnixNano())
		s.Logf("seed %d", seed)
		rnd := rand.New(rand.NewPCG(seed, 1))
		known := map[string]remote.Change{}
		var cursor remote.Cursor
		for range s.some(40, 5) {
			for range rnd.IntN(12) {
				s.anything(rnd)
			}
			if !s.can.ChangeFeed {
				clear(known)
			}
			got, next := s.since(cursor)
			if cursor == "" {
				clear(known)
			}
			order := make([]string, 0, len(got))
			for p := range got {
				order = append(order, p)
			}
			slices.SortFunc(order, remote.ComparePaths)
			for _, p := range order {
				if !got[p].Gone {
					continue
				}
				for k := range known {
					if k == p || strings.HasPrefix(k, p+"/") {
						delete(known, k)
					}
				}
			}
			for _, p := range order {
				if !got[p].Gone {
					known[p] = got[p]
				}
			}
			cursor = next
			all, _ := s.all(s.Tree)
			var have []string
			for p := range known {
				have = append(have, p)
			}
			slices.SortFunc(have, remote.ComparePaths)
			s.same("what is known by changes", have, paths(all))
			for _, it := range all {
				if k := known[it.Path]; k.Version != it.Version || k.Kind != it.Kind || k.ID != it.ID {
					s.Errorf("%q: known as %+v, is %+v", it.Path, k.Item, it)
				}
			}
			if s.Failed() {
				return
			}
		}
	}},
	{"who the place is does not depend on what it holds", func(s *suite) {
		before, err := s.Tree.Identity(s.ctx)
		s.ok(err)
		it := s.put("file", "x")
		s.dir("d")
		after, err := s.Tree.Identity(s.ctx)
		s.ok(err)
		s.ok(s.Tree.Remove(s.ctx, "file", it.Version))
		empty, err := s.Tree.Identity(s.ctx)
		s.ok(err)
		if before == "" || before != after || before != empty {
			s.Errorf("got %q empty, %q with something, %q emptied", before, after, empty)
		}
		if s.Again != nil {
			again, err := s.Again.Identity(s.ctx)
			s.ok(err)
			s.same("another Tree of the place", again, before)
		}
	}},
}

// since returns the last words on each path since a cursor, and the next cursor. It checks that parents come first.
func (s *suite) since(cursor remote.Cursor) (map[string]remote.Change, remote.Cursor) {
	s.Helper()
	got := map[string]remote.Change{}
	seq, next := s.Tree.Changes(s.ctx, cursor)
	for c, err := range seq {
		s.ok(err)
		got[c.Path] = c
	}
	if next() == "" {
		s.Error("a listing that was read to its end has no cursor")
	}
	return got, next()
}

// anything does something at random, on few names, so that it meets itself. Most of what is refused is right to be.
func (s *suite) anything(rnd *rand.Rand) {
	name := func() string {
		p := string(rune('a' + rnd.IntN(3)))
		for range rnd.IntN(3) {
			p += "/" + string(rune('a'+rnd.IntN(3)))
		}
		return p
	}
	p := name()
	known := remote.Version("")
	it, err := s.Tree.Stat(s.ctx, p)
	if err == nil {
		known = it.Version
	}
	switch rnd.IntN(5) {
	case 0:
		if it.Kind != remote.Dir {
			_, _ = s.try(s.Tree, p, fmt.Sprint(rnd.Uint64()), known)
		}
	case 1:
		_, _ = s.Tree.Mkdir(s.ctx, p, 0o755)
	case 2:
		_ = s.Tree.Remove(s.ctx, p, known)
	case 3:
		if s.can.ServerMove && (it.Kind != remote.Dir || s.can.DirMove) {
			_, _ = s.Tree.Move(s.ctx, p, name(), known)
		}
	case 4:
		if c, ok := s.Tree.(remote.Copier); ok && s.can.ServerCopy && it.Kind == remote.File {
			_, _ = c.Copy(s.ctx, p, name(), known)
		}
	}
}
