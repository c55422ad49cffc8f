package trust

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/sheaf-drive/sheaf/sync/trust/pgp"
	"github.com/sheaf-drive/sheaf/sync/trust/wot"
)

// The errors of a Ring.
var (
	ErrDamaged = errors.New("the file of OpenPGP keys does not open")
	ErrFormat  = errors.New("a newer sheaf wrote the file of OpenPGP keys")
	ErrNoKey   = errors.New("no such OpenPGP key is known here")
	ErrExists  = errors.New("there is a key of the user's own already")
	ErrFull    = errors.New("too many OpenPGP keys")
)

// entry is a key that is known.
type entry struct {
	cert     *pgp.Certificate
	owner    wot.Owner
	verified bool
}

// A Ring is the OpenPGP keys that one device knows: the user's own, with its secret, and those of others, with what the user says of them. It lies in one sealed file, and is changed there before it
// is changed here. It is safe for concurrent use; of one folder one process has a Ring at a time.
type Ring struct {
	dir string
	key [chacha20poly1305.KeySize]byte

	mu sync.Mutex
	state
	check pgp.Checker
	keys  []wot.Key // what check made of all; nil: it is to be made anew
	// what was decided of devices of a drive since something changed, and when; the web of trust as it was then
	verdicts map[[32]byte]Verdict
	drive    [16]byte
	decided  time.Time
	web      wot.Web
	changed  chan struct{}
}

// state is what a Ring keeps. What a state has is replaced, and never changed in place.
type state struct {
	own     *pgp.Secret
	former  [][]byte // those that were the user's own and were revoked, with their secrets, as in the file: what is encrypted to them stays readable
	all     map[wot.Fingerprint]entry
	devices map[[32]byte]Device
	need    Need
	unread  unread
}

// clone returns a state whose maps can be changed.
func (s state) clone() state {
	s.all, s.devices = maps.Clone(s.all), maps.Clone(s.devices)
	return s
}

// SetOwn makes a key the user's own. The error wraps ErrExists if there is one that is not revoked: what hangs on it would fall without a word. One that is revoked is trusted for nothing any more; its
// secret is kept.
func (r *Ring) SetOwn(s *pgp.Secret) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.unread.own) > 0 {
		return fmt.Errorf("%w, which this version does not read", ErrExists)
	}
	next := r.clone()
	f := s.Certificate().Fingerprint()
	if r.own != nil {
		old := r.own.Certificate().Fingerprint()
		if !r.revoked(old) || old == f {
			return fmt.Errorf("%w: %s", ErrExists, pgp.Hex(old))
		}
		if len(r.former) >= maxFormer {
			return fmt.Errorf("%w: %d of the user's own were revoked", ErrFull, maxFormer)
		}
		secret, err := r.own.Bytes()
		if err != nil {
			return err
		}
		next.former = append(slices.Clip(next.former), secret)
		e := next.all[old]
		e.owner = wot.OwnerUnknown
		next.all[old] = e
	}
	cert := s.Certificate()
	if e, ok := next.all[f]; ok {
		var err error
		if cert, err = pgp.Merge(e.cert, cert); err != nil {
			return err
		}
	}
	next.all[f], next.own = entry{cert: cert, owner: wot.OwnerUltimate, verified: true}, s
	return r.save(next)
}

// revoked reports whether the owner of a key has revoked it. r.mu is held.
func (r *Ring) revoked(f wot.Fingerprint) bool {
	return slices.ContainsFunc(r.checked(), func(k wot.Key) bool { return k.Fingerprint == f && k.Revoked })
}

// Own returns the user's own key; nil: there is none.
func (r *Ring) Own() *pgp.Secret {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.own
}

// Import adds keys, or what is new on those that are known: nothing that was known goes, so that no revocation can be undone. What is imported is trusted for nothing. It returns how many keys
// are new.
func (r *Ring) Import(certs ...*pgp.Certificate) (fresh int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.clone()
	for _, c := range certs {
		e, ok := next.all[c.Fingerprint()]
		if !ok {
			e.cert, fresh = c, fresh+1
		} else if e.cert, err = pgp.Merge(e.cert, c); err != nil {
			return 0, err
		}
		next.all[c.Fingerprint()] = e
	}
	return fresh, r.save(next)
}

// Forget drops a key of somebody else.
func (r *Ring) Forget(f wot.Fingerprint) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.all[f]; !ok {
		return fmt.Errorf("%w: %s", ErrNoKey, pgp.Hex(f))
	}
	if r.own != nil && r.own.Certificate().Fingerprint() == f {
		return errors.New("the user's own key is not forgotten")
	}
	next := r.clone()
	delete(next.all, f)
	return r.save(next)
}

// SetOwner says how far the user trusts the owner of a key to certify others. OwnerUltimate is for the user's own key only, and cannot be given.
func (r *Ring) SetOwner(f wot.Fingerprint, o wot.Owner) error {
	return r.change(f, func(e *entry) error {
		if o == wot.OwnerUltimate || e.owner == wot.OwnerUltimate {
			return errors.New("only the user's own key is trusted ultimately, and it always is")
		}
		e.owner = o
		return nil
	})
}

// Verify notes that the user has compared the fingerprint of a key over a way that no one else could alter. fingerprint is what the owner has told, in hexadecimal; if it is that of another
// key than the one that is meant, nothing is noted, and the error wraps ErrNoKey.
func (r *Ring) Verify(f wot.Fingerprint, fingerprint string) error {
	told, err := pgp.ParseHex(fingerprint)
	if err != nil {
		return err
	}
	return r.change(f, func(e *entry) error {
		if told != f {
			return fmt.Errorf("%w: the key is %s, and what was told is %s", ErrNoKey, pgp.Compare(f), pgp.Compare(told))
		}
		e.verified = true
		return nil
	})
}

// Vouch certifies a key as the user's own, so that others who trust the user can rely on it. The key must have been compared (Verify) before.
func (r *Ring) Vouch(f wot.Fingerprint, names []string, v pgp.Vouch, now time.Time) error {
	return r.change(f, func(e *entry) (err error) {
		if r.own == nil {
			return fmt.Errorf("%w: there is none of the user's own to certify with", ErrNoKey)
		}
		if !e.verified {
			return errors.New("its fingerprint has not been compared yet")
		}
		e.cert, err = r.own.Certify(e.cert, names, v, now)
		return err
	})
}

// RevokeOwn revokes the user's own key, for good. The error wraps ErrNoKey if there is none.
func (r *Ring) RevokeOwn(now time.Time) error {
	own := r.Own()
	if own == nil {
		return fmt.Errorf("%w: there is none of the user's own", ErrNoKey)
	}
	c, err := own.Revoke(now)
	if err != nil {
		return err
	}
	_, err = r.Import(c)
	return err
}

// Withdraw revokes what Vouch certified.
func (r *Ring) Withdraw(f wot.Fingerprint, now time.Time) error {
	return r.change(f, func(e *entry) (err error) {
		if r.own == nil {
			return fmt.Errorf("%w: there is none of the user's own to revoke with", ErrNoKey)
		}
		e.cert, err = r.own.Withdraw(e.cert, now)
		return err
	})
}

func (r *Ring) change(f wot.Fingerprint, do func(*entry) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.all[f]
	if !ok {
		return fmt.Errorf("%w: %s", ErrNoKey, pgp.Hex(f))
	}
	if err := do(&e); err != nil {
		return err
	}
	next := r.clone()
	next.all[f] = e
	return r.save(next)
}

// A Known is a key of a Ring with what is derived of it.
type Known struct {
	Certificate *pgp.Certificate
	Owner       wot.Owner // as the user said
	Verified    bool      // the user compared the fingerprint
	Result      *wot.Result
	Path        []wot.Link // why it is valid
}

// MaySuggest reports whether the user, or the web of trust, is sure enough of a key that a device of its owner may be suggested. It lets nobody in.
func (k Known) MaySuggest() bool {
	return k.Result.Validity >= wot.Full || k.Verified && k.Result.Validity >= wot.Unknown
}

// List returns all keys as they are at a time, by fingerprint.
func (r *Ring) List(now time.Time) []Known {
	r.mu.Lock()
	defer r.mu.Unlock()
	web := r.compute(now)
	out := make([]Known, 0, len(r.all))
	for _, f := range sorted(r.all) {
		e := r.all[f]
		out = append(out, Known{Certificate: e.cert, Owner: e.owner, Verified: e.verified, Result: web[f], Path: web.Path(f)})
	}
	return out
}

// compute returns the web of trust at a time. r.mu is held.
func (r *Ring) compute(now time.Time) wot.Web {
	return wot.Compute(r.checked(), wot.Defaults(), now.Unix())
}

// checked returns all keys with what their signatures say. r.mu is held.
func (r *Ring) checked() []wot.Key {
	if r.keys == nil {
		certs := make([]*pgp.Certificate, 0, len(r.all))
		for _, f := range sorted(r.all) {
			certs = append(certs, r.all[f].cert)
		}
		r.keys = r.check.Keys(certs, func(f wot.Fingerprint) wot.Owner { return r.all[f].owner })
	}
	return r.keys
}

// Unread returns how many keys are kept that this version does not read.
func (r *Ring) Unread() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.unread.keys)
	if len(r.unread.own) > 0 {
		n++
	}
	return n
}

// Find returns the one key that is meant by a fingerprint, the end of one of at least 16 digits, or an address. The error wraps ErrNoKey if there is none, or several.
func (r *Ring) Find(text string, now time.Time) (Known, error) {
	digits := strings.ToUpper(strings.TrimPrefix(strings.Join(strings.Fields(text), ""), "0x"))
	var found []Known
	for _, k := range r.List(now) {
		byName := slices.ContainsFunc(k.Certificate.UserIDs(), func(n string) bool {
			return strings.EqualFold(n, text) || strings.HasSuffix(strings.ToLower(n), "<"+strings.ToLower(text)+">")
		})
		if byName || len(digits) >= 16 && strings.HasSuffix(pgp.Hex(k.Certificate.Fingerprint()), digits) {
			found = append(found, k)
		}
	}
	switch len(found) {
	case 0:
		return Known{}, fmt.Errorf("%w: %s", ErrNoKey, text)
	case 1:
		return found[0], nil
	}
	return Known{}, fmt.Errorf("%w: %d keys are called %s: name one by its fingerprint", ErrNoKey, len(found), text)
}

// sorted returns the fingerprints of all keys, in order.
func sorted(all map[wot.Fingerprint]entry) []wot.Fingerprint { return slices.Sorted(maps.Keys(all)) }
