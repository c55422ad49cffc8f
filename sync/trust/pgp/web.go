package pgp

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/sheaf-drive/sheaf/sync/trust/wot"
)

// A Checker turns certificates into what package wot takes. It remembers which signatures it has checked, so that the next time costs little. It is not safe for
// concurrent use. The zero value is ready.
type Checker struct {
	good map[[32]byte]bool // by the signature, what it is on, and who made it
}

// maxRemembered bounds a Checker: when it knows so many signatures, it forgets them all.
const maxRemembered = 200_000

// Keys returns the keys with the certifications on them by each other that are good. Signatures by keys that are not among them are left out, and so are those that GnuPG does not take:
// by other hashes than SHA-2 and SHA-3, by subkeys, of version 3, and those that are not to leave the program that made them.
func (k *Checker) Keys(all []*Certificate, owner func(wot.Fingerprint) wot.Owner) []wot.Key {
	if k.good == nil || len(k.good) > maxRemembered {
		k.good = map[[32]byte]bool{}
	}
	by := map[uint64][]*Certificate{}
	for _, c := range all {
		by[c.pub.KeyId] = append(by[c.pub.KeyId], c)
	}
	out := make([]wot.Key, 0, len(all))
	for _, c := range all {
		w := c.own()
		w.Owner = owner(w.Fingerprint)
		i := 0
		for _, g := range c.groups {
			if g.head.Tag != tagUserID {
				continue
			}
			for _, op := range g.sigs {
				if cert, ok := k.cert(c, g, op, by); ok {
					w.UserIDs[i].Certs = append(w.UserIDs[i].Certs, cert)
				}
			}
			i++
		}
		out = append(out, w)
	}
	return out
}

// own returns what a key says of itself.
func (c *Certificate) own() wot.Key {
	w := wot.Key{Fingerprint: c.Fingerprint(), Created: c.pub.CreationTime.Unix()}
	var newest *packet.Signature
	for _, op := range c.groups[0].sigs {
		sig := signature(op, true)
		if sig == nil || !sig.CheckKeyIdOrFingerprint(c.pub) || sig.CreationTime.Before(c.pub.CreationTime) {
			continue
		}
		switch sig.SigType {
		case packet.SigTypeKeyRevocation:
			w.Revoked = w.Revoked || c.pub.VerifyRevocationSignature(sig) == nil
		case packet.SigTypeDirectSignature:
			if (newest == nil || !sig.CreationTime.Before(newest.CreationTime)) && c.pub.VerifyDirectKeySignature(sig) == nil {
				newest = sig
			}
		}
	}
	if newest != nil {
		w.Expires = after(w.Created, newest.KeyLifetimeSecs)
	}
	for _, g := range c.groups {
		if g.head.Tag != tagUserID {
			continue
		}
		sig := c.self(g)
		u := wot.UserID{Name: string(g.head.Contents), Created: sig.CreationTime.Unix(), Revoked: sig.SigType == packet.SigTypeCertificationRevocation}
		if !u.Revoked {
			u.Expires, u.KeyExpires = after(u.Created, sig.SigLifetimeSecs), after(w.Created, sig.KeyLifetimeSecs)
		}
		w.UserIDs = append(w.UserIDs, u)
	}
	return w
}

// after returns a time that is so many seconds later; none and 0 are never.
func after(t int64, secs *uint32) int64 {
	if secs == nil || *secs == 0 {
		return 0
	}
	return t + int64(*secs)
}

// cert returns what a signature on a user ID by another key says, if it is good.
func (k *Checker) cert(c *Certificate, g group, op *packet.OpaquePacket, by map[uint64][]*Certificate) (cert wot.Cert, ok bool) {
	sig := signature(op, false)
	if sig == nil || !isCertification(sig) || sig.IssuerKeyId == nil {
		return cert, false
	}
	for _, signer := range by[*sig.IssuerKeyId] {
		if signer == c || !sig.CheckKeyIdOrFingerprint(signer.pub) || !k.check(signer, c, g, op, sig) {
			continue
		}
		t := sig.CreationTime.Unix()
		cert = wot.Cert{
			By: signer.Fingerprint(), Revocation: sig.SigType == packet.SigTypeCertificationRevocation, Persona: sig.SigType == packet.SigTypePersonaCert,
			Final: final(sig), Time: t, Depth: uint8(sig.TrustLevel), Amount: uint8(sig.TrustAmount),
		}
		if sig.SigLifetimeSecs != nil {
			cert.Expires = t + int64(*sig.SigLifetimeSecs) // if it says 0 seconds, GnuPG takes it at its word
		}
		if cert.Depth != 0 && sig.TrustRegularExpression != nil {
			cert.Scoped, cert.Scope = true, *sig.TrustRegularExpression
		}
		return cert, true
	}
	return cert, false
}

// check verifies a signature, or remembers that it was good.
func (k *Checker) check(signer, on *Certificate, g group, op *packet.OpaquePacket, sig *packet.Signature) bool {
	h := sha256.New()
	for _, p := range [][]byte{[]byte(signer.Fingerprint()), []byte(on.Fingerprint()), g.head.Contents, op.Contents} {
		_ = binary.Write(h, binary.BigEndian, uint32(len(p)))
		h.Write(p)
	}
	id := [32]byte(h.Sum(nil))
	good, known := k.good[id]
	if !known {
		good = signer.pub.VerifyUserIdSignature(string(g.head.Contents), on.pub, sig) == nil
		k.good[id] = good
	}
	return good
}

// subRevocable is the type of the subpacket by which a signer gives up to revoke (RFC 9580, section 5.2.3.20).
const subRevocable = 7

// final reports whether the signer gave up to revoke it. The library does not say; the hashed part of a signature follows version, type, two algorithms, and its length.
func final(sig *packet.Signature) bool {
	head, size := 4, 2
	if sig.Version == 6 {
		size = 4
	}
	if len(sig.HashSuffix) < head+size {
		return false
	}
	n := int(binary.BigEndian.Uint16(sig.HashSuffix[head:]))
	if size == 4 {
		n = int(binary.BigEndian.Uint32(sig.HashSuffix[head:]))
	}
	rest := sig.HashSuffix[head+size:]
	if n < 0 || n > len(rest) {
		return false
	}
	all, err := packet.OpaqueSubpackets(rest[:n])
	if err != nil {
		return false
	}
	for _, s := range all {
		if s.SubType&0x7f == subRevocable && len(s.Contents) > 0 {
			return s.Contents[0] == 0
		}
	}
	return false
}
