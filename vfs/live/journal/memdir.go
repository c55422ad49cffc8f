package journal

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
)

// MemDir is a Dir in memory that knows what was synced, so that a test can ask
// what a crash would leave.
type MemDir struct {
	mu    sync.Mutex
	files map[string]*memFile
	names map[string]*memFile   // as of the last Sync of the Dir
	Fail  func(op string) error // if set, called before each operation, and as "wrote" after a write: its error is the answer
}

// NewMemDir returns an empty MemDir.
func NewMemDir() *MemDir {
	return &MemDir{files: map[string]*memFile{}, names: map[string]*memFile{}}
}

type memFile struct {
	d       *MemDir
	data    []byte
	durable []byte
	writes  []write // since the last Sync
}

type write struct {
	off  int64
	data []byte
}

func (d *MemDir) fail(op string) error {
	if d.Fail != nil {
		return d.Fail(op)
	}
	return nil
}

// Create makes an empty file.
func (d *MemDir) Create(name string) (File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fail("create"); err != nil {
		return nil, err
	}
	if d.files[name] != nil {
		return nil, fmt.Errorf("journal segment %s: %w", name, fs.ErrExist)
	}
	f := &memFile{d: d}
	d.files[name] = f
	return f, nil
}

// Open opens a file.
func (d *MemDir) Open(name string) (File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.files[name]; f != nil {
		return f, nil
	}
	return nil, notExist(name)
}

// List returns the names of the files.
func (d *MemDir) List() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for n := range d.files {
		names = append(names, n)
	}
	slices.Sort(names)
	return names, nil
}

// Remove removes a file.
func (d *MemDir) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fail("remove"); err != nil {
		return err
	}
	delete(d.files, name)
	return nil
}

// Rename gives a file another name.
func (d *MemDir) Rename(name, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fail("rename"); err != nil {
		return err
	}
	if d.files[name] == nil {
		return notExist(name)
	}
	d.files[to] = d.files[name]
	delete(d.files, name)
	return nil
}

// Sync makes the names durable.
func (d *MemDir) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fail("syncdir"); err != nil {
		return err
	}
	d.names = map[string]*memFile{}
	for n, f := range d.files {
		d.names[n] = f
	}
	return nil
}

// Clone returns what the death of the process leaves: all that was written.
func (d *MemDir) Clone() *MemDir {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := NewMemDir()
	for n, f := range d.files {
		g := &memFile{d: c, data: slices.Clone(f.data), durable: slices.Clone(f.data)}
		c.files[n], c.names[n] = g, g
	}
	return c
}

// PowerCut returns what a power cut may leave: what was synced, and of each write
// since then all, nothing, or some of its sectors of 512 bytes, as rng says. A file that was
// made or removed since the last Sync of the Dir may be there or not.
func (d *MemDir) PowerCut(rng *rand.Rand) *MemDir {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := NewMemDir()
	all := map[string]*memFile{}
	for _, n := range slices.Sorted(maps.Keys(d.names)) { // so that it follows from rng alone
		f := d.names[n]
		if d.files[n] == f || rng.IntN(2) == 0 {
			all[n] = f
		}
	}
	for _, n := range slices.Sorted(maps.Keys(d.files)) {
		f := d.files[n]
		if d.names[n] != f && rng.IntN(2) == 0 {
			all[n] = f
		}
	}
	for _, n := range slices.Sorted(maps.Keys(all)) {
		f := all[n]
		g := &memFile{d: c, data: slices.Clone(f.durable)}
		for _, w := range f.writes {
			g.tear(w, rng)
		}
		g.durable = slices.Clone(g.data)
		c.files[n], c.names[n] = g, g
	}
	return c
}

func (f *memFile) tear(w write, rng *rand.Rand) {
	switch rng.IntN(3) {
	case 0:
		f.put(w.off, w.data)
	case 1:
	default:
		for i := 0; i < len(w.data); {
			end := min(len(w.data), i+512-int((w.off+int64(i))%512))
			if rng.IntN(2) == 0 {
				f.put(w.off+int64(i), w.data[i:end])
			}
			i = end
		}
	}
}

// FlipBit flips one bit of a file, as bit rot does. It reports whether there is such a bit.
func (d *MemDir) FlipBit(name string, bit int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[name]
	if f == nil || bit/8 >= int64(len(f.data)) {
		return false
	}
	f.data[bit/8] ^= 1 << (bit % 8)
	return true
}

func (f *memFile) put(off int64, p []byte) { f.data = putAt(f.data, off, p) }

func putAt(b []byte, off int64, p []byte) []byte {
	if need := off + int64(len(p)); need > int64(len(b)) {
		b = append(b, make([]byte, need-int64(len(b)))...)
	}
	copy(b[off:], p)
	return b
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.fail("read"); err != nil {
		return 0, err
	}
	if off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.fail("write"); err != nil {
		return 0, err
	}
	f.put(off, p)
	f.writes = append(f.writes, write{off, slices.Clone(p)})
	if err := f.d.fail("wrote"); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *memFile) Size() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return int64(len(f.data)), nil
}

// Ahead does nothing: what was not synced is lost by chance in a crash as it is.
func (f *memFile) Ahead(int64, int64) {}

func (f *memFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.fail("sync"); err != nil {
		f.writes = nil // the pages are clean now, and no later Sync writes them
		return err
	}
	for _, w := range f.writes {
		f.durable = putAt(f.durable, w.off, w.data)
	}
	f.writes = nil
	return nil
}

func (f *memFile) Close() error { return nil }
