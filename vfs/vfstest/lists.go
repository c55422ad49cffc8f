package vfstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sheaf-drive/sheaf/vfs"
)

var listTests = []test{
	{"a list starts after any string, also one that is no name", func(s *suite) {
		for _, name := range []string{"b", "bb", "d", "\xff"} {
			s.file(s.root, name, nil)
		}
		for after, want := range map[string][]string{
			"": {"b", "bb", "d", "\xff"}, "a": {"b", "bb", "d", "\xff"}, "b": {"bb", "d", "\xff"},
			"b\x00": {"bb", "d", "\xff"}, "bb": {"d", "\xff"}, "c/": {"d", "\xff"}, "d": {"\xff"},
			"\xff": nil, strings.Repeat("\xff", 300): nil,
		} {
			s.same(fmt.Sprintf("names after %q", after), s.names(s.root, after), want)
		}
	}},
	{"a list can be broken off, and run again", func(s *suite) {
		for i := range 10 {
			s.file(s.root, fmt.Sprint(i), nil)
		}
		for i := range 600 { // more than an implementation may take at a time
			s.file(s.root, fmt.Sprintf("x%03d", i), nil)
		}
		all := s.root.List(s.ctx, "x")
		for range 2 {
			n := 0
			for _, err := range all {
				s.ok(err)
				n++
			}
			s.same("how many", n, 600)
		}
		seq := s.root.List(s.ctx, "3")
		for range 2 {
			var got []string
			for e, err := range seq {
				s.ok(err)
				if got = append(got, e.Name); len(got) == 3 {
					break
				}
			}
			s.same("names", got, []string{"4", "5", "6"})
		}
	}},
	{"ten thousand names come once and in order", func(s *suite) {
		const n = 10_000
		var want []string
		for i := range n {
			name := fmt.Sprintf("%05d", i*7919%n) // not in the order of the names
			_, err := s.root.Make(s.ctx, name, vfs.New{Kind: vfs.KindFile, Mode: 0o644})
			s.ok(err)
			want = append(want, name)
		}
		slices.Sort(want)
		if got := s.names(s.root, ""); !slices.Equal(got, want) {
			s.Errorf("got %d names, want %d in order", len(got), len(want))
		}
		if got := s.names(s.root, want[n/2]); !slices.Equal(got, want[n/2+1:]) {
			s.Errorf("after the middle: got %d names, want %d in order", len(got), n-n/2-1)
		}
		var paged []string // as a kernel asks
		for after := ""; ; after = paged[len(paged)-1] {
			before := len(paged)
			for e, err := range s.root.List(s.ctx, after) {
				s.ok(err)
				if paged = append(paged, e.Name); len(paged)-before == 777 {
					break
				}
			}
			if len(paged) == before {
				break
			}
		}
		if !slices.Equal(paged, want) {
			s.Errorf("in pages: got %d names, want %d in order", len(paged), len(want))
		}
	}},
	{"a loop over a list may change the directory", func(s *suite) {
		const n = 500
		for i := range n {
			s.file(s.root, fmt.Sprintf("%04d", i), nil)
		}
		seen := 0
		for e, err := range s.root.List(s.ctx, "") {
			s.ok(err)
			if strings.HasPrefix(e.Name, "n") {
				continue // made below
			}
			seen++
			s.lookup(s.root, e.Name)
			s.ok(s.root.Remove(s.ctx, e.Name, false))
			s.file(s.root, "n"+e.Name, nil)
		}
		s.same("old names seen", seen, n)
		s.same("names left", len(s.names(s.root, "")), n)
	}},
	{"names that stay are listed once while others come and go", testListWhileChanging},
	{"a list ends with an error when its context is done", func(s *suite) {
		for i := range 100 {
			s.file(s.root, fmt.Sprint(i), nil)
		}
		ctx, cancel := context.WithCancel(s.ctx)
		defer cancel()
		seen, ended := 0, false
		for _, err := range s.root.List(ctx, "") {
			if ended {
				s.Fatal("the list goes on after its error")
			}
			if err != nil {
				s.fails("List", err, context.Canceled)
				ended = true
				continue
			}
			seen++
			cancel()
		}
		if !ended && seen != 100 {
			s.Errorf("the list ended after %d of 100 names without an error", seen)
		}
	}},
}

// testListWhileChanging lists a directory over and over while other goroutines make,
// remove and rename what is not looked for.
func testListWhileChanging(s *suite) {
	const stay = 300
	var want []string
	for i := range stay {
		name := fmt.Sprintf("%04d stays", i)
		s.file(s.root, name, nil)
		want = append(want, name)
	}
	stop, changed := make(chan struct{}), make(chan error, 2)
	for g := range 2 {
		go func() {
			changed <- func() error {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return nil
					default:
					}
					name := fmt.Sprintf("%04d goes %d", i*37%stay, g)
					what := vfs.New{Kind: vfs.KindFile, Mode: 0o644}
					_, errMake := s.root.Make(s.ctx, name, what)
					errMove := s.root.Rename(s.ctx, name, s.root, name+" soon", vfs.RenameReplace)
					errRemove := s.root.Remove(s.ctx, name+" soon", false)
					if err := errors.Join(errMake, errMove, errRemove); err != nil {
						return err
					}
				}
			}()
		}()
	}
	for range 30 {
		var all, got []string
		for e, err := range s.root.List(s.ctx, "") {
			if err != nil {
				s.Errorf("List: %v", err)
				break
			}
			all = append(all, e.Name)
			if strings.HasSuffix(e.Name, "stays") {
				got = append(got, e.Name)
			}
		}
		if !slices.Equal(got, want) {
			s.Errorf("got %d of the names that stay, want %d in order", len(got), stay)
		}
		if !slices.IsSorted(all) || len(slices.Compact(all)) != len(all) {
			s.Errorf("the list is not in order, or has a name twice")
		}
	}
	close(stop)
	for range 2 {
		if err := <-changed; err != nil {
			s.Errorf("changing the directory: %v", err)
		}
	}
}
