//go:build linux

package powerloss

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/chunkstore"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs"
)

// faults are the ways in which a disk refuses, and what a caller is told.
var faults = []struct {
	name  string
	fault Fault
	typed []error
}{
	{"full disk", Fault{Errno: syscall.ENOSPC}, []error{vfs.ErrNoSpace, chunkstore.ErrNoSpace}},
	{"quota", Fault{Errno: syscall.EDQUOT}, []error{vfs.ErrQuota, vfs.ErrNoSpace, chunkstore.ErrNoSpace}},
	{"broken disk", Fault{Errno: syscall.EIO}, []error{syscall.EIO}},
	{"read-only disk", Fault{Errno: syscall.EROFS}, []error{vfs.ErrReadOnly, syscall.EROFS}},
	{"no inodes", Fault{Errno: syscall.ENOSPC, Inodes: true}, []error{vfs.ErrNoSpace, chunkstore.ErrNoSpace}},
}

const faultSteps = 30 // of the mixed workload before the fault must be over, and after

// G7: a disk refuses from one call on, for some calls or until it is healed. Who asks gets an error that says what it is, or
// has it done; nothing that was acknowledged is lost; and when the disk is whole again all goes on, without
// opening the drive again. SHEAF_LONG tries every call; else SHEAF_FAULTS of each kind. Without
// either it is two calls of a seed that has found a commit which did not know that its head had moved.
func TestDrive_GoesOnAfterAFault(t *testing.T) {
	seed, per := int64(21), number(t, "SHEAF_FAULTS", 0)
	if per > 0 || long() {
		seed = testkit.Seed(t)
	} else if testing.Short() {
		t.Skip("make model runs it: with -race it takes minutes")
	} else {
		per = 2
	}
	for k, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			r := testkit.Rand(seed + int64(k))
			dry := f.fault
			dry.From = 1 << 30
			_, seen := faulty(t, seed, dry, f.typed)
			at := make([]int, 0, seen)
			for i := range seen {
				at = append(at, i)
			}
			if !long() {
				r.Shuffle(len(at), func(i, j int) { at[i], at[j] = at[j], at[i] })
				at = at[:min(per, len(at))]
			}
			refused, told, untyped := 0, 0, 0
			for _, from := range at {
				fault := f.fault
				fault.From = from
				if r.IntN(3) > 0 {
					fault.Times = 1 + r.IntN(12)
				}
				t.Run(fmt.Sprintf("from %d times %d", from, fault.Times), func(t *testing.T) {
					w, _ := faulty(t, seed, fault, f.typed)
					refused, told, untyped = refused+w.refused, told+len(w.failed), untyped+w.untyped
				})
			}
			t.Logf("%d of %d calls; %d calls refused, %d errors told, %d of them without a type", len(at), seen, refused, told, untyped)
		})
	}
}

// faulty does the mixed workload on a disk with a fault, heals it, and goes on. It returns how many calls the
// fault could have met before.
func faulty(t *testing.T, seed int64, fault Fault, typed []error) (*world, int) {
	t.Helper()
	w := newWorld(t)
	w.create()
	r := testkit.Rand(seed) // the same calls for each fault
	names := more(w, r, 6, nil)
	w.commit()

	w.loose = true
	w.disk.SetFault(fault)
	names = more(w, r, faultSteps, names)
	w.act("collect", func(ctx context.Context) error { _, err := w.d.GC(ctx, sheaf.GCOptions{}, nil); return err })
	for _, err := range w.failed {
		if !slices.ContainsFunc(typed, func(e error) bool { return errors.Is(err, e) }) {
			// The local database does not hand every error of the system through as it is.
			if text := err.Error(); strings.HasPrefix(text, "commit:") || strings.HasPrefix(text, "collect:") {
				w.untyped++
			} else {
				t.Errorf("an error that does not say what it is: %v", err)
			}
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, vfs.ErrCorrupt) {
			t.Errorf("an error that says what is not so: %v", err)
		}
	}
	w.sees("while the disk is broken")
	calls := w.disk.Calls()
	w.refused = calls.Refused

	w.loose = false
	w.disk.SetFault(Fault{})
	more(w, r, faultSteps/2, names)
	w.sync(names[0])
	w.syncAll()
	w.cut(r.Uint64N(1000))
	w.commit()
	w.cut(r.Uint64N(1000))
	w.act("collect", func(ctx context.Context) error { _, err := w.d.GC(ctx, sheaf.GCOptions{}, nil); return err })
	w.sees("when the disk is whole")
	rep, err := w.d.Verify(t.Context(), nil)
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	for _, f := range rep.Findings {
		t.Errorf("verify finds %s %s: %s", f.Blob, f.Path, f.Reason)
	}
	if err := w.d.close(t.Context()); err != nil {
		t.Errorf("close: %v", err)
	}
	if t.Failed() {
		t.Logf("errors that were told:\n%v", errors.Join(w.failed...))
	}
	return w, calls.Seen
}

// sees holds that the open drive shows what was done and nothing else.
func (w *world) sees(when string) {
	w.t.Helper()
	got, err := stateOf(w.t.Context(), w.d)
	if err != nil {
		w.t.Errorf("read %s: %v", when, err)
		return
	}
	if want := w.steps[w.last()].state; !slices.Equal(got, want) {
		w.t.Errorf("%s the drive shows another state (-want +got):\n%s", when, cmp.Diff(want, got))
	}
}

// cut holds that a power cut now leaves all that was saved.
func (w *world) cut(seed uint64) {
	w.t.Helper()
	for _, m := range []Model{Ordered, Posix} {
		if err := w.check(Cut{At: w.disk.Pos(), Model: m, Seed: seed}, false); err != nil {
			w.t.Errorf("%v", strings.TrimSpace(err.Error()))
		}
	}
}
