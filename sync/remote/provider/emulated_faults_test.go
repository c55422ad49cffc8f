package provider_test

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/cloudtest"
	"github.com/sheaf-drive/sheaf/sync/remote/provider"
)

// once has the first request whose path ends with suffix be answered by f.
func once(c *cloud, suffix string, f *cloudtest.Fault) (did *bool) {
	did = new(bool)
	c.SetFault(func(r *http.Request) *cloudtest.Fault {
		if *did || !strings.HasSuffix(r.URL.Path, suffix) {
			return nil
		}
		*did = true
		return f
	})
	return did
}

// A fault is what goes wrong at requests whose path ends with path. want is the error that is to come of it; nil: it is overcome.
type fault struct {
	path string
	f    cloudtest.Fault
	want error
}

// TestEmulated_FeedThatFails: a page of the feed that fails, or a list of what it told, is asked for again or is an error; nothing that it told is lost by it. The places are
// emulated.
func TestEmulated_FeedThatFails(t *testing.T) {
	eachCloud(t, func(t *testing.T, start func(testing.TB) *cloud) {
		one := start(t)
		faults := map[string]fault{
			"the feed is cut off":           {one.feed, cloudtest.Fault{Cut: true}, nil},
			"the feed is broken for once":   {one.feed, cloudtest.Fault{Status: 503, Reason: "serviceNotAvailable"}, nil},
			"too many calls":                {one.feed, cloudtest.Fault{Status: 429, Reason: "rateLimitExceeded", After: time.Second}, nil},
			"the token is not known":        {one.feed, one.forgotten, remote.ErrCursor},
			"the token is wrong":            {one.feed, cloudtest.Fault{Status: 400, Reason: "invalid"}, remote.ErrCursor},
			"nobody may ask":                {one.feed, cloudtest.Fault{Status: 403, Reason: "accessDenied"}, errAny},
			"who asks is not known":         {one.feed, cloudtest.Fault{Status: 401, Reason: "authError"}, blob.ErrUnauthorized},
			"a list of a folder is refused": {one.list, cloudtest.Fault{Status: 403, Reason: "forbidden"}, errAny},
		}
		maps.Copy(faults, one.faults)
		for name, x := range faults {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				fails(t, start(t), x)
			})
		}
	})
}

func fails(t *testing.T, c *cloud, x fault) {
	tree := c.open(t, "", false)
	provider.SetSettle(tree, 0)
	dir := c.Mkdir(c.Top(), "dir")
	f := &follower{tree: tree}
	f.until(t, false)
	for i := range 1500 { // more than one page
		c.Write(dir, fmt.Sprint(i), []byte("x"))
	}
	did := once(c, x.path, &x.f)
	err := f.follow(t, false)
	c.SetFault(nil)
	switch {
	case !*did:
		t.Fatal("nothing has failed")
	case x.want == nil && err != nil || x.want != nil && err == nil || x.want != nil && !errors.Is(x.want, errAny) && !errors.Is(err, x.want):
		t.Fatalf("got error %v, want %v", err, x.want)
	}
	if errors.Is(err, remote.ErrCursor) != errors.Is(x.want, remote.ErrCursor) {
		t.Errorf("got error %v, want %v", err, x.want)
	}
	f.until(t, false)
	f.same(t, c.open(t, "", false), "after it")
}

var errAny = errors.New("any")

// TestEmulated_PageHalfWay: of a feed of two pages the second fails for as long as it is asked for. Nothing of the first is told, and nothing is lost. The places are emulated.
func TestEmulated_PageHalfWay(t *testing.T) {
	eachCloud(t, func(t *testing.T, start func(testing.TB) *cloud) {
		c := start(t)
		tree := c.open(t, "", false)
		f := &follower{tree: tree}
		f.until(t, false)
		for i := range 1200 {
			c.Write(c.Top(), fmt.Sprint(i), []byte("x"))
		}
		pages := 0
		c.SetFault(func(r *http.Request) *cloudtest.Fault {
			if c.asks(r) {
				if pages++; pages > 1 {
					return &cloudtest.Fault{Status: http.StatusForbidden, Reason: "forbidden"}
				}
			}
			return nil
		})
		if err := f.follow(t, false); err == nil || len(f.known) != 0 {
			t.Fatalf("got error %v and %d things, want an error and none", err, len(f.known))
		}
		c.SetFault(nil)
		if f.until(t, false); f.full != 1 {
			t.Errorf("all was listed %d times, want once", f.full)
		}
		f.same(t, c.open(t, "", false), "after it")
	})
}

// TestEmulated_ListsThatLag: the feed tells of what a list does not have yet. It is told when the list has it. The places are emulated.
func TestEmulated_ListsThatLag(t *testing.T) {
	eachCloud(t, func(t *testing.T, start func(testing.TB) *cloud) {
		c := start(t)
		tree := c.open(t, "", false)
		f := &follower{tree: tree}
		id := c.Write(c.Top(), "old", []byte("1"))
		f.until(t, false)
		c.Lag(2)
		c.Write(c.Top(), "new", []byte("2"))
		c.Overwrite(id, []byte("3"))
		for range 4 {
			f.until(t, false)
		}
		if f.full != 1 {
			t.Errorf("all was listed %d times, want once", f.full)
		}
		f.same(t, c.open(t, "", false), "when the lists have it")
	})
}

// TestEmulated_WhatNoFeedCovers: if there is something of which no feed tells, such as a shortcut, whose end may lie anywhere, all is listed each time. The places are emulated.
func TestEmulated_WhatNoFeedCovers(t *testing.T) {
	eachCloud(t, func(t *testing.T, start func(testing.TB) *cloud) {
		for name := range start(t).uncovered {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				c := start(t)
				tree, fresh := c.open(t, "", false), c.open(t, "", false)
				f := &follower{tree: tree}
				f.until(t, false)
				c.uncovered[name](c.Top()) // it comes while the feed is followed
				for i := range 3 {
					f.until(t, false)
					f.same(t, fresh, "with it")
					c.Write(c.Top(), fmt.Sprint("more", i), []byte("x"))
				}
				if f.full < 3 {
					t.Errorf("all was listed %d times, want each time", f.full)
				}
			})
		}
	})
}

// TestEmulated_AChangeIsLookedAtWhereItIs: one file changes deep below, and what lies beside is not listed, also if the feed tells of all that lies above. The places are emulated.
func TestEmulated_AChangeIsLookedAtWhereItIs(t *testing.T) {
	eachCloud(t, func(t *testing.T, start func(testing.TB) *cloud) {
		c := start(t)
		dir := c.Top()
		for i := range 4 {
			dir = c.Mkdir(dir, []string{"top", "level：1", "level 2", "．level 3"}[i])
			for j := range 20 {
				c.Mkdir(dir, fmt.Sprint("beside", j))
			}
		}
		file := c.Write(dir, "file", []byte("1"))
		tree := c.open(t, "top", false)
		provider.SetSettle(tree, 0)
		f := &follower{tree: tree}
		f.until(t, false)
		for i := range 4 {
			c.Calls()
			c.Overwrite(file, []byte(fmt.Sprint("2 ", i)))
			f.until(t, false)
			if calls := c.Calls(); len(calls) > 12 {
				t.Errorf("got %d calls for a change: %q", len(calls), calls)
			} else {
				t.Logf("emulated: a change 4 levels down: %d calls", len(calls))
			}
		}
		if f.full != 1 {
			t.Errorf("all was listed %d times, want once", f.full)
		}
		f.same(t, c.open(t, "top", false), "after it")
	})
}

// TestEmulated_RootElsewhere: a tree whose root is reached through what leads elsewhere is opened and listed, and has no feed. The places are emulated.
func TestEmulated_RootElsewhere(t *testing.T) {
	eachCloud(t, func(t *testing.T, start func(testing.TB) *cloud) {
		c := start(t)
		if c.link == nil {
			t.Skip("nothing leads elsewhere in it")
		}
		c.link(c.Top(), "link")
		tree := c.tree(t, "link", false)
		if tree.Can().ChangeFeed {
			t.Error("it has a feed, which tells of another place")
		}
		f := &follower{tree: tree}
		f.until(t, false)
	})
}

// TestEmulated_AfterARestart: a cursor of an earlier process holds if nothing has changed in the tree, as far as the feed says where that was. What has changed is never missed. The places
// are emulated.
func TestEmulated_AfterARestart(t *testing.T) {
	eachCloud(t, func(t *testing.T, start func(testing.TB) *cloud) {
		c := start(t)
		up := c.Mkdir(c.Top(), "up")
		root, beside := c.Mkdir(up, "root"), c.Mkdir(up, "rootless")
		f := &follower{tree: c.open(t, "up/root", false)}
		f.until(t, false)
		for i, x := range []struct {
			what string
			do   func()
			full bool
		}{
			{"nothing has changed", func() {}, false},
			{"something has changed beside it", func() { c.Write(beside, "file", []byte("1")) }, !c.paths},
			{"something has changed in it", func() { c.Write(root, "file", []byte("1")) }, true},
			{"the root is another one", func() {
				c.Move(root, c.Top(), "away")
				c.Write(c.Mkdir(up, "root"), "other", []byte("2"))
			}, true},
		} {
			before := f.full
			x.do()
			f.tree = c.open(t, "up/root", false)
			f.until(t, false)
			if full := f.full > before; full != x.full {
				t.Errorf("%d: %s: all was listed: %v, want %v", i, x.what, full, x.full)
			}
			f.same(t, c.open(t, "up/root", false), x.what)
		}
	})
}

// TestEmulated_AFolderThatWasElsewhere: while a folder is listed by its path, another one has that, and then all is as before. What the other one held is not taken to be there for
// longer than a turn. The places are emulated.
func TestEmulated_AFolderThatWasElsewhere(t *testing.T) {
	for what, path := range map[string]string{"in the tree": "", "the root of it": "folder"} {
		t.Run(what, func(t *testing.T) {
			eachCloud(t, func(t *testing.T, start func(testing.TB) *cloud) {
				c := start(t)
				dir := c.Mkdir(c.Top(), "folder")
				c.Write(dir, "right", []byte("1"))
				other := c.Mkdir(c.Top(), "other")
				c.Write(other, "wrong", []byte("3"))
				tree := c.open(t, path, false)
				provider.SetSettle(tree, 0)
				f := &follower{tree: tree}
				f.until(t, false)
				c.Write(dir, "new", []byte("2"))
				swapped := false
				c.SetFault(func(r *http.Request) *cloudtest.Fault {
					if !swapped && !c.asks(r) {
						c.Move(dir, c.Top(), "away")
						c.Move(other, c.Top(), "folder")
						swapped = true
					}
					return nil
				})
				_ = f.follow(t, false) // it may see the one or the other
				c.SetFault(nil)
				if !swapped {
					t.Fatal("nothing was listed")
				}
				c.Move(other, c.Top(), "other")
				c.Move(dir, c.Top(), "folder")
				f.until(t, false)
				f.same(t, c.open(t, path, false), "when it is back")
			})
		})
	}
}

// TestEmulated_RootThatMoves: the folder of the tree is moved away, and another one put in its place. It is seen, and nothing of the first is told for the second. The places are emulated.
func TestEmulated_RootThatMoves(t *testing.T) {
	eachCloud(t, func(t *testing.T, start func(testing.TB) *cloud) {
		c := start(t)
		up := c.Mkdir(c.Top(), "up")
		first := c.Mkdir(up, "root")
		c.Write(first, "first", []byte("1"))
		tree := c.open(t, "up/root", false)
		f := &follower{tree: tree}
		f.until(t, false)
		c.Move(up, c.Top(), "away")
		if err := f.follow(t, false); !errors.Is(err, remote.ErrCursor) {
			t.Fatalf("got error %v, want ErrCursor", err)
		}
		if err := f.follow(t, false); err == nil {
			t.Fatal("a place that is not there was listed")
		}
		other := c.Mkdir(c.Mkdir(c.Top(), "up"), "root")
		c.Write(other, "second", []byte("2"))
		f.until(t, false)
		f.same(t, c.open(t, "up/root", false), "with another root")
		c.Trash(other, true)
		if _, err := tree.Identity(t.Context()); !errors.Is(err, blob.ErrTemporary) {
			t.Errorf("the root is in the trash: got error %v, want ErrTemporary", err)
		}
	})
}
