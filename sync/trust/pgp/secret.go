package pgp

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sheaf-drive/sheaf/sync/trust/wot"
)

// The errors of secret keys.
var (
	ErrPassphrase = errors.New("the passphrase does not open the secret key")
	ErrNoSecret   = errors.New("the secret of the primary key is not in it")
	ErrSignature  = errors.New("the OpenPGP signature is not good")
	ErrNameless   = errors.New("a user ID is a name, an address, or both, without <, >, ( and )")
)

// maxPassphrase is the longest that opens or guards a secret key, in bytes.
const maxPassphrase = 4096

// A Secret is a key of the user, with its secret in the clear in memory. It is safe for concurrent use, and prints as its fingerprint only.
type Secret struct {
	entity *openpgp.Entity
	cert   *Certificate
}

// Format prints the fingerprint.
func (s *Secret) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "[secret key %s]", Hex(s.cert.Fingerprint()))
}

// Certificate returns the public half, as it was made or imported: without what others have signed since.
func (s *Secret) Certificate() *Certificate { return s.cert }

// Generate makes a key: version 4, Ed25519 to certify and sign, and a subkey of X25519 to encrypt to, so that GnuPG 2.1 and later can use it. It does not expire. At least one of name and
// address is needed.
func Generate(name, address string, now time.Time) (*Secret, error) {
	if name+address == "" || len(name)+len(address) > maxUserID/2 || strings.ContainsAny(name+address, "()<>\x00\r\n") {
		return nil, ErrNameless
	}
	e, err := openpgp.NewEntity(name, "", address, config(now))
	if err != nil {
		return nil, fmt.Errorf("make OpenPGP key: %w", err)
	}
	return secretOf(e)
}

// config is how we make keys and signatures.
func config(now time.Time) *packet.Config {
	return &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, DefaultHash: crypto.SHA512, DefaultCipher: packet.CipherAES256, Time: func() time.Time { return now.Truncate(time.Second) },
	}
}

// secretOf returns a Secret of a key that is open.
func secretOf(e *openpgp.Entity) (*Secret, error) {
	if e.PrivateKey == nil || e.PrivateKey.Dummy() || e.PrivateKey.Encrypted {
		return nil, ErrNoSecret
	}
	var b bytes.Buffer
	if err := e.Serialize(&b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	all, err := Read(&b)
	if err != nil {
		return nil, err
	}
	return &Secret{entity: e, cert: all[0]}, nil
}

// ReadSecret reads a key with its secret, armored or not, as GnuPG exports it. passphrase opens it, if it is guarded. If there are several keys, it is the first. The error wraps ErrPassphrase if
// it does not open, and ErrNoSecret if the secret lies elsewhere, on a card for example.
func ReadSecret(r io.Reader, passphrase []byte) (*Secret, error) {
	body, err := dearmor(r)
	if err != nil {
		return nil, err
	}
	all, err := openpgp.ReadKeyRing(bytes.NewReader(body))
	if err != nil || len(all) == 0 {
		return nil, fmt.Errorf("%w: %w", ErrUnusable, errors.Join(ErrNoKey, err))
	}
	e := all[0]
	if e.PrivateKey == nil || e.PrivateKey.Dummy() {
		return nil, ErrNoSecret
	}
	if e.PrivateKey.Encrypted {
		if len(passphrase) > maxPassphrase || e.DecryptPrivateKeys(passphrase) != nil {
			return nil, ErrPassphrase
		}
	}
	return secretOf(e)
}

// Bytes returns the key with its secret in the clear, for ReadSecret. Whoever calls it seals them.
func (s *Secret) Bytes() ([]byte, error) {
	var b bytes.Buffer
	if err := s.entity.SerializePrivateWithoutSigning(&b, nil); err != nil {
		return nil, fmt.Errorf("write secret key: %w", err)
	}
	return b.Bytes(), nil
}

// Export writes the key as text, with its secret under a passphrase that must not be empty, as GnuPG reads it.
func (s *Secret) Export(w io.Writer, passphrase []byte) error {
	if len(passphrase) == 0 || len(passphrase) > maxPassphrase {
		return fmt.Errorf("%w: it takes one of 1 to %d bytes", ErrPassphrase, maxPassphrase)
	}
	plain, err := s.Bytes()
	if err != nil {
		return err
	}
	own, err := ReadSecret(bytes.NewReader(plain), nil) // sealing changes a key in place
	if err != nil {
		return err
	}
	if err := own.entity.EncryptPrivateKeys(passphrase, config(time.Now())); err != nil {
		return fmt.Errorf("seal secret key: %w", err)
	}
	a, err := armor.Encode(w, "PGP PRIVATE KEY BLOCK", nil)
	if err != nil {
		return err
	}
	if err := errors.Join(own.entity.SerializePrivateWithoutSigning(a, nil), a.Close()); err != nil {
		return fmt.Errorf("write secret key: %w", err)
	}
	_, err = io.WriteString(w, "\n")
	return err
}

// A Vouch is what a certification says besides that the user ID is the key's.
type Vouch struct {
	// Depth is how many levels of introducers the key is to be the first of; 0: it is none.
	Depth uint8
	// Amount is wot.AmountMarginal or wot.AmountFull, or another number, if Depth is not 0.
	Amount uint8
	// Domain is where the introducer is believed: user IDs with addresses in it, and in those below it; "": everywhere.
	Domain string
	// For is how long the certification is good, in whole seconds; 0: for ever.
	For time.Duration
}

// Certify returns a key with certifications by this one of the user IDs of it that names has, or of all if that is nil.
func (s *Secret) Certify(c *Certificate, names []string, v Vouch, now time.Time) (*Certificate, error) {
	sig := packet.Signature{SigType: packet.SigTypeGenericCert}
	if v.For != 0 {
		if v.For < time.Second || v.For >= 1<<32*time.Second {
			return nil, fmt.Errorf("a certification is good for 1 to %d seconds", uint32(1<<32-1))
		}
		n := uint32(v.For / time.Second)
		sig.SigLifetimeSecs = &n
	}
	if v.Depth != 0 {
		sig.TrustLevel, sig.TrustAmount = packet.TrustLevel(v.Depth), packet.TrustAmount(v.Amount)
		if v.Domain != "" {
			if strings.ContainsAny(v.Domain, "\\<>@^$[](){}|*+? \x00") {
				return nil, fmt.Errorf("%q is no domain", v.Domain)
			}
			scope := "<[^>]+[@.]" + strings.ReplaceAll(v.Domain, ".", "\\.") + ">$"
			sig.TrustRegularExpression = &scope
		}
	}
	return s.sign(c, names, sig, now)
}

// Withdraw returns a key with revocations of what this one has certified of it.
func (s *Secret) Withdraw(c *Certificate, now time.Time) (*Certificate, error) {
	why := packet.NoReason
	return s.sign(c, nil, packet.Signature{SigType: packet.SigTypeCertificationRevocation, RevocationReason: &why}, now)
}

// Revoke returns the key as one that is revoked: whoever gets it trusts it no more. There is no way back.
func (s *Secret) Revoke(now time.Time) (*Certificate, error) {
	why := packet.NoReason
	sig := packet.Signature{SigType: packet.SigTypeKeyRevocation, RevocationReason: &why}
	if err := s.complete(&sig, now); err != nil {
		return nil, err
	}
	if err := sig.RevokeKey(s.cert.pub, s.entity.PrivateKey, config(now)); err != nil {
		return nil, fmt.Errorf("revoke %s: %w", Hex(s.cert.Fingerprint()), err)
	}
	op, err := opaque(&sig)
	if err != nil {
		return nil, err
	}
	return Merge(s.cert, &Certificate{pub: s.cert.pub, groups: []group{{head: s.cert.groups[0].head, sigs: []*packet.OpaquePacket{op}}}, names: s.cert.names})
}

// sign adds a signature to user IDs.
func (s *Secret) sign(c *Certificate, names []string, like packet.Signature, now time.Time) (*Certificate, error) {
	if c.Fingerprint() == s.cert.Fingerprint() {
		return nil, errors.New("a key does not certify itself")
	}
	more := &Certificate{pub: c.pub, groups: []group{{head: c.groups[0].head}}, names: c.names}
	wanted := map[string]bool{}
	for _, n := range names {
		wanted[n] = true
	}
	signed := 0
	for _, g := range c.groups {
		name := string(g.head.Contents)
		if g.head.Tag != tagUserID || names != nil && !wanted[name] {
			continue
		}
		sig := like
		if err := s.complete(&sig, now); err != nil {
			return nil, err
		}
		if err := sig.SignUserId(name, c.pub, s.entity.PrivateKey, config(now)); err != nil {
			return nil, fmt.Errorf("certify %s: %w", Hex(c.Fingerprint()), err)
		}
		op, err := opaque(&sig)
		if err != nil {
			return nil, err
		}
		more.groups = append(more.groups, group{head: g.head, sigs: []*packet.OpaquePacket{op}})
		signed++
	}
	if signed == 0 || names != nil && signed < len(wanted) {
		return nil, fmt.Errorf("%w: it has no such user ID", ErrUnusable)
	}
	return Merge(c, more)
}

// complete fills in what all signatures have.
func (s *Secret) complete(sig *packet.Signature, now time.Time) error {
	key := s.entity.PrivateKey
	if now.Before(key.CreationTime) {
		return errors.New("the clock is before the time when the key was made")
	}
	sig.Version, sig.PubKeyAlgo, sig.Hash, sig.IssuerKeyId, sig.CreationTime = key.Version, key.PubKeyAlgo, crypto.SHA512, &key.KeyId, now.Truncate(time.Second)
	return nil
}

func opaque(sig *packet.Signature) (*packet.OpaquePacket, error) {
	var b bytes.Buffer
	if err := sig.Serialize(&b); err != nil {
		return nil, fmt.Errorf("write signature: %w", err)
	}
	return packet.NewOpaqueReader(&b).Next()
}

// Sign returns a detached signature of a message by the primary key, as gpg --verify takes it. notation is a name with "@" in it that says what the message is, so that a signature for one purpose is
// good for no other; value goes with it.
func (s *Secret) Sign(message []byte, notation, value string, now time.Time) ([]byte, error) {
	sig := packet.Signature{
		SigType:   packet.SigTypeBinary,
		Notations: []*packet.Notation{{Name: notation, Value: []byte(value), IsHumanReadable: true}},
	}
	if err := s.complete(&sig, now); err != nil {
		return nil, err
	}
	h, err := sig.PrepareSign(config(now))
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	h.Write(message)
	if err := sig.Sign(h, s.entity.PrivateKey, config(now)); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	var b bytes.Buffer
	if err := sig.Serialize(&b); err != nil {
		return nil, fmt.Errorf("write signature: %w", err)
	}
	return b.Bytes(), nil
}

// Verify checks what Sign made, and returns when that was. Whether the key was good then, and whether it is still, package wot says. The error wraps ErrSignature.
func (c *Certificate) Verify(message, signed []byte, notation, value string) (time.Time, error) {
	no := func(why string) (time.Time, error) { return time.Time{}, fmt.Errorf("%w: %s", ErrSignature, why) }
	or := packet.NewOpaqueReader(bytes.NewReader(signed))
	op, err := or.Next()
	if err != nil || op.Tag != tagSignature || len(signed) > maxUserID*4 {
		return no("it is none")
	}
	sig := signature(op, false)
	if sig == nil || sig.SigType != packet.SigTypeBinary {
		return no("its kind is another")
	}
	if !sig.CheckKeyIdOrFingerprint(c.pub) || sig.CreationTime.Before(c.pub.CreationTime) {
		return no("it is by another key than " + Hex(c.Fingerprint()))
	}
	h, err := sig.PrepareVerify()
	if err != nil {
		return no(err.Error())
	}
	h.Write(message)
	if err := c.pub.VerifySignature(h, sig); err != nil {
		return no(err.Error())
	}
	for _, n := range sig.Notations {
		if n.Name == notation && string(n.Value) == value {
			return sig.CreationTime, nil
		}
	}
	return no("it was made for something else")
}

// Compare shows a fingerprint in groups, as people read it to each other.
func Compare(f wot.Fingerprint) string {
	h := Hex(f)
	var parts []string
	for ; len(h) > 4; h = h[4:] {
		parts = append(parts, h[:4])
	}
	return strings.Join(append(parts, h), " ")
}
