package memtree_test

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/text/unicode/norm"

	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/memtree"
	"github.com/sheaf-drive/sheaf/sync/remote/treetest"
)

func TestTree_Suite(t *testing.T) {
	for name, o := range map[string]memtree.Options{
		"all":             {},
		"folding":         {Fold: true},
		"normal":          {Normal: true},
		"folding, normal": {Fold: true, Normal: true},
		"two seconds":     {MTime: 2 * time.Second},
		"no times":        {MTime: -1, NoModes: true},
		"bucket":          {NoEmptyDirs: true, NoIDs: true, NoFeed: true, NoModes: true, NoSymlinks: true, NoDirMove: true, NoTouch: true},
		"told bucket":     {NoEmptyDirs: true},
		"names":           {Illegal: func(name string) bool { return norm.NFC.String(name) != name || name[len(name)-1] == '.' }},
		"bare":            {NoIDs: true, NoFeed: true, NoHashes: true, NoModes: true, NoCopy: true},
	} {
		t.Run(name, func(t *testing.T) {
			treetest.Run(t, func(*testing.T) treetest.Place {
				tree := memtree.New(o)
				return treetest.Place{Tree: tree, Again: tree}
			})
		})
	}
}

func TestTree_AShortMemoryIsACursorThatIsNotKnown(t *testing.T) {
	tree := memtree.New(memtree.Options{Log: 4})
	put := func(path string) {
		if err := tree.SneakPut(remote.Item{Path: path}, nil); err != nil {
			t.Fatal(err)
		}
	}
	put("a")
	seq, next := tree.Changes(t.Context(), "")
	for _, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
	}
	cursor := next()
	last := func() error {
		seq, _ := tree.Changes(t.Context(), cursor)
		for _, err := range seq {
			if err != nil {
				return err
			}
		}
		return nil
	}
	put("b")
	if err := last(); err != nil {
		t.Errorf("one change later: %v", err)
	}
	for i := range 20 {
		put(string(rune('c' + i)))
	}
	if err := last(); !errors.Is(err, remote.ErrCursor) {
		t.Errorf("20 changes later: got %v, want ErrCursor", err)
	}
}

func TestTree_APlaceThatCanOnlyBeReadIsNotChanged(t *testing.T) {
	tree := memtree.New(memtree.Options{ReadOnly: true})
	if err := tree.SneakPut(remote.Item{Path: "d/f"}, []byte("x")); err != nil {
		t.Fatal(err)
	}
	it, err := tree.Stat(t.Context(), "d/f")
	if err != nil {
		t.Fatal(err)
	}
	_, put := tree.Put(t.Context(), remote.Item{Path: "g"}, nil, "")
	_, mkdir := tree.Mkdir(t.Context(), "e", 0)
	_, move := tree.Move(t.Context(), "d/f", "d/g", it.Version)
	for what, err := range map[string]error{"put": put, "mkdir": mkdir, "move": move, "remove": tree.Remove(t.Context(), "d/f", it.Version)} {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: got %v, want errors.ErrUnsupported", what, err)
		}
	}
}
