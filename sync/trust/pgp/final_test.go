package pgp_test

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"

	"github.com/ProtonMail/go-crypto/openpgp/eddsa"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// final makes a certification that its maker cannot revoke, which the library does not: it takes that of the library, adds the subpacket, and signs anew (RFC 9580, section 5.2.4).
func (m *maker) final(by *packet.PrivateKey, sig *packet.Signature, name string, on *packet.PublicKey) []byte {
	m.t.Helper()
	m.sign(by, sig, name, on)
	body := bytes.Clone(sig.HashSuffix[:len(sig.HashSuffix)-6])
	body = append(body, 2, 7, 0) // its length, its type, not revocable
	binary.BigEndian.PutUint16(body[4:], uint16(len(body)-6))

	h := sha512.New()
	if err := on.SerializeForHash(h); err != nil {
		m.t.Fatal(err)
	}
	h.Write(binary.BigEndian.AppendUint32([]byte{0xb4}, uint32(len(name))))
	h.Write([]byte(name))
	h.Write(body)
	h.Write(binary.BigEndian.AppendUint32([]byte{4, 0xff}, uint32(len(body))))
	digest := h.Sum(nil)
	r, s, err := eddsa.Sign(by.PrivateKey.(*eddsa.PrivateKey), digest)
	if err != nil {
		m.t.Fatal(err)
	}
	body = append(body, 0, 10, 9, 16) // not hashed: the issuer
	body = binary.BigEndian.AppendUint64(body, by.KeyId)
	body = append(body, digest[:2]...)
	for _, n := range [][]byte{r, s} {
		body = append(body, mpi(n)...)
	}
	var b bytes.Buffer
	if err := (&packet.OpaquePacket{Tag: 2, Contents: body}).Serialize(&b); err != nil {
		m.t.Fatal(err)
	}
	return b.Bytes()
}

// mpi writes a number with its length in bits before it.
func mpi(n []byte) []byte {
	n = bytes.TrimLeft(n, "\x00")
	bits := 0
	if len(n) > 0 {
		bits = 8 * (len(n) - 1)
		for top := n[0]; top != 0; top >>= 1 {
			bits++
		}
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(bits)), n...)
}
