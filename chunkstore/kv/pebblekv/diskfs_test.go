package pebblekv

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
)

const testDir = "/state/kv"

// A testDisk is a disk in memory that forgets what was not synced when the power is cut, or refuses changes. It counts changes,
// and lets a test act just before one of them.
type testDisk struct {
	vfs.FS
	mem *vfs.MemFS

	// mu is held while a name changes, and while the power is cut, so that both sides of the cut are of one moment.
	mu      sync.Mutex
	changes int
	before  func(n int) error // called before change n, with mu held
	names   []string          // of all changes, for who wants to know
	read    int64             // bytes
}

func newTestDisk(t testing.TB) *testDisk {
	t.Helper()
	mem := vfs.NewCrashableMem()
	if err := mem.MkdirAll(testDir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/", "/state", testDir} {
		d, err := mem.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Sync(); err != nil {
			t.Fatal(err)
		}
		_ = d.Close()
	}
	return onMem(mem)
}

func onMem(mem *vfs.MemFS) *testDisk { return &testDisk{FS: mem, mem: mem} }

// change counts a change, and makes it.
func (d *testDisk) change(what string, fn func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changes++
	d.names = append(d.names, what)
	if d.before != nil {
		if err := d.before(d.changes); err != nil {
			return err
		}
	}
	return fn()
}

// cut returns a disk as it may be after the power is cut now. The caller holds mu. Each block and each name that was not synced is there
// with the probability of percent; and each removal that was not synced has happened with the probability of one half.
func (d *testDisk) cut(t testing.TB, r *rand.Rand, percent int, count map[string]int) *testDisk {
	t.Helper()
	live, err := d.mem.List(testDir)
	if err != nil {
		t.Fatal(err)
	}
	clone := d.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: r})
	left, err := clone.List(testDir)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(left)
	for _, name := range left {
		if slices.Contains(live, name) {
			continue
		}
		if r.IntN(2) == 0 {
			count["removals undone"]++
			continue
		}
		count["removals kept"]++
		if err := clone.Remove(clone.PathJoin(testDir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range live {
		if !slices.Contains(left, name) {
			count["names lost: "+sortOf(name)]++
		}
	}
	dir, err := clone.OpenDir(testDir)
	if err != nil {
		t.Fatal(err)
	}
	if err := dir.Sync(); err != nil {
		t.Fatal(err)
	}
	return onMem(clone)
}

// sortOf takes the numbers out of a name.
func sortOf(name string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, name), ".-")
}

func (d *testDisk) Create(name string, c vfs.DiskWriteCategory) (f vfs.File, err error) {
	err = d.change("create "+d.PathBase(name), func() error {
		f, err = d.mem.Create(name, c)
		return err
	})
	if err != nil {
		return nil, err
	}
	return testFile{f, d, d.PathBase(name)}, nil
}

func (d *testDisk) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.mem.Open(name, opts...)
	if err != nil {
		return nil, err
	}
	return testFile{f, d, d.PathBase(name)}, nil
}

func (d *testDisk) OpenDir(name string) (vfs.File, error) {
	f, err := d.mem.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return testFile{f, d, "dir"}, nil
}

func (d *testDisk) Remove(name string) error {
	return d.change("remove "+d.PathBase(name), func() error { return d.mem.Remove(name) })
}

func (d *testDisk) Rename(from, to string) error {
	return d.change("rename "+d.PathBase(from)+" to "+d.PathBase(to), func() error { return d.mem.Rename(from, to) })
}

type testFile struct {
	vfs.File
	disk *testDisk
	name string
}

func (f testFile) Write(p []byte) (n int, err error) {
	err = f.disk.change(fmt.Sprintf("write %d to %s", len(p), f.name), func() error {
		n, err = f.File.Write(p)
		return err
	})
	return n, err
}

func (f testFile) Sync() error     { return f.disk.change("sync "+f.name, f.File.Sync) }
func (f testFile) SyncData() error { return f.disk.change("sync "+f.name, f.File.SyncData) }

func (f testFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.disk.read += int64(n)
	return n, err
}

// small makes pebble flush and compact often.
func small(o *pebble.Options) {
	o.MemTableSize = 128 << 10
	o.MaxManifestFileSize = 4 << 10
	o.L0CompactionThreshold = 2
	o.LBaseMaxBytes = 256 << 10
	for i := range o.TargetFileSizes {
		o.TargetFileSizes[i] = 64 << 10
	}
}

func openTest(disk vfs.FS) (*DB, error) {
	return openOn(disk, Options{Dir: testDir, Key: testKey(1)}, small)
}

var _ kv.DB = (*DB)(nil)
