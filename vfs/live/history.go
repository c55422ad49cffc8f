package live

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// ErrNoSnapshot is returned for a snapshot that is not kept.
var ErrNoSnapshot = errors.New("no such snapshot")

// Kept returns the kept snapshots, oldest first. The slice must not be changed.
func (f *FS) Kept() []manifest.Kept {
	if p := f.keptNow.Load(); p != nil {
		return *p
	}
	return nil
}

// Keep commits, and keeps the state under a label until Drop.
func (f *FS) Keep(ctx context.Context, label string) (manifest.Kept, error) {
	if err := f.usable(); err != nil {
		return manifest.Kept{}, err
	}
	var made manifest.Kept
	err := f.commit(ctx, func(_ time.Time, current manifest.Kept) error {
		// If the state is kept by rule already, the same entry gets the label.
		f.kept = slices.DeleteFunc(f.kept, func(k manifest.Kept) bool { return k.Dot == current.Dot })
		current.Label, current.Pinned = label, true
		made = current
		f.kept = append(f.kept, current)
		return nil
	})
	return made, err
}

// Drop forgets kept snapshots.
func (f *FS) Drop(ctx context.Context, dots ...causal.Dot) error {
	if err := f.usable(); err != nil {
		return err
	}
	return f.commit(ctx, func(time.Time, manifest.Kept) error {
		for _, d := range dots {
			n := len(f.kept)
			f.kept = slices.DeleteFunc(f.kept, func(k manifest.Kept) bool { return k.Dot == d })
			if len(f.kept) == n {
				return fmt.Errorf("drop snapshot %v: %w", d, ErrNoSnapshot)
			}
		}
		return nil
	})
}
