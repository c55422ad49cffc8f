package pgp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sheaf-drive/sheaf/sync/trust/wot"
)

// Created returns when the key was made, as it says.
func (c *Certificate) Created() time.Time { return c.pub.CreationTime }

// Size returns how many bytes Write writes, at most.
func (c *Certificate) Size() int {
	n := 0
	for _, g := range c.groups {
		n += g.size()
	}
	return n
}

func (g group) size() int {
	n := len(g.head.Contents) + 6
	for _, s := range g.sigs {
		n += len(s.Contents) + 6
	}
	return n
}

// Trim returns of a key what fits into so many bytes, to be handed to others who want to know whose it is: revocations of it, its user IDs with what it says of them itself, and of the certifications by
// others the newest. Subkeys are left out. The error wraps ErrTooLarge if not even the key and one user ID fit.
func (c *Certificate) Trim(most int) (*Certificate, error) {
	head := group{head: c.groups[0].head}
	size := head.size()
	take := func(g *group, op *packet.OpaquePacket) bool {
		if n := len(op.Contents) + 6; size+n <= most {
			size, g.sigs = size+n, append(g.sigs, op)
			return true
		}
		return false
	}
	for _, revokes := range []bool{true, false} { // a key that says much of itself still can be revoked
		for _, op := range c.groups[0].sigs {
			if sig := signature(op, true); sig != nil && (sig.SigType == packet.SigTypeKeyRevocation) == revokes && sig.CheckKeyIdOrFingerprint(c.pub) {
				take(&head, op)
			}
		}
	}
	groups := []group{head}
	type other struct {
		of int
		op *packet.OpaquePacket
		at time.Time
	}
	var others []other
	for _, g := range c.groups[1:] {
		if g.head.Tag != tagUserID {
			continue
		}
		next := group{head: g.head}
		if size += next.size(); size > most {
			break
		}
		for _, op := range g.sigs {
			sig := signature(op, true)
			switch {
			case sig == nil:
			case sig.CheckKeyIdOrFingerprint(c.pub):
				take(&next, op)
			case isCertification(sig):
				others = append(others, other{len(groups), op, sig.CreationTime})
			}
		}
		groups = append(groups, next)
	}
	slices.SortStableFunc(others, func(a, b other) int { return b.at.Compare(a.at) })
	for _, o := range others {
		if !take(&groups[o.of], o.op) {
			break
		}
	}
	out, err := newCertificate(groups)
	if err != nil {
		return nil, fmt.Errorf("%w: %s in %d bytes: %w", ErrTooLarge, Hex(c.Fingerprint()), most, err)
	}
	return out, nil
}

// Revocation returns the key with nothing on it but one revocation by itself, and a user ID; nil if nothing revokes it.
func (c *Certificate) Revocation() *Certificate {
	for _, op := range c.groups[0].sigs {
		sig := signature(op, true)
		if sig == nil || sig.SigType != packet.SigTypeKeyRevocation || !sig.CheckKeyIdOrFingerprint(c.pub) || c.pub.VerifyRevocationSignature(sig) != nil {
			continue
		}
		groups := []group{{head: c.groups[0].head, sigs: []*packet.OpaquePacket{op}}}
		for _, g := range c.groups[1:] {
			if g.head.Tag == tagUserID {
				groups = append(groups, g)
				break
			}
		}
		if out, err := newCertificate(groups); err == nil {
			return out
		}
	}
	return nil
}

// maxSignature is the longest signature that is read, in bytes, armored or not.
const maxSignature = 64 << 10

// Verify checks a detached signature on what r has, made by any of these keys or by a subkey of theirs that signs, as gpg --detach-sign makes it, armored or not. It returns whose it is, and when it was made, as it says. A key that
// has expired or was revoked signs nothing. The error wraps ErrSignature, and ErrNoKey besides if none of the keys made it.
func Verify(r io.Reader, signed []byte, all []*Certificate, now time.Time) (wot.Fingerprint, time.Time, error) {
	no := func(err error) (wot.Fingerprint, time.Time, error) {
		return "", time.Time{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if len(signed) > maxSignature {
		return no(ErrTooLarge)
	}
	if block, err := armor.Decode(bytes.NewReader(signed)); err == nil {
		if signed, err = io.ReadAll(block.Body); err != nil {
			return no(err)
		}
	}
	op, err := packet.NewOpaqueReader(bytes.NewReader(signed)).Next()
	if err != nil || op.Tag != tagSignature {
		return no(errors.New("it is none"))
	}
	sig := signature(op, false)
	if sig == nil || sig.IssuerKeyId == nil {
		return no(errors.New("it cannot be read, or its hash is not safe"))
	}
	var ring openpgp.EntityList
	for _, c := range all {
		var b bytes.Buffer
		if err := c.Write(&b); err != nil {
			return no(err)
		}
		if e, err := openpgp.ReadEntity(packet.NewReader(&b)); err == nil && len(openpgp.EntityList{e}.KeysById(*sig.IssuerKeyId)) > 0 {
			ring = append(ring, e)
		}
	}
	if len(ring) == 0 {
		return no(fmt.Errorf("%w: it is by the key %016X", ErrNoKey, *sig.IssuerKeyId))
	}
	made, by, err := openpgp.VerifyDetachedSignature(ring, r, bytes.NewReader(signed), config(now))
	if err != nil {
		return no(err)
	}
	return wot.Fingerprint(by.PrimaryKey.Fingerprint), made.CreationTime, nil
}
