package provider_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/kv/memkv"
	"github.com/sheaf-drive/sheaf/sync/pair"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/cloudtest"
	"github.com/sheaf-drive/sheaf/sync/remote/memtree"
	"github.com/sheaf-drive/sheaf/sync/remote/provider"
)

// once has the first request whose path ends with suffix be answered by f.
func once(d *cloudtest.Drive, suffix string, f *cloudtest.Fault) (did *bool) {
	did = new(bool)
	d.SetFault(func(r *http.Request) *cloudtest.Fault {
		if *did || !strings.HasSuffix(r.URL.Path, suffix) {
			return nil
		}
		*did = true
		return f
	})
	return did
}

// TestEmulatedDrive_FeedThatFails: a page of the feed that fails, or a list of what it told, is asked for again or is an error; nothing that it told is lost by it. The Drive is emulated.
func TestEmulatedDrive_FeedThatFails(t *testing.T) {
	t.Parallel()
	faults := map[string]struct {
		path string
		f    cloudtest.Fault
		want error // nil: it is overcome
	}{
		"the feed is cut off":           {"/changes", cloudtest.Fault{Cut: true}, nil},
		"the feed is broken for once":   {"/changes", cloudtest.Fault{Status: 503, Reason: "backendError"}, nil},
		"too many calls":                {"/changes", cloudtest.Fault{Status: 429, Reason: "rateLimitExceeded", After: time.Second}, nil},
		"too many calls, as 403":        {"/changes", cloudtest.Fault{Status: 403, Reason: "userRateLimitExceeded"}, nil},
		"the token is not known":        {"/changes", cloudtest.Fault{Status: 410, Reason: "gone"}, remote.ErrCursor},
		"the token is wrong":            {"/changes", cloudtest.Fault{Status: 400, Reason: "invalid"}, remote.ErrCursor},
		"nobody may ask":                {"/changes", cloudtest.Fault{Status: 403, Reason: "insufficientFilePermissions"}, errAny},
		"who asks is not known":         {"/changes", cloudtest.Fault{Status: 401, Reason: "authError"}, blob.ErrUnauthorized},
		"a list of a folder is refused": {"/files", cloudtest.Fault{Status: 403, Reason: "forbidden"}, errAny},
	}
	for name, x := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := cloudtest.NewDrive(t)
			tree := openDrive(t, d, "", false)
			provider.SetSettle(tree, 0)
			dir := d.Mkdir(d.Root, "dir")
			f := &follower{tree: tree}
			f.until(t, false)
			for i := range 1500 { // more than one page
				d.Write(dir, fmt.Sprint(i), []byte("x"))
			}
			did := once(d, x.path, &x.f)
			err := f.follow(t, false)
			d.SetFault(nil)
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
			f.same(t, openDrive(t, d, "", false), "after it")
		})
	}
}

var errAny = errors.New("any")

// TestEmulatedDrive_PageHalfWay: of a feed of two pages the second fails for as long as it is asked for. Nothing of the first is told, and nothing is lost. The Drive is emulated.
func TestEmulatedDrive_PageHalfWay(t *testing.T) {
	t.Parallel()
	d := cloudtest.NewDrive(t)
	tree := openDrive(t, d, "", false)
	f := &follower{tree: tree}
	f.until(t, false)
	for i := range 1200 {
		d.Write(d.Root, fmt.Sprint(i), []byte("x"))
	}
	pages := 0
	d.SetFault(func(r *http.Request) *cloudtest.Fault {
		if strings.HasSuffix(r.URL.Path, "/changes") {
			if pages++; pages > 1 {
				return &cloudtest.Fault{Status: http.StatusForbidden, Reason: "forbidden"}
			}
		}
		return nil
	})
	if err := f.follow(t, false); err == nil || len(f.known) != 0 {
		t.Fatalf("got error %v and %d things, want an error and none", err, len(f.known))
	}
	d.SetFault(nil)
	if f.until(t, false); f.full != 1 {
		t.Errorf("all was listed %d times, want once", f.full)
	}
	f.same(t, openDrive(t, d, "", false), "after it")
}

// TestEmulatedDrive_ListsThatLag: the feed tells of what a list does not have yet. It is told when the list has it. The Drive is emulated.
func TestEmulatedDrive_ListsThatLag(t *testing.T) {
	t.Parallel()
	d := cloudtest.NewDrive(t)
	tree := openDrive(t, d, "", false)
	f := &follower{tree: tree}
	id := d.Write(d.Root, "old", []byte("1"))
	f.until(t, false)
	d.Lag(2)
	d.Write(d.Root, "new", []byte("2"))
	d.Overwrite(id, []byte("3"))
	for range 4 {
		f.until(t, false)
	}
	if f.full != 1 {
		t.Errorf("all was listed %d times, want once", f.full)
	}
	f.same(t, openDrive(t, d, "", false), "when the lists have it")
}

// TestEmulatedDrive_WhatNoFeedCovers: two folders of one name, or a shortcut, whose end may lie anywhere, and all is listed each time. The Drive is emulated.
func TestEmulatedDrive_WhatNoFeedCovers(t *testing.T) {
	t.Parallel()
	for name, odd := range map[string]func(d *cloudtest.Drive){
		"two folders of one name": func(d *cloudtest.Drive) {
			d.Mkdir(d.Root, "twice")
			d.Mkdir(d.Root, "twice")
		},
		"a shortcut": func(d *cloudtest.Drive) { d.Link(d.Root, "link", d.Write(d.Root, "target", []byte("1"))) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := cloudtest.NewDrive(t)
			tree, fresh := openDrive(t, d, "", false), openDrive(t, d, "", false)
			f := &follower{tree: tree}
			f.until(t, false)
			odd(d) // it comes while the feed is followed
			for i := range 3 {
				f.until(t, false)
				f.same(t, fresh, "with it")
				d.Write(d.Root, fmt.Sprint("more", i), []byte("x"))
			}
			if f.full < 3 {
				t.Errorf("all was listed %d times, want each time", f.full)
			}
		})
	}
}

// TestEmulatedDrive_RootThatMoves: the folder of the tree is moved away, and another one put in its place. It is seen, and nothing of the first is told for the second. The Drive is emulated.
func TestEmulatedDrive_RootThatMoves(t *testing.T) {
	t.Parallel()
	d := cloudtest.NewDrive(t)
	up := d.Mkdir(d.Root, "up")
	first := d.Mkdir(up, "root")
	d.Write(first, "first", []byte("1"))
	tree := openDrive(t, d, "up/root", false)
	f := &follower{tree: tree}
	f.until(t, false)
	d.Move(up, d.Root, "away")
	if err := f.follow(t, false); !errors.Is(err, remote.ErrCursor) {
		t.Fatalf("got error %v, want ErrCursor", err)
	}
	if err := f.follow(t, false); err == nil {
		t.Fatal("a place that is not there was listed")
	}
	other := d.Mkdir(d.Mkdir(d.Root, "up"), "root")
	d.Write(other, "second", []byte("2"))
	f.until(t, false)
	f.same(t, openDrive(t, d, "up/root", false), "with another root")
	d.Trash(other, true)
	if _, err := tree.Identity(t.Context()); !errors.Is(err, blob.ErrTemporary) {
		t.Errorf("the root is in the trash: got error %v, want ErrTemporary", err)
	}
}

// TestEmulatedDrive_NoChange: a turn of a rule in which nothing has changed costs two calls, also right after a restart, whatever the place holds. With SHEAF_LONG=1 that
// is 100,000 files. The Drive is emulated.
func TestEmulatedDrive_NoChange(t *testing.T) {
	t.Parallel()
	dirs, each := 10, 100
	if os.Getenv("SHEAF_LONG") != "" {
		dirs, each = 100, 1000
	}
	d := cloudtest.NewDrive(t)
	root := d.Mkdir(d.Root, "root")
	local := memtree.New(memtree.Options{Name: "local"})
	var some string
	for i := range dirs {
		dir := fmt.Sprint("dir", i)
		id := d.Mkdir(root, dir)
		if _, err := local.Mkdir(t.Context(), dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for j := range each {
			name, data := fmt.Sprint("file", j), fmt.Sprint("file ", j, " in ", i)
			some = d.Write(id, name, []byte(data))
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
		d.Calls()
		r, err := p.Run(t.Context(), pair.RunOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return r, d.Calls()
	}
	tree := openDrive(t, d, "root", false)
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
	again := openDrive(t, d, "root", false)
	t.Logf("emulated: to open the place after a restart: %q", d.Calls())
	for range 2 {
		if _, calls := turn(again); len(calls) > 2 {
			t.Errorf("without a change after a restart: got %d calls, want 2 at most: %q", len(calls), calls)
		} else {
			t.Logf("emulated: after a restart, a turn without a change: %q", calls)
		}
	}
	d.Overwrite(some, []byte("other bytes"))
	_, calls = turn(tree)
	it, err := local.Stat(t.Context(), fmt.Sprintf("dir%d/file%d", dirs-1, each-1))
	if err != nil || it.Size != int64(len("other bytes")) {
		t.Errorf("after a change: got %+v and error %v", it, err)
	}
	t.Logf("emulated: a turn with a change: %d calls: %q", len(calls), calls)
}
