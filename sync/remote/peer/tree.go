package peer

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/zeebo/blake3"
	"lukechampine.com/blake3/bao"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
)

// ErrWrongBytes says that the bytes of a pack are not those of its name. Nothing of them was handed out, or stored.
var ErrWrongBytes = errors.New("the bytes are not those of the pack's name")

// A group is what is verified at once: 2^groupLog chunks of BLAKE3, of 1 KiB.
const (
	groupLog = 10
	group    = 1024 << groupLog
)

// maxTrees is how many trees of packs are kept, on each side.
const maxTrees = 2048

// maxTree is the longest tree, in bytes: of a blob of maxBlob bytes.
const maxTree = 8 + 64*(maxBlob/group-1)

// trees keeps trees of packs. What is in it was either made here, or is proven wrong by the first group that does not fit it.
type trees struct {
	mu  sync.Mutex
	all map[[32]byte][]byte
}

func (t *trees) get(hash [32]byte) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all[hash]
}

func (t *trees) put(hash [32]byte, tree []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil || len(t.all) >= maxTrees {
		t.all = map[[32]byte][]byte{}
	}
	t.all[hash] = tree
}

func (t *trees) forget(hash [32]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.all, hash)
}

// writerAt is memory that is written to anywhere.
type writerAt []byte

func (w writerAt) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(w)) {
		return 0, io.ErrShortWrite
	}
	return copy(w[off:], p), nil
}

// makeTree returns the tree of the size bytes of r, whose hash has to be hash.
func makeTree(r io.Reader, size int64, hash [32]byte) ([]byte, error) {
	if size <= 0 || size > maxBlob {
		return nil, fmt.Errorf("%w: a pack of %d bytes", ErrWrongBytes, size)
	}
	w := make(writerAt, bao.EncodedSize(int(size), groupLog, true))
	root, err := bao.Encode(w, r, size, groupLog, true)
	if err != nil {
		return nil, err
	}
	if root != hash {
		return nil, ErrWrongBytes
	}
	return w, nil
}

// sizeOf returns the size that a tree says, or -1 if it is none. It is believed when a group fits.
func sizeOf(tree []byte) int64 {
	if len(tree) < 8 || len(tree) > maxTree {
		return -1
	}
	var n uint64
	for i := range 8 {
		n |= uint64(tree[i]) << (8 * i)
	}
	if n == 0 || n > maxBlob || len(tree) != bao.EncodedSize(int(n), groupLog, true) {
		return -1
	}
	return int64(n)
}

// fits reports whether p is what a pack has at off, which is where a group begins.
func fits(tree []byte, hash [32]byte, off int64, p []byte) bool {
	return len(p) > 0 && off%group == 0 && bao.VerifyChunk(p, tree, groupLog, uint64(off), hash)
}

// proving reads a pack, and gives out its last bytes only if the hash of all is its name.
type proving struct {
	r    io.Reader
	h    *blake3.Hasher
	want [32]byte
	left int64
	err  error
}

// proven returns a reader that fails before the end of r, which has size bytes, if it is a pack with wrong bytes.
func proven(name blob.Name, r io.Reader, size int64) io.Reader {
	hash, ok := catalog.PackHash(name)
	if !ok {
		return r
	}
	return &proving{r: r, h: blake3.New(), want: hash, left: size}
}

func (p *proving) Read(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	n, err := p.r.Read(b)
	_, _ = p.h.Write(b[:n]) // never fails
	if p.left -= int64(n); p.left == 0 && n > 0 && [32]byte(p.h.Sum(nil)) != p.want {
		p.err = ErrWrongBytes
		return 0, p.err
	}
	p.err = err
	return n, err
}
