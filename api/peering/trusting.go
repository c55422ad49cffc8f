package peering

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/shelf"
	"github.com/sheaf-drive/sheaf/sync/remote/peer"
	"github.com/sheaf-drive/sheaf/sync/trust"
)

// Trust is what this device thinks of the other devices. *trust.Ring is one, and its comments are the specification.
type Trust interface {
	Accept(key [32]byte, drive [16]byte, member bool, now time.Time) (trust.Verdict, trust.Limit)
	Card(key [32]byte) []byte
	Cards() []byte
	Shown(key [32]byte, drive [16]byte, card []byte, now time.Time) error
	Told(cards []byte, drive [16]byte, now time.Time, member func(key [32]byte) bool) (bool, error)
	Changed() <-chan struct{}
	SetDevice(key [32]byte, change func(*trust.Device)) error
}

// introductions is the name by which a peer asks what this device tells of devices. No place has such a blob, and no listing shows it.
const introductions = blob.Name("introductions")

// askFor is how long one peer is asked.
const askFor = 30 * time.Second

// trust returns what this device thinks of others; nil: nothing.
func (p *Peering) trust() Trust {
	if p.o.Trust == nil {
		return nil
	}
	return p.o.Trust()
}

// telling is what peers see here, with what this device tells of others.
type telling struct {
	p *Peering
	*shelf.Bucket
}

// Get implements blob.Bucket.
func (b telling) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	if name != introductions {
		return b.Bucket.Get(ctx, name, off, n)
	}
	t := b.p.trust()
	if t == nil {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	all := string(t.Cards())
	off = min(off, int64(len(all)))
	if n < 0 || n > int64(len(all))-off {
		n = int64(len(all)) - off
	}
	return io.NopCloser(strings.NewReader(all[off : off+n])), nil
}

// limited holds a grant against what this device thinks of a member.
func (p *Peering) limited(key peer.Key, g peer.Grant) (peer.Grant, error) {
	t := p.trust()
	if t == nil {
		return g, nil
	}
	v, limit := t.Accept(key, p.o.Drive, true, time.Now())
	if !v.Accepted {
		return peer.Grant{}, fmt.Errorf("%w: %w: it is a member of the drive, and this device does not accept it", peer.ErrStranger, peer.ErrRefused)
	}
	if limit == trust.LimitReadOnly {
		g.Write = false
	}
	return g, nil
}

// card is what this device shows of itself.
func (p *Peering) card() []byte {
	t := p.trust()
	if t == nil {
		return nil
	}
	return t.Card(p.node.Key())
}

// shown takes what a device shows of itself: if it is a member.
func (p *Peering) shown(key peer.Key, card []byte) {
	p.mu.Lock()
	d := p.drive
	p.mu.Unlock()
	t := p.trust()
	if d == nil || t == nil {
		return
	}
	if _, err := d.PeerByKey(key); err != nil {
		return
	}
	if err := t.Shown(key, p.o.Drive, card, time.Now()); err != nil {
		p.o.Log.Warn("what a device shows of its owner is not taken", "peer", fmt.Sprintf("%x", key[:4]), "err", err)
	}
}

// ask has a device asked soon what it tells of others.
func (p *Peering) ask(key peer.Key) {
	select {
	case p.told <- key:
	default: // it is asked when it is met again
	}
}

// trustChanged is closed when this device thinks otherwise of others; nil: never.
func (p *Peering) trustChanged() <-chan struct{} {
	if t := p.trust(); t != nil {
		return t.Changed()
	}
	return nil
}

// listenToOthers asks devices that have news what they tell of others.
func (p *Peering) listenToOthers(d Drive) {
	p.all.Go(func() {
		for {
			select {
			case <-p.life.Done():
				return
			case key := <-p.told:
				if err := p.hearOf(d, key); err != nil {
					p.o.Log.Debug("a device tells nothing of others", "peer", fmt.Sprintf("%x", key[:4]), "err", err)
				}
			}
		}
	})
}

func (p *Peering) hearOf(d Drive, key peer.Key) error {
	t := p.trust()
	if t == nil {
		return nil
	}
	if _, err := p.admit(p.life, key); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(p.life, askFor)
	defer cancel()
	r, err := p.node.Bucket(key, func() []string { return p.Known(key) }).Get(ctx, introductions, 0, -1)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(io.LimitReader(r, trust.MaxCards+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return err
	}
	_, err = t.Told(b, p.o.Drive, time.Now(), func(k [32]byte) bool {
		_, err := d.PeerByKey(k)
		return err == nil
	})
	return err
}

// letIn notes that a person has let a device in here, with its check words before their eyes: it is accepted, whoever vouches for it.
func (p *Peering) letIn(key peer.Key) {
	t := p.trust()
	if t == nil {
		return
	}
	err := t.SetDevice(key, func(d *trust.Device) {
		if d.Answer == trust.AnswerNone {
			d.Answer = trust.AnswerYes
		}
	})
	if err != nil {
		p.o.Log.Warn("that a device was let in is not noted", "err", err)
	}
}
