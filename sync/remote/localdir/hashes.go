package localdir

import (
	"crypto/md5" //nolint:gosec // many places know no other
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"maps"
	"sync"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

// Known keeps the hashes of files. It may forget any. It is safe for concurrent use.
type Known interface {
	// Get returns the hashes of that version of the thing id, or nil.
	Get(id string, version remote.Version) map[string]string
	// Put keeps them in place of those of all other versions of it. The map belongs to Known then.
	Put(id string, version remote.Version, hashes map[string]string)
}

// memory is a Known that keeps some in memory, and forgets one at random for each that is too many.
type memory struct {
	mu   sync.Mutex
	most int
	all  map[string]known
}

type known struct {
	version remote.Version
	hashes  map[string]string
}

func newMemory(most int) *memory { return &memory{most: most, all: map[string]known{}} }

func (m *memory) Get(id string, version remote.Version) map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k, ok := m.all[id]; ok && k.version == version && id != "" {
		return maps.Clone(k.hashes)
	}
	return nil
}

func (m *memory) Put(id string, version remote.Version, hashes map[string]string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.all[id]; !ok && len(m.all) >= m.most {
		for one := range m.all {
			delete(m.all, one)
			break
		}
	}
	m.all[id] = known{version, hashes}
}

// sums are the hashes of one stream.
type sums []sum

type sum struct {
	name string
	sum  hash.Hash
}

// newSums returns an error that wraps remote.ErrOption if a name is not known.
func newSums(names []string) (sums, error) {
	all := make(sums, 0, len(names))
	for _, n := range names {
		var h hash.Hash
		switch n {
		case "sha256":
			h = sha256.New()
		case "sha1":
			h = sha1.New() //nolint:gosec // it is to find accidents
		case "md5":
			h = md5.New() //nolint:gosec // it is to find accidents
		default:
			return nil, fmt.Errorf("%w: hash %q is not known: use sha256, sha1 or md5", remote.ErrOption, n)
		}
		all = append(all, sum{n, h})
	}
	return all, nil
}

func (s sums) Write(p []byte) (int, error) {
	for _, one := range s {
		one.sum.Write(p)
	}
	return len(p), nil
}

func (s sums) hashes() map[string]string {
	m := make(map[string]string, len(s))
	for _, one := range s {
		m[one.name] = hex.EncodeToString(one.sum.Sum(nil))
	}
	return m
}
