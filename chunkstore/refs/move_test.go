package refs

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
)

func TestMove_IsThereAfterReopen(t *testing.T) {
	b, n := newNode(t)
	r := n.mustOpen(t)
	if _, err := r.Head(t.Context()); err == nil {
		t.Error("a new device has a head")
	} else {
		wantError(t, "no head", err, fs.ErrNotExist)
	}
	for i := 1; i <= 3; i++ {
		h := move(t, r, i)
		if h.Seq != uint64(i) || h.Root != root(i) || !h.Context.Equal(seen(i)) || !h.Time.Equal(noon) || h.Device != n.device.ID() {
			t.Errorf("got %+v", h)
		}
	}
	again := n.mustOpen(t)
	h, err := again.Head(t.Context())
	if wantError(t, "head", err, nil); h.Seq != 3 || h.Root != root(3) || !h.Context.Equal(seen(3)) {
		t.Errorf("got %+v", h)
	}
	got, err := heads(t, again)
	if wantError(t, "heads", err, nil); len(got) != 1 || got[n.device.ID()] != 3 {
		t.Errorf("got %v", got)
	}
	for _, info := range names(t, b, prefix) {
		if size := len(get(t, b, info)); size != headFloor {
			t.Errorf("%s has %d bytes", info, size)
		}
	}
	if found := findings(t, again); len(found) > 0 {
		t.Error(found)
	}
}

func TestMove_FromAnotherHeadIsErrMoved(t *testing.T) {
	_, n := newNode(t)
	r := n.mustOpen(t)
	ctx := t.Context()
	_, err := r.Move(ctx, root(1), root(2), nil, noon)
	wantError(t, "there is none", err, ErrMoved)
	move(t, r, 1)
	_, err = r.Move(ctx, chunk.Ref{}, root(2), nil, noon)
	wantError(t, "there is one", err, ErrMoved)
	_, err = r.Move(ctx, root(1), root(1), seen(1), noon)
	wantError(t, "to the same, to show a sign of life", err, nil)
	for _, bad := range []chunk.Ref{{}, {ID: chunk.ID{1}, Kind: chunk.Dir}} {
		if _, err := r.Move(ctx, root(1), bad, nil, noon); err == nil {
			t.Errorf("moved to %v", bad)
		}
	}
	if _, err := r.Move(ctx, root(1), root(2), causal.Context{{Device: 2, Counter: 1}, {Device: 1, Counter: 1}}, noon); err == nil {
		t.Error("moved with a context out of order")
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	_, err = r.Move(done, root(1), root(2), nil, noon)
	wantError(t, "done context", err, context.Canceled)
}

// A crash at each step of Move, and of the Move after it: what Move acknowledged is there, and the
// chain goes on without a gap or a fork. The memory may lose all that was not synced.
func TestMove_CrashAtEachStep(t *testing.T) {
	for stop := 0; ; stop++ {
		b, n := newNode(t)
		db := newDB()
		n.db = db
		f := &faulty{Bucket: b}
		n.bucket = f
		r := n.mustOpen(t)
		move(t, r, 1)

		steps, acked := 0, 1
		var bucketThen *mem.Bucket
		var dbThen *lossyDB
		step := func() error {
			if steps++; steps > stop && bucketThen == nil {
				bucketThen, dbThen = b.Clone(), db.crashed()
			}
			return nil
		}
		db.step, f.before, f.after = step, step, step
		for i := 2; i <= 3 && bucketThen == nil; i++ {
			move(t, r, i)
			if bucketThen == nil {
				acked = i
			}
		}
		if bucketThen == nil {
			if stop != 12 {
				t.Errorf("two moves take %d steps", stop)
			}
			return
		}
		n.bucket, n.db = bucketThen, dbThen
		again := n.mustOpen(t)
		at := newest(t, again)
		if at != acked && at != acked+1 {
			t.Errorf("crash at step %d: head is at %d, and %d was acknowledged", stop, at, acked)
		}
		move(t, again, at+1)
		last := n.mustOpen(t)
		if found := findings(t, last); len(found) > 0 || newest(t, last) != at+1 {
			t.Errorf("crash at step %d: %v", stop, found)
		}
	}
}

// A Move that ends in an error, with the head stored or not, at each step: the next calls find out.
func TestMove_AfterAnErrorTheNextOneFindsOut(t *testing.T) {
	for stop := range 6 {
		b, n := newNode(t)
		db := newDB()
		n.db = db
		f := &faulty{Bucket: b}
		n.bucket = f
		r := n.mustOpen(t)
		move(t, r, 1)
		steps := 0
		step := func() error {
			if steps++; steps == stop+1 {
				return errCut
			}
			return nil
		}
		db.step, f.before, f.after = step, step, step
		_, err := r.Move(t.Context(), root(1), root(2), seen(2), noon)
		wantError(t, fmt.Sprintf("step %d", stop), err, errCut)

		// The same again succeeds, whatever had happened.
		h, err := r.Move(t.Context(), root(1), root(2), seen(2), noon)
		wantError(t, fmt.Sprintf("again after step %d", stop), err, nil)
		if h.Seq != 2 || h.Root != root(2) {
			t.Errorf("step %d: got %+v", stop, h)
		}
		move(t, r, 3)
		last := n.mustOpen(t)
		if found := findings(t, last); len(found) > 0 || newest(t, last) != 3 {
			t.Errorf("step %d: %v", stop, found)
		}
	}
}

// An error after the head was stored, and then another Move: it is told that the head has moved.
func TestMove_AnotherOneAfterAnErrorSeesWhatWasStored(t *testing.T) {
	b, n := newNode(t)
	f := &faulty{Bucket: b}
	n.bucket = f
	r := n.mustOpen(t)
	move(t, r, 1)
	f.after = func() error { return errCut }
	_, err := r.Move(t.Context(), root(1), root(2), seen(2), noon)
	wantError(t, "move", err, errCut)
	f.after = nil
	_, err = r.Move(t.Context(), root(1), root(7), seen(3), noon)
	wantError(t, "another", err, ErrMoved)
	if got := newest(t, r); got != 2 {
		t.Errorf("head is at %d", got)
	}
	move(t, r, 3)
}

// A head that was put when the process died may be seen and yet not be durable. Before it counts as
// the newest it is put once more.
func TestOpen_PutsAHeadAgainThatMayNotBeDurable(t *testing.T) {
	b, n := newNode(t)
	f := &faulty{Bucket: b}
	n.bucket = f
	r := n.mustOpen(t)
	move(t, r, 1)
	f.after = func() error { return errCut }
	_, err := r.Move(t.Context(), root(1), root(2), seen(2), noon)
	wantError(t, "move", err, errCut)
	puts := 0
	f.after = func() error { puts++; return nil }
	n.db = n.db.(*lossyDB).crashed()
	r = n.mustOpen(t)
	if puts != 1 || newest(t, r) != 2 {
		t.Errorf("%d puts, head at %d", puts, newest(t, r))
	}
	r = n.mustOpen(t)
	if puts != 1 || newest(t, r) != 2 {
		t.Errorf("once more: %d puts, head at %d", puts, newest(t, r))
	}
}

func TestPrune_LeavesTheNewest(t *testing.T) {
	b, n := newNode(t)
	other := n.enroll(t, keys.Writer)
	r := n.mustOpen(t)
	for i := 1; i <= 40; i++ {
		move(t, r, i)
	}
	far := other.mustOpen(t)
	move(t, far, 1)
	wantError(t, "prune", r.Prune(t.Context(), 20), nil)
	if got := len(names(t, b, r.dir)); got != 20 {
		t.Errorf("%d heads are left, want 20", got)
	}
	for i := 41; i <= 100; i++ {
		move(t, r, i)
	}
	wantError(t, "prune", r.Prune(t.Context(), 0), nil)
	if got := len(names(t, b, r.dir)); got != minKeep {
		t.Errorf("%d heads are left, want %d", got, minKeep)
	}
	// Another device, which had seen head 40, takes the gap for what it is.
	wantError(t, "poll", far.Poll(t.Context()), nil)
	got, err := heads(t, far)
	if wantError(t, "heads", err, nil); got[n.device.ID()] != 100 {
		t.Errorf("got %v", got)
	}
	if found := findings(t, far); len(found) > 0 {
		t.Error(found)
	}
	move(t, n.mustOpen(t), 101)
}

func TestWatch_NeverMissesTheLast(t *testing.T) {
	_, n := newNode(t)
	r := n.mustOpen(t)
	move(t, r, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watch := r.Watch(ctx)
	var wait sync.WaitGroup
	last := uint64(0)
	wait.Go(func() {
		for h := range watch {
			if h.Seq <= last || h.Seq == 1 {
				t.Errorf("got head %d after %d", h.Seq, last)
			}
			if last = h.Seq; last == 50 {
				return
			}
		}
	})
	for i := 2; i <= 50; i++ {
		move(t, r, i)
	}
	wait.Wait()
	if last != 50 {
		t.Errorf("the last head is %d", last)
	}
	wait.Go(func() {
		for range r.Watch(ctx) {
			t.Error("a head from before the call")
		}
	})
	cancel()
	wait.Wait()
}

func TestWatch_SeesHeadsOfOthersAfterPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, n := newNode(t)
		other := n.enroll(t, keys.Writer)
		a, b := n.mustOpen(t), other.mustOpen(t)
		ctx, cancel := context.WithCancel(t.Context())
		var got []Head
		var wait sync.WaitGroup
		wait.Go(func() {
			for h := range a.Watch(ctx) {
				got = append(got, h)
			}
		})
		move(t, b, 1)
		synctest.Wait()
		if len(got) != 0 {
			t.Errorf("got %v before the poll", got)
		}
		wantError(t, "poll", a.Poll(t.Context()), nil)
		synctest.Wait()
		if len(got) != 1 || got[0].Device != other.device.ID() || got[0].Seq != 1 {
			t.Errorf("got %v", got)
		}
		cancel()
		wait.Wait()
	})
}

func TestMove_ByManyGoroutinesIsOneChain(t *testing.T) {
	_, n := newNode(t)
	r := n.mustOpen(t)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for done := 0; done < 10; {
				at := newest(t, r)
				if _, err := r.Move(t.Context(), root(at), root(at+1), seen(at+1), noon); err == nil {
					done++
				}
				for range r.Heads(t.Context()) {
				}
				if err := r.Poll(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	if got := newest(t, n.mustOpen(t)); got != 40 {
		t.Errorf("head is at %d, want 40", got)
	}
}

// What is near goes with the head that it was said of, and with those that name the same snapshot; others read it.
func TestMove_SaysWhatIsNear(t *testing.T) {
	_, n := newNode(t)
	other := n.enroll(t, keys.Writer)
	r := n.mustOpen(t)
	var near []Near
	for i := range byte(MaxNear + 4) {
		near = append(near, Near{ID: chunk.ID{MaxNear + 4 - i}, Pack: [32]byte{i}, Off: uint32(i), Len: 7})
	}
	h, err := r.Move(t.Context(), chunk.Ref{}, root(1), causal.Context{{Device: 1, Counter: 1}}, noon, append(near, near[0])...)
	wantError(t, "move", err, nil)
	slices.Reverse(near)
	if near = near[:MaxNear]; !slices.Equal(h.Near, near) {
		t.Errorf("it says %v", h.Near)
	}
	_, err = r.Agree(t.Context(), []Agreed{{keys.DeviceID{9}, 7}}, noon)
	wantError(t, "agree", err, nil)
	read := func(r *Refs) (got Head) {
		for h, err := range r.Heads(t.Context()) {
			wantError(t, "read heads", err, nil)
			got = h
		}
		return got
	}
	if h := read(other.mustOpen(t)); h.Seq != 2 || !slices.Equal(h.Near, near) || len(h.Agreed) != 1 {
		t.Errorf("another device reads %+v", h)
	}
	move(t, r, 2)
	if h := read(other.mustOpen(t)); h.Seq != 3 || h.Near != nil {
		t.Errorf("of another snapshot it says %v", h.Near)
	}
}
