package find

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/sheaf-drive/sheaf/chunkstore/cbor"
	"github.com/sheaf-drive/sheaf/sync/remote/peer"
)

// The kinds of cards.
const (
	kindHere   = 1 // on a network: here I am
	kindCall   = 2 // by a server: where are you?
	kindAnswer = 3 // by a server: here
	kindRelay  = 4 // by a server: I did not get through; I wait for you at the relay
)

// The sizes of cards, in bytes.
const (
	maxAddrs  = 16
	plainSize = 448
	nonceSize = chacha20poly1305.NonceSizeX
	// SealedSize is that of each sealed card.
	SealedSize = nonceSize + plainSize + chacha20poly1305.Overhead
)

// errCard says that something is no card of who shares the secret.
var errCard = errors.New("it is no card of this drive")

// A Card is what a device says of itself to the others.
type Card struct {
	Kind  uint8
	From  peer.Key
	At    time.Time // when it was made, by the clock of its device, in milliseconds
	Addrs []netip.AddrPort
	Token [16]byte // names a call, and a place at the relay
}

// seal returns a card that only who has the secret opens, and only as one that was sent under a slot.
func (c *Card) seal(s *Secret, slot Slot) ([]byte, error) {
	addrs := c.Addrs[:min(len(c.Addrs), maxAddrs)]
	b := cbor.AppendMap(make([]byte, 2, plainSize), 5)
	b = cbor.AppendUint(cbor.AppendUint(b, 1), uint64(c.Kind))
	b = cbor.AppendBytes(cbor.AppendUint(b, 2), c.From[:])
	b = cbor.AppendInt(cbor.AppendUint(b, 3), c.At.UnixMilli())
	b = cbor.AppendArray(cbor.AppendUint(b, 4), len(addrs))
	for _, a := range addrs {
		p, err := a.MarshalBinary()
		if err != nil {
			return nil, fmt.Errorf("seal a card: %w", err)
		}
		b = cbor.AppendBytes(b, p)
	}
	b = cbor.AppendBytes(cbor.AppendUint(b, 5), c.Token[:])
	if len(b) > plainSize {
		return nil, fmt.Errorf("seal a card: it has %d bytes", len(b))
	}
	binary.BigEndian.PutUint16(b, uint16(len(b)-2))
	b = b[:plainSize] // the rest is zeros: cards are of one size
	key := sealing(s)
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return nil, fmt.Errorf("seal a card: %w", err)
	}
	out := make([]byte, nonceSize, SealedSize)
	if _, err := rand.Read(out); err != nil {
		return nil, fmt.Errorf("seal a card: %w", err)
	}
	return aead.Seal(out, out, b, slot[:]), nil
}

// open opens a sealed card that came under a slot.
func open(s *Secret, slot Slot, p []byte) (Card, error) {
	if len(p) != SealedSize {
		return Card{}, errCard
	}
	key := sealing(s)
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return Card{}, err
	}
	b, err := aead.Open(nil, p[:nonceSize], p[nonceSize:], slot[:])
	if err != nil {
		return Card{}, errCard
	}
	return decodeCard(b)
}

func decodeCard(b []byte) (c Card, err error) {
	if len(b) < 2 || int(binary.BigEndian.Uint16(b)) > len(b)-2 {
		return Card{}, errCard
	}
	r := cbor.NewReader(b[2:][:binary.BigEndian.Uint16(b)])
	last := int64(-1)
	if n := r.Map(); n != 5 {
		r.Fail("%d pairs", n)
	}
	want := func(k uint64) {
		if got := r.Key(&last); got != k {
			r.Fail("key %d", got)
		}
	}
	want(1)
	c.Kind = uint8(r.UintMax(255))
	want(2)
	r.Fixed(c.From[:])
	want(3)
	c.At = time.UnixMilli(r.Int())
	want(4)
	n := r.Array()
	if n > maxAddrs {
		r.Fail("%d addresses", n)
	}
	for i := 0; i < n && r.Err() == nil; i++ {
		p := r.BytesMax(64)
		if len(p) != 6 && len(p) != 18 { // a zone says nothing on another machine
			r.Fail("an address of %d bytes", len(p))
			break
		}
		var a netip.AddrPort
		if err := a.UnmarshalBinary(p); err != nil {
			r.Fail("an address that is none")
			break
		}
		if usable(a) {
			c.Addrs = append(c.Addrs, a)
		}
	}
	want(5)
	r.Fixed(c.Token[:])
	if err := r.Close(); err != nil {
		return Card{}, fmt.Errorf("%w: %w", errCard, err)
	}
	return c, nil
}

// usable reports whether an address may be that of a device.
func usable(a netip.AddrPort) bool {
	ip := a.Addr().Unmap()
	return a.IsValid() && a.Port() != 0 && !ip.IsUnspecified() && !ip.IsMulticast() && ip != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}
