package pair_test

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/merge"
	"github.com/sheaf-drive/sheaf/sync/merge/ignore"
	"github.com/sheaf-drive/sheaf/sync/pair"
	"github.com/sheaf-drive/sheaf/sync/remote/memtree"
)

func TestIgnore_CountsOnBothSidesAndFarBelow(t *testing.T) {
	r := newRig(t, memtree.Options{}, memtree.Options{})
	r.put(merge.Left, ignore.Name, "*.tmp\n")
	r.put(merge.Left, "a.tmp", "mine")
	r.put(merge.Left, "a.txt", "1")
	r.put(merge.Right, "d/b.tmp", "yours")
	r.put(merge.Right, "d/"+ignore.Name, "/out\n")
	r.put(merge.Right, "d/out", "3")
	r.put(merge.Left, "d/out", "4")
	r.put(merge.Left, "e/out", "5")
	r.mustRun()
	r.want(merge.Left, ".sheafignore=*.tmp\n", "a.tmp=mine", "a.txt=1", "d/", "d/.sheafignore=/out\n", "d/out=4", "e/", "e/out=5")
	r.want(merge.Right, ".sheafignore=*.tmp\n", "a.txt=1", "d/", "d/.sheafignore=/out\n", "d/b.tmp=yours", "d/out=3", "e/", "e/out=5")
}

// S15: what becomes left out is neither deleted nor brought back, whatever happens to it, and when it is left out no more nothing of it is lost.
func TestIgnore_WhatBecomesLeftOutIsLeftAlone(t *testing.T) {
	for s := range merge.Side(2) {
		r := newRig(t, memtree.Options{}, memtree.Options{})
		for _, n := range []string{"gone", "edited", "both", "same"} {
			r.put(merge.Left, n+".tmp", "1")
		}
		r.mustRun()
		r.put(s, ignore.Name, "*.tmp\n")
		r.remove(merge.Left, "gone.tmp")
		r.put(merge.Left, "edited.tmp", "left")
		r.put(merge.Left, "both.tmp", "left")
		r.put(merge.Right, "both.tmp", "right")
		r.put(merge.Right, "new.tmp", "new")
		r.mustRun()
		r.want(merge.Left, ".sheafignore=*.tmp\n", "edited.tmp=left", "both.tmp=left", "same.tmp=1")
		r.want(merge.Right, ".sheafignore=*.tmp\n", "gone.tmp=1", "edited.tmp=1", "both.tmp=right", "same.tmp=1", "new.tmp=new")
		r.put(s, ignore.Name, "nothing\n")
		r.mustRun()
		r.both(".sheafignore=nothing\n", "gone.tmp=1", "same.tmp=1", "new.tmp=new",
			"both.tmp=right", "both (conflict, laptop, 2026-12-01).tmp=left", "edited.tmp=left", "edited (conflict, cloud, 2026-12-01).tmp=1")
	}
}

func TestIgnore_InADirectoryThatGoes(t *testing.T) {
	r := newRig(t, memtree.Options{}, memtree.Options{})
	r.put(merge.Left, "d/a", "1")
	r.put(merge.Left, "keep", "1")
	r.mustRun()
	r.put(merge.Right, ignore.Name, "*.o\n")
	r.put(merge.Right, "d/x.o", "built")
	r.remove(merge.Left, "d")
	r.mustRun()
	r.want(merge.Right, ".sheafignore=*.o\n", "keep=1", "d/", "d/x.o=built")
}

// Two ignore files claim one name: until somebody has chosen both count, so that what one of them leaves out does not go over.
func TestIgnore_OfAConflictBothCount(t *testing.T) {
	r := newRig(t, memtree.Options{}, memtree.Options{})
	r.put(merge.Left, ignore.Name, "secret\n")
	r.put(merge.Left, "secret", "mine")
	r.put(merge.Right, ignore.Name, "other\n")
	r.put(merge.Right, "other", "yours")
	r.mustRun()
	for s, lines := range [][]string{{"secret=mine"}, {"other=yours"}} {
		r.want(merge.Side(s), append(lines, ".sheafignore (conflict, laptop, 2026-12-01)=secret\n", ".sheafignore=other\n")...)
	}
	r.remove(merge.Right, ".sheafignore (conflict, laptop, 2026-12-01)")
	r.mustRun()
	r.want(merge.Left, "secret=mine", ".sheafignore=other\n")
	r.want(merge.Right, "secret=mine", ".sheafignore=other\n", "other=yours")
}

func TestIgnore_Includes(t *testing.T) {
	r := newRig(t, memtree.Options{}, memtree.Options{})
	r.put(merge.Left, "d/"+ignore.Name, "#include lists/common\n#include /top\n")
	r.put(merge.Left, "d/a.x", "1")
	_, err := r.run()
	if !errors.Is(err, pair.ErrIgnore) || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(fmt.Sprint(err), "lists/common") {
		t.Fatalf("got %v, want ErrIgnore", err)
	}
	r.want(merge.Right)
	r.put(merge.Left, "d/lists/common", "*.x\n")
	r.put(merge.Right, "top", "*.y\n") // it is on its way
	r.put(merge.Right, "d/b.y", "2")
	r.mustRun()
	r.want(merge.Right, "top=*.y\n", "d/", "d/.sheafignore=#include lists/common\n#include /top\n", "d/b.y=2", "d/lists/", "d/lists/common=*.x\n")
	r.put(merge.Left, "top", "\n") // only what is included changes
	r.mustRun()
	r.want(merge.Left, "top=\n", "d/", "d/.sheafignore=#include lists/common\n#include /top\n", "d/a.x=1", "d/b.y=2", "d/lists/", "d/lists/common=*.x\n")
	r.put(merge.Left, "d/"+ignore.Name, "#include ../../etc/passwd\n")
	if _, err := r.run(); !errors.Is(err, pair.ErrIgnore) || !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("got %v, want ErrIgnore", err)
	}
}

// What cannot be read leaves nothing known, and so nothing is done.
func TestIgnore_ThatCannotBeReadStopsAll(t *testing.T) {
	r, f := faultyRig(t, memtree.Options{}, memtree.Options{})
	r.put(merge.Left, ignore.Name, "secret\n")
	r.put(merge.Left, "secret", "mine")
	f[0].resetRead = true
	if _, err := r.run(); !errors.Is(err, pair.ErrIgnore) || !errors.Is(err, errReset) {
		t.Fatalf("got %v, want ErrIgnore", err)
	}
	r.want(merge.Right)
	r.mustRun()
	r.want(merge.Right, ".sheafignore=secret\n")
	r.put(merge.Left, ignore.Name, strings.Repeat("x\n", 1<<18))
	if _, err := r.run(); !errors.Is(err, pair.ErrIgnore) {
		t.Fatalf("of a file that is too large: got %v, want ErrIgnore", err)
	}
}

// The text is asked for once, and again by the next process.
func TestIgnore_IsReadOnce(t *testing.T) {
	r, f := faultyRig(t, memtree.Options{}, memtree.Options{})
	r.put(merge.Left, ignore.Name, "secret\n")
	r.mustRun()
	r.mustRun()
	before := f[0].opens + f[1].opens
	for range 3 {
		r.mustRun()
	}
	if n := f[0].opens + f[1].opens - before; n != 0 {
		t.Errorf("%d reads in three turns in which nothing changed", n)
	}
}

func TestPair_IgnoredSaysWhichLine(t *testing.T) {
	r := newRig(t, memtree.Options{}, memtree.Options{})
	r.put(merge.Left, "d/a.o", "1")
	r.mustRun()
	r.put(merge.Left, ignore.Name, "*.o\n!keep.o\n") // no turn since
	r.put(merge.Right, "d/"+ignore.Name, "# all\nsub/\n")
	for _, c := range []struct {
		path, want string
		dir        bool
	}{
		{"d/a.o", "left .sheafignore:1: *.o true", false},
		{"x/keep.o", "left .sheafignore:2: !keep.o false", false},
		{"d/sub", "right d/.sheafignore:2: sub/ true", true},
		{"d/sub/deep/x", "right d/.sheafignore:2: sub/ true", false},
		{"d/sub", "none", false},
		{"d/a", "none", false},
	} {
		v, err := r.p.Ignored(t.Context(), merge.Left, c.path, c.dir)
		if err != nil {
			t.Fatal(err)
		}
		got := "none"
		if v.By != nil {
			got = fmt.Sprint(v.Side, " ", v.By, " ", v.Out)
		}
		if got != c.want || v.By == nil && v.Out {
			t.Errorf("%s: got %q, want %q", c.path, got, c.want)
		}
	}
}

// Whatever ignore files become between two turns, on either side and anywhere: no other file is deleted or replaced by it on any side.
func TestIgnore_AChangeDeletesNothing(t *testing.T) {
	first, n := testkit.Schedules(t, 120)
	differ := 0
	for i := range n {
		w := newSim(first + i)
		for range 12 {
			w.user()
		}
		p, err := w.rest(nil)
		if err != nil {
			t.Fatalf("SHEAF_SEED=%d: %v", first+i, err)
		}
		w.ign = w.rng
		for range 6 {
			var had [2][]simFile
			for s := range merge.Side(2) {
				had[s], _ = w.list(s)
			}
			w.ignore()
			w.now = w.now.Add(time.Minute)
			if p, _, err = w.turn(p); err != nil {
				t.Fatalf("SHEAF_SEED=%d: %v\n%s", first+i, err, strings.Join(w.said, "\n"))
			}
			for s := range merge.Side(2) {
				now, _ := w.list(s)
				other, _ := w.list(s.Other())
				if len(now) != len(other) {
					differ++
				}
				for _, f := range had[s] {
					if !strings.Contains(f.path, ignore.Name) && !slices.Contains(now, f) {
						t.Fatalf("SHEAF_SEED=%d: the %s side lacks %v\n%s", first+i, s, f, strings.Join(w.said, "\n"))
					}
				}
			}
		}
	}
	if n >= 50 && differ == 0 {
		t.Error("nothing was ever left out: that proves nothing")
	}
}

// An ignore file that the place has lost on its way is put again, though it is missed first when it is to be read, and not when the place is looked at.
func TestIgnore_AFileThatIsLostIsPutAgain(t *testing.T) {
	r, f := faultyRig(t, memtree.Options{}, memtree.Options{})
	r.put(merge.Left, "a", "1")
	r.mustRun()
	r.put(merge.Left, ignore.Name, "x\n")
	f[1].loseUpload = true
	r.mustRun()
	r.both("a=1", ".sheafignore=x\n")
}
