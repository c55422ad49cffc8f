package peer

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"sync"
)

// MaxCard is the longest card that is shown and taken, in bytes: over QUIC a handshake may have 16 KiB from each side (quic-go's MaxCryptoStreamOffset), and
// who shows more is not connected at all.
const MaxCard = 12 << 10

// cardID names the extension of a certificate that has the card: an arc that needs nobody to give it out (ITU-T X.667).
var cardID = asn1.ObjectIdentifier{2, 25, 1397245249}

// shown is the certificate with the card that was shown last.
type shown struct {
	mu   sync.Mutex
	card []byte
	cert *tls.Certificate
}

// certificate returns what is shown in a handshake that begins now.
func (n *Node) certificate() (*tls.Certificate, error) {
	if n.o.Card == nil {
		return &n.cert, nil
	}
	card := n.o.Card()
	if len(card) == 0 || len(card) > MaxCard {
		return &n.cert, nil
	}
	n.shown.mu.Lock()
	defer n.shown.mu.Unlock()
	if n.shown.cert == nil || !bytes.Equal(card, n.shown.card) {
		c, _, err := certificate(n.o.Signer, pkix.Extension{Id: cardID, Value: card})
		if err != nil {
			return nil, err
		}
		n.shown.card, n.shown.cert = bytes.Clone(card), &c
	}
	return n.shown.cert, nil
}

// seeCard tells what the far side has shown, which has proven by then that it has the key.
func (n *Node) seeCard(key Key, c *x509.Certificate) {
	if n.o.Shown == nil {
		return
	}
	for _, e := range c.Extensions {
		if e.Id.Equal(cardID) && len(e.Value) <= MaxCard {
			n.o.Shown(key, e.Value)
			return
		}
	}
}
