// Package pgp reads and writes OpenPGP keys (RFC 9580, and RFC 4880 as GnuPG has it): the public ones of people, as certificates that grow by merging, and the user's own with its secret. It
// checks signatures, and says nothing of whom to trust: package wot does. What it takes comes from strangers, so all of it is bounded.
package pgp

import (
	"bufio"
	"bytes"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/sheaf-drive/sheaf/sync/trust/wot"
)

// The bounds of what is read.
const (
	MaxBytes        = 4 << 20 // of one text, with all keys in it
	MaxCertificates = 1000    // in one text
	maxPackets      = 4000    // of one key
	maxUserID       = 2048    // bytes
	leastRSA        = 2048    // bits
)

// The errors of reading.
var (
	ErrNoKey    = errors.New("there is no OpenPGP key in it")
	ErrTooLarge = errors.New("too large for an OpenPGP key")
	ErrSecret   = errors.New("it has a secret key in it")
	ErrUnusable = errors.New("the OpenPGP key cannot be used")
)

// The tags of packets (RFC 9580, section 5).
const (
	tagSignature     = 2
	tagSecretKey     = 5
	tagPublicKey     = 6
	tagSecretSubkey  = 7
	tagUserID        = 13
	tagPublicSubkey  = 14
	tagUserAttribute = 17
)

// group is a packet and the signatures that follow it, as they were read.
type group struct {
	head *packet.OpaquePacket
	sigs []*packet.OpaquePacket
}

// A Certificate is a public key with its user IDs, subkeys and all signatures on them. It is never changed, and may be read by several goroutines.
type Certificate struct {
	pub    *packet.PublicKey
	groups []group // the first is the key itself
	names  []string
}

// Fingerprint returns what names the key.
func (c *Certificate) Fingerprint() wot.Fingerprint { return wot.Fingerprint(c.pub.Fingerprint) }

// UserIDs returns those that the key's owner has signed, in their order, revoked and expired ones too.
func (c *Certificate) UserIDs() []string { return slices.Clone(c.names) }

// Name returns the first user ID.
func (c *Certificate) Name() string { return c.names[0] }

// Hex returns a fingerprint as people compare it: 40 or 64 digits, large letters.
func Hex(f wot.Fingerprint) string { return strings.ToUpper(hex.EncodeToString([]byte(f))) }

// ParseHex reads a fingerprint as people write it, with or without blanks and 0x.
func ParseHex(s string) (wot.Fingerprint, error) {
	s = strings.TrimPrefix(strings.TrimPrefix(strings.Join(strings.Fields(s), ""), "0x"), "0X")
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 20 && len(b) != 32 {
		return "", errors.New("a fingerprint has 40 or 64 hexadecimal digits")
	}
	return wot.Fingerprint(b), nil
}

// Read returns the keys in a text, armored or not. Of each key are left out: user IDs without a good signature by the key itself, with what is on them; user attributes (pictures); and what cannot
// be read. A key that has no user ID left, is of an unknown version (4 and 6 are known) or too weak is left out too; if none is left, the error says what was wrong with the first. A text with a
// secret key is refused with ErrSecret, so that nobody hands one over by mistake.
func Read(r io.Reader) ([]*Certificate, error) {
	body, err := dearmor(r)
	if err != nil {
		return nil, err
	}
	all, err := split(body)
	if err != nil {
		return nil, err
	}
	var out []*Certificate
	var first error
	for _, groups := range all {
		c, err := newCertificate(groups)
		if err != nil {
			if errors.Is(err, ErrSecret) {
				return nil, err
			}
			first = errors.Join(first, err)
			continue
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		if first == nil {
			first = ErrNoKey
		}
		return nil, first
	}
	return out, nil
}

// dearmor returns what is to be read as packets, with its bound.
func dearmor(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read OpenPGP key: %w", err)
	}
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, MaxBytes)
	}
	if len(b) > 0 && b[0]&0x80 != 0 {
		return b, nil
	}
	var body []byte
	in := bufio.NewReader(bytes.NewReader(b))
	for n := 0; ; n++ { // several blocks may follow each other
		block, err := armor.Decode(in)
		if err != nil || n == MaxCertificates {
			if len(body) == 0 {
				return nil, ErrNoKey
			}
			return body, nil
		}
		p, err := io.ReadAll(block.Body)
		if err != nil {
			return nil, fmt.Errorf("read OpenPGP key: %w", err)
		}
		body = append(body, p...)
	}
}

// split returns the groups of each key.
func split(body []byte) ([][]group, error) {
	var all [][]group
	or := packet.NewOpaqueReader(bytes.NewReader(body))
	n := 0
	for {
		op, err := or.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read OpenPGP key: %w", err)
		}
		if n++; n > maxPackets {
			return nil, fmt.Errorf("%w: more than %d packets", ErrTooLarge, maxPackets)
		}
		last := len(all) - 1
		switch op.Tag {
		case tagPublicKey, tagSecretKey:
			if len(all) == MaxCertificates {
				return nil, fmt.Errorf("%w: more than %d keys", ErrTooLarge, MaxCertificates)
			}
			all, n = append(all, []group{{head: op}}), 0
		case tagUserID, tagPublicSubkey, tagSecretSubkey, tagUserAttribute:
			if last >= 0 {
				all[last] = append(all[last], group{head: op})
			}
		case tagSignature:
			if last >= 0 {
				g := &all[last][len(all[last])-1]
				g.sigs = append(g.sigs, op)
			}
		}
	}
}

// newCertificate checks what a key says of itself.
func newCertificate(groups []group) (*Certificate, error) {
	if groups[0].head.Tag == tagSecretKey {
		return nil, ErrSecret
	}
	p, err := groups[0].head.Parse()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	pub, ok := p.(*packet.PublicKey)
	if !ok || pub.Version != 4 && pub.Version != 6 || !pub.CanSign() {
		return nil, fmt.Errorf("%w: its version or algorithm is not known", ErrUnusable)
	}
	if pub.PubKeyAlgo == packet.PubKeyAlgoRSA || pub.PubKeyAlgo == packet.PubKeyAlgoDSA {
		if bits, err := pub.BitLength(); err != nil || bits < leastRSA {
			return nil, fmt.Errorf("%w: it has less than %d bits", ErrUnusable, leastRSA)
		}
	}
	c := &Certificate{pub: pub, groups: []group{groups[0]}}
	for _, g := range groups[1:] {
		switch g.head.Tag {
		case tagUserID:
			if len(g.head.Contents) > maxUserID {
				continue
			}
			if c.self(g) == nil {
				continue
			}
			c.names = append(c.names, string(g.head.Contents))
		case tagPublicSubkey:
		case tagSecretSubkey:
			return nil, ErrSecret
		default:
			continue
		}
		c.groups = append(c.groups, g)
	}
	size := 0
	for _, g := range c.groups {
		size += len(g.head.Contents) + 6
		for _, s := range g.sigs {
			size += len(s.Contents) + 6
		}
	}
	if size > MaxBytes { // it can always be read again
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrTooLarge, Hex(c.Fingerprint()), MaxBytes)
	}
	if len(c.names) == 0 {
		return nil, fmt.Errorf("%w: it has no user ID that it has signed", ErrUnusable)
	}
	return c, nil
}

// signature reads a signature; nil: it cannot be read, or is by a hash that is not safe.
func signature(op *packet.OpaquePacket, own bool) *packet.Signature {
	p, err := op.Parse()
	if err != nil {
		return nil
	}
	sig, ok := p.(*packet.Signature)
	if !ok || sig.CreationTime.IsZero() {
		return nil
	}
	switch sig.Hash {
	case crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA3_256, crypto.SHA3_512, crypto.SHA224:
	case crypto.SHA1:
		if !own { // two keys can be made for which one certification is good (eprint 2020/014)
			return nil
		}
	default:
		return nil
	}
	return sig
}

// isCertification reports whether a signature says that a user ID is the key's, or no more.
func isCertification(sig *packet.Signature) bool {
	return sig.SigType >= packet.SigTypeGenericCert && sig.SigType <= packet.SigTypePositiveCert || sig.SigType == packet.SigTypeCertificationRevocation
}

// self returns the newest good signature of the key itself on a user ID, which may revoke it; nil if the key never certified it. The order of signatures means nothing: whoever hands a
// key on may change it.
func (c *Certificate) self(g group) *packet.Signature {
	var best *packet.Signature
	certified := false
	for _, op := range g.sigs {
		sig := signature(op, true)
		if sig == nil || !isCertification(sig) || !sig.CheckKeyIdOrFingerprint(c.pub) || sig.CreationTime.Before(c.pub.CreationTime) {
			continue
		}
		newer, certifies := best == nil || !sig.CreationTime.Before(best.CreationTime), sig.SigType != packet.SigTypeCertificationRevocation
		if !newer && (certified || !certifies) || c.pub.VerifyUserIdSignature(string(g.head.Contents), c.pub, sig) != nil {
			continue
		}
		certified = certified || certifies
		if newer {
			best = sig
		}
	}
	if !certified {
		return nil
	}
	return best
}

// Write writes the key, as bytes.
func (c *Certificate) Write(w io.Writer) error {
	for _, g := range c.groups {
		if err := g.head.Serialize(w); err != nil {
			return err
		}
		for _, s := range g.sigs {
			if err := s.Serialize(w); err != nil {
				return err
			}
		}
	}
	return nil
}

// Armor writes keys as text.
func Armor(w io.Writer, all ...*Certificate) error {
	a, err := armor.Encode(w, "PGP PUBLIC KEY BLOCK", nil)
	if err != nil {
		return err
	}
	for _, c := range all {
		if err := c.Write(a); err != nil {
			return err
		}
	}
	if err := a.Close(); err != nil {
		return err
	}
	_, err = io.WriteString(w, "\n")
	return err
}

// Merge returns the key with what is in either of two: all user IDs, subkeys and signatures. Nothing is ever lost by it, so a revocation that was seen once stays. It panics if the
// keys are not one.
func Merge(a, b *Certificate) (*Certificate, error) {
	if a.Fingerprint() != b.Fingerprint() {
		panic("pgp: merge of two keys")
	}
	var groups []group
	total := 0
	for _, g := range slices.Concat(a.groups, b.groups) {
		i := slices.IndexFunc(groups, func(x group) bool { return same(x.head, g.head) })
		if i < 0 {
			i = len(groups)
			groups = append(groups, group{head: g.head})
			total++
		}
		for _, s := range g.sigs {
			if !slices.ContainsFunc(groups[i].sigs, func(x *packet.OpaquePacket) bool { return same(x, s) }) {
				groups[i].sigs = append(groups[i].sigs, s)
				total++
			}
		}
	}
	if total > maxPackets {
		return nil, fmt.Errorf("%w: %s would have more than %d packets", ErrTooLarge, Hex(a.Fingerprint()), maxPackets)
	}
	slices.SortStableFunc(groups[1:], func(x, y group) int { return rank(x.head.Tag) - rank(y.head.Tag) })
	return newCertificate(groups)
}

// rank orders what follows a key: user IDs come first.
func rank(tag uint8) int {
	if tag == tagUserID {
		return 0
	}
	return 1
}

func same(a, b *packet.OpaquePacket) bool {
	return a.Tag == b.Tag && bytes.Equal(a.Contents, b.Contents)
}
