package tier

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
	"github.com/sheaf-drive/sheaf/chunkstore/durable"
)

// knowledge is what each remote has, as far as was learned. It is read from its file when it is first needed.
type knowledge struct {
	path string // "" for memory
	log  *slog.Logger

	once  sync.Once
	write sync.Mutex // one change at a time, which may take as long as the disk does
	mu    sync.Mutex
	all   map[string]*catalog.Table // replaced one by one; a Table never changes
}

func newKnowledge(path string, log *slog.Logger) *knowledge { return &knowledge{path: path, log: log} }

// load reads the file. One that is damaged, or not there, is as if nothing had been learned.
func (k *knowledge) load() {
	k.once.Do(func() {
		all := map[string]*catalog.Table{}
		if k.path != "" {
			p, err := os.ReadFile(k.path)
			if err == nil {
				all, err = parseKnowledge(p)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				k.log.Warn("what remotes have must be learned anew", "err", err)
				all = map[string]*catalog.Table{}
			}
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.all = all
	})
}

func (k *knowledge) names() []string {
	k.load()
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Sorted(maps.Keys(k.all))
}

func (k *knowledge) tables() []*catalog.Table {
	k.load()
	k.mu.Lock()
	defer k.mu.Unlock()
	var tables []*catalog.Table
	for _, name := range slices.Sorted(maps.Keys(k.all)) {
		tables = append(tables, k.all[name])
	}
	return tables
}

func (k *knowledge) of(name string) (*catalog.Table, bool) {
	k.load()
	k.mu.Lock()
	defer k.mu.Unlock()
	t, ok := k.all[name]
	return t, ok
}

func (k *knowledge) drop(name string) error {
	return k.change(func(m map[string]*catalog.Table) { delete(m, name) })
}

// change changes what is known, durably. If it fails nothing is changed.
func (k *knowledge) change(f func(map[string]*catalog.Table)) error {
	k.load()
	k.write.Lock()
	defer k.write.Unlock()
	k.mu.Lock()
	all := maps.Clone(k.all)
	k.mu.Unlock()
	f(all)
	if k.path != "" {
		if err := durable.WriteFile(k.path, appendKnowledge(nil, all)); err != nil {
			return fmt.Errorf("write catalog: %w", noSpace(err))
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.all = all
	return nil
}

// The file: magic, and for each remote, in the order of their names, the length of its name (1 byte), its name, the length of its
// table (4 bytes, big endian) and that; then the BLAKE3 hash of all that.
const knownMagic = "SHEAFCK1"

// errKnown says that the file is not what appendKnowledge writes.
var errKnown = errors.New("the file of what remotes have is damaged")

func appendKnowledge(b []byte, all map[string]*catalog.Table) []byte {
	b = append(b, knownMagic...)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		b = append(b, byte(len(name)))
		b = append(b, name...)
		at := len(b)
		b = all[name].Append(append(b, 0, 0, 0, 0))
		binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	}
	sum := blake3.Sum256(b)
	return append(b, sum[:]...)
}

func parseKnowledge(p []byte) (map[string]*catalog.Table, error) {
	if len(p) < len(knownMagic)+32 || string(p[:len(knownMagic)]) != knownMagic {
		return nil, errKnown
	}
	rest := p[len(knownMagic) : len(p)-32]
	if blake3.Sum256(p[:len(p)-32]) != [32]byte(p[len(p)-32:]) {
		return nil, errKnown
	}
	all := map[string]*catalog.Table{}
	last := ""
	for len(rest) > 0 {
		n := int(rest[0])
		if n == 0 || len(rest) < 1+n+4 || string(rest[1:1+n]) <= last {
			return nil, errKnown
		}
		last = string(rest[1 : 1+n])
		size := int64(binary.BigEndian.Uint32(rest[1+n:]))
		if rest = rest[1+n+4:]; size > int64(len(rest)) {
			return nil, errKnown
		}
		table, err := catalog.Parse(rest[:size])
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errKnown, err)
		}
		all[last], rest = table, rest[size:]
	}
	return all, nil
}

// Learn says what a remote has of packs and index blobs, in place of what was known of it. It is durable when it returns. The name
// has 1 to 255 bytes. A nil table is passed over.
func (t *Tier) Learn(remote string, table *catalog.Table) error {
	if len(remote) < 1 || len(remote) > 255 {
		return fmt.Errorf("learn of remote %q: a name has 1 to 255 bytes: %w", remote, fs.ErrInvalid)
	}
	if table == nil {
		return nil
	}
	t.mu.Lock()
	delete(t.resting, remote) // it has just been listed
	t.mu.Unlock()
	return t.known.change(func(m map[string]*catalog.Table) { m[remote] = table })
}

// Knows reports whether anything was learned of a remote: if not, a Fetch must list its packs though no head is new.
func (t *Tier) Knows(remote string) bool {
	_, ok := t.known.of(remote)
	return ok
}

// Catalog returns what was learned of a remote; nil if nothing was.
func (t *Tier) Catalog(remote string) *catalog.Table {
	table, _ := t.known.of(remote)
	return table
}

// Copies returns how many remotes have a pack or index blob, by the catalog.
func (t *Tier) Copies(name blob.Name) int {
	n := 0
	for _, table := range t.known.tables() {
		if _, ok := table.Size(name); ok {
			n++
		}
	}
	return n
}

// Missing returns how many packs and index blobs of this device a remote lacks, by the catalog, and their bytes.
func (t *Tier) Missing(ctx context.Context, remote string) (blobs int, size int64, err error) {
	table, _ := t.known.of(remote)
	for _, dir := range []blob.Name{catalog.Packs, catalog.Index} {
		for info, err := range t.Own().List(ctx, dir) {
			if err != nil {
				return 0, 0, fmt.Errorf("count what a remote lacks: %w", err)
			}
			if have, ok := table.Size(info.Name); !ok || have != info.Size {
				blobs++
				size += info.Size
			}
		}
	}
	return blobs, size, nil
}
