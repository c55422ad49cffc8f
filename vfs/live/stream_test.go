package live

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs"
)

// ADR 0008: a commit does not take the processors from a writer that streams, but it
// comes when the writer pauses, and before the journal is full.
func TestDue_WaitsForTheEndOfAStream(t *testing.T) {
	d := newDisk()
	d.tune = func(o *Options) { o.Idle, o.MaxDirty, o.MaxStream, o.MaxAge = time.Second, 1000, 5000, time.Hour }
	f := mustOpen(t, d)
	f.stop() // the test asks in its place
	<-f.done
	after := func(pause time.Duration) bool { return f.due(f.lastChange.Load() + int64(pause)) }
	write := func(n int) {
		t.Helper()
		if err := vfs.WriteFile(t.Context(), f.View(), "f", make([]byte, n), vfs.New{Kind: vfs.KindFile}); err != nil {
			t.Fatal(err)
		}
	}
	write(500)
	if after(0) || after(2*calm) || !after(2*time.Second) {
		t.Error("few bytes: want a commit when all is idle, not when the writer pauses")
	}
	write(2000)
	if after(0) || after(calm/2) || !after(2*calm) {
		t.Error("more than MaxDirty: want a commit when the writer pauses, not before")
	}
	write(4000)
	if !after(0) {
		t.Error("more than MaxStream: want a commit at once")
	}
	f.firstDirty = uptime() - int64(2*time.Hour)
	f.dirtyBytes.Store(0)
	if !after(0) {
		t.Error("older than MaxAge: want a commit at once")
	}
}

// What is not committed takes memory for each name, however few bytes it has.
func TestDue_ManyNamesDoNotWait(t *testing.T) {
	d := newDisk()
	d.tune = func(o *Options) { o.Idle, o.MaxAge, o.MaxNames = time.Hour, time.Hour, 20 }
	f := mustOpen(t, d)
	f.stop() // the test asks in its place
	<-f.done
	due := func() bool { return f.due(uptime()) }
	touch := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			if err := vfs.WriteFile(t.Context(), f.View(), fmt.Sprint("f", i), []byte("few"), vfs.New{Kind: vfs.KindFile}); err != nil {
				t.Fatal(err)
			}
		}
	}
	count := func() (n int) {
		for _, edits := range f.dirty {
			n += len(edits)
		}
		return n
	}
	touch(0, 20)
	touch(0, 20) // the same ones
	if f.dirtyNames != count() || due() {
		t.Errorf("%d names are counted of %d, due is %v", f.dirtyNames, count(), due())
	}
	touch(20, 21)
	if !due() {
		t.Error("more than MaxNames: want a commit at once")
	}
	d.store.fail = func(string) error { return errors.New("it is full") }
	if err := f.Commit(t.Context()); err == nil {
		t.Fatal("it was committed to a store that is full")
	}
	touch(20, 25)
	if f.dirtyNames != count() || count() != 25 || !due() {
		t.Errorf("after a commit that failed %d names are counted of %d, want 25; due is %v", f.dirtyNames, count(), due())
	}
	d.store.fail = nil
	if err := f.Commit(t.Context()); err != nil || f.dirtyNames != 0 || due() {
		t.Errorf("after a commit %d names are dirty, due is %v: %v", f.dirtyNames, due(), err)
	}
}

func TestSetDefaults_AStreamIsCommittedLongBeforeTheJournalIsFull(t *testing.T) {
	for _, o := range []Options{{}, {MaxJournal: 64 << 20}, {MaxDirty: 8 << 30}, {MaxStream: 1 << 50}} {
		setDefaults(&o)
		if o.MaxStream > o.MaxJournal/4 || o.MaxStream <= 0 {
			t.Errorf("a journal of %d bytes is committed at %d", o.MaxJournal, o.MaxStream)
		}
	}
}

// hooked is a source of chance that does something once, when it is asked.
type hooked struct{ do func() }

func (h *hooked) Read(p []byte) (int, error) {
	if do := h.do; do != nil {
		h.do = nil
		do()
	}
	return io.ReadFull(crand.Reader, p)
}

// A write is encrypted before it holds a lock. What happens to the file meanwhile is found
// out, or replay would meet with records that make no sense.
func TestWriteAt_TheFileChangesWhileTheBytesAreEncrypted(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(f *FS, root vfs.Dir) error
		there     bool
	}{
		"it is removed": {func(_ *FS, root vfs.Dir) error { return root.Remove(context.Background(), "f", false) }, false},
		"it is renamed and another takes its name": {func(_ *FS, root vfs.Dir) error {
			if err := root.Rename(context.Background(), "f", root, "g", 0); err != nil {
				return err
			}
			_, err := root.Make(context.Background(), "f", vfs.New{Kind: vfs.KindFile})
			return err
		}, true},
		"it is committed": {func(f *FS, _ vfs.Dir) error { return f.Commit(context.Background()) }, true},
		"it is written": {func(f *FS, _ vfs.Dir) error {
			return vfs.WriteFile(context.Background(), f.View(), "f", []byte("other"), vfs.New{Kind: vfs.KindFile})
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			d := newDisk()
			chance := &hooked{}
			d.tune = func(o *Options) { o.Journal.Entropy = chance }
			f := mustOpen(t, d)
			root, err := f.View().Root(ctx)
			if err != nil {
				t.Fatal(err)
			}
			file, h, err := root.Create(ctx, "f", vfs.New{Kind: vfs.KindFile}, vfs.OpenRead|vfs.OpenWrite)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Commit(ctx); err != nil { // the journal knows of nothing now
				t.Fatal(err)
			}
			before, err := file.Attr(ctx)
			if err != nil {
				t.Fatal(err)
			}
			chance.do = func() {
				if err := c.meanwhile(f, root); err != nil {
					t.Error(err)
				}
			}
			if n, err := h.WriteAt(ctx, []byte("written"), 0); n != 7 || err != nil {
				t.Fatal(n, err)
			}
			if chance.do != nil {
				t.Fatal("nothing was encrypted")
			}
			a, err := file.Attr(ctx)
			if err != nil || a.MTime.Before(before.MTime) || a.CTime.Before(before.CTime) || a.MTime != a.CTime && c.there {
				t.Errorf("times after the write: %v, %v; before: %v", a.MTime, a.CTime, before.MTime)
			}
			check := func(f *FS, h vfs.Handle) {
				t.Helper()
				b := make([]byte, 20)
				if n, err := h.ReadAt(ctx, b, 0); string(b[:n]) != "written" || err != io.EOF { //nolint:errorlint // ReadAt returns io.EOF itself
					t.Errorf("read %q, %v", b[:n], err)
				}
			}
			check(f, h)
			again := mustOpen(t, d.crash(nil))
			root, err = again.View().Root(ctx)
			if err != nil {
				t.Fatal(err)
			}
			as := "f"
			if _, err := root.Lookup(ctx, "g"); err == nil {
				as = "g"
			}
			n, err := root.Lookup(ctx, as)
			if (err == nil) != c.there {
				t.Fatalf("after a crash: %v", err)
			}
			if !c.there {
				return
			}
			h, err = n.(vfs.File).Open(ctx, vfs.OpenRead)
			if err != nil {
				t.Fatal(err)
			}
			check(again, h)
			if err := h.Close(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPace_IsAskedEachTime: who waits for commits comes and goes while a tree is open.
func TestPace_IsAskedEachTime(t *testing.T) {
	d := newDisk()
	var idle, age atomic.Int64
	d.tune = func(o *Options) {
		o.Idle, o.MaxAge = time.Hour, 2*time.Hour
		o.Pace = func() (time.Duration, time.Duration) { return time.Duration(idle.Load()), time.Duration(age.Load()) }
	}
	f := mustOpen(t, d)
	head := func() chunk.Ref {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.head
	}
	write := func() {
		t.Helper()
		if err := vfs.WriteFile(t.Context(), f.View(), "f", []byte(crand.Text()), vfs.New{Kind: vfs.KindFile}); err != nil {
			t.Fatal(err)
		}
	}
	before := head()
	write()
	last := f.lastChange.Load()
	if f.due(last+int64(30*time.Minute)) || !f.due(last+int64(61*time.Minute)) {
		t.Error("with no pace of its own: want a commit when Idle has passed, not before")
	}
	idle.Store(int64(30 * time.Millisecond))
	if !testkit.Eventually(func() bool { return head() != before }) {
		t.Fatal("in a hurry: what was written before is not committed")
	}
	idle.Store(int64(time.Hour))
	age.Store(int64(30 * time.Millisecond))
	before = head()
	write()
	if !testkit.Eventually(func() bool { return head() != before }) {
		t.Fatal("with changes all the time: what is older than MaxAge is not committed")
	}
	if err := f.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
