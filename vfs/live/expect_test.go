package live

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
)

// What is removed, moved or exchanged is what it is taken for, or nothing is done.
func TestExpect_NothingElseIsRemovedOrMoved(t *testing.T) {
	f := mustOpen(t, newDisk())
	v := f.View()
	ctx := t.Context()
	for _, name := range []string{"a", "b", "d/a"} {
		if name == "d/a" {
			if _, err := vfs.MkdirAll(ctx, v, "d", vfs.New{Kind: vfs.KindDir, Mode: 0o755}); err != nil {
				t.Fatal(err)
			}
		}
		if err := vfs.WriteFile(ctx, v, name, []byte(name), vfs.New{Kind: vfs.KindFile, Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
	}
	root, err := v.Root(ctx)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := vfs.WalkDir(ctx, v, "d")
	if err != nil {
		t.Fatal(err)
	}
	node := func(name string) vfs.Node {
		n, err := vfs.Walk(ctx, v, name)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	a, b, sub := node("a"), node("b"), node("d/a")
	takes := func(dir vfs.Dir, name string, n vfs.Node) vfs.Expected {
		return vfs.Expected{Dir: dir, Name: name, Node: n}
	}
	for what, do := range map[string]func() error{
		"remove": func() error { return root.Remove(vfs.Expect(ctx, takes(root, "a", b)), "a", false) },
		"move": func() error {
			return root.Rename(vfs.Expect(ctx, takes(root, "a", b)), "a", dir, "x", vfs.RenameReplace)
		},
		"exchange, the first": func() error {
			return root.Rename(vfs.Expect(ctx, takes(root, "a", b), takes(dir, "a", sub)), "a", dir, "a", vfs.RenameExchange)
		},
		"exchange, the second": func() error {
			return root.Rename(vfs.Expect(ctx, takes(root, "a", a), takes(dir, "a", b)), "a", dir, "a", vfs.RenameExchange)
		},
	} {
		if err := do(); !errors.Is(err, vfs.ErrStale) {
			t.Errorf("%s: got %v, want ErrStale", what, err)
		}
	}
	if node("a") != a || node("b") != b || node("d/a") != sub {
		t.Error("something was changed")
	}
	if err := root.Rename(vfs.Expect(ctx, takes(root, "a", a), takes(dir, "a", sub)), "a", dir, "a", vfs.RenameExchange); err != nil {
		t.Error(err)
	}
	if node("a") != sub || node("d/a") != a {
		t.Error("not exchanged")
	}
	if err := root.Remove(vfs.Expect(ctx, takes(root, "a", sub)), "a", false); err != nil {
		t.Error(err)
	}
}

// From before the work of another device can be seen until the reader of Changes has dealt with it, a View knows that what is kept of a file
// is out of date.
func TestUnheard_FromTheChangeToItsEnd(t *testing.T) {
	fl := newFleet(t, 2)
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(vfs.WriteFile(ctx, fl.trees[0].View(), "f", []byte("old"), vfs.New{Kind: vfs.KindFile, Mode: 0o644}))
	must(fl.trees[0].Commit(ctx))
	must(fl.adopt(1))
	v := fl.trees[1].View()
	n, err := vfs.Walk(ctx, v, "f")
	must(err)
	reading, stop := context.WithCancel(ctx)
	defer stop()
	came, goOn := make(chan vfs.Change), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for c := range v.Changes(reading) {
			came <- c
			<-goOn
		}
	})
	for fl.trees[1].feeds.Load() == nil || len(*fl.trees[1].feeds.Load()) == 0 {
		runtime.Gosched()
	}
	if v.Unheard(n) {
		t.Error("unheard before anything changed")
	}
	must(vfs.WriteFile(ctx, fl.trees[0].View(), "f", []byte("new"), vfs.New{Kind: vfs.KindFile, Mode: 0o644}))
	must(fl.trees[0].Commit(ctx))
	_, err = fl.trees[1].Adopt(ctx, joinWith(fl.store, fl.disks[0]))
	must(err)
	if !v.Unheard(n) {
		t.Error("heard before the reader has been told")
	}
	for c := range came {
		if !v.Unheard(n) {
			t.Error("heard before the reader has dealt with it")
		}
		goOn <- struct{}{}
		if c.Node == n && c.Name == "" {
			break
		}
	}
	for deadline := time.Now().Add(10 * time.Second); v.Unheard(n); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("still unheard when the reader has gone on")
		}
	}
	stop()
	all.Wait()
}
