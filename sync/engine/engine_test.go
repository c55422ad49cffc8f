package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/tier"
	"github.com/sheaf-drive/sheaf/chunkstore/kv/memkv"
)

// side is one device: its buckets and its Engine.
type side struct {
	own, mirror *mem.Bucket
	tier        *tier.Tier
	e           *Engine
	adopted     atomic.Int64
}

func newSide(t *testing.T) *side {
	t.Helper()
	s := &side{own: mem.New(), mirror: mem.New()}
	var err error
	if s.tier, err = tier.Open(tier.Options{Local: s.own, Mirror: s.mirror}); err != nil {
		t.Fatal(err)
	}
	s.e = New(Options{
		Tier: s.tier, Own: s.tier.Own(), Mirror: s.mirror, Memory: memkv.New(), Adopt: func(context.Context) error { s.adopted.Add(1); return nil },
	})
	t.Cleanup(func() {
		if err := errors.Join(s.e.Close(), s.tier.Close()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// flaky is a Bucket that fails as long as it is told to.
type flaky struct {
	blob.Bucket
	down  atomic.Bool
	calls atomic.Int64
}

var errDown = fmt.Errorf("down: %w", blob.ErrTemporary)

func (f *flaky) fails() bool { f.calls.Add(1); return f.down.Load() }

func (f *flaky) Put(ctx context.Context, n blob.Name, r io.Reader, size int64) error {
	if f.fails() {
		return errDown
	}
	return f.Bucket.Put(ctx, n, r, size)
}

func (f *flaky) Get(ctx context.Context, n blob.Name, off, size int64) (io.ReadCloser, error) {
	if f.fails() {
		return nil, errDown
	}
	return f.Bucket.Get(ctx, n, off, size)
}

func (f *flaky) List(ctx context.Context, p blob.Name) iter.Seq2[blob.Info, error] {
	if f.fails() {
		return func(yield func(blob.Info, error) bool) { yield(blob.Info{}, errDown) }
	}
	return f.Bucket.List(ctx, p)
}

func placeOf(name string, b blob.Bucket) Place {
	return Place{Name: name, At: "at " + name, Open: func(context.Context) (blob.Bucket, error) { return b, nil }}
}

// putPack puts a pack, and a head of a device after it, as a commit does.
func putPack(t *testing.T, b blob.Bucket, device, seq int, text string) (pack, head blob.Name) {
	t.Helper()
	body := bytes.Repeat([]byte(text), 1000)
	pack = catalog.PackName(blake3.Sum256(body))
	head = blob.Name(fmt.Sprintf("heads/%032x/%016x", device, seq))
	for name, p := range map[blob.Name][]byte{pack: body, head: bytes.Repeat([]byte{byte(seq)}, 4096)} {
		if err := b.Put(t.Context(), name, bytes.NewReader(p), int64(len(p))); err != nil {
			t.Fatal(err)
		}
	}
	return pack, head
}

func has(t *testing.T, b blob.Bucket, names ...blob.Name) bool {
	t.Helper()
	for _, n := range names {
		r, err := b.Get(t.Context(), n, 0, -1)
		if err != nil {
			return false
		}
		_ = r.Close()
	}
	return true
}

// What one device puts is at the replica soon, and at the other device's a poll later.
func TestRun_BringsWhatIsPutToTheReplicaAndToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far := mem.New()
		a, b := newSide(t), newSide(t)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		for _, s := range []*side{a, b} {
			if err := s.e.Add(placeOf("far", far)); err != nil {
				t.Fatal(err)
			}
			go func() { s.e.Run(ctx); ended <- struct{}{} }()
		}
		synctest.Wait()
		pack, head := putPack(t, a.tier, 1, 1, "from a")
		a.e.Nudge()
		synctest.Wait()
		if !has(t, far, pack, head) {
			t.Fatal("it is not at the replica, with nothing left to do")
		}
		time.Sleep(2 * defaultPoll)
		synctest.Wait()
		if !has(t, b.mirror, head) || !has(t, b.tier, pack) {
			t.Error("the other device does not see it after two polls")
		}
		if b.adopted.Load() == 0 {
			t.Error("nobody was told of the new head")
		}
		st := a.e.List()[0]
		if !st.Known || !st.Online || st.Err != nil || st.LagBlobs != 0 || st.Pushed.IsZero() || st.Packs != 1 {
			t.Errorf("it stands as %+v", st)
		}
		stop()
		<-ended
		<-ended
	})
}

// A replica that has all packs and not the head that names them lacks something.
func TestList_ACopyHasTheHeadToo(t *testing.T) {
	a := newSide(t)
	top := []byte("before")
	a.e.o.Top = func(context.Context) ([]byte, error) { return top, nil }
	if err := a.e.Add(placeOf("far", mem.New())); err != nil {
		t.Fatal(err)
	}
	putPack(t, a.tier, 1, 1, "from a")
	if err := a.e.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := a.e.List()[0]; st.LagBlobs != 0 || st.Turn != 1 {
		t.Errorf("after a good turn it lacks %d blobs, after %d turns", st.LagBlobs, st.Turn)
	}
	top = []byte("after")
	if st := a.e.List()[0]; st.LagBlobs != 1 || st.LagBytes != 0 {
		t.Errorf("with a new head here it lacks %d blobs of %d bytes, want the head", st.LagBlobs, st.LagBytes)
	}
	if err := a.e.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := a.e.List()[0]; st.LagBlobs != 0 || st.Turn != 2 {
		t.Errorf("after another turn it lacks %d blobs, after %d turns", st.LagBlobs, st.Turn)
	}
}

// A replica that fails is left alone for longer and longer, and has all soon after it answers again.
func TestRun_AFailingReplicaIsTriedSeldomAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far := &flaky{Bucket: mem.New()}
		far.down.Store(true)
		a := newSide(t)
		if err := a.e.Add(placeOf("far", far)); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { a.e.Run(ctx); close(ended) }()
		pack, head := putPack(t, a.tier, 1, 1, "from a")
		for range 1000 {
			a.e.Nudge()
			time.Sleep(3 * time.Second)
		}
		turns := a.turns()
		if turns < 15 || turns > 60 {
			t.Errorf("%d turns in 50 minutes of failing; want some thirty", turns)
		}
		if st := a.e.List()[0]; !errors.Is(st.Err, blob.ErrTemporary) || st.Online || st.Known {
			t.Errorf("it stands as %+v", st)
		}
		far.down.Store(false)
		if err := a.e.Wait(ctx, 1); err != nil { // in its own time
			t.Fatal(err)
		}
		if !has(t, far.Bucket, pack, head) {
			t.Error("it does not have all after Wait")
		}
		stop()
		<-ended
	})
}

func (s *side) turns() uint64 {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	return s.e.places[0].turns
}

// Without Run, Sync and Wait give the turns themselves.
func TestWait_WorksWithoutRun(t *testing.T) {
	far, dead := mem.New(), &flaky{Bucket: mem.New()}
	dead.down.Store(true)
	a := newSide(t)
	pack, head := putPack(t, a.tier, 1, 1, "from a")
	if err := a.e.Wait(t.Context(), 1); !errors.Is(err, ErrTooFew) {
		t.Errorf("wait without replicas: %v, want ErrTooFew", err)
	}
	for _, p := range []Place{placeOf("dead", dead), placeOf("far", far)} {
		if err := a.e.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.e.Add(placeOf("far", far)); !errors.Is(err, ErrExists) {
		t.Errorf("added twice: %v, want ErrExists", err)
	}
	if err := a.e.Wait(t.Context(), 1); err != nil {
		t.Errorf("one of two works: %v", err)
	}
	if err := a.e.Wait(t.Context(), 2); !errors.Is(err, blob.ErrTemporary) {
		t.Errorf("waiting for both: %v, want ErrTemporary", err)
	}
	if !has(t, far, pack, head) {
		t.Error("it is not at the replica that works")
	}
	if n, err := a.e.OnlyAt(t.Context(), "far"); n != 0 || err != nil {
		t.Errorf("%d packs only there, %v: they are here, too", n, err)
	}
	if err := errors.Join(a.e.Drop("dead"), a.e.Drop("far")); err != nil {
		t.Error(err)
	}
	if err := a.e.Drop("far"); !errors.Is(err, ErrNotFound) {
		t.Errorf("dropped twice: %v, want ErrNotFound", err)
	}
}

// A device with two replicas brings what others put at one of them to the other.
func TestSync_BridgesReplicas(t *testing.T) {
	one, two := mem.New(), mem.New()
	a, b := newSide(t), newSide(t)
	for s, places := range map[*side][]Place{a: {placeOf("one", one)}, b: {placeOf("one", one), placeOf("two", two)}} {
		for _, p := range places {
			if err := s.e.Add(p); err != nil {
				t.Fatal(err)
			}
		}
	}
	pack, head := putPack(t, a.tier, 1, 1, "from a")
	for _, s := range []*side{a, b, b} {
		if err := s.e.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if !has(t, two, pack, head) {
		t.Error("what one device put at the first replica is not at the second")
	}
	if n, err := b.e.OnlyAt(t.Context(), "two"); n != 0 || err != nil {
		t.Errorf("%d packs only at the second, %v", n, err)
	}
	if err := one.Remove(t.Context(), pack); err != nil {
		t.Fatal(err)
	}
	if err := b.e.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := b.e.OnlyAt(t.Context(), "two"); n != 1 || err != nil {
		t.Errorf("%d packs only at the second, %v; the first lost one", n, err)
	}
}

// What others put on this device is what it lacked: it begins in the middle, and the heads before it stay.
func TestSync_KeepsHeadsThatAShelfLacks(t *testing.T) {
	s, shelf := newSide(t), mem.New()
	_, first := putPack(t, s.mirror, 1, 1, "known")
	if err := s.e.Add(Place{Name: "shelf", Here: true, Open: func(context.Context) (blob.Bucket, error) { return shelf, nil }}); err != nil {
		t.Fatal(err)
	}
	_, second := putPack(t, shelf, 1, 2, "brought")
	if err := s.e.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !has(t, s.mirror, first, second) {
		t.Error("a head went, or did not come")
	}
}

// Work of others that cannot be taken over is tried again with each turn, and gives nobody a turn.
func TestRun_WhatCannotBeAdoptedIsTriedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSide(t)
		var tries atomic.Int64
		s.e.o.Adopt = func(context.Context) error { tries.Add(1); return errors.New("not to be had") }
		for _, name := range []string{"nas", "disk"} {
			at := mem.New()
			putPack(t, at, 2, 1, "of another device")
			if err := s.e.Add(placeOf(name, at)); err != nil {
				t.Fatal(err)
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.e.Run(ctx) }()
		time.Sleep(10 * time.Minute)
		stop()
		<-done
		// A turn each 30 s for each, and a few at the beginning.
		if n := tries.Load(); n < 10 || n > 60 {
			t.Errorf("tried %d times in ten minutes", n)
		}
		if n := s.turns(); n > 60 {
			t.Errorf("%d turns in ten minutes", n)
		}
	})
}

// What this device has removed goes away at the replica, after what took its place came there.
func TestSync_RemovesWhatThisDeviceRemoved(t *testing.T) {
	far := mem.New()
	a := newSide(t)
	if err := a.e.Add(placeOf("far", far)); err != nil {
		t.Fatal(err)
	}
	old, first := putPack(t, a.tier, 1, 1, "old")
	if err := a.e.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	merged, second := putPack(t, a.tier, 1, 2, "merged")
	if err := a.tier.Remove(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if err := a.e.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if has(t, far, old) || !has(t, far, merged, first, second) {
		t.Error("the replica is not what this device has")
	}
}
