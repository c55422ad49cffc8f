package provider_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/kv/memkv"
	"github.com/sheaf-drive/sheaf/sync/pair"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/memtree"
	"github.com/sheaf-drive/sheaf/sync/remote/provider"
)

// TestEmulated_NoChange: a turn of a rule in which nothing has changed costs two calls, also right after a restart, whatever the place holds. With SHEAF_LONG=1 that
// is 100,000 files where the first turn does not read them. The places are emulated.
func TestEmulated_NoChange(t *testing.T) {
	eachCloud(t, func(t *testing.T, start func(testing.TB) *cloud) {
		c := start(t)
		dirs, each := 10, 100
		if os.Getenv("SHEAF_LONG") != "" && !c.blind {
			dirs, each = 100, 1000
		}
		root := c.Mkdir(c.Top(), "root")
		local := memtree.New(memtree.Options{Name: "local"})
		var some string
		for i := range dirs {
			dir := fmt.Sprint("dir", i)
			id := c.Mkdir(root, dir)
			if _, err := local.Mkdir(t.Context(), dir, 0o755); err != nil {
				t.Fatal(err)
			}
			for j := range each {
				name, data := fmt.Sprint("file", j), fmt.Sprint("file ", j, " in ", i)
				some = c.Write(id, name, []byte(data))
				if _, err := local.Put(t.Context(), remote.Item{Path: dir + "/" + name, Size: int64(len(data)), MTime: time.Now()}, strings.NewReader(data), ""); err != nil {
					t.Fatal(err)
				}
			}
		}
		db := memkv.New()
		turn := func(tree remote.Tree) (pair.Report, []string) {
			t.Helper()
			p, err := pair.Open(t.Context(), pair.Options{KV: db, Tree: [2]remote.Tree{local, tree}})
			if err != nil {
				t.Fatal(err)
			}
			c.Calls()
			r, err := p.Run(t.Context(), pair.RunOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return r, c.Calls()
		}
		tree := c.open(t, "root", false)
		provider.SetSettle(tree, 0)
		_, calls := turn(tree)
		t.Logf("emulated: %d files, the first turn: %d calls", dirs*each, len(calls))
		for i := range 3 {
			if _, calls := turn(tree); len(calls) > 2 {
				t.Errorf("turn %d without a change: got %d calls, want 2 at most: %q", i, len(calls), calls)
			} else {
				t.Logf("emulated: %d files, a turn without a change: %q", dirs*each, calls)
			}
		}
		again := c.open(t, "root", false)
		t.Logf("emulated: to open the place after a restart: %q", c.Calls())
		for range 2 {
			if _, calls := turn(again); len(calls) > 2 {
				t.Errorf("without a change after a restart: got %d calls, want 2 at most: %q", len(calls), calls)
			} else {
				t.Logf("emulated: after a restart, a turn without a change: %q", calls)
			}
		}
		c.Overwrite(some, []byte("other bytes"))
		_, calls = turn(tree)
		it, err := local.Stat(t.Context(), fmt.Sprintf("dir%d/file%d", dirs-1, each-1))
		if err != nil || it.Size != int64(len("other bytes")) {
			t.Errorf("after a change: got %+v and error %v", it, err)
		}
		t.Logf("emulated: a turn with a change: %d calls: %q", len(calls), calls)
	})
}

// TestEmulated_NoChangeForWhoFollows: who only follows a place asks twice, and no more after a restart, for who it is and for what has changed. With SHEAF_LONG=1 there are 100,000
// files. The places are emulated.
func TestEmulated_NoChangeForWhoFollows(t *testing.T) {
	eachCloud(t, func(t *testing.T, start func(testing.TB) *cloud) {
		c := start(t)
		dirs, each := 10, 100
		if os.Getenv("SHEAF_LONG") != "" {
			dirs, each = 100, 1000
		}
		root := c.Mkdir(c.Top(), "root")
		for i := range dirs {
			dir := c.Mkdir(root, fmt.Sprint("dir", i))
			for j := range each {
				c.Write(dir, fmt.Sprint("file", j), []byte("x"))
			}
		}
		f := &follower{tree: c.open(t, "root", false)}
		c.Calls()
		f.until(t, false)
		t.Logf("emulated: %d files, all listed: %d calls", dirs*each, len(c.Calls()))
		for range 2 {
			for range 2 {
				if _, err := f.tree.Identity(t.Context()); err != nil {
					t.Fatal(err)
				}
				f.until(t, false)
				calls := c.Calls()
				if len(calls) > 2 {
					t.Errorf("without a change: got %d calls, want 2 at most: %q", len(calls), calls)
				}
				t.Logf("emulated: %d files, without a change: %d calls", dirs*each, len(calls))
			}
			f.tree = c.open(t, "root", false) // the second time is after a restart
			c.Calls()
		}
		if f.full != 1 || len(f.known) != dirs*each+dirs {
			t.Errorf("all was listed %d times, want once; %d things are known", f.full, len(f.known))
		}
	})
}
