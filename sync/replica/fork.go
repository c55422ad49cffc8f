package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// inBoth returns the heads of a that b has, too, ascending.
func inBoth(a, b []head) []head {
	return slices.DeleteFunc(slices.Clone(a), func(h head) bool { _, ok := find(b, h.seq); return !ok })
}

// sameHead compares a head at two places. It returns what the first has, if they differ; nil if one of them has none, or none that can be one.
func sameHead(ctx context.Context, a, b blob.Bucket, name blob.Name) (same bool, atA []byte, err error) {
	var got [2][]byte
	for i, at := range []blob.Bucket{a, b} {
		for range tries {
			if got[i], err = readWhole(ctx, at, name, -1, maxHead); !errors.Is(err, ErrDamaged) {
				break
			}
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrDamaged) {
			return false, nil, nil
		}
		if err != nil {
			return false, nil, err
		}
	}
	if bytes.Equal(got[0], got[1]) {
		return true, nil, nil
	}
	return false, got[0], nil
}

// lastSame returns the newest of some heads, ascending, that is the same at two places. Each names the one before it, so all below one that is the same are.
func lastSame(ctx context.Context, folder blob.Name, both []head, a, b blob.Bucket) (blob.Name, error) {
	below, above := 0, len(both) // those in between are not known
	for below < above {
		i := (below + above) / 2
		same, _, err := sameHead(ctx, a, b, headName(folder, both[i].seq))
		if err != nil {
			return "", err
		}
		if same {
			below = i + 1
		} else {
			above = i
		}
	}
	if below == 0 {
		return "", nil
	}
	return headName(folder, both[below-1].seq), nil
}

// differ tells Options.Differs of the newest of the heads that both places have, which differs. Its error wraps ErrForked.
func (r *run) differ(ctx context.Context, folder blob.Name, both []head, place, own blob.Bucket, theirs []byte) error {
	if r.o.Differs == nil {
		return nil
	}
	newest := len(both) - 1
	same, err := lastSame(ctx, folder, both[:newest], place, own)
	if err != nil {
		return err
	}
	if err := r.o.Differs(headName(folder, both[newest].seq), theirs, same); err != nil {
		return fmt.Errorf("%w: %w", ErrForked, err)
	}
	return nil
}

// Compare compares the heads of one device, in the folder heads/<pseudonym>, at two places. same is the name of the newest that is the same, "" if there is none; forked says that there is
// one of which each place has another.
func Compare(ctx context.Context, folder blob.Name, a, b blob.Bucket) (same blob.Name, forked bool, err error) {
	var o Options
	o = o.filled()
	var all [2]map[blob.Name][]head
	for i, at := range []blob.Bucket{a, b} {
		if all[i], err = o.listHeads(ctx, at, folder+"/"); err != nil {
			return "", false, fmt.Errorf("compare heads: %w", err)
		}
	}
	both := inBoth(all[0][folder], all[1][folder])
	if same, err = lastSame(ctx, folder, both, a, b); err != nil {
		return "", false, fmt.Errorf("compare heads: %w", err)
	}
	return same, len(both) > 0 && same != headName(folder, both[len(both)-1].seq), nil
}

// Own compares the heads of one device, in the folder heads/<pseudonym>, at a place with those in its own bucket, and tells o.Differs of the newest that both have, if it
// differs, or else of one at the place that is newer than all in own: a device knows all that it has put. The error wraps ErrForked then, if Differs returns one.
func Own(ctx context.Context, place, own blob.Bucket, folder blob.Name, o Options) error {
	r := newRun(place, own, o)
	theirs, err := r.o.listHeads(ctx, place, folder+"/")
	if err != nil || len(theirs[folder]) == 0 {
		return err
	}
	ours, err := r.o.listHeads(ctx, own, folder+"/")
	if err != nil {
		return err
	}
	newest := theirs[folder][len(theirs[folder])-1]
	last := blob.Name("")
	if both := inBoth(theirs[folder], ours[folder]); len(both) > 0 {
		last = headName(folder, both[len(both)-1].seq)
		same, there, err := sameHead(ctx, place, own, last)
		if err != nil {
			return err
		}
		if !same && there != nil {
			return r.differ(ctx, folder, both, place, own, there)
		}
	}
	if n := len(ours[folder]); n > 0 && ours[folder][n-1].seq >= newest.seq || r.o.Differs == nil {
		return nil
	}
	name := headName(folder, newest.seq)
	body, err := readWhole(ctx, place, name, -1, maxHead)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrDamaged) {
		return nil // the Fetch says so
	}
	if err != nil {
		return err
	}
	if err := r.o.Differs(name, body, last); err != nil {
		return fmt.Errorf("%w: %w", ErrForked, err)
	}
	return nil
}
