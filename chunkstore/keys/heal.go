package keys

import (
	"bytes"
	"context"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// heal restores missing and damaged copies of the drive record, the members log and the key slots that count. It writes only what it has
// verified, so a Bucket that lies gets back what the owner wrote. Errors are logged: a drive whose Bucket takes no more
// writes is opened all the same.
func (a *Account) heal(ctx context.Context) {
	for v := uint32(1); v <= a.Record.Version; v++ {
		a.healCopies(ctx, recordName(v), func(b []byte) error {
			_, _, err := openRecord(&a.root, a.Record.Drive, v, b)
			return err
		})
	}
	for _, n := range a.Members().order {
		name := entryName(n.hash)
		a.healCopies(ctx, name, func(b []byte) error {
			_, _, err := openEntry(a.Members().ring, name, b)
			return err
		})
	}
	for id, want := range a.Members().slots {
		a.healFrom(ctx, slotName(id), want, func(b []byte) bool { return bytes.Equal(b, want) })
	}
	a.clearSlots(ctx)
}

// healCopies restores one copy of a blob from the other.
func (a *Account) healCopies(ctx context.Context, name blob.Name, check func([]byte) error) {
	for _, from := range []blob.Name{name, spare(name)} {
		b, err := ReadBlob(ctx, a.bucket, from)
		if err == nil && check(b) == nil {
			a.healFrom(ctx, name, b, func(b []byte) bool { return check(b) == nil })
			return
		}
	}
}

// healFrom puts b where a copy is missing or not good. If the Bucket fails otherwise the copy may be good: it is left alone.
func (a *Account) healFrom(ctx context.Context, name blob.Name, b []byte, good func([]byte) bool) {
	for _, to := range []blob.Name{name, spare(name)} {
		got, err := ReadBlob(ctx, a.bucket, to)
		if err == nil && good(got) || err != nil && !missingOrBad(err) {
			continue
		}
		if err := a.bucket.Put(ctx, to, bytes.NewReader(b), int64(len(b))); err != nil {
			a.log.Warn("a copy of an account record could not be restored", "blob", string(to), "err", err)
			continue
		}
		a.log.Warn("a copy of an account record was missing or damaged, and is restored", "blob", string(to))
	}
}
