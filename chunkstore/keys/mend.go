package keys

import (
	"bytes"
	"context"
	"fmt"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// Mend puts the second copy of each drive record and members entry that has one only: a crash came
// between the two. The copy is checked before it is copied. What is damaged or missing
// altogether is left to Verify.
func (a *Account) Mend(ctx context.Context) error {
	for _, prefix := range []blob.Name{recordPrefix, memberPrefix} {
		copies := map[blob.Name]blob.Name{} // first name: the only copy, or "" if there are two
		for info, err := range a.bucket.List(ctx, prefix) {
			if err != nil {
				return fmt.Errorf("list %s: %w", prefix, err)
			}
			first := firstName(info.Name)
			if _, ok := copies[first]; ok {
				copies[first] = ""
			} else {
				copies[first] = info.Name
			}
		}
		for first, only := range copies {
			if only == "" {
				continue
			}
			if err := a.mendCopy(ctx, first, only); err != nil {
				return fmt.Errorf("mend %s: %w", first, err)
			}
		}
	}
	return nil
}

// mendCopy puts what only has under the other name of first.
func (a *Account) mendCopy(ctx context.Context, first, only blob.Name) error {
	b, err := ReadBlob(ctx, a.bucket, only)
	if err != nil {
		return err
	}
	if version, ok := recordVersion(first); ok {
		_, _, err = openRecord(&a.root, a.Ring.drive, version, b)
	} else if _, ok := entrySeq(first); ok {
		_, _, err = openEntry(a.Ring, first, b)
	} else {
		return nil // nothing of ours
	}
	if err != nil {
		return nil //nolint:nilerr // Verify tells of it
	}
	other := first
	if only == first {
		other = spare(first)
	}
	return a.bucket.Put(ctx, other, bytes.NewReader(b), int64(len(b)))
}
