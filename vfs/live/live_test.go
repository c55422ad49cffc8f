package live

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/cdc"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live/journal"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
	"github.com/sheaf-drive/sheaf/vfs/vfstest"
)

// memStore is a Store in memory that forgets on a crash what was not flushed.
type memStore struct {
	mu      sync.Mutex
	chunks  map[chunk.Ref][]byte
	pending map[chunk.Ref]bool
	fail    func(op string) error
	puts    int
	bytes   int64
}

func newStore() *memStore {
	return &memStore{chunks: map[chunk.Ref][]byte{}, pending: map[chunk.Ref]bool{}}
}

func (s *memStore) Put(_ context.Context, kind chunk.Kind, plain []byte) (chunk.Ref, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail("put"); err != nil {
			return chunk.Ref{}, err
		}
	}
	h := blake3.New()
	_, _ = h.Write([]byte{byte(kind)})
	_, _ = h.Write(plain)
	ref := chunk.Ref{ID: [32]byte(h.Sum(nil)), Size: uint32(len(plain)), Kind: kind}
	if _, ok := s.chunks[ref]; !ok {
		s.chunks[ref] = slices.Clone(plain)
		s.pending[ref] = true
		s.puts++
		s.bytes += int64(len(plain))
	}
	return ref, nil
}

func (s *memStore) Get(_ context.Context, dst []byte, ref chunk.Ref) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.chunks[ref]
	if !ok {
		return dst, fmt.Errorf("chunk %v is not there", ref)
	}
	return append(dst, b...), nil
}

func (s *memStore) ReadAt(_ context.Context, ref chunk.Ref, p []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.chunks[ref]
	if !ok {
		return 0, fmt.Errorf("chunk %v is not there", ref)
	}
	return copy(p, b[min(off, int64(len(b))):]), nil
}

func (s *memStore) Flush(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail("flush"); err != nil {
			return err
		}
	}
	s.pending = map[chunk.Ref]bool{}
	return nil
}

func (s *memStore) Hold() func() { return func() {} }

// crash returns what is left of the store.
func (s *memStore) crash() *memStore {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := newStore()
	maps.Copy(c.chunks, s.chunks)
	for ref := range s.pending {
		delete(c.chunks, ref)
	}
	return c
}

// disk is all that outlives a tree.
type disk struct {
	mu    sync.Mutex
	store *memStore
	dir   *journal.MemDir
	head  chunk.Ref
	fail  func() error // of publish
	tune  func(*Options)
	// shared says that other trees put chunks into store meanwhile.
	shared bool
}

func newDisk() *disk { return &disk{store: newStore(), dir: journal.NewMemDir()} }

// crash returns what the death of the process, or, with rng, a power cut leaves.
func (d *disk) crash(rng *rand.Rand) *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &disk{store: d.store.crash(), head: d.head, tune: d.tune}
	if rng == nil {
		c.dir = d.dir.Clone()
	} else {
		c.dir = d.dir.PowerCut(rng)
	}
	return c
}

func testParams(t testing.TB) cdc.Params {
	p, err := cdc.NewParams(cdc.FastCDC, rand.NewChaCha8([32]byte{1}))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (d *disk) open(t testing.TB) (*FS, error) {
	o := Options{
		Store: d.store, Device: 7, Chunker: testParams(t), Entropy: crand.Reader, Idle: -1,
		Journal: journal.Options{Dir: d.dir, Entropy: crand.Reader, SegmentSize: 1 << 20},
		Publish: func(_ context.Context, old, new chunk.Ref, s manifest.Snapshot) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			if old != d.head {
				t.Errorf("published after %v, the head is %v", old, d.head)
			}
			if d.fail != nil {
				if err := d.fail(); err != nil {
					return err
				}
			}
			d.store.mu.Lock()
			pending := len(d.store.pending)
			d.store.mu.Unlock()
			if pending > 0 && !d.shared {
				t.Errorf("published with %d chunks that are not durable", pending)
			}
			d.head = new
			return nil
		},
	}
	d.mu.Lock()
	head := d.head
	d.mu.Unlock()
	if !head.IsZero() {
		s, err := manifest.GetSnapshot(t.Context(), d.store, head)
		if err != nil {
			return nil, err
		}
		o.Base, o.BaseRef = s, head
	}
	if d.tune != nil {
		d.tune(&o)
	}
	return Open(context.WithoutCancel(t.Context()), o)
}

func mustOpen(t testing.TB, d *disk) *FS {
	t.Helper()
	f, err := d.open(t)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close(context.Background()) })
	return f
}

func TestFS_IsAnFS(t *testing.T) {
	vfstest.Run(t, func(t *testing.T) vfs.FS { return mustOpen(t, newDisk()).View() })
}

// The same, while commits go on all the time.
func TestFS_IsAnFSWhileItCommits(t *testing.T) {
	vfstest.Run(t, func(t *testing.T) vfs.FS {
		f := mustOpen(t, newDisk())
		busy(t, f)
		return f.View()
	})
}

// busy commits without pause until the test ends.
func busy(t *testing.T, f *FS) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := f.Commit(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("commit: %v", err)
				return
			}
			f.Trim() // what it forgets is read again
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Microsecond):
			}
		}
	}()
	t.Cleanup(func() { stop(); <-done })
}

func TestFS_ASnapshotIsAReadOnlyFS(t *testing.T) {
	vfstest.RunReadOnly(t, func(t *testing.T) vfs.FS {
		d := newDisk()
		f := mustOpen(t, d)
		if err := vfstest.Plant(t.Context(), f.View()); err != nil {
			t.Fatal(err)
		}
		if err := f.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		return mustOpen(t, &disk{store: d.store, dir: d.dir, head: d.head, tune: func(o *Options) { o.ReadOnly = true }}).View()
	})
}

func TestFS_AgreesWithTheOracle(t *testing.T) {
	seed := vfstest.Seed(t)
	for i := range long(6, 100) {
		disks := map[vfs.FS]*disk{}
		vfstest.ModelConfig{
			Seed: seed + i, Ops: 600,
			Make: func(t *testing.T) vfs.FS {
				d := newDisk()
				v := mustOpen(t, d).View()
				disks[v] = d
				return v
			},
			Reopen: func(ctx context.Context, fsys vfs.FS) (vfs.FS, error) {
				d := disks[fsys]
				delete(disks, fsys)
				f := fsys.(*View).f
				closing, cancel := context.WithCancel(ctx)
				defer cancel()
				switch (seed + uint64(len(d.store.chunks))) % 3 {
				case 0: // with a commit
				case 1: // with what is in the journal only
					cancel()
				default: // the process dies
					d = d.crash(nil)
				}
				if err := f.Close(closing); err != nil {
					return nil, err
				}
				g, err := d.open(t)
				if err != nil {
					return nil, err
				}
				t.Cleanup(func() { _ = g.Close(context.Background()) })
				v := g.View()
				disks[v] = d
				return v, nil
			},
		}.Run(t)
	}
}

func TestFS_AgreesWithTheOracleWhileItCommits(t *testing.T) {
	seed := vfstest.Seed(t)
	for i := range long(5, 100) {
		t.Run(strconv.FormatUint(i, 10), func(t *testing.T) {
			f := mustOpen(t, newDisk())
			busy(t, f)
			vfstest.Model(t, f.View(), seed+i, 500)
		})
	}
}

// long returns few, or many in the long form of the tests.
func long(few, many uint64) uint64 {
	if os.Getenv("SHEAF_LONG") != "" {
		return many
	}
	return few
}

// end closes f before the test ends, so that a test of many trees does not hold them all.
func end(t *testing.T, f *FS) {
	t.Helper()
	if err := f.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

var errBroken = errors.New("store is broken")

// Commits that fail lose nothing: the next one has it all.
func TestFS_AgreesWithTheOracleWhileCommitsFail(t *testing.T) {
	seed := vfstest.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 1))
	var mu sync.Mutex
	fail := func() error {
		mu.Lock()
		defer mu.Unlock()
		if rng.IntN(4) == 0 {
			return errBroken
		}
		return nil
	}
	for i := range long(4, 50) {
		d := newDisk()
		d.fail = fail
		d.store.fail = func(string) error { return fail() }
		f := mustOpen(t, d)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for ctx.Err() == nil {
				if err := f.Commit(ctx); err != nil && !errors.Is(err, errBroken) && ctx.Err() == nil {
					t.Errorf("commit: %v", err)
				}
			}
		}()
		vfstest.Model(t, f.View(), seed+i, 400)
		stop()
		<-done
		d.fail, d.store.fail = nil, nil
		end(t, f)
	}
}
