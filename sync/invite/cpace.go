package invite

import (
	"crypto/rand"
	"crypto/sha512"
	"errors"

	"github.com/gtank/ristretto255"
)

// CPace is a balanced PAKE: two sides that know one password agree on a key, and who does not know it gets one guess for each run that he takes
// part in, and none by listening. This is the suite CPACE-RISTR255-SHA512 of draft-irtf-cfrg-cpace-21, in its form with an initiator and a
// responder, and passes the vectors of its appendix B.3.

var (
	dsi    = []byte("CPaceRistretto255")
	dsiISK = []byte("CPaceRistretto255_ISK")
)

// errPoint says that the far side sent no point of the group, or the one that leads nowhere.
var errPoint = errors.New("what came is no point of the group")

// lv appends each part with its length before it, as LEB128.
func lv(b []byte, parts ...[]byte) []byte {
	for _, p := range parts {
		n := len(p)
		for ; n >= 128; n >>= 7 {
			b = append(b, byte(n)|128)
		}
		b = append(b, byte(n))
		b = append(b, p...)
	}
	return b
}

// lenOf is how long lv makes one part.
func lenOf(p []byte) int { return len(lv(nil, p)) }

// generator returns the point that a password leads to, in a context ci and a session sid.
func generator(prs, ci, sid []byte) *ristretto255.Element {
	zeros := make([]byte, max(0, sha512.BlockSize-1-lenOf(prs)-lenOf(dsi)))
	sum := sha512.Sum512(lv(nil, dsi, prs, zeros, ci, sid))
	return ristretto255.NewElement().FromUniformBytes(sum[:])
}

// drawScalar draws a secret scalar, as the draft has it for this group: 252 random bits.
func drawScalar() (*ristretto255.Scalar, error) {
	var b [32]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, err
	}
	b[31] &= 0x0f
	s := ristretto255.NewScalar()
	return s, s.Decode(b[:])
}

// share returns what is sent to the far side.
func share(y *ristretto255.Scalar, g *ristretto255.Element) []byte {
	return ristretto255.NewElement().ScalarMult(y, g).Encode(nil)
}

// secret returns the point that both sides know.
func secret(y *ristretto255.Scalar, theirs []byte) ([]byte, error) {
	p := ristretto255.NewElement()
	if len(theirs) != 32 || p.Decode(theirs) != nil {
		return nil, errPoint
	}
	k := p.ScalarMult(y, p)
	if k.Equal(ristretto255.NewElement()) == 1 {
		return nil, errPoint
	}
	return k.Encode(nil), nil
}

// sessionKey returns the intermediate session key: of the initiator's share and what it is bound to, and of the responder's.
func sessionKey(sid, k, ya, ada, yb, adb []byte) [64]byte {
	return sha512.Sum512(lv(lv(nil, dsiISK, sid, k), ya, ada, yb, adb))
}
