package provider_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/cloudtest"
	"github.com/sheaf-drive/sheaf/sync/remote/provider"
)

// A stranger does at random to a cloud what other people and devices do. It is safe for concurrent use.
type stranger struct {
	mu    sync.Mutex
	rnd   *rand.Rand
	c     *cloud
	dirs  []string // IDs, in the tree and beside it
	files []string
	n     int
}

func newStranger(rnd *rand.Rand, c *cloud, dirs ...string) *stranger {
	return &stranger{rnd: rnd, c: c, dirs: dirs}
}

func (s *stranger) pick(ids []string) string { return ids[s.rnd.IntN(len(ids))] }

// made keeps the ID of what could be made.
func made(to *[]string, id string) {
	if id != "" {
		*to = append(*to, id)
	}
}

// anything does one thing.
func (s *stranger) anything() {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Files have few names, so that some have the same where there may be two. Folders have many: of two with one name a feed knows nothing.
	file := func() string { return s.pick(s.c.files) }
	s.n++
	dir := fmt.Sprint("dir：", s.n)
	own := s.dirs[2:] // not the root of the tree, and not that of the other one
	both := slices.Concat(s.files, own)
	switch k := s.rnd.IntN(14); {
	case k < 3:
		made(&s.files, s.c.Write(s.pick(s.dirs), file(), []byte(dir)))
	case k < 5 && len(s.c.odd) > 0:
		made(&s.files, s.c.odd[s.rnd.IntN(len(s.c.odd))](s.pick(s.dirs), file()))
	case k < 7 || len(both) == 0:
		made(&s.dirs, s.c.Mkdir(s.pick(s.dirs), dir))
	case k == 7 && len(s.files) > 0:
		s.c.Overwrite(s.pick(s.files), []byte(dir))
	case k == 8 && len(s.files) > 0:
		s.c.Move(s.pick(s.files), s.pick(s.dirs), file())
	case k < 11 && len(own) > 0:
		s.c.Move(s.pick(own), s.pick(s.dirs), dir)
	case k == 11:
		s.c.Trash(s.pick(both), true)
	case k == 12:
		s.c.Trash(s.pick(both), false)
	default:
		s.c.Delete(s.pick(both), s.rnd.IntN(2) == 0)
	}
}

// A follower knows what a Tree has told.
type follower struct {
	tree   remote.Tree
	cursor remote.Cursor
	known  map[string]remote.Item
	full   int // listings
}

// follow asks for changes once, and takes them over unless lose. An error leaves it as it was, with no cursor if it has to begin anew.
func (f *follower) follow(t *testing.T, lose bool) error {
	t.Helper()
	var all []remote.Change
	seq, next := f.tree.Changes(t.Context(), f.cursor)
	for c, err := range seq {
		if errors.Is(err, remote.ErrCursor) {
			f.cursor = ""
		}
		if err != nil {
			return err
		}
		all = append(all, c)
	}
	if next() == "" {
		t.Fatal("there is no cursor after all was told")
	}
	if lose {
		return nil
	}
	if f.cursor == "" {
		f.known = map[string]remote.Item{}
		f.full++
	}
	last := map[string]remote.Change{}
	for _, c := range all {
		last[c.Path] = c
	}
	for p, c := range last {
		if c.Gone {
			maps.DeleteFunc(f.known, func(k string, _ remote.Item) bool { return k == p || strings.HasPrefix(k, p+"/") })
		}
	}
	for p, c := range last {
		if !c.Gone {
			f.known[p] = c.Item
		}
	}
	f.cursor = next()
	return nil
}

// until follows until there is no error that is one of those that pass by.
func (f *follower) until(t *testing.T, lose bool) {
	t.Helper()
	for range 8 {
		err := f.follow(t, lose)
		if err == nil {
			return
		}
		if !errors.Is(err, remote.ErrCursor) && !errors.Is(err, blob.ErrTemporary) {
			t.Fatalf("unexpected error: %v", err)
		}
	}
	t.Fatal("it does not come to an end")
}

// same compares what is known with what a Tree lists that has seen nothing before.
func (f *follower) same(t *testing.T, fresh remote.Tree, what string) {
	t.Helper()
	want := map[string]remote.Item{}
	seq, _ := fresh.Changes(t.Context(), "")
	for c, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		want[c.Path] = c.Item
	}
	if d := cmp.Diff(want, f.known); d != "" {
		t.Fatalf("%s: what was told is not what is there (-there +told):\n%s", what, d)
	}
}

// TestEmulated_WhatIsToldIsWhatIsThere: others change a place in every way that it has, also while it is listed and asked for changes; answers are lost; a second reader comes
// now and then. When it is quiet, what was told is what a whole listing says. The places are emulated.
func TestEmulated_WhatIsToldIsWhatIsThere(t *testing.T) {
	eachCloud(t, func(t *testing.T, start func(testing.TB) *cloud) {
		rounds, seeds := 30, 3
		if n, err := strconv.Atoi(os.Getenv("SHEAF_FEED_SEEDS")); err == nil {
			seeds = n
		}
		began := uint64(time.Now().UnixNano())
		if n, err := strconv.ParseUint(os.Getenv("SHEAF_FEED_SEED"), 10, 64); err == nil {
			began, seeds = n, 1
		}
		var full, turns int
		for i := range seeds {
			seed := began + uint64(i)
			t.Logf("seed %d", seed)
			rnd := rand.New(rand.NewPCG(seed, 1))
			c := start(t)
			up := c.Mkdir(c.Top(), "up")
			root := c.Mkdir(up, "root")
			s := newStranger(rnd, c, root, up)
			tree, fresh := c.open(t, "up/root", false), c.open(t, "up/root", false)
			if rnd.IntN(2) == 0 {
				provider.SetSettle(tree, 0)
			}
			one, two := &follower{tree: tree}, &follower{tree: tree}
			for round := range rounds {
				for range rnd.IntN(10) {
					s.anything()
				}
				if rnd.IntN(3) == 0 { // in the middle of all
					c.SetFault(func(*http.Request) *cloudtest.Fault {
						s.mu.Lock()
						act := s.rnd.IntN(3) == 0
						s.mu.Unlock()
						if act {
							s.anything()
						}
						return nil
					})
					_ = one.follow(t, rnd.IntN(4) == 0) // it may fail, and say so
					c.SetFault(nil)
				}
				switch rnd.IntN(40) {
				case 0:
					c.Move(up, c.Top(), "up") // to where it is, of which the feed tells
				case 1:
					c.Expire()
				}
				if rnd.IntN(4) == 0 {
					one.until(t, true)
				}
				one.until(t, false)
				what := fmt.Sprintf("seed %d, round %d", seed, round)
				one.same(t, fresh, what)
				if rnd.IntN(6) == 0 {
					two.until(t, false)
					two.same(t, fresh, what+", the second reader")
				}
				turns++
			}
			full += one.full
		}
		if full > turns/3 {
			t.Errorf("all was listed %d times in %d turns: the feed was hardly used", full, turns)
		}
		t.Logf("emulated: %d turns, %d of them by a listing of all", turns, full)
	})
}
