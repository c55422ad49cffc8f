package pair

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/kv/memkv"
)

// heldKV has its first Update wait, counts them, and refuses one.
type heldKV struct {
	kv.DB
	hold    chan struct{}
	updates int
	refuse  int // which; 0: none
}

var errRefused = errors.New("refused")

func (h *heldKV) Update(ctx context.Context, fn func(kv.Tx) error) error {
	if h.updates++; h.updates == 1 {
		<-h.hold
	}
	return h.DB.Update(ctx, func(tx kv.Tx) error {
		err := fn(tx)
		if err == nil && h.updates == h.refuse {
			err = errRefused // after all of it was run, as a disk does
		}
		return err
	})
}

// What comes while one transaction is under way goes with the next; what fails keeps nobody else's from being stored, and what reads the database goes by itself, after
// the others.
func TestGroup_StoresTogetherAndFailsAlone(t *testing.T) {
	for _, tt := range []struct {
		name    string
		failing bool
		updates int // the first, and those of the nine that follow, of which one is alone
	}{
		{"all are stored", false, 3},
		{"one fails", true, 11},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				db := &heldKV{DB: memkv.New(), hold: make(chan struct{})}
				g := &group{db: db}
				broken := errors.New("broken")
				var wg sync.WaitGroup
				put := func(i int) {
					wg.Go(func() {
						fails := tt.failing && i == 4
						err := g.update(t.Context(), i == 2, func(tx kv.Tx) error {
							if i == 2 {
								if _, err := db.Get(t.Context(), []byte("key 9")); err != nil {
									t.Errorf("what is alone does not see what came with it: %v", err)
								}
							}
							if err := tx.Put(fmt.Appendf(nil, "key %d", i), nil); err != nil || !fails {
								return err
							}
							return broken
						})
						if fails != errors.Is(err, broken) || !fails && err != nil {
							t.Errorf("key %d: %v", i, err)
						}
					})
					synctest.Wait()
				}
				for _, i := range []int{0, 1, 9, 3, 4, 5, 6, 7, 8, 2} {
					put(i)
				}
				close(db.hold)
				wg.Wait()
				for i := range 10 {
					_, err := db.Get(t.Context(), fmt.Appendf(nil, "key %d", i))
					if want := !tt.failing || i != 4; want != (err == nil) {
						t.Errorf("key %d is stored: %v, want %v", i, err, want)
					}
				}
				if db.updates != tt.updates {
					t.Errorf("%d transactions, want %d", db.updates, tt.updates)
				}
				if g.busy || len(g.waiting) > 0 {
					t.Error("it still waits for somebody")
				}
			})
		})
	}
}

// A context that is done keeps back what has not begun.
func TestGroup_StopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g := &group{db: memkv.New()}
	if err := g.update(ctx, false, func(kv.Tx) error { t.Error("it has begun"); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("it says %v", err)
	}
}

// What the database refuses is refused for all that went there together, none of it is stored, and nothing is run a second time; what comes later is stored.
func TestGroup_TellsAllWhatTheDatabaseRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := &heldKV{DB: memkv.New(), hold: make(chan struct{}), refuse: 2}
		g := &group{db: db}
		var wg sync.WaitGroup
		runs := 0
		for i := range 6 {
			wg.Go(func() {
				err := g.update(t.Context(), false, func(tx kv.Tx) error {
					runs++
					return tx.Put(fmt.Appendf(nil, "key %d", i), nil)
				})
				if want := i > 0; want != errors.Is(err, errRefused) || !want && err != nil {
					t.Errorf("key %d: %v", i, err)
				}
			})
			synctest.Wait()
		}
		close(db.hold)
		wg.Wait()
		for i := range 6 {
			if _, err := db.Get(t.Context(), fmt.Appendf(nil, "key %d", i)); (err == nil) != (i == 0) {
				t.Errorf("key %d is stored: %v", i, err == nil)
			}
		}
		if runs != 6 || db.updates != 2 {
			t.Errorf("%d runs in %d transactions, want 6 in 2", runs, db.updates)
		}
		if err := g.update(t.Context(), false, func(tx kv.Tx) error { return tx.Put([]byte("later"), nil) }); err != nil {
			t.Errorf("what comes later: %v", err)
		}
	})
}

// A context that is done while others' notes are being written does not hold back what waits already: it is told what became of it.
func TestGroup_StoresForOthersWhenTheLeaderIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := &heldKV{DB: memkv.New(), hold: make(chan struct{})}
		g := &group{db: db}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range 4 {
			with := t.Context()
			if i < 2 { // both who lead
				with = ctx
			}
			wg.Go(func() {
				if err := g.update(with, false, func(tx kv.Tx) error { return tx.Put(fmt.Appendf(nil, "key %d", i), nil) }); err != nil {
					t.Errorf("key %d: %v", i, err)
				}
			})
			synctest.Wait()
		}
		cancel()
		close(db.hold)
		wg.Wait()
		for i := range 4 {
			if _, err := db.Get(t.Context(), fmt.Appendf(nil, "key %d", i)); err != nil {
				t.Errorf("key %d: %v", i, err)
			}
		}
	})
}
