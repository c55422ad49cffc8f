// Package pairtest is the suite of what a rule between two places has to do, whatever the places are: the scenarios that rclone's bisync is tested by, told anew for what a rule here
// promises. docs/SYNC-SCENARIOS.md says which is which, and where both differ on purpose.
package pairtest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/kv/memkv"
	"github.com/sheaf-drive/sheaf/sync/merge"
	"github.com/sheaf-drive/sheaf/sync/pair"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// A rig is two empty places, a rule between them, and the people who use the places.
type rig struct {
	t    *testing.T
	tree [2]remote.Tree
	o    pair.Options
	p    *pair.Pair
	ago  time.Duration // how long ago what is written next was written
}

func newRig(t *testing.T, tree [2]remote.Tree) *rig {
	r := &rig{t: t, tree: tree, ago: 48 * time.Hour}
	r.o = pair.Options{KV: memkv.New(), Tree: tree}
	r.o.Rule.Label = [2]string{"left", "right"}
	return r
}

// again opens the rule anew, as a process does that begins.
func (r *rig) again() { r.p = nil }

func (r *rig) open() *pair.Pair {
	r.t.Helper()
	if r.p == nil {
		p, err := pair.Open(r.t.Context(), r.o)
		if err != nil {
			r.t.Fatal(err)
		}
		r.p = p
	}
	return r.p
}

// write has a person write a file, and the folders above it. Each is written a minute after the last, for some places tell no more of a time.
func (r *rig) write(s merge.Side, path, body string) {
	r.t.Helper()
	r.ago -= 2 * time.Minute
	r.writeAt(s, path, body, time.Now().Add(-r.ago))
}

func (r *rig) writeAt(s merge.Side, path, body string, at time.Time) {
	r.t.Helper()
	ctx := r.t.Context()
	for i := range len(path) {
		if path[i] == '/' {
			if _, err := r.tree[s].Mkdir(ctx, path[:i], 0o755); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	known := remote.Version("")
	it, err := r.tree[s].Stat(ctx, path)
	switch {
	case err == nil:
		known = it.Version
	case !errors.Is(err, fs.ErrNotExist):
		r.t.Fatal(err)
	}
	if _, err := r.tree[s].Put(ctx, remote.Item{Path: path, Size: int64(len(body)), MTime: at, Mode: 0o644}, strings.NewReader(body), known); err != nil {
		r.t.Fatalf("%s: write %s: %v", s, path, err)
	}
}

func (r *rig) remove(s merge.Side, paths ...string) {
	r.t.Helper()
	for _, path := range paths {
		it, err := r.tree[s].Stat(r.t.Context(), path)
		if err == nil {
			err = r.tree[s].Remove(r.t.Context(), path, it.Version)
		}
		if err != nil {
			r.t.Fatalf("%s: remove %s: %v", s, path, err)
		}
	}
}

func (r *rig) move(s merge.Side, from, to string) {
	r.t.Helper()
	it, err := r.tree[s].Stat(r.t.Context(), from)
	if err == nil {
		known := it.Version
		if it.Kind == remote.Dir {
			known = ""
		}
		_, err = r.tree[s].Move(r.t.Context(), from, to, known)
	}
	if err != nil {
		r.t.Fatalf("%s: move %s to %s: %v", s, from, to, err)
	}
}

// turn has a turn, of which want is the error.
func (r *rig) turn(want error, o ...pair.RunOptions) pair.Report {
	r.t.Helper()
	rep, err := r.open().Run(r.t.Context(), append(o, pair.RunOptions{})[0])
	if !errors.Is(err, want) {
		r.t.Fatalf("a turn ended with error %v, want %v; it did %q", err, want, rep.Steps)
	}
	return rep
}

// show returns the files of a side as "path=content".
func show(t *testing.T, tree remote.Tree, history bool) (all []string) {
	t.Helper()
	changes, _ := tree.Changes(t.Context(), "")
	for c, err := range changes {
		if err != nil {
			t.Fatal(err)
		}
		in := pair.InHistory(c.Path)
		switch {
		case in != history, c.Kind == remote.Dir && (history || !tree.Can().EmptyDirs):
		case c.Kind == remote.Dir:
			all = append(all, c.Path+"/")
		default:
			all = append(all, c.Path+"="+read(t, tree, c.Path))
		}
	}
	slices.Sort(all)
	return all
}

func read(t *testing.T, tree remote.Tree, path string) string {
	t.Helper()
	f, err := tree.Open(context.Background(), path, 0, -1, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// has fails unless a side has these files and no others. Folders are looked at where lines name any.
func (r *rig) has(s merge.Side, lines ...string) {
	r.t.Helper()
	got := show(r.t, r.tree[s], false)
	isDir := func(l string) bool { return strings.HasSuffix(l, "/") }
	if !slices.ContainsFunc(lines, isDir) {
		got = slices.DeleteFunc(got, isDir)
	}
	slices.Sort(lines)
	if !slices.Equal(got, lines) {
		r.t.Errorf("the %s side has\n%q, want\n%q", s, got, lines)
	}
}

// alike fails unless both sides have these files, and nothing is left to do.
func (r *rig) alike(lines ...string) {
	r.t.Helper()
	r.has(merge.Left, slices.Clone(lines)...)
	r.has(merge.Right, slices.Clone(lines)...)
	if rep := r.turn(nil); len(rep.Steps) > 0 {
		r.t.Errorf("something is left to do: %q", rep.Steps)
	}
}

// kept fails unless the history of a side has a content.
func (r *rig) kept(s merge.Side, bodies ...string) {
	r.t.Helper()
	got := show(r.t, r.tree[s], true)
	for _, body := range bodies {
		if !slices.ContainsFunc(got, func(l string) bool { return strings.HasSuffix(l, "="+body) }) {
			r.t.Errorf("the history of the %s side has no %q: %q", s, body, got)
		}
	}
}

// nine writes nine files and has a turn.
func (r *rig) nine() (lines []string) {
	r.t.Helper()
	for i := range 9 {
		name, body := "file"+string(rune('1'+i))+".txt", strings.Repeat("x", i+1)
		r.write(merge.Left, name, body)
		lines = append(lines, name+"="+body)
	}
	r.turn(nil)
	return lines
}
