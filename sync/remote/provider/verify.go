package provider

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	gohash "hash"
	"io"
	"strings"

	rclone "github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/hash"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// preferred are the hashes that are known from many places, the best first. They are to find accidents: that nobody
// has changed a blob on purpose is seen when it is opened.
var preferred = []hash.Type{hash.SHA256, hash.SHA1, hash.MD5}

// hash returns the hash by which the place vouches for what it has, hash.None if there is none.
func (b *bucket) hash() hash.Type {
	have := b.f.Hashes()
	for _, t := range preferred {
		if have.Contains(t) {
			return t
		}
	}
	return have.GetOne()
}

// newSum returns what computes the hash, that of sha256 where the place has none: then it is compared with what is read back.
func newSum(t hash.Type) (gohash.Hash, error) {
	if t == hash.None {
		return sha256.New(), nil
	}
	m, err := hash.NewMultiHasherTypes(hash.NewHashSet(t))
	if err != nil {
		return nil, err
	}
	return &one{m, t}, nil
}

// one is a hash of rclone's as one of Go's.
type one struct {
	m *hash.MultiHasher
	t hash.Type
}

func (o *one) Write(p []byte) (int, error) { return o.m.Write(p) }
func (o *one) Reset()                      { o.m, _ = hash.NewMultiHasherTypes(hash.NewHashSet(o.t)) }
func (o *one) Size() int                   { return hash.Width(o.t, false) / 2 }
func (o *one) BlockSize() int              { return 64 }

func (o *one) Sum(p []byte) []byte {
	sum, err := o.m.Sum(o.t)
	if err != nil {
		panic("provider: a hash has no value: " + err.Error())
	}
	return append(p, sum...)
}

// slowHash is from how many bytes on a place that has to compute its hashes is asked for one. Below, a blob is back
// sooner than a program is started there.
const slowHash = 4 << 20

// verify compares what the place has with what was put.
func (b *bucket) verify(ctx context.Context, obj rclone.Object, t hash.Type, sum gohash.Hash, size int64) error {
	if obj == nil {
		return fmt.Errorf("%w: it says nothing of what it has", blob.ErrMangled)
	}
	if got := obj.Size(); got != size {
		return fmt.Errorf("%w: it has %d bytes of %d", blob.ErrMangled, got, size)
	}
	want := sum.Sum(nil)
	if t != hash.None && (size >= slowHash || !b.f.Features().SlowHash) {
		got, err := obj.Hash(ctx, t)
		if err != nil && !errors.Is(err, hash.ErrUnsupported) {
			return fmt.Errorf("ask for its hash: %w", err)
		}
		if err == nil && got != "" {
			if !strings.EqualFold(got, hex.EncodeToString(want)) {
				return fmt.Errorf("%w: its %s is %s, and not %x", blob.ErrMangled, t, got, want)
			}
			return nil
		}
	}
	sum.Reset()
	return readBack(ctx, obj, sum, want, size)
}

func readBack(ctx context.Context, obj rclone.Object, sum gohash.Hash, want []byte, size int64) error {
	r, err := obj.Open(ctx)
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	n, err := io.Copy(sum, blob.Stream(ctx, io.LimitReader(r, size+1)))
	if cerr := r.Close(); err == nil && cerr != nil && n == size {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if got := sum.Sum(nil); n != size || !bytes.Equal(got, want) {
		return fmt.Errorf("%w: read back, it is another blob", blob.ErrMangled)
	}
	return nil
}
