package meeting

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// A Slot is a pseudonym.
type Slot [16]byte

// A Claim is what a device shows a server to be who is meant by a Slot: the Slot is a hash of it.
type Claim [16]byte

// A Token is what two connections say that are to be joined by a relay.
type Token [16]byte

// Slot returns the pseudonym to which a Claim belongs.
func (c Claim) Slot() Slot {
	sum := sha256.Sum256(append([]byte("sheaf slot "), c[:]...))
	return Slot(sum[:16])
}

const alpn = "sheaf-meet/1"

// The kinds of frames.
const (
	frameHold = 1 + iota
	frameHeld
	frameTell
	frameTold
	frameSaid
	frameRelay
	frameJoined
	framePing
	framePong
)

// What is said of a tell.
const (
	toldNobody = iota
	toldPassed
	toldTooMuch
)

// The limits of the protocol.
const (
	maxFrame  = 2 << 10
	maxClaims = 8
	// MaxTell is the size of what may be told, in bytes.
	MaxTell = 1 << 10
	// Quiet is how long either side may say nothing.
	Quiet     = 60 * time.Second
	pingEvery = 20 * time.Second
	shakeWait = 10 * time.Second
)

// errFrame says that what came is not of the protocol.
var errFrame = errors.New("what came is not of the protocol")

func appendFrame(b []byte, kind byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	b = binary.BigEndian.AppendUint16(append(b, kind), uint16(n))
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// readFrame reads one frame into buf, which has at least maxFrame bytes.
func readFrame(r io.Reader, buf []byte) (kind byte, payload []byte, err error) {
	if _, err := io.ReadFull(r, buf[:3]); err != nil {
		return 0, nil, err
	}
	kind = buf[0]
	n := int(binary.BigEndian.Uint16(buf[1:]))
	if n > maxFrame {
		return 0, nil, fmt.Errorf("%w: a frame of %d bytes", errFrame, n)
	}
	_, err = io.ReadFull(r, buf[:n])
	return kind, buf[:n], err
}

// parseClaims reads what a hold has.
func parseClaims(p []byte) ([]Claim, error) {
	if len(p)%len(Claim{}) != 0 || len(p) > maxClaims*len(Claim{}) {
		return nil, fmt.Errorf("%w: claims of %d bytes", errFrame, len(p))
	}
	var all []Claim
	for ; len(p) > 0; p = p[len(Claim{}):] {
		all = append(all, Claim(p))
	}
	return all, nil
}

// parseTell reads what a tell has. It shares its bytes.
func parseTell(p []byte) (number uint32, slot Slot, text []byte, err error) {
	if len(p) < 4+len(slot) || len(p) > 4+len(slot)+MaxTell {
		return 0, slot, nil, fmt.Errorf("%w: a tell of %d bytes", errFrame, len(p))
	}
	return binary.BigEndian.Uint32(p), Slot(p[4:]), p[4+len(slot):], nil
}

// A Server is where a server is: an address "host:port", and the SHA-256 of its public key (SubjectPublicKeyInfo). Without that its certificate has to be one that this system trusts.
type Server struct {
	Addr string
	Pin  *[sha256.Size]byte
}

var pinText = base32.StdEncoding.WithPadding(base32.NoPadding)

// String returns the server as ParseServer reads it: HOST:PORT, or HOST:PORT~HASH.
func (s Server) String() string {
	if s.Pin == nil {
		return s.Addr
	}
	return s.Addr + "~" + strings.ToLower(pinText.EncodeToString(s.Pin[:]))
}

// ParseServer reads the address of a server.
func ParseServer(text string) (Server, error) {
	addr, pin, pinned := strings.Cut(strings.TrimSpace(text), "~")
	s := Server{Addr: addr}
	if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" || len(addr) > 300 {
		return s, fmt.Errorf("%q is no server: it is HOST:PORT, or HOST:PORT~HASH as sheaf server rendezvous shows it", text)
	}
	if !pinned {
		return s, nil
	}
	sum, err := pinText.DecodeString(strings.ToUpper(pin))
	if err != nil || len(sum) != sha256.Size {
		return s, fmt.Errorf("%q is no server: what follows ~ is not the hash of a key", text)
	}
	s.Pin = (*[sha256.Size]byte)(sum)
	return s, nil
}
