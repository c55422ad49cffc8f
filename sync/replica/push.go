package replica

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
)

// batch is how many blobs are removed by one call.
const batch = 256

// remove removes what the own device has removed: of heads the oldest first, so that what is left has no gap; then what
// heads need, in the opposite order of putting it.
func (r *run) remove(ctx context.Context, removed []blob.Name) error {
	names := slices.Clone(removed)
	slices.SortFunc(names, func(a, b blob.Name) int {
		if c := leaves(a) - leaves(b); c != 0 {
			return c
		}
		return strings.Compare(string(a), string(b))
	})
	names = slices.Compact(names)
	for len(names) > 0 {
		n := 1
		for n < len(names) && n < batch && leaves(names[n]) == leaves(names[0]) {
			n++ // one rank at a time, and in its order
		}
		if err := r.removeSome(ctx, names[:n]); err != nil {
			return err
		}
		names = names[n:]
	}
	return nil
}

// confirmGone sees that the far side has removed what it said it had: a head that is left would need what is removed next.
func (r *run) confirmGone(ctx context.Context, names []blob.Name) error {
	for try := 0; ; try++ {
		left, err := r.left(ctx, names)
		if err != nil || len(left) == 0 {
			return err
		}
		if try == tries {
			return &Fault{left[0], ErrNotRemoved}
		}
		if err := r.to.Remove(ctx, left...); err != nil {
			return err
		}
	}
}

// left returns which of the names the far side still lists, and hands out.
func (r *run) left(ctx context.Context, names []blob.Name) (left []blob.Name, err error) {
	folders, gone := map[blob.Name]bool{}, map[blob.Name]bool{}
	for _, name := range names {
		folders[folderOf(name)], gone[name] = true, true
	}
	for _, folder := range slices.Sorted(maps.Keys(folders)) {
		for info, err := range r.to.List(ctx, folder) {
			if err != nil {
				return nil, err
			}
			if !gone[info.Name] {
				continue
			}
			body, err := r.to.Get(ctx, info.Name, 0, grid)
			if errors.Is(err, fs.ErrNotExist) {
				continue // an old listing
			}
			if err != nil {
				return nil, err
			}
			_ = body.Close()
			left = append(left, info.Name)
		}
	}
	slices.Sort(left)
	return slices.Compact(left), nil
}

// leavesLast is the rank of packs. Nothing needs one that is left.
const leavesLast = 6

// leaves is when a blob may go: the lower, the earlier.
func leaves(n blob.Name) int {
	_, root, index := catalog.Generation(n)
	switch {
	case strings.HasPrefix(string(n), string(heads)):
		return 0
	case strings.HasPrefix(string(n), "members/"):
		return 1
	case strings.HasPrefix(string(n), "drive/"):
		return 2
	case strings.HasPrefix(string(n), "keys/"):
		return 3
	case index && root:
		return 4
	case index:
		return 5
	}
	return leavesLast
}

func (r *run) removeSome(ctx context.Context, names []blob.Name) error {
	var gone, keep []blob.Name
	for _, name := range names {
		// What was listed may be old: it is looked at again now.
		body, err := r.from.Get(ctx, name, 0, 0)
		switch {
		case err == nil:
			_ = body.Close()
			keep = append(keep, name)
		case errors.Is(err, fs.ErrNotExist):
			gone = append(gone, name)
		default:
			return fmt.Errorf("look for what was removed: %w", err)
		}
	}
	if len(gone) > 0 {
		if err := r.to.Remove(ctx, gone...); err != nil {
			return err
		}
		if leaves(gone[0]) < leavesLast {
			if err := r.confirmGone(ctx, gone); err != nil {
				return err
			}
		}
	}
	r.report.Removed = append(r.report.Removed, gone...)
	r.report.Kept = append(r.report.Kept, keep...)
	away := map[blob.Name]bool{}
	for _, name := range gone {
		away[name] = true
	}
	var err error
	r.report.At, err = r.report.At.With(func(func(blob.Info) bool) {}, func(n blob.Name) bool { return away[n] })
	return err
}
