package transfer

import (
	"context"
	"time"
)

// How a file is known to be as it was when it was copied, unread: it has the size and the time of the last
// change of its bytes that the copy has, and the time of the last change of its attributes, which no
// program can set, is from before the copy. Times go in steps, though: what is changed twice within one
// step looks as if it was changed once. So a file is read when its last change is longer ago
// than that (ripe), and is believed only if it was (untouched).
//
// Both times are the source's and the target's own. Where these are two clocks that differ, on a
// network share, a change with an unchanged size and a time that was set back can hide for as
// long as they differ by: -c compares bytes.

// Steps of the times of files: of most systems that of the kernel's clock, 10 ms at most; of FAT, which
// has no parts of seconds, 2 s.
const (
	fineStep   = 10 * time.Millisecond
	coarseStep = 2 * time.Second
)

// stepOf returns the step of the times of it.
func stepOf(it Item) time.Duration {
	if it.CTime.Nanosecond() == 0 && it.MTime.Nanosecond() == 0 {
		return coarseStep
	}
	return fineStep
}

// untouched reports whether a node of the source was not changed since it became have in the target.
func untouched(it, have Item) bool {
	if it.CTime.IsZero() || have.CTime.IsZero() { // the place does not know: the caller compared what there is
		return true
	}
	return !it.CTime.Add(stepOf(it)).After(have.CTime)
}

// ripe returns what the open file r is, once its last change is so long ago that another one will show.
func ripe(ctx context.Context, r Reader) (Item, error) {
	for {
		it, err := r.Stat(ctx)
		if err != nil || it.CTime.IsZero() {
			return it, err
		}
		// A time that lies ahead is another clock's, and waiting for it may take forever: such a
		// file is read and not believed.
		left := time.Until(it.CTime.Add(2 * stepOf(it)))
		if left <= 0 || left > 2*stepOf(it) {
			return it, nil
		}
		select {
		case <-time.After(left):
		case <-ctx.Done():
			return it, ctx.Err()
		}
	}
}
