package keys

import (
	"context"
	"fmt"
	"strings"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// Vet checks a blob under keys/, drive/ or members/ by itself: that a holder of the drive's keys has written it, for this name. It says
// nothing of whether it counts. Blobs of other names pass. The error wraps ErrTampered, or ErrFormat for one of a newer
// format; ErrTampered, too, for a members entry of an epoch of which this Account does not know yet: see Refresh.
func (a *Account) Vet(name blob.Name, b []byte) error {
	first := firstName(name)
	switch {
	case strings.HasPrefix(string(name), string(slotPrefix)):
		if s, ok := parseSlot(b); !ok || slotName(s.id) != first || !s.fits(&a.root) {
			return fmt.Errorf("key slot %s: %w", name, ErrTampered)
		}
	case strings.HasPrefix(string(name), string(recordPrefix)):
		version, ok := recordVersion(first)
		if !ok {
			return fmt.Errorf("drive record %s: %w: strange name", name, ErrTampered)
		}
		if _, _, err := openRecord(&a.root, a.Ring.drive, version, b); err != nil {
			return err
		}
	case strings.HasPrefix(string(name), string(memberPrefix)):
		if !isEntryName(first) {
			return fmt.Errorf("members entry %s: %w: strange name", name, ErrTampered)
		}
		if _, _, err := openEntry(a.Members().ring, first, b); err != nil {
			return err
		}
	}
	return nil
}

// Early returns an error that wraps ErrIncomplete if the blob is an entry of the members log that comes after one which neither the
// Account knows nor the Bucket has: a log with such an entry cannot be opened. The blob must have passed Vet.
func (a *Account) Early(ctx context.Context, name blob.Name, b []byte) error {
	if !strings.HasPrefix(string(name), string(memberPrefix)) {
		return nil
	}
	m := a.Members()
	e, _, err := openEntry(m.ring, firstName(name), b)
	if err != nil {
		return err
	}
	for _, parent := range e.Parents {
		if m.nodes[parent] != nil {
			continue
		}
		err := getEither(ctx, a.bucket, entryName(parent), func([]byte) error { return nil })
		if err != nil {
			return fmt.Errorf("members entry %s: look for the one before: %w", name, err)
		}
	}
	return nil
}

// Refresh reads the members log again. It must have all that the Account knows. It is safe beside what changes the log.
func (a *Account) Refresh(ctx context.Context) error {
	_, err := a.refreshMembers(ctx)
	return err
}
