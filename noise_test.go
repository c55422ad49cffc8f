package sheaf

import "math/rand/v2"

type noise struct{ c *rand.ChaCha8 }

func newNoise(seed uint64) *noise {
	var s [32]byte
	for i := range 8 {
		s[i] = byte(seed >> (8 * i))
	}
	return &noise{rand.NewChaCha8(s)}
}

func (n *noise) fill(p []byte) { _, _ = n.c.Read(p) }
