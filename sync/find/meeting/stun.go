package meeting

import (
	"encoding/binary"
	"net/netip"
)

// Of STUN (RFC 8489): one method, and one attribute.
const (
	stunRequest    = 0x0001
	stunIndication = 0x0011
	stunSuccess    = 0x0101
	stunCookie     = 0x2112A442
	stunMapped     = 0x0020 // XOR-MAPPED-ADDRESS
	stunHead       = 20
	maxSTUN        = 548 // RFC 8489, 6.1
)

// A Transaction names a request of STUN. It is drawn at random, so that only who saw the request can answer it.
type Transaction [12]byte

// BindingRequest asks from which address it comes.
func BindingRequest(t Transaction) []byte { return stunHeader(stunRequest, 0, t) }

// Indication is a packet that nobody answers: it opens the way through a router.
func Indication(t Transaction) []byte { return stunHeader(stunIndication, 0, t) }

func stunHeader(kind, n uint16, t Transaction) []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, 64), kind)
	b = binary.BigEndian.AppendUint16(b, n)
	b = binary.BigEndian.AppendUint32(b, stunCookie)
	return append(b, t[:]...)
}

// parseBindingRequest reads a request, whatever its attributes.
func parseBindingRequest(p []byte) (t Transaction, ok bool) {
	kind, t, _, ok := parseSTUN(p)
	return t, ok && kind == stunRequest
}

func parseSTUN(p []byte) (kind uint16, t Transaction, attributes []byte, ok bool) {
	if len(p) < stunHead || len(p) > maxSTUN || len(p)%4 != 0 || int(binary.BigEndian.Uint16(p[2:])) != len(p)-stunHead || binary.BigEndian.Uint32(p[4:]) != stunCookie {
		return 0, t, nil, false
	}
	return binary.BigEndian.Uint16(p), Transaction(p[8:]), p[stunHead:], true
}

// bindingSuccess answers a request.
func bindingSuccess(t Transaction, at netip.AddrPort) []byte {
	ip, family := at.Addr().Unmap(), byte(1)
	if ip.Is6() {
		family = 2
	}
	raw := ip.AsSlice()
	b := stunHeader(stunSuccess, uint16(8+len(raw)), t)
	b = binary.BigEndian.AppendUint16(b, stunMapped)
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(raw)))
	b = append(b, 0, family)
	b = binary.BigEndian.AppendUint16(b, at.Port()^(stunCookie>>16))
	for i, x := range raw {
		b = append(b, x^b[4+i]) // the cookie and the transaction follow each other
	}
	return b
}

// ParseBinding reads an answer to a request: the address from which that came.
func ParseBinding(p []byte) (t Transaction, at netip.AddrPort, ok bool) {
	kind, t, rest, ok := parseSTUN(p)
	if !ok || kind != stunSuccess {
		return t, at, false
	}
	for len(rest) >= 4 {
		typ, n := binary.BigEndian.Uint16(rest), int(binary.BigEndian.Uint16(rest[2:]))
		rest = rest[4:]
		if n > len(rest) {
			return t, at, false
		}
		if typ == stunMapped && (n == 8 && rest[1] == 1 || n == 20 && rest[1] == 2) {
			raw := make([]byte, n-4)
			for i := range raw {
				raw[i] = rest[4+i] ^ p[4+i]
			}
			ip, _ := netip.AddrFromSlice(raw) // it has 4 or 16 bytes
			return t, netip.AddrPortFrom(ip.Unmap(), binary.BigEndian.Uint16(rest[2:])^(stunCookie>>16)), true
		}
		rest = rest[min(len(rest), (n+3)&^3):]
	}
	return t, at, false
}
