package peer

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// What two peers speak (RFC 7301).
const (
	alpn      = "sheaf/1"
	guestALPN = "sheaf-guest/1" // the same, begun by one that was refused, and is to be heard first
)

// A Key is the public Ed25519 key by which a device signs. It says who is at the other end.
type Key [ed25519.PublicKeySize]byte

// The errors of who is at the other end.
var (
	// ErrStranger says that a device is not admitted: it never was, or was revoked.
	ErrStranger = errors.New("the device is not admitted")
	// ErrRefused is beside ErrStranger that of a device which is known, and is not admitted whatever it shows: it is not heard.
	ErrRefused = errors.New("the device is refused")
	// ErrImpostor says that another device answered than was called.
	ErrImpostor = errors.New("another device answered than was called")
)

// A Grant is what a device may do with the Bucket of this one.
type Grant struct {
	Read  bool // get and list
	Write bool // put and remove
}

// certificate makes the certificate of a device: signed by itself, and saying nothing but its key, and more. The times in it are not looked at by anybody: who
// is admitted is, and a clock that is wrong must not keep devices apart.
func certificate(signer crypto.Signer, more ...pkix.Extension) (tls.Certificate, Key, error) {
	pub, ok := signer.Public().(ed25519.PublicKey)
	if !ok {
		return tls.Certificate{}, Key{}, errors.New("certificate of a device: it signs by Ed25519")
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, Key{}, fmt.Errorf("certificate of a device: %w", err)
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "sheaf"},
		NotBefore: time.Unix(1577836800, 0), NotAfter: time.Unix(253370764800, 0), // of 2020, of 9999
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, ExtraExtensions: more,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, pub, signer)
	if err != nil {
		return tls.Certificate{}, Key{}, fmt.Errorf("certificate of a device: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: signer}, Key(pub), nil
}

// keyOf returns the key of who is at the other end. TLS has proven by then that it has the private one.
func keyOf(cs tls.ConnectionState) (Key, error) {
	if len(cs.PeerCertificates) != 1 {
		return Key{}, fmt.Errorf("%w: %d certificates", ErrProtocol, len(cs.PeerCertificates))
	}
	pub, ok := cs.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok {
		return Key{}, fmt.Errorf("%w: its certificate is not of an Ed25519 key", ErrProtocol)
	}
	return Key(pub), nil
}

// config is the configuration of a handshake, of either side, which speaks one of protos. want is who was called; nil: anybody who is admitted, or is heard. VerifyConnection is also
// called for a handshake that resumes a session; there are none, as no tickets are given out and none are kept.
func (n *Node) config(ctx context.Context, want *Key, protos ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: protos, ServerName: "sheaf",
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return n.certificate() },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return n.certificate() },
		ClientAuth:           tls.RequireAnyClientCert, SessionTicketsDisabled: true,
		InsecureSkipVerify: true, //nolint:gosec // nobody signs for a device but itself: VerifyConnection looks up its key
		VerifyConnection: func(cs tls.ConnectionState) error {
			key, err := keyOf(cs)
			switch {
			case err != nil:
				return err
			case !slices.Contains(protos, cs.NegotiatedProtocol):
				return fmt.Errorf("%w: it speaks %q", ErrProtocol, cs.NegotiatedProtocol)
			case cs.DidResume:
				return fmt.Errorf("%w: it resumes a session", ErrProtocol)
			case want != nil && key != *want:
				return ErrImpostor
			case key == n.key:
				return fmt.Errorf("%w: it is this device itself", ErrImpostor)
			}
			n.seeCard(key, cs.PeerCertificates[0])
			if _, err = n.admit(ctx, key); want == nil && cs.NegotiatedProtocol == guestALPN && n.maybe(err) {
				return nil
			}
			return err
		},
	}
}

// admit asks who is admitted.
func (n *Node) admit(ctx context.Context, key Key) (Grant, error) {
	g, err := n.o.Admit(ctx, key)
	if err == nil && !g.Read && !g.Write {
		err = ErrStranger
	}
	return g, err
}
