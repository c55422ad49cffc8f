package trust

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/sheaf-drive/sheaf/chunkstore/cbor"
	"github.com/sheaf-drive/sheaf/chunkstore/durable"
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

// The bounds of a Ring.
const (
	maxKeys = 5000
	maxFile = 64 << 20 // bytes
)

// The file of a Ring, readable by its owner only.
//
//	offset  bytes
//	0       8   "SHEAFPGP"
//	8       4   version, big endian: 1
//	12      24  nonce
//	36      n   XChaCha20-Poly1305 of the entries; bytes 0 to 11 are its associated data
//
// The entries are canonical CBOR: {1: the user's own key with its secret, or no bytes, 2: [{1: key, 2: owner trust, 3: verified}]}, by fingerprint, the keys as packets of OpenPGP.
const (
	fileName = "openpgp"
	magic    = "SHEAFPGP"
	version  = 1
	headLen  = len(magic) + 4
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

	mu    sync.Mutex
	own   *pgp.Secret
	all   map[wot.Fingerprint]entry
	check pgp.Checker
	keys  []wot.Key // what check made of all; nil: it is to be made anew
}

// Open reads the Ring of a folder, which is made when the first key comes. key seals the file; it is to be one that is used for nothing else. The error wraps ErrDamaged if the file is damaged
// or sealed by another key.
func Open(dir string, key [32]byte) (*Ring, error) {
	r := &Ring{dir: dir, key: key, all: map[wot.Fingerprint]entry{}}
	f, err := os.Open(r.path())
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open OpenPGP keys: %w", err)
	}
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read OpenPGP keys: %w", err)
	}
	if len(raw) > maxFile || len(raw) < headLen+chacha20poly1305.NonceSizeX || string(raw[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: %s", ErrDamaged, r.path())
	}
	if v := binary.BigEndian.Uint32(raw[len(magic):]); v != version {
		return nil, fmt.Errorf("%w: version %d", ErrFormat, v)
	}
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, raw[headLen:headLen+chacha20poly1305.NonceSizeX], raw[headLen+chacha20poly1305.NonceSizeX:], raw[:headLen])
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrDamaged, r.path())
	}
	if r.own, r.all, err = decode(plain); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, r.path(), err)
	}
	return r, nil
}

func (r *Ring) path() string { return filepath.Join(r.dir, fileName) }

// save writes what is to be from now on, and takes it. A crash leaves the file as it was or as it is to be.
func (r *Ring) save(own *pgp.Secret, all map[wot.Fingerprint]entry) error {
	if len(all) > maxKeys {
		return fmt.Errorf("%w: at most %d", ErrFull, maxKeys)
	}
	plain, err := encode(own, all)
	if err != nil {
		return err
	}
	if len(plain) > maxFile-1024 {
		return fmt.Errorf("%w: they would have more than %d bytes", ErrFull, maxFile)
	}
	aead, err := chacha20poly1305.NewX(r.key[:])
	if err != nil {
		return err
	}
	head := binary.BigEndian.AppendUint32([]byte(magic), version)
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	_, _ = rand.Read(nonce) // it never fails
	if err := durable.MkdirAll(r.dir); err != nil {
		return fmt.Errorf("write OpenPGP keys: %w", err)
	}
	if err := durable.WriteFile(r.path(), aead.Seal(slices.Concat(head, nonce), nonce, plain, head)); err != nil {
		return fmt.Errorf("write OpenPGP keys: %w", err)
	}
	r.own, r.all, r.keys = own, all, nil
	return nil
}

// SetOwn makes a key the user's own. The error wraps ErrExists if there is one: what hangs on it would fall without a word.
func (r *Ring) SetOwn(s *pgp.Secret) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.own != nil {
		return fmt.Errorf("%w: %s", ErrExists, pgp.Hex(r.own.Certificate().Fingerprint()))
	}
	all := maps.Clone(r.all)
	f := s.Certificate().Fingerprint()
	cert := s.Certificate()
	if e, ok := all[f]; ok {
		var err error
		if cert, err = pgp.Merge(e.cert, cert); err != nil {
			return err
		}
	}
	all[f] = entry{cert: cert, owner: wot.OwnerUltimate, verified: true}
	return r.save(s, all)
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
	all := maps.Clone(r.all)
	for _, c := range certs {
		e, ok := all[c.Fingerprint()]
		if !ok {
			e.cert, fresh = c, fresh+1
		} else if e.cert, err = pgp.Merge(e.cert, c); err != nil {
			return 0, err
		}
		all[c.Fingerprint()] = e
	}
	return fresh, r.save(r.own, all)
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
	all := maps.Clone(r.all)
	delete(all, f)
	return r.save(r.own, all)
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
	all := maps.Clone(r.all)
	all[f] = e
	return r.save(r.own, all)
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
	if r.keys == nil {
		certs := make([]*pgp.Certificate, 0, len(r.all))
		for _, f := range sorted(r.all) {
			certs = append(certs, r.all[f].cert)
		}
		r.keys = r.check.Keys(certs, func(f wot.Fingerprint) wot.Owner { return r.all[f].owner })
	}
	web := wot.Compute(r.keys, wot.Defaults(), now.Unix())
	out := make([]Known, 0, len(r.all))
	for _, f := range sorted(r.all) {
		e := r.all[f]
		out = append(out, Known{Certificate: e.cert, Owner: e.owner, Verified: e.verified, Result: web[f], Path: web.Path(f)})
	}
	return out
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

func encode(own *pgp.Secret, all map[wot.Fingerprint]entry) ([]byte, error) {
	var secret []byte
	if own != nil {
		var err error
		if secret, err = own.Bytes(); err != nil {
			return nil, err
		}
	}
	b := cbor.AppendBytes(cbor.AppendUint(cbor.AppendMap(nil, 2), 1), secret)
	b = cbor.AppendArray(cbor.AppendUint(b, 2), len(all))
	for _, f := range sorted(all) {
		e := all[f]
		var cert bytes.Buffer
		if err := e.cert.Write(&cert); err != nil {
			return nil, fmt.Errorf("write OpenPGP key: %w", err)
		}
		b = cbor.AppendBytes(cbor.AppendUint(cbor.AppendMap(b, 3), 1), cert.Bytes())
		b = cbor.AppendUint(cbor.AppendUint(b, 2), uint64(e.owner))
		b = cbor.AppendBool(cbor.AppendUint(b, 3), e.verified)
	}
	return b, nil
}

func decode(b []byte) (own *pgp.Secret, all map[wot.Fingerprint]entry, err error) {
	r := cbor.NewReader(b)
	last := int64(-1)
	if r.Map() != 2 || r.Key(&last) != 1 {
		r.Fail("not a ring")
	}
	if secret := r.Bytes(); len(secret) > 0 && r.Err() == nil {
		if own, err = pgp.ReadSecret(bytes.NewReader(secret), nil); err != nil {
			return nil, nil, err
		}
	}
	if r.Key(&last) != 2 {
		r.Fail("no keys")
	}
	all = map[wot.Fingerprint]entry{}
	for n := r.Array(); n > 0 && r.Err() == nil; n-- {
		var e entry
		last := int64(-1)
		if r.Map() != 3 || r.Key(&last) != 1 {
			r.Fail("not a key")
		}
		cert := r.Bytes()
		if r.Key(&last) != 2 {
			r.Fail("no owner trust")
		}
		e.owner = wot.Owner(r.UintMax(uint64(wot.OwnerUltimate)))
		if r.Key(&last) != 3 {
			r.Fail("not said whether it is verified")
		}
		e.verified = r.Bool()
		if r.Err() != nil {
			break
		}
		read, err := pgp.Read(bytes.NewReader(cert))
		if err != nil || len(read) != 1 {
			return nil, nil, errors.Join(errors.New("it has not one key"), err)
		}
		e.cert = read[0]
		all[e.cert.Fingerprint()] = e
	}
	return own, all, r.Close()
}
