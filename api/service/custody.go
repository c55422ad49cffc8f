package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/engine"
	"github.com/sheaf-drive/sheaf/vfs"
)

// Keeping is where the content of the drive is, and what stays here.
type Keeping interface {
	Custodian(ctx context.Context) (*sheaf.Custodian, error)
	Pinning
}

// places are the words of the contract.
var places = map[sheaf.State]sheafv1.Place{
	sheaf.StateNone: sheafv1.Place_PLACE_UNSPECIFIED, sheaf.StateRemote: sheafv1.Place_PLACE_REMOTE, sheaf.StateLocal: sheafv1.Place_PLACE_LOCAL,
	sheaf.StatePinned: sheafv1.Place_PLACE_PINNED, sheaf.StateQueued: sheafv1.Place_PLACE_QUEUED,
}

// Where says where what is at a path is.
func (s *Service) Where(ctx context.Context, r *sheafv1.WhereRequest) (*sheafv1.WhereResponse, error) {
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	p, err := clean(r.GetPath())
	if err != nil {
		return nil, err
	}
	c, err := custodyOf(ctx, d, p)
	if err != nil {
		return nil, err
	}
	return &sheafv1.WhereResponse{
		Path: wirepath.Encode(p), Place: places[c.State()], Pinned: c.Pinned, Files: c.Files, Bytes: c.Size, StoredBytes: c.Stored,
		HereBytes: c.Here, JournalBytes: c.Journal, QueuedBytes: c.Queued, Copies: int32(c.Copies), Places: int32(c.Places), Partial: c.Partial,
		MissingAt: holders(d, c.Elsewhere),
	}, nil
}

// holders says who has what is not here.
func holders(d Drive, elsewhere map[string]int64) (all []*sheafv1.Holder) {
	e := d.Replicas()
	if e == nil || len(elsewhere) == 0 {
		return nil
	}
	for _, st := range e.List() {
		if n := elsewhere[st.Name]; n > 0 && !st.Here {
			all = append(all, &sheafv1.Holder{Name: st.Name, At: st.At, Bytes: n, Away: st.Err != nil, Seen: stamp(st.Fetched)})
		}
	}
	slices.SortStableFunc(all, func(a, b *sheafv1.Holder) int { return cmp.Compare(b.GetBytes(), a.GetBytes()) })
	return all
}

// blameWait is how long it may take to find out who has what could not be read.
const blameWait = 5 * time.Second

// blame returns err, with the names of those who have what is at a path of the open drive and could not be reached, if that is why it could not be read.
func (s *Service) blame(ctx context.Context, path string, err error) error {
	if !errors.Is(err, blob.ErrTemporary) && !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, blameWait)
	defer cancel()
	ctx, d, release, uerr := s.use(ctx)
	if uerr != nil {
		return err
	}
	defer release()
	at, cerr := custodyOf(ctx, d, path)
	if cerr != nil {
		return err
	}
	var away []string
	for _, h := range holders(d, at.Elsewhere) {
		switch {
		case !h.GetAway():
			return err // it was no matter of being away
		case h.GetSeen() == nil:
			away = append(away, h.GetName()+" (not reached yet)")
		default:
			away = append(away, h.GetName()+" (last reached "+h.GetSeen().AsTime().Local().Format("2006-01-02 15:04")+")")
		}
	}
	if len(away) == 0 {
		return err
	}
	return errorf(sheafv1.Code_CODE_TEMPORARY, "sheaf status /"+path, "it is not here, and who has it cannot be reached: %s: %w", strings.Join(away, ", "), err)
}

// custodyOf says where all is that is at a path of the open drive and below it.
func custodyOf(ctx context.Context, d Drive, path string) (sheaf.Custody, error) {
	n, err := vfs.Walk(ctx, d.FS(), path)
	if err != nil {
		return sheaf.Custody{}, err
	}
	c, err := d.Custodian(ctx)
	if err != nil {
		return sheaf.Custody{}, err
	}
	return c.Below(ctx, n)
}

// waitFor returns when what is at a path is in so many places, or with an error that wraps context.DeadlineExceeded. All of it is
// committed.
func waitFor(ctx context.Context, d Drive, e *engine.Engine, path string, copies int) error {
	_, changed := e.Held() // before the look, so that no turn is missed
	at, err := custodyOf(ctx, d, path)
	if err != nil || at.Copies >= copies {
		return err
	}
	if at.Places < copies {
		return fmt.Errorf("wait for %d copies of %q: %w", copies, path, engine.ErrTooFew)
	}
	e.Nudge()
	for {
		var failed error
		if e.Running() {
			select {
			case <-ctx.Done():
			case <-changed:
			}
		} else {
			failed = e.Sync(ctx)
		}
		_, changed = e.Held()
		switch at, err := custodyOf(context.WithoutCancel(ctx), d, path); {
		case err != nil || at.Copies >= copies:
			return err
		case ctx.Err() != nil:
			return errorf(sheafv1.Code_CODE_TEMPORARY, "wait longer: --timeout", "%d of %d copies of %q are there: %w", at.Copies, copies, path, ctx.Err())
		case failed != nil:
			return failed
		case !e.Running():
			return errorf(sheafv1.Code_CODE_TEMPORARY, "sheaf status "+path, "%d of %d copies of %q are there", at.Copies, copies, path)
		}
	}
}

// waited turns the outcome of a wait for copies into the contract's.
func waited(d Drive, e *engine.Engine, copies int32, err error) error {
	var told *Error
	switch {
	case errors.As(err, &told):
		return err
	case errors.Is(err, engine.ErrTooFew):
		return errorf(sheafv1.Code_CODE_TEMPORARY, "sheaf replica add PLACE", "%d copies are asked for, and there are %d places with this device", copies, e.Takers()+1)
	case errors.Is(err, context.DeadlineExceeded):
		return errorf(sheafv1.Code_CODE_TEMPORARY, "wait longer: --timeout", "%d of %d copies are there", copiesOf(replicasOf(d)), copies)
	}
	return err
}
