package tier

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"slices"

	"github.com/zeebo/blake3"
)

// header begins the file of a cached pack:
//
//	offset  length  what
//	0       8       SHEAFCB1
//	8       32      the pack's name
//	40      8       its size, big endian
//	48      16      the first 16 bytes of BLAKE3 of all before
//	64      16·32   for each piece the first 16 bytes of BLAKE3 of the name, the piece's number (1 byte) and the piece; zeros if it is not there
//	576     3520    zeros
type header struct {
	hash [32]byte
	size int64
	sums [maxPieces][16]byte
}

const (
	headerMagic = "SHEAFCB1"
	headerSize  = 4096
)

// errHeader says that a file of the cache is damaged. It never leaves this package.
var errHeader = errors.New("a file of the cache is damaged")

func (h *header) have() (mask uint32) {
	for no, sum := range h.sums {
		if sum != [16]byte{} {
			mask |= 1 << no
		}
	}
	return mask
}

func pieceSum(hash [32]byte, no int, p []byte) (sum [16]byte) {
	h := blake3.New()
	_, _ = h.Write(hash[:]) // never fails
	_, _ = h.Write([]byte{byte(no)})
	_, _ = h.Write(p)
	copy(sum[:], h.Sum(nil))
	return sum
}

func appendHeader(b []byte, h header) []byte {
	from := len(b)
	b = append(b, headerMagic...)
	b = append(b, h.hash[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(h.size))
	sum := blake3.Sum256(b[from:])
	b = append(b, sum[:16]...)
	for _, s := range h.sums {
		b = append(b, s[:]...)
	}
	return append(b, make([]byte, headerSize-(len(b)-from))...)
}

func parseHeader(p []byte) (h header, err error) {
	if len(p) != headerSize || string(p[:8]) != headerMagic {
		return h, errHeader
	}
	if sum := blake3.Sum256(p[:48]); !bytes.Equal(sum[:16], p[48:64]) {
		return h, errHeader
	}
	copy(h.hash[:], p[8:])
	size := binary.BigEndian.Uint64(p[40:])
	if size == 0 || size > maxPieces*Grid {
		return h, errHeader
	}
	h.size = int64(size)
	for no := range h.sums {
		copy(h.sums[no][:], p[64+16*no:])
	}
	if h.have()>>((h.size+Grid-1)/Grid) != 0 || !bytes.Equal(appendHeader(nil, h), p) {
		return h, errHeader
	}
	return h, nil
}

// The file of pins: magic, the names in order, and the BLAKE3 hash of all that.
const pinsMagic = "SHEAFPI1"

func appendPins(b []byte, pinned map[[32]byte]bool) []byte {
	b = append(b, pinsMagic...)
	for _, h := range slices.SortedFunc(maps.Keys(pinned), func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) }) {
		b = append(b, h[:]...)
	}
	sum := blake3.Sum256(b)
	return append(b, sum[:]...)
}

func parsePins(p []byte) (map[[32]byte]bool, error) {
	if len(p) < len(pinsMagic)+32 || (len(p)-len(pinsMagic))%32 != 0 || string(p[:len(pinsMagic)]) != pinsMagic ||
		blake3.Sum256(p[:len(p)-32]) != [32]byte(p[len(p)-32:]) {
		return nil, errHeader
	}
	pinned := map[[32]byte]bool{}
	for rest := p[len(pinsMagic) : len(p)-32]; len(rest) > 0; rest = rest[32:] {
		pinned[[32]byte(rest)] = true
	}
	if !bytes.Equal(appendPins(nil, pinned), p) {
		return nil, errHeader
	}
	return pinned, nil
}
