package vfstest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sheaf-drive/sheaf/vfs"
)

// together runs do(0) to do(n-1) at the same time and waits for all of them.
func (s *suite) together(n int, do func(i int) error) {
	s.Helper()
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = do(i) })
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			s.Errorf("goroutine %d: %v", i, err)
		}
	}
}

var parallelTests = []test{
	{"many make files in one directory, and all are there", func(s *suite) {
		const writers, each = 8, 100
		s.together(writers, func(w int) error {
			for i := range each {
				name := fmt.Sprintf("%d-%d", w, i)
				_, h, err := s.root.Create(s.ctx, name, vfs.New{Kind: vfs.KindFile, Mode: 0o644}, vfs.OpenWrite)
				if err != nil {
					return err
				}
				_, errWrite := h.WriteAt(s.ctx, []byte(name), 0)
				if err := errors.Join(errWrite, h.Close(s.ctx)); err != nil {
					return err
				}
			}
			return nil
		})
		names := s.names(s.root, "")
		s.same("names", len(names), writers*each)
		for _, name := range names {
			got, err := vfs.ReadFile(s.ctx, s.fs, name, 100)
			s.ok(err)
			s.same("content", string(got), name)
		}
	}},
	{"of many who make one name, one does", func(s *suite) {
		for round := range 50 {
			name := fmt.Sprint(round)
			var made atomic.Int32
			s.together(8, func(i int) error {
				var err error
				if i%2 == 0 {
					_, err = s.root.Make(s.ctx, name, vfs.New{Kind: vfs.KindDir, Mode: 0o755})
				} else {
					_, err = s.root.Make(s.ctx, name, vfs.New{Kind: vfs.KindFile, Mode: 0o644})
				}
				if err == nil {
					made.Add(1)
				} else if !errors.Is(err, fs.ErrExist) {
					return err
				}
				return nil
			})
			s.same("made", made.Load(), int32(1))
		}
	}},
	{"a storm of renames loses nothing and doubles nothing", testRenameStorm},
	{"directories that move into each other never close a circle", testCircle},
	{"who looks while a file is replaced sees the old or the new", testReplaceSeen},
	{"writers of different ranges do not disturb each other", func(s *suite) {
		const writers, size = 8, 2 << 20
		f, h := s.create(s.root, "f")
		want := noise(1, size)
		s.together(writers, func(w int) error {
			own, err := f.Open(s.ctx, vfs.OpenWrite)
			if err != nil {
				return err
			}
			const piece = 1000 // so that writers share pages and chunks
			for off := w * piece; off < size; off += writers * piece {
				if _, err := own.WriteAt(s.ctx, want[off:min(off+piece, size)], int64(off)); err != nil {
					return err
				}
			}
			return own.Close(s.ctx)
		})
		s.holds(h, f, want)
		s.ok(h.Close(s.ctx))
	}},
	{"a reader sees a write whole or not at all", testWholeWrites},
	{"handles come and go while a file is written, cut and removed", testChurn},
	{"xattrs and attributes of one node are changed by many", func(s *suite) {
		f := s.file(s.root, "f", nil)
		s.together(8, func(i int) error {
			for j := range 50 {
				name := fmt.Sprintf("user.%d.%d", i, j)
				if err := f.SetXattr(s.ctx, name, []byte(name), vfs.XattrCreate); err != nil {
					return err
				}
				if _, err := f.SetAttr(s.ctx, vfs.AttrChange{Set: vfs.SetUID, UID: uint32(j)}); err != nil {
					return err
				}
				if j%2 == 0 {
					if err := f.RemoveXattr(s.ctx, name); err != nil {
						return err
					}
				}
			}
			return nil
		})
		names, err := f.ListXattr(s.ctx)
		s.ok(err)
		s.same("names", len(names), 8*25)
	}},
}

// testRenameStorm moves files between directories from many sides. In the end each
// content is there once.
func testRenameStorm(s *suite) {
	const files, movers, moves = 40, 6, 200
	var dirs []vfs.Dir
	for i := range 4 {
		dirs = append(dirs, s.dir(s.root, fmt.Sprint(i)))
	}
	for i := range files {
		s.file(dirs[i%len(dirs)], fmt.Sprintf("f%d", i), []byte(fmt.Sprint(i)))
	}
	s.together(movers, func(m int) error {
		r := rand.New(rand.NewPCG(uint64(m), 1))
		for range moves {
			from, to := dirs[r.IntN(len(dirs))], dirs[r.IntN(len(dirs))]
			name, newName := fmt.Sprintf("f%d", r.IntN(files)), fmt.Sprintf("f%d", r.IntN(files))
			flag := vfs.RenameNoReplace
			if r.IntN(3) == 0 {
				flag = vfs.RenameExchange
			}
			err := from.Rename(s.ctx, name, to, newName, flag)
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
		return nil
	})
	var got []string
	for e, err := range vfs.Tree(s.ctx, s.root) {
		s.ok(err)
		if e.Attr.Kind != vfs.KindFile {
			continue
		}
		s.same("nlink", e.Attr.Nlink, uint32(1))
		data, err := vfs.ReadFile(s.ctx, s.fs, e.Path, 100)
		s.ok(err)
		got = append(got, string(data))
	}
	slices.Sort(got)
	s.same("contents", len(got), files)
	s.same("contents without doubles", len(slices.Compact(got)), files)
}

// testCircle moves directories into each other from many sides. A circle would cut
// them off from the root.
func testCircle(s *suite) {
	const dirs, movers, moves = 6, 4, 300
	var all []vfs.Dir
	for i := range dirs {
		all = append(all, s.dir(s.root, fmt.Sprint(i)))
	}
	places := append(slices.Clone(all), s.root)
	s.together(movers, func(m int) error {
		r := rand.New(rand.NewPCG(uint64(m), 2))
		for range moves {
			from, to := places[r.IntN(len(places))], places[r.IntN(len(places))]
			name := fmt.Sprint(r.IntN(dirs))
			err := from.Rename(s.ctx, name, to, name, vfs.RenameNoReplace)
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrInvalid) {
				return err
			}
		}
		return nil
	})
	seen := 0
	for _, err := range vfs.Tree(s.ctx, s.root) {
		s.ok(err)
		seen++
	}
	s.same("directories that the root leads to", seen, dirs)
}

// testReplaceSeen replaces a file over and over, as editors do, while others read it by name.
func testReplaceSeen(s *suite) {
	const rounds = 200
	content := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 5000) }
	s.file(s.root, "f", content(0))
	var done atomic.Bool
	s.together(4, func(i int) error {
		if i == 0 {
			defer done.Store(true)
			for round := range rounds {
				if err := vfs.WriteFile(s.ctx, s.fs, "tmp", content(round), vfs.New{Mode: 0o644}); err != nil {
					return err
				}
				if err := s.root.Rename(s.ctx, "tmp", s.root, "f", vfs.RenameReplace); err != nil {
					return err
				}
			}
			return nil
		}
		for !done.Load() {
			got, err := vfs.ReadFile(s.ctx, s.fs, "f", 1<<20)
			if err != nil {
				return err
			}
			if len(got) != 5000 || !bytes.Equal(got, content(int(got[0]))) {
				return fmt.Errorf("read %d bytes that are a mixture or not all", len(got))
			}
		}
		return nil
	})
}

// testWholeWrites has writers that each fill one range with one letter, and readers
// that must never see two letters in it.
func testWholeWrites(s *suite) {
	const size, rounds = 100_000, 60
	f, h := s.create(s.root, "f")
	s.write(h, bytes.Repeat([]byte{'a'}, size), 0)
	var writing atomic.Int32
	writing.Store(3)
	s.together(6, func(i int) error {
		if i < 3 {
			defer writing.Add(-1)
			p := bytes.Repeat([]byte{byte('b' + i)}, size)
			for range rounds {
				if _, err := h.WriteAt(s.ctx, p, 0); err != nil {
					return err
				}
			}
			return nil
		}
		own, err := f.Open(s.ctx, vfs.OpenRead)
		if err != nil {
			return err
		}
		p := make([]byte, size)
		for writing.Load() > 0 {
			if n, err := own.ReadAt(s.ctx, p, 0); n != size || err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("read: got %d, %w", n, err)
			}
			if i := bytes.IndexFunc(p, func(r rune) bool { return byte(r) != p[0] }); i >= 0 {
				return fmt.Errorf("read %c at 0 and %c at %d", p[0], p[i], i)
			}
		}
		return own.Close(s.ctx)
	})
	s.ok(h.Close(s.ctx))
}

// testChurn has nothing to compare in the middle: it is for the race detector, and for what
// must hold at the end.
func testChurn(s *suite) {
	const workers, rounds = 6, 60
	s.together(workers, func(w int) error {
		r := rand.New(rand.NewPCG(uint64(w), 3))
		for range rounds {
			_, h, err := s.root.Create(s.ctx, "f", vfs.New{Kind: vfs.KindFile}, vfs.OpenRead|vfs.OpenWrite)
			if errors.Is(err, fs.ErrExist) {
				h, err = vfs.OpenPath(s.ctx, s.fs, "f", vfs.OpenRead|vfs.OpenWrite)
			}
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			off, n := r.Int64N(200_000), 1+r.IntN(50_000)
			_, errWrite := h.WriteAt(s.ctx, make([]byte, n), off)
			_, errRead := h.ReadAt(s.ctx, make([]byte, n), r.Int64N(200_000))
			if errors.Is(errRead, io.EOF) {
				errRead = nil
			}
			err = errors.Join(errWrite, errRead,
				h.Truncate(s.ctx, r.Int64N(200_000)),
				h.Allocate(s.ctx, vfs.AllocMode(r.IntN(5)), off, int64(n)),
				h.Sync(s.ctx))
			if r.IntN(4) == 0 {
				if err := s.root.Remove(s.ctx, "f", false); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
			if err := errors.Join(err, h.Close(s.ctx)); err != nil {
				return err
			}
		}
		return nil
	})
	if err := s.root.Remove(s.ctx, "f", false); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.Errorf("Remove: %v", err)
	}
	s.same("names", s.names(s.root, ""), []string(nil))
	s.ok(s.fs.Sync(s.ctx))
}
