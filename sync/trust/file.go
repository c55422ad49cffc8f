package trust

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/sheaf-drive/sheaf/chunkstore/cbor"
	"github.com/sheaf-drive/sheaf/chunkstore/durable"
	"github.com/sheaf-drive/sheaf/sync/trust/pgp"
	"github.com/sheaf-drive/sheaf/sync/trust/wot"
)

// The bounds of a Ring.
const (
	maxKeys    = 5000
	maxDevices = 1024
	maxFormer  = 16
	maxFile    = 64 << 20 // bytes
)

// The file of a Ring, readable by its owner only.
//
//	offset  bytes
//	0       8   "SHEAFPGP"
//	8       4   version, big endian: 1
//	12      24  nonce
//	36      n   XChaCha20-Poly1305 of the entries; bytes 0 to 11 are its associated data
//
// The entries are canonical CBOR: {1: the user's own key with its secret, or no bytes, 2: [{1: key, 2: owner trust, 3: verified}] by fingerprint, the keys as packets of OpenPGP, 3: [{1: public key of the
// device, 2: name, 3: answer, 4: limit, 5: record, 6: signature, 7: fingerprint of the owner, 8: shown by itself}] by public key, 4: need, 5, if there are any:
// [the user's own keys of before, with their secrets]}. A key that is not read is kept as it is.
const (
	fileName = "openpgp"
	magic    = "SHEAFPGP"
	version  = 1
	headLen  = len(magic) + 4
)

// unread is what is kept as it is: keys that this version refuses.
type unread struct {
	own  []byte
	keys []rawEntry
}

// rawEntry is a key as it lies in the file.
type rawEntry struct {
	cert     []byte
	owner    wot.Owner
	verified bool
}

// Open reads the Ring of a folder, which is made when the first key comes. key seals the file; it is to be one that is used for nothing else. The error wraps ErrDamaged if the file is damaged
// or sealed by another key. A key in it that this version refuses does not keep it from being opened: see Unread.
func Open(dir string, key [32]byte) (*Ring, error) {
	r := &Ring{dir: dir, key: key, changed: make(chan struct{})}
	r.state = state{all: map[wot.Fingerprint]entry{}, devices: map[[32]byte]Device{}, need: NeedMember}
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
	if r.state, err = decode(plain); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, r.path(), err)
	}
	return r, nil
}

func (r *Ring) path() string { return filepath.Join(r.dir, fileName) }

// save writes what is to be from now on, and takes it. A crash leaves the file as it was or as it is to be.
func (r *Ring) save(next state) error {
	if len(next.all)+len(next.unread.keys) > maxKeys || len(next.devices) > maxDevices {
		return fmt.Errorf("%w: at most %d, and %d devices", ErrFull, maxKeys, maxDevices)
	}
	plain, err := encode(next)
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
	r.state, r.keys, r.verdicts = next, nil, nil
	close(r.changed)
	r.changed = make(chan struct{})
	return nil
}

// Changed returns a channel that is closed when something of the Ring changes.
func (r *Ring) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

func encode(s state) ([]byte, error) {
	secret := s.unread.own
	if s.own != nil {
		var err error
		if secret, err = s.own.Bytes(); err != nil {
			return nil, err
		}
	}
	fields := 4
	if len(s.former) > 0 {
		fields = 5
	}
	b := cbor.AppendBytes(cbor.AppendUint(cbor.AppendMap(nil, fields), 1), secret)
	b = cbor.AppendArray(cbor.AppendUint(b, 2), len(s.all)+len(s.unread.keys))
	raw := slices.Clone(s.unread.keys)
	for _, f := range sorted(s.all) {
		e := s.all[f]
		var cert bytes.Buffer
		if err := e.cert.Write(&cert); err != nil {
			return nil, fmt.Errorf("write OpenPGP key: %w", err)
		}
		raw = append(raw, rawEntry{cert.Bytes(), e.owner, e.verified})
	}
	for _, e := range raw {
		b = cbor.AppendBytes(cbor.AppendUint(cbor.AppendMap(b, 3), 1), e.cert)
		b = cbor.AppendUint(cbor.AppendUint(b, 2), uint64(e.owner))
		b = cbor.AppendBool(cbor.AppendUint(b, 3), e.verified)
	}
	b = appendDevices(b, s)
	if fields == 5 {
		b = cbor.AppendArray(cbor.AppendUint(b, 5), len(s.former))
		for _, secret := range s.former {
			b = cbor.AppendBytes(b, secret)
		}
	}
	return b, nil
}

func decode(b []byte) (s state, err error) {
	s = state{all: map[wot.Fingerprint]entry{}, devices: map[[32]byte]Device{}}
	r := cbor.NewReader(b)
	last := int64(-1)
	fields := r.Map()
	if fields < 4 || fields > 5 || r.Key(&last) != 1 {
		r.Fail("not a ring")
	}
	if secret := r.Bytes(); len(secret) > 0 && r.Err() == nil {
		if s.own, err = pgp.ReadSecret(bytes.NewReader(secret), nil); err != nil {
			s.unread.own = bytes.Clone(secret)
		}
	}
	if r.Key(&last) != 2 {
		r.Fail("no keys")
	}
	for n := r.Array(); n > 0 && r.Err() == nil; n-- {
		var e rawEntry
		last := int64(-1)
		if r.Map() != 3 || r.Key(&last) != 1 {
			r.Fail("not a key")
		}
		e.cert = r.Bytes()
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
		read, err := pgp.Read(bytes.NewReader(e.cert))
		if err != nil || len(read) != 1 {
			e.cert = bytes.Clone(e.cert)
			s.unread.keys = append(s.unread.keys, e)
			continue
		}
		s.all[read[0].Fingerprint()] = entry{read[0], e.owner, e.verified}
	}
	readDevices(r, &last, &s)
	if fields == 5 {
		readFormer(r, &last, &s)
	}
	return s, r.Close()
}

func readFormer(r *cbor.Reader, last *int64, s *state) {
	if r.Key(last) != 5 {
		r.Fail("no keys of before")
	}
	n := r.Array()
	if n == 0 || n > maxFormer {
		r.Fail("as many keys of before as there cannot be")
	}
	for ; n > 0 && r.Err() == nil; n-- {
		s.former = append(s.former, bytes.Clone(r.Bytes()))
	}
}
