package pair_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/merge"
	"github.com/sheaf-drive/sheaf/sync/pair"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/memtree"
)

// The data losses that other programs are known for, one test each. S16 is of mail, and waits for its room; of S18 the client's half
// is that of mounts (vfs/live/journal), and the half of places is here.

func faultyRig(t *testing.T, left, right memtree.Options) (*rig, [2]*faulty) {
	r := newRig(t, left, right)
	var f [2]*faulty
	for s := range 2 {
		f[s] = &faulty{Tree: r.tree[s], rng: rand.New(rand.NewPCG(1, 2)), count: map[string]int{}}
		r.at[s] = f[s]
	}
	return r, f
}

// failures gathers the errors of steps from now on.
func (r *rig) failures() *[]error {
	var all []error
	r.o.Told = func(e pair.Event) {
		if e.Err != nil {
			all = append(all, e.Err)
		}
	}
	r.p = nil
	return &all
}

func TestBugS1_CaseOnlyRenameDeletesNothing(t *testing.T) {
	for _, fold := range [][2]bool{{false, true}, {true, false}, {true, true}} {
		for s := range merge.Side(2) {
			for _, ids := range []bool{true, false} {
				r := newRig(t, memtree.Options{Fold: fold[0], NoIDs: ids}, memtree.Options{Fold: fold[1], NoIDs: ids})
				r.put(merge.Left, "Dir/Read.me", "1")
				r.mustRun()
				r.move(s, "Dir/Read.me", "Dir/READ.ME")
				r.mustRun()
				r.move(s, "Dir", "DIR")
				r.mustRun()
				r.both("DIR/", "DIR/READ.ME=1")
				if len(show(t, r.tree[0], true))+len(show(t, r.tree[1], true)) > 0 {
					t.Error("something was deleted on the way")
				}
			}
		}
	}
}

func TestBugS2_DeleteDoesNotUndoAnEdit(t *testing.T) {
	for s := range merge.Side(2) {
		r := newRig(t, memtree.Options{}, memtree.Options{})
		r.put(merge.Left, "a", "1")
		r.put(merge.Left, "d/b", "1")
		r.mustRun()
		r.remove(s, "a")
		r.put(s.Other(), "a", "edited")
		r.remove(s, "d")
		r.move(s.Other(), "d/b", "d/c")
		r.mustRun()
		r.both("a=edited", "d/", "d/c=1")
	}
}

func TestBugS3_OurFailureIsNoDelete(t *testing.T) {
	r, f := faultyRig(t, memtree.Options{}, memtree.Options{})
	r.put(merge.Left, "a", "precious")
	f[0].resetRead = true
	told := r.failures()
	r.mustRun() // it is tried once more in the same turn
	if len(*told) != 1 || !errors.Is((*told)[0], errReset) {
		t.Errorf("got %v, want one reset", *told)
	}
	r.both("a=precious")
	// Put, said to be there, and never seen: it was not deleted by anybody.
	r.put(merge.Left, "b", "precious, too")
	f[1].loseUpload = true
	if _, err := r.run(); err != nil {
		t.Fatal(err)
	}
	r.tree[1].Forget() // so that it is listed in full
	r.mustRun()
	r.mustRun()
	r.both("a=precious", "b=precious, too")
}

func TestBugS4_EmptyOrPartialListingDeletesNothing(t *testing.T) {
	for _, feed := range []bool{true, false} {
		r, f := faultyRig(t, memtree.Options{NoFeed: !feed}, memtree.Options{NoFeed: !feed})
		var all []string
		for i := range 80 {
			r.put(merge.Left, fmt.Sprintf("f%02d", i), "x")
			all = append(all, fmt.Sprintf("f%02d=x", i))
		}
		r.mustRun()
		for _, what := range []*bool{&f[1].emptyList, &f[1].partial, &f[1].unauthorized} {
			*what = true
			r.tree[1].Forget()
			_, _ = r.run()
			*what = false
			r.want(merge.Left, all...)
		}
		r.both(all...)
		// A disk that is not mounted, or another account, is another place.
		f[1].identity = "an empty folder"
		f[1].emptyList = true
		if _, err := r.run(); !errors.Is(err, pair.ErrSwapped) {
			t.Errorf("got %v, want ErrSwapped", err)
		}
		f[1].identity, f[1].emptyList = "", false
		// Somebody did delete all: that is a question first.
		for i := range 80 {
			r.remove(merge.Right, fmt.Sprintf("f%02d", i))
		}
		if _, err := r.run(); !errors.Is(err, pair.ErrBraked) {
			t.Errorf("got %v, want ErrBraked", err)
		}
		r.want(merge.Left, all...)
		if _, err := r.run(pair.RunOptions{AllowFiles: 1000}); err != nil {
			t.Error(err)
		}
		r.want(merge.Left)
		r.kept(merge.Left, "x")
	}
}

// A process that was killed looks at what was under way when it comes back. Where another place is by then, that says nothing of this one.
func TestBugS4_AnotherPlaceAfterAKillDeletesNothing(t *testing.T) {
	r, f := faultyRig(t, memtree.Options{}, memtree.Options{})
	r.put(merge.Left, "a", "1")
	r.put(merge.Left, "b", "1")
	r.mustRun()
	r.put(merge.Right, "a", "edited")
	dead, calls := false, 0
	for s := range f {
		f[s].dead, f[s].calls, f[s].killAt = &dead, &calls, 1
	}
	r.o.KV = &dyingKV{r.db, &faulty{dead: &dead}}
	var err error
	if r.p, err = pair.Open(t.Context(), r.o); err != nil {
		t.Fatal(err)
	}
	if _, err := r.run(); err == nil || !dead {
		t.Fatalf("got %v, want it killed in the middle of a step", err)
	}
	dead, f[0].killAt, f[1].killAt, r.p = false, 0, 0, nil
	before := f[1].Tree
	f[1].Tree = memtree.New(memtree.Options{Name: "an empty folder"})
	if _, err := r.run(); !errors.Is(err, pair.ErrSwapped) {
		t.Errorf("got %v, want ErrSwapped", err)
	}
	f[1].Tree = before
	if rep := r.mustRun(); !slices.Equal(rep.Steps, []string{"left: replace a"}) {
		t.Errorf("it did %q, want the edit brought over and nothing else", rep.Steps)
	}
	r.both("a=edited", "b=1")
}

func TestBugS5_WhatAFeedForgetsAFullLookFinds(t *testing.T) {
	r, _ := faultyRig(t, memtree.Options{}, memtree.Options{})
	r.put(merge.Left, "a", "1")
	r.mustRun()
	r.remove(merge.Left, "a")
	r.put(merge.Left, "b", "2")
	r.tree[0].Forget() // the feed has lost both
	r.mustRun()
	r.both("b=2")
}

func TestBugS6_SameSizeAndTimeIsSeenAndAChangeWhileReadingToo(t *testing.T) {
	r, _ := faultyRig(t, memtree.Options{MTime: 2 * time.Second, NoHashes: true, NoFeed: true}, memtree.Options{NoHashes: true})
	at := time.Unix(1000, 0)
	write := func(s string) {
		if err := r.tree[0].SneakPut(remote.Item{Path: "a", MTime: at}, []byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	write("old")
	r.mustRun()
	write("new")
	r.mustRun()
	r.both("a=new")
	write("nEw")
	r.at[0] = &meddler{Tree: r.tree[0], at: func() { write("NEW") }}
	r.p = nil
	r.mustRun()
	r.both("a=NEW")
}

// A meddler is a place where somebody writes while a file is read.
type meddler struct {
	*memtree.Tree
	at func()
}

func (m *meddler) Open(ctx context.Context, path string, off, n int64, known remote.Version) (io.ReadCloser, error) {
	r, err := m.Tree.Open(ctx, path, off, n, known)
	if m.at != nil && err == nil {
		m.at()
		m.at = nil
	}
	return r, err
}

func TestBugS7_UnicodeFormsAreOneName(t *testing.T) {
	nfc, nfd := "caf\u00e9", "cafe\u0301"
	r := newRig(t, memtree.Options{}, memtree.Options{Normal: true, Fold: true})
	r.put(merge.Right, nfd, "1")
	r.mustRun()
	r.put(merge.Right, nfc, "22") // the same file, by its other name
	r.mustRun()
	r.want(merge.Left, nfd+"=22")
	r.put(merge.Left, nfc, "another file, where they are two")
	r.mustRun()
	if got := show(t, r.tree[1], false); len(got) != 2 || !slices.ContainsFunc(got, func(l string) bool { return strings.HasPrefix(l, nfc+" {") }) {
		t.Errorf("the right side has %q, want both", got)
	}
	r.want(merge.Left, nfd+"=22", nfc+"=another file, where they are two")
	if rep := r.mustRun(); len(rep.Steps) > 0 {
		t.Errorf("there is something left to do: %q", rep.Steps)
	}
}

func TestBugS8_ADirectoryRenamedDuringATurn(t *testing.T) {
	r, _ := faultyRig(t, memtree.Options{}, memtree.Options{})
	for i := range 20 {
		r.put(merge.Left, fmt.Sprintf("d/f%02d", i), fmt.Sprint(i))
	}
	once := false
	r.o.Told = func(e pair.Event) {
		if e.Op == merge.Copy && !once {
			once = true
			r.move(merge.Left, "d", "e")
		}
	}
	r.mustRun()
	r.mustRun()
	if got := show(t, r.tree[1], false); len(got) != 21 {
		t.Errorf("the right side has %d things, want 21: %q", len(got), got)
	}
	r.both(show(t, r.tree[0], false)...)
}

func TestBugS9_MovesThatMakeACircle(t *testing.T) {
	r := newRig(t, memtree.Options{}, memtree.Options{})
	r.put(merge.Left, "a/x", "1")
	r.put(merge.Left, "b/y", "2")
	r.mustRun()
	r.move(merge.Left, "a", "b/a")
	r.move(merge.Right, "b", "a/b")
	r.mustRun()
	r.both("b/", "b/a/", "b/a/x=1", "b/y=2")
}

func TestBugS10_KindsChangeAndLinksAreNotFollowed(t *testing.T) {
	kinds := map[string]func(r *rig, s merge.Side){
		"file": func(r *rig, s merge.Side) { r.put(s, "x", "file") },
		"dir":  func(r *rig, s merge.Side) { r.put(s, "x/in", "inside") },
		"link": func(r *rig, s merge.Side) {
			_ = r.tree[s].SneakPut(remote.Item{Path: "x", Kind: remote.Symlink, Target: "target"}, nil)
		},
	}
	for from, a := range kinds {
		for to, b := range kinds {
			for s := range merge.Side(2) {
				if from == to {
					continue
				}
				r := newRig(t, memtree.Options{}, memtree.Options{})
				r.put(merge.Left, "target/keep", "do not touch")
				a(r, merge.Left)
				r.mustRun()
				r.remove(s, "x")
				b(r, s)
				if _, err := r.run(pair.RunOptions{AllowFiles: 1000}); err != nil {
					t.Fatalf("%s to %s: %v", from, to, err)
				}
				r.both(show(t, r.tree[s], false)...)
				if !slices.Contains(show(t, r.tree[s.Other()], false), "target/keep=do not touch") {
					t.Errorf("%s to %s: what a link leads to was touched", from, to)
				}
			}
		}
	}
}

func TestBugS11_AConflictIsOnBothSides(t *testing.T) {
	r := newRig(t, memtree.Options{}, memtree.Options{})
	r.put(merge.Left, "a", "left")
	r.put(merge.Right, "a", "right one")
	r.mustRun()
	r.both("a (conflict, laptop, 2026-12-01)=left", "a=right one")
}

func TestBugS12_WhatWasDeletedDoesNotReturn(t *testing.T) {
	r := newRig(t, memtree.Options{}, memtree.Options{})
	r.put(merge.Left, "a", "1")
	r.put(merge.Left, "b", "1")
	r.mustRun()
	r.remove(merge.Right, "a")
	r.now = r.now.Add(366 * 24 * time.Hour)
	r.mustRun()
	r.both("b=1")
	r.tree[0].Forget()
	r.tree[1].Forget()
	r.both("b=1")
}

func TestBugS13_ALostDatabaseDeletesNothing(t *testing.T) {
	r := newRig(t, memtree.Options{}, memtree.Options{})
	r.put(merge.Left, "same", "1")
	r.put(merge.Left, "b", "1")
	r.mustRun()
	r.put(merge.Left, "b", "edited on the left")
	r.put(merge.Right, "b", "and on the right")
	r.remove(merge.Right, "same")
	r.put(merge.Right, "new", "2")
	r.db, r.p = newRig(t, memtree.Options{}, memtree.Options{}).db, nil
	r.mustRun()
	r.both("b (conflict, laptop, 2026-12-01)=edited on the left", "b=and on the right", "new=2", "same=1")
}

func TestBugS15_AChangedFilterDeletesNothing(t *testing.T) { TestPair_AFilterNeverDeletes(t) }

func TestBugS17_AShortUploadIsNoSuccess(t *testing.T) {
	for _, hashes := range []bool{true, false} {
		r, f := faultyRig(t, memtree.Options{}, memtree.Options{NoHashes: !hashes})
		r.put(merge.Left, "a", "a long content")
		f[1].truncate = true
		told := r.failures()
		r.mustRun()
		if len(*told) != 1 || !errors.Is((*told)[0], pair.ErrDamaged) {
			t.Errorf("got %v, want one ErrDamaged", *told)
		}
		r.both("a=a long content")
		r.put(merge.Left, "b", "another long content")
		f[0].shortRead = true
		r.mustRun()
		if len(*told) != 2 {
			t.Errorf("got %v, want an error for the short read", *told)
		}
		r.both("a=a long content", "b=another long content")
	}
}

func TestBugS18_WhatWasNeverSeenThereIsNotTakenForDeleted(t *testing.T) {
	r, f := faultyRig(t, memtree.Options{}, memtree.Options{NoFeed: true})
	r.put(merge.Left, "a", "precious")
	f[1].loseUpload = true
	r.mustRun()
	for range 3 {
		r.mustRun()
	}
	r.both("a=precious")
}

func TestBugS19_TwoPairsOnOneFolderComeToRest(t *testing.T) {
	a := newRig(t, memtree.Options{}, memtree.Options{})
	b := newRig(t, memtree.Options{}, memtree.Options{})
	b.tree[0] = a.tree[1] // left – shared – right
	b.at[0] = a.tree[1]
	a.put(merge.Left, "x", "1")
	b.put(merge.Right, "x", "two")
	b.put(merge.Right, "y", "3")
	quiet := 0
	for i := 0; quiet < 2; i++ {
		if i == 10 {
			t.Fatal("they never come to rest")
		}
		n := len(a.mustRun().Steps) + len(b.mustRun().Steps)
		if n == 0 {
			quiet++
		} else {
			quiet = 0
		}
	}
	if l, r := show(t, a.tree[0], false), show(t, b.tree[1], false); !slices.Equal(l, r) || len(l) != 3 {
		t.Errorf("got %q and %q", l, r)
	}
}

func TestPair_EndsATurnThatIsNotAllowed(t *testing.T) {
	r, f := faultyRig(t, memtree.Options{}, memtree.Options{NoFeed: true})
	r.put(merge.Left, "a", "1")
	r.put(merge.Right, "b", "1")
	f[1].unauthorized = true
	if _, err := r.run(); !errors.Is(err, blob.ErrUnauthorized) {
		t.Errorf("got %v", err)
	}
	r.mustRun()
	r.both("a=1", "b=1")
}

// What a place has told of a file is not read there: that may be a bucket that is paid for each byte.
func TestPair_ReadsOnlyWhatNobodyHasToldTheHashOf(t *testing.T) {
	for s := range merge.Side(2) {
		var o [2]memtree.Options
		o[s].NoHashes = true
		r, f := faultyRig(t, o[0], o[1])
		r.put(merge.Left, "a", "same")
		r.put(merge.Right, "a", "same")
		r.mustRun()
		if f[s].opens != 1 || f[s.Other()].opens != 0 {
			t.Errorf("the %s side, which tells no hashes, was read %d times, and the other one %d times", s, f[s].opens, f[s.Other()].opens)
		}
		r.both("a=same")
	}
}

// A name may be so long that there is no room for it in the history as it is.
func TestPair_KeepsWhatHasALongName(t *testing.T) {
	r := newRig(t, memtree.Options{}, memtree.Options{})
	long := strings.Repeat("n", 890)
	for s := range merge.Side(2) {
		r.put(s, long, "same")
		r.put(s, "other", "same")
	}
	r.mustRun()
	r.remove(merge.Left, long)
	r.mustRun()
	r.both("other=same")
	r.kept(merge.Right, "same")
}

// What has moved to where there is no room for its path was not deleted. What is deleted later is.
func TestPair_WhatHasAPathThatIsTooLongIsNotTakenForDeleted(t *testing.T) {
	for _, feed := range []bool{true, false} {
		r := newRig(t, memtree.Options{NoFeed: !feed}, memtree.Options{NoFeed: !feed})
		dir := strings.Repeat(strings.Repeat("d", 197)+"/", 5) + "e"
		r.put(merge.Left, dir+"/x", "1")
		r.put(merge.Left, "a", "precious")
		r.put(merge.Left, "b", "2")
		r.mustRun()
		r.move(merge.Left, "a", dir+"/"+strings.Repeat("n", 40))
		r.mustRun()
		if !slices.Contains(show(t, r.tree[1], false), "a=precious") {
			t.Error("what was not deleted was removed on the other side")
		}
		r.remove(merge.Left, "b")
		r.mustRun()
		if slices.Contains(show(t, r.tree[1], false), "b=2") {
			t.Error("what was deleted is still there")
		}
		if rep := r.mustRun(); len(rep.Steps) > 0 {
			t.Errorf("there is something left to do: %q", rep.Steps)
		}
	}
}

// Who waits for a turn of somebody else can go away.
func TestPair_NobodyHasToWaitForATurn(t *testing.T) {
	r := newRig(t, memtree.Options{}, memtree.Options{})
	r.put(merge.Left, "a", "1")
	begun, goOn := make(chan struct{}), make(chan struct{})
	r.o.Told = func(pair.Event) {
		close(begun)
		<-goOn
	}
	r.open()
	first := make(chan error, 1)
	go func() {
		_, err := r.p.Run(context.Background(), pair.RunOptions{})
		first <- err
	}()
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	others := map[string]func() error{
		"run":     func() error { _, err := r.p.Run(ctx, pair.RunOptions{}); return err },
		"preview": func() error { _, err := r.p.Preview(ctx, pair.PreviewOptions{}); return err },
		"explain": func() error { _, err := r.p.Explain(ctx, "a"); return err },
		"accept":  func() error { return r.p.Accept(ctx) },
	}
	gone := make(chan error, len(others))
	for what, do := range others {
		go func() {
			err := do()
			if !errors.Is(err, context.Canceled) {
				err = fmt.Errorf("%s: got %w, want it canceled", what, err)
			} else {
				err = nil
			}
			gone <- err
		}()
	}
	for range others {
		select {
		case err := <-gone:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Error("it waits for a turn though nobody waits for it")
		}
	}
	close(goOn)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// Names that are no text are names.
func TestPair_WhatWasLostIsNotTakenForDeletedWhateverItsName(t *testing.T) {
	r, f := faultyRig(t, memtree.Options{}, memtree.Options{NoFeed: true})
	r.put(merge.Left, "\xff", "precious")
	f[1].loseUpload = true
	for range 3 {
		r.mustRun()
	}
	r.both("\xff=precious")
}

// Who agrees to a number of deletes agrees to that on each side, and to no more, also where both sides would lose much.
func TestPair_AWordForDeletesIsForSoMany(t *testing.T) {
	r := newRig(t, memtree.Options{}, memtree.Options{})
	for i := range 200 {
		r.put(merge.Left, fmt.Sprintf("f%03d", i), "x")
	}
	r.mustRun()
	for i := range 60 { // these are to go on the right side
		r.remove(merge.Left, fmt.Sprintf("f%03d", i))
	}
	for i := range 70 { // and these on the left one
		r.remove(merge.Right, fmt.Sprintf("f%03d", 199-i))
	}
	for _, o := range []pair.RunOptions{{}, {AllowFiles: 60}, {AllowFiles: 69}} {
		rep, err := r.run(o)
		var b *merge.Braked
		if !errors.Is(err, pair.ErrBraked) || !errors.As(err, &b) || b.Files != 70 || b.Of != 200 || b.Side != merge.Left {
			t.Fatalf("with %d allowed: %v, want it braked for 70 files on the left side", o.AllowFiles, err)
		}
		if len(rep.Steps) > 0 {
			t.Fatalf("with %d allowed it did %q", o.AllowFiles, rep.Steps)
		}
	}
	told := 0
	if _, err := r.run(pair.RunOptions{AllowFiles: 70, Told: func(pair.Event) { told++ }}); err != nil || told != 130 {
		t.Errorf("with 70 allowed it told of %d steps, error %v", told, err)
	}
	if l, rt := len(show(t, r.tree[0], false)), len(show(t, r.tree[1], false)); l != 70 || rt != 70 {
		t.Errorf("%d are left on the left side and %d on the right one, want 70", l, rt)
	}
	r.mustRun()
	if told != 130 {
		t.Errorf("another turn was told of to who asked about the one before")
	}
}
