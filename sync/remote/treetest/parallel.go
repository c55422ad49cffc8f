package treetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

var parallelTests = []test{
	{"many calls at once are as many one after the other", func(s *suite) {
		var wg sync.WaitGroup
		n := s.some(16, 6)
		for i := range n {
			wg.Go(func() {
				d := fmt.Sprint("d", i)
				if _, err := s.Tree.Mkdir(s.ctx, d, 0o755); err != nil {
					s.Errorf("mkdir: %v", err)
					return
				}
				known := remote.Version("")
				for j := range s.some(10, 3) {
					it, err := s.try(s.Tree, d+"/f", fmt.Sprint(i, " ", j), known)
					if err != nil {
						s.Errorf("put: %v", err)
						return
					}
					known = it.Version
					if got, err := s.readAll(s.Tree, d+"/f", 0, -1, known); err != nil || got != fmt.Sprint(i, " ", j) {
						s.Errorf("read: got %q, %v", got, err)
					}
					if _, err := items(s.Tree.List(s.ctx, "")); err != nil {
						s.Errorf("list: %v", err)
					}
				}
			})
		}
		wg.Wait()
		if got := s.list(""); len(got) != n {
			s.Errorf("got %d directories, want %d", len(got), n)
		}
	}},
	{"of many who make one file, one does", func(s *suite) {
		s.need(s.can.Exact, "conditions in one step")
		var wg sync.WaitGroup
		var won atomic.Int32
		for i := range 8 {
			wg.Go(func() {
				_, err := s.try(s.Tree, "file", fmt.Sprint("of ", i), "")
				if err == nil {
					won.Add(1)
				} else if !errors.Is(err, remote.ErrChanged) {
					s.Errorf("put: got error %v, want none or ErrChanged", err)
				}
			})
		}
		wg.Wait()
		s.same("how many made it", won.Load(), int32(1))
		s.want("file")
	}},
	{"of many who count in one file, none is lost", func(s *suite) {
		s.need(s.can.Exact, "conditions in one step")
		s.put("file", "0")
		var wg sync.WaitGroup
		var done atomic.Int64
		each := s.some(20, 5)
		for range 4 {
			wg.Go(func() {
				for range each {
					st, err := s.Tree.Stat(s.ctx, "file")
					if err != nil {
						s.Errorf("stat: %v", err)
						return
					}
					text, err := s.readAll(s.Tree, "file", 0, -1, st.Version)
					if errors.Is(err, remote.ErrChanged) {
						continue
					}
					n, err2 := strconv.Atoi(text)
					if err != nil || err2 != nil {
						s.Errorf("read: got %q, %v", text, err)
						return
					}
					_, err = s.try(s.Tree, "file", strconv.Itoa(n+1), st.Version)
					if err == nil {
						done.Add(1)
					} else if !errors.Is(err, remote.ErrChanged) {
						s.Errorf("put: got error %v, want none or ErrChanged", err)
					}
				}
			})
		}
		wg.Wait()
		s.same("what was counted", s.read("file"), fmt.Sprint(done.Load()))
	}},
	{"a reader sees one file or the other, and never none", func(s *suite) {
		s.need(s.can.Exact, "conditions in one step")
		size := 200_000
		known := s.put("file", strings.Repeat("a", size)).Version
		ctx, cancel := context.WithCancel(s.ctx)
		var wg sync.WaitGroup
		wg.Go(func() {
			defer cancel()
			for i := range s.some(50, 8) {
				it, err := s.try(s.Tree, "file", strings.Repeat(string(rune('b'+i%20)), size), known)
				if err != nil {
					s.Errorf("put: %v", err)
					return
				}
				known = it.Version
			}
		})
		for ctx.Err() == nil {
			got, err := s.readAll(s.Tree, "file", 0, -1, "")
			if errors.Is(err, remote.ErrChanged) {
				continue
			}
			if err != nil {
				s.Errorf("read: %v", err)
				break
			}
			if len(got) != size || strings.Count(got, got[:1]) != size {
				s.Errorf("got %d bytes of several files", len(got))
				break
			}
		}
		wg.Wait()
	}},
	{"of many who move one file, one does", func(s *suite) {
		s.need(s.can.ServerMove && s.can.Exact, "moves in one step")
		it := s.put("file", "x")
		var wg sync.WaitGroup
		var won atomic.Int32
		for i := range 6 {
			wg.Go(func() {
				_, err := s.Tree.Move(s.ctx, "file", fmt.Sprint("to", i), it.Version)
				if err == nil {
					won.Add(1)
				} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, remote.ErrChanged) {
					s.Errorf("move: got error %v", err)
				}
			})
		}
		wg.Wait()
		s.same("how many moved it", won.Load(), int32(1))
		if all, _ := s.all(s.Tree); len(all) != 1 {
			s.Errorf("got %q, want one file", paths(all))
		}
	}},
}

var cancelTests = []test{
	{"a call whose context is done does nothing", func(s *suite) {
		s.dir("d")
		it := s.put("d/f", "x")
		ctx, cancel := context.WithCancel(s.ctx)
		cancel()
		_, err := s.Tree.Identity(ctx)
		s.fails("identity", err, context.Canceled)
		_, err = s.Tree.Stat(ctx, "d/f")
		s.fails("stat", err, context.Canceled)
		_, err = items(s.Tree.List(ctx, "d"))
		s.fails("list", err, context.Canceled)
		r, err := s.Tree.Open(ctx, "d/f", 0, -1, "")
		if err == nil {
			_, err = io.ReadAll(r)
			_ = r.Close()
		}
		s.fails("open", err, context.Canceled)
		_, err = s.Tree.Put(ctx, remote.Item{Path: "d/g", Size: 1, MTime: t0}, strings.NewReader("y"), "")
		s.fails("put", err, context.Canceled)
		_, err = s.Tree.Put(ctx, remote.Item{Path: "d/f", Size: 1, MTime: t0}, strings.NewReader("y"), it.Version)
		s.fails("replace", err, context.Canceled)
		_, err = s.Tree.Mkdir(ctx, "e", 0o755)
		s.fails("mkdir", err, context.Canceled)
		_, err = s.Tree.Move(ctx, "d/f", "d/g", it.Version)
		s.fails("move", err, context.Canceled)
		s.fails("remove", s.Tree.Remove(ctx, "d/f", it.Version), context.Canceled)
		seq, next := s.Tree.Changes(ctx, "")
		for _, err = range seq {
			if err != nil {
				break
			}
		}
		s.fails("changes", err, context.Canceled)
		if c := next(); c != "" {
			s.Errorf("got cursor %q, want none", c)
		}
		s.want("d/", "d/f")
		s.same("bytes", s.read("d/f"), "x")
	}},
	{"a listing that is stopped says so", func(s *suite) {
		for i := range 5 {
			s.put(fmt.Sprint("file", i), "x")
		}
		ctx, cancel := context.WithCancel(s.ctx)
		defer cancel()
		seq, next := s.Tree.Changes(ctx, "")
		var last error
		for _, err := range seq {
			cancel()
			if err != nil {
				last = err
				break
			}
		}
		s.fails("changes", last, context.Canceled)
		if c := next(); c != "" {
			s.Errorf("got cursor %q, want none", c)
		}
	}},
	{"a put that is stopped changes nothing", func(s *suite) {
		old := s.put("old", "old")
		for path, known := range map[string]remote.Version{"new": "", "old": old.Version} {
			ctx, cancel := context.WithCancel(s.ctx)
			body := io.MultiReader(strings.NewReader(strings.Repeat("x", 100_000)), &stopping{cancel}, strings.NewReader(strings.Repeat("y", 100_000)))
			_, err := s.Tree.Put(ctx, remote.Item{Path: path, Size: 200_000, MTime: t0}, body, known)
			cancel()
			s.fails("put", err, context.Canceled)
		}
		s.want("old")
		s.same("bytes", s.read("old"), "old")
	}},
}

// stopping is a reader that has nothing and cancels.
type stopping struct{ cancel func() }

func (r *stopping) Read([]byte) (int, error) {
	r.cancel()
	return 0, io.EOF
}
