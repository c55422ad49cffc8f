package sheaf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/chunkstore/refs"
	"github.com/sheaf-drive/sheaf/sync/replica"
)

// A vetter checks small blobs of others before they get into the mirror. A place that lies could else put a blob
// there that nobody wrote, under the name of one that another place has: a blob that is there is not fetched again. It is safe
// for concurrent use.
type vetter struct {
	account *keys.Account
	bucket  blob.Bucket // of the drive

	mu     sync.Mutex
	looked [32]byte // the listing of the members log, hashed, when it was last read for a blob that did not pass
}

// check returns nil if a holder of the drive's keys has written the blob for this name. What does not pass may be of a
// device, or an epoch, that came just now: then the log is read again, and if that does not help either, the next turn of the
// place brings it.
func (v *vetter) check(ctx context.Context, name blob.Name, b []byte) error {
	if err := v.known(ctx, name, b); err != nil {
		return err
	}
	// An entry of the members log without those before it would keep the drive from being opened, if the place never shows them.
	err := v.account.Early(ctx, name, b)
	if errors.Is(err, keys.ErrIncomplete) {
		return fmt.Errorf("%w: %w", replica.ErrEarly, err)
	}
	return err
}

// known is check without regard to what comes before.
func (v *vetter) known(ctx context.Context, name blob.Name, b []byte) error {
	err := v.one(name, b)
	if err == nil || !errors.Is(err, keys.ErrTampered) {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	listing, lerr := v.listing(ctx)
	if lerr == nil && listing != v.looked {
		if lerr = v.account.Refresh(ctx); lerr == nil {
			v.looked = listing
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if lerr != nil {
		return fmt.Errorf("%w; the members log could not be read: %w", err, lerr)
	}
	return v.one(name, b)
}

// listing returns the hash of the names of all members entries.
func (v *vetter) listing(ctx context.Context) (sum [32]byte, err error) {
	h := blake3.New()
	for info, err := range v.bucket.List(ctx, "members/") {
		if err != nil {
			return sum, fmt.Errorf("list members: %w", err)
		}
		_, _ = h.WriteString(string(info.Name) + "\n")
	}
	return [32]byte(h.Sum(nil)), nil
}

func (v *vetter) one(name blob.Name, b []byte) error {
	if strings.HasPrefix(string(name), "heads/") {
		return refs.Vet(v.account.Members(), name, b)
	}
	return v.account.Vet(name, b)
}

// purge removes from the mirror what does not pass: it was fetched before there were keys to check it.
func (v *vetter) purge(ctx context.Context, mirror blob.Bucket) (gone int, err error) {
	var bad []blob.Name
	for info, err := range mirror.List(ctx, "") {
		if err != nil {
			return 0, fmt.Errorf("check the mirror: %w", err)
		}
		b, err := keys.ReadBlob(ctx, mirror, info.Name)
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if err != nil && !errors.Is(err, keys.ErrTampered) {
			return 0, fmt.Errorf("check the mirror: %w", err)
		}
		if err == nil {
			err = v.check(ctx, info.Name, b)
		}
		if errors.Is(err, keys.ErrTampered) {
			bad = append(bad, info.Name)
		}
	}
	if err := mirror.Remove(ctx, bad...); err != nil {
		return 0, fmt.Errorf("remove forged blobs from the mirror: %w", err)
	}
	return len(bad), nil
}

// purge removes from the mirror what nobody wrote who has the keys of the drive: the first Fetch had none.
func (r *Replication) purge(ctx context.Context, account *keys.Account, log *slog.Logger) error {
	n, err := (&vetter{account: account, bucket: r.Tier}).purge(ctx, r.Mirror)
	if n > 0 {
		log.Warn("blobs that nobody of this drive wrote are removed from the mirror: a replica lies, or is damaged", "blobs", n)
	}
	return err
}

// mendMirror removes forged and damaged heads from the mirror if Refs found some, so that they are fetched anew, perhaps
// from another place.
func (d *Drive) mendMirror(ctx context.Context) error {
	if d.o.Replication == nil {
		return nil
	}
	for _, err := range d.refs.Heads(ctx) {
		if !errors.Is(err, refs.ErrTampered) {
			continue
		}
		if err := d.o.Replication.purge(ctx, d.account, d.o.Log); err != nil {
			return err
		}
		return d.hear(ctx)
	}
	return nil
}
