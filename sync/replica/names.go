package replica

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
)

// The folders of a drive besides packs and index (docs/FORMAT.md, "What a store is").
const heads blob.Name = "heads/"

// before are the folders of the small blobs that are put before heads, in this order. Heads name members
// entries, and these the slots that count.
var before = []blob.Name{"keys/", "drive/", "members/"}

// The longest small blobs, in bytes.
const (
	maxHead  = 128 << 10
	maxSmall = 1 << 20
	maxIndex = 64 << 20
)

// maxFolders is how many devices may have heads at a place.
const maxFolders = 1 << 12

// A head is one of a device's.
type head struct {
	seq  uint64
	size uint32
}

func bySeq(h head, seq uint64) int {
	switch {
	case h.seq < seq:
		return -1
	case h.seq > seq:
		return 1
	}
	return 0
}

func compareHeads(a, b head) int { return bySeq(a, b.seq) }

// find returns the head with that seq.
func find(hs []head, seq uint64) (head, bool) {
	i, ok := slices.BinarySearchFunc(hs, seq, bySeq)
	if !ok {
		return head{}, false
	}
	return hs[i], true
}

// parseHead takes the name of a head apart: its folder, without a slash behind it, and its seq.
func parseHead(n blob.Name) (folder blob.Name, seq uint64, ok bool) {
	const dir = len(heads)
	if len(n) != dir+32+1+16 || n[:dir] != heads || n[dir+32] != '/' {
		return "", 0, false
	}
	var b [16]byte
	if _, err := hex.Decode(b[:], []byte(n[dir:dir+32])); err != nil {
		return "", 0, false
	}
	seq, err := strconv.ParseUint(string(n[dir+33:]), 16, 64)
	folder = n[:dir+32]
	return folder, seq, err == nil && headName(folder, seq) == n && strings.ToLower(string(folder)) == string(folder)
}

func headName(folder blob.Name, seq uint64) blob.Name {
	return blob.Name(fmt.Sprintf("%s/%016x", folder, seq))
}

// listHeads returns the heads of all folders at a place, or of one, in ascending order.
func (o Options) listHeads(ctx context.Context, b blob.Bucket, prefix blob.Name) (map[blob.Name][]head, error) {
	all := map[blob.Name][]head{}
	n := 0
	for info, err := range b.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		folder, seq, ok := parseHead(info.Name)
		if !ok || info.Size < 0 || info.Size > maxHead {
			o.Log.Warn("a blob that is no head is left alone", "blob", string(info.Name), "size", info.Size)
			continue
		}
		if n++; n > o.MaxHeads || len(all) > maxFolders {
			return nil, fmt.Errorf("%w: heads", ErrTooMany)
		}
		all[folder] = append(all[folder], head{seq, uint32(info.Size)})
	}
	for folder, hs := range all {
		slices.SortStableFunc(hs, compareHeads)
		all[folder] = slices.CompactFunc(hs, func(a, b head) bool { return a.seq == b.seq })
	}
	return all, nil
}

// listSmall returns the names and sizes of the small blobs besides heads. The folders are listed at the same time.
func (o Options) listSmall(ctx context.Context, b blob.Bucket) (map[blob.Name]int64, error) {
	parts := make([]map[blob.Name]int64, len(before))
	calls := make([]func(context.Context) error, len(before))
	for i, dir := range before {
		calls[i] = func(ctx context.Context) (err error) { parts[i], err = o.listFolder(ctx, b, dir); return err }
	}
	if err := o.together(ctx, calls...); err != nil {
		return nil, err
	}
	all := parts[0]
	for _, part := range parts[1:] {
		maps.Copy(all, part)
	}
	if len(all) > o.MaxSmall {
		return nil, fmt.Errorf("%w: small blobs", ErrTooMany)
	}
	return all, nil
}

func (o Options) listFolder(ctx context.Context, b blob.Bucket, dir blob.Name) (map[blob.Name]int64, error) {
	all := map[blob.Name]int64{}
	for info, err := range b.List(ctx, dir) {
		if err != nil {
			return nil, err
		}
		if info.Name.Check() != nil || strings.Count(string(info.Name), "/") != 1 || info.Size < 0 || info.Size > maxSmall {
			o.Log.Warn("a blob that is none of a drive is left alone", "blob", string(info.Name), "size", info.Size)
			continue
		}
		if all[info.Name] = info.Size; len(all) > o.MaxSmall {
			return nil, fmt.Errorf("%w: %s", ErrTooMany, dir)
		}
	}
	return all, nil
}

// together makes some calls at the same time, Parallel at most, and returns the first error. That ends the others.
func (o Options) together(ctx context.Context, calls ...func(ctx context.Context) error) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(o.Parallel)
	for _, call := range calls {
		g.Go(func() error { return call(gctx) })
	}
	return g.Wait()
}

// listTable returns the packs, or the index blobs, of a place.
func listTable(ctx context.Context, b blob.Bucket, prefix blob.Name) (*catalog.Table, error) {
	return catalog.List(b.List(ctx, prefix))
}

// folderOf returns the name up to its last slash, that included.
func folderOf(n blob.Name) blob.Name { return n[:strings.LastIndexByte(string(n), '/')+1] }
