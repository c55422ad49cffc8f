//go:build unix

package pebblekv

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// refuse makes a disk refuse the changes from number from on with errno, so many times, or until it is healed.
func (d *testDisk) refuse(errno syscall.Errno, from, times int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	from += d.changes
	refused := 0
	d.before = func(n int) error {
		if n >= from && refused < times {
			refused++
			return fmt.Errorf("write: %w", errno)
		}
		return nil
	}
}

func (d *testDisk) heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.before = nil
}

// wantRefused holds that err says that the disk has refused with errno, and nothing else.
func wantRefused(t *testing.T, errno syscall.Errno, err error) {
	t.Helper()
	full := errno == syscall.ENOSPC || errno == syscall.EDQUOT
	if !errors.Is(err, errno) || errors.Is(err, kv.ErrNoSpace) != full || errors.Is(err, kv.ErrDamaged) || errors.Is(err, kv.ErrClosed) {
		t.Fatalf("got error %v, want one that is %v", err, errno)
	}
}

// The disk refuses changes from one of many places on, once, some times, or until it is healed. Updates say why not; all that was acknowledged,
// and nothing else, is read meanwhile and afterwards; and when the disk is whole, the next Update is stored without opening the database again. A power cut
// before that leaves all or nothing of an Update that was refused.
func TestDB_OfAFullDiskGoesOn(t *testing.T) {
	rounds := 160
	if testing.Short() {
		rounds = 30
	}
	if os.Getenv("SHEAF_LONG") != "" {
		rounds = 4000
	}
	errnos := []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EROFS}
	r := testkit.Rand(testkit.Seed(t))
	count := map[string]int{}
	for round := range rounds {
		t.Run(fmt.Sprint("round ", round), func(t *testing.T) {
			ctx := t.Context()
			disk := newTestDisk(t)
			var h atomic.Pointer[history]
			h.Store(&history{acked: map[string]string{}})
			errno := errnos[r.IntN(len(errnos))]
			at, times := 1+r.IntN([]int{30, 100, 300}[r.IntN(3)]), []int{1, 1 + r.IntN(12), 1 << 30}[r.IntN(3)]
			disk.refuse(errno, at, times)
			defer func() {
				if t.Failed() {
					t.Logf("%v, %d times, from %d on: %s", errno, times, at, disk.tail(at))
				}
			}()
			d, err := openTest(disk)
			if err != nil {
				wantRefused(t, errno, err)
				count["open"]++
				for range maxOpenings {
					if d, err = openTest(disk); err == nil {
						break
					}
					wantRefused(t, errno, err)
				}
				if err != nil {
					disk.heal()
					if d, err = openTest(disk); err != nil {
						t.Fatal(err)
					}
				}
			}
			var failed []map[string]string // what the state would be with each Update that was refused since the last that was stored
			healed := false
			again := func(d *DB, when string) {
				t.Helper()
				got, err := content(ctx, d)
				if err != nil && !healed {
					// The disk may refuse what pebble writes by itself while pairs are read: that Scan ends, for it would not go on as
					// it began. The next one is answered.
					wantRefused(t, errno, err)
					count["scan"]++
					got, err = content(ctx, d)
				}
				if err != nil {
					t.Fatalf("read %s: %v", when, err)
				}
				if want := h.Load().acked; !maps.Equal(got, want) {
					t.Fatalf("%s: got %d pairs, want %d", when, len(got), len(want))
				}
			}
			for range 40 {
				if err := update(ctx, d, r, &h); err != nil {
					wantRefused(t, errno, err)
					failed = append(failed, h.Load().underway)
					again(d, "after an update that was refused")
					count["update"]++
				} else {
					failed = nil
				}
				if len(failed) == 3 {
					break
				}
			}
			again(d, "before the disk is healed")
			if len(failed) > 0 && r.IntN(2) == 0 {
				after, err := openTest(disk.cutNow(t, r, count))
				if err != nil {
					t.Fatalf("after a power cut: %v", err)
				}
				got, err := content(ctx, after)
				if err != nil {
					t.Fatal(err)
				}
				isGot := func(m map[string]string) bool { return maps.Equal(m, got) }
				if !isGot(h.Load().acked) {
					count["cut, and the update is there"]++
					if !slices.ContainsFunc(failed, isGot) {
						t.Fatalf("after a power cut: got %d pairs, want %d", len(got), len(h.Load().acked))
					}
				}
				if err := after.Close(); err != nil {
					t.Fatal(err)
				}
			}
			disk.heal()
			healed = true
			for range 10 {
				if err := update(ctx, d, r, &h); err != nil {
					t.Fatalf("update of a disk that is whole: %v", err)
				}
			}
			again(d, "when the disk is whole")
			if r.IntN(2) == 0 {
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
			} else {
				disk = disk.cutNow(t, r, count)
				defer func() { _ = d.Close() }()
			}
			next, err := openTest(disk)
			if err != nil {
				t.Fatalf("open again: %v", err)
			}
			again(next, "after opening again")
			if err := next.Close(); err != nil {
				t.Fatal(err)
			}
			count[errno.Error()]++
		})
	}
	t.Log(count)
	if count["open"] == 0 || count["update"] == 0 {
		t.Error("the test does not show what it is for")
	}
}

// Others read while the disk fails and comes back again and again: each Scan sees one Update as a whole, and none after a later one.
func TestDB_IsReadWhileADiskFails(t *testing.T) {
	const pairs = 200
	r := testkit.Rand(testkit.Seed(t))
	disk := newTestDisk(t)
	d, err := openTest(disk)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, d, pairs, 1)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var scans, broken atomic.Int64
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				seen, first := 0, ""
				var failure error
				for p, err := range d.Scan(t.Context(), nil, nil) {
					if err != nil {
						failure = err
						break
					}
					if seen == 0 {
						first = string(p.Value)
					}
					if seen++; string(p.Value) != first {
						t.Errorf("pair %d is of another update than the first", seen)
						return
					}
					if seen == pairs/2 { // a Scan must not keep anything waiting
						if _, err := d.Get(t.Context(), p.Key); err != nil {
							t.Errorf("get within a scan: %v", err)
							return
						}
					}
				}
				switch {
				case failure == nil && seen == pairs:
					scans.Add(1)
				case errors.Is(failure, syscall.EIO), errors.Is(failure, errReplaced):
					broken.Add(1)
				default:
					t.Errorf("scan: %d pairs and error %v", seen, failure)
					return
				}
			}
		})
	}
	rounds := 60
	if testing.Short() {
		rounds = 25
	}
	v, refused := uint64(1), 0
	for range rounds {
		disk.refuse(syscall.EIO, 1+r.IntN(60), []int{1, 3, 1 << 30}[r.IntN(3)])
		for range 12 {
			if err := d.Update(t.Context(), filler(pairs, v+1)); err == nil {
				v++
			} else {
				wantRefused(t, syscall.EIO, err)
				refused++
			}
		}
		disk.heal()
		fill(t, d, pairs, v+1)
		v++
		if got, err := check(t, d, pairs); err != nil || got != v {
			t.Fatalf("got update %d and error %v, want %d", got, err, v)
		}
	}
	cancel()
	wg.Wait()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("%d updates stored, %d refused, %d scans, %d ended early", v, refused, scans.Load(), broken.Load())
	if refused == 0 || scans.Load() == 0 {
		t.Error("the test does not show what it is for")
	}
}
