package rpc

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/service"
	"github.com/sheaf-drive/sheaf/api/service/transfer"
	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/sync/engine"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
	"github.com/sheaf-drive/sheaf/vfs/memfs"
)

// fakeDrive is a service.Drive in memory. Its snapshots are copies of the whole tree.
type fakeDrive struct {
	service.Many  // nil: it has no replicas, and says so by Replicas
	service.Notes // nil: nothing is served
	service.Pairs // nil: no rules are there

	fs *memfs.FS

	mu     sync.Mutex
	kept   []manifest.Kept // newest first
	trees  map[string]vfs.FS
	closed bool
	verify func(ctx context.Context, p sheaf.Progress) (sheaf.VerifyReport, error)
}

func (*fakeDrive) Replicas() *engine.Engine { return nil }

func newFakeDrive() *fakeDrive {
	return &fakeDrive{fs: memfs.New(memfs.Options{}), trees: map[string]vfs.FS{}}
}

func (d *fakeDrive) Info() sheaf.Info { return sheaf.Info{Drive: "d1", Device: "SHF-1"} }
func (d *fakeDrive) FS() vfs.FS       { return d.fs }
func (d *fakeDrive) Pending() int64   { return 1 }
func (*fakeDrive) Trim()              {}

func (d *fakeDrive) Load() (*live.Load, error) { return nil, errors.ErrUnsupported }

func (d *fakeDrive) State() manifest.Kept                    { return manifest.Kept{} }
func (d *fakeDrive) Moved() <-chan struct{}                  { return nil }
func (d *fakeDrive) DeviceOf(causal.Device) (string, string) { return "", "" }

func (d *fakeDrive) Commit(ctx context.Context) error {
	_, err := d.Snapshot(ctx, "")
	return err
}

func (d *fakeDrive) SetPassphrase(context.Context, []byte) error  { return nil }
func (d *fakeDrive) NewRecovery(context.Context) (string, error)  { return "new words", nil }
func (d *fakeDrive) RetireRecovery(context.Context, string) error { return nil }
func (d *fakeDrive) Snapshots(context.Context) ([]manifest.Kept, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]manifest.Kept(nil), d.kept...), nil
}

func (d *fakeDrive) Close(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		panic("closed twice")
	}
	d.closed = true
	return nil
}

func (d *fakeDrive) Resolve(_ context.Context, id sheaf.SnapshotID) (manifest.Kept, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, k := range d.kept {
		if id == "latest" || string(id) == k.Dot.String() || id != "" && string(id) == k.Label {
			return k, nil
		}
	}
	return manifest.Kept{}, sheaf.ErrNoSnapshot
}

func (d *fakeDrive) ResolveTime(_ context.Context, at time.Time) (manifest.Kept, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, k := range d.kept {
		if !k.Time.After(at) {
			return k, nil
		}
	}
	return manifest.Kept{}, sheaf.ErrNoSnapshot
}

func (d *fakeDrive) Snapshot(ctx context.Context, label string) (manifest.Kept, error) {
	copied := memfs.New(memfs.Options{})
	err := transfer.Copy(ctx, transfer.NewDrive(d.fs, "", nil), transfer.NewDrive(copied, "", &transfer.Claims{}), transfer.Options{}, &transfer.Progress{})
	if err != nil {
		return manifest.Kept{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	k := manifest.Kept{Dot: causal.Dot{Device: 1, Counter: uint64(len(d.kept) + 1)}, Time: time.Now(), Label: label, Pinned: label != ""}
	d.kept = append([]manifest.Kept{k}, d.kept...)
	d.trees[k.Dot.String()] = copied
	return k, nil
}

func (d *fakeDrive) DropSnapshot(_ context.Context, ids ...sheaf.SnapshotID) error { return nil }

func (d *fakeDrive) At(_ context.Context, k manifest.Kept) (vfs.FS, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.trees[k.Dot.String()], nil
}

func (d *fakeDrive) Diff(context.Context, manifest.Kept, manifest.Kept) iter.Seq2[sheaf.Difference, error] {
	return func(yield func(sheaf.Difference, error) bool) {
		_ = yield(sheaf.Difference{Path: "new\xff", New: &manifest.Entry{Kind: vfs.KindFile, Size: 3}}, nil) &&
			yield(sheaf.Difference{Path: "old", Old: &manifest.Entry{Kind: vfs.KindFile, Size: 4}}, nil)
	}
}

func (d *fakeDrive) History(context.Context, string) iter.Seq2[sheaf.Version, error] {
	return func(func(sheaf.Version, error) bool) {}
}

func (d *fakeDrive) Verify(ctx context.Context, p sheaf.Progress) (sheaf.VerifyReport, error) {
	if d.verify != nil {
		return d.verify(ctx, p)
	}
	return sheaf.VerifyReport{}, nil
}

func (d *fakeDrive) Evict(context.Context, sheaf.EvictOptions, sheaf.Progress) (sheaf.EvictReport, error) {
	return sheaf.EvictReport{}, nil
}

func (d *fakeDrive) GC(context.Context, sheaf.GCOptions, sheaf.Progress) (sheaf.GCReport, error) {
	return sheaf.GCReport{Freed: 5}, nil
}

func (d *fakeDrive) Stats(context.Context) (sheaf.Stats, error) { return sheaf.Stats{Packs: 2}, nil }

func (d *fakeDrive) Unique(context.Context, string) (int64, int64, int64, error) {
	return 3, 2, 1, nil
}

// fakeDevice has one drive, which a passphrase opens.
type fakeDevice struct {
	drive *fakeDrive
	none  bool
}

func (d *fakeDevice) Exists() bool { return !d.none }

func (d *fakeDevice) Open(_ context.Context, s sheaf.Secret) (service.Drive, error) {
	switch {
	case len(s.Passphrase) == 0:
		return nil, sheaf.ErrNeedSecret
	case string(s.Passphrase) != "open":
		return nil, fmt.Errorf("open: %w", sheaf.ErrPassphrase)
	}
	return d.drive, nil
}

func (d *fakeDevice) Init(context.Context, sheaf.Secret, *sheafv1.InitRequest) (service.Drive, string, error) {
	d.none = false
	return d.drive, "words", nil
}

// fixture is a service behind a real server.
type fixture struct {
	*Client
	svc   *service.Service
	drive *fakeDrive
	url   string
}

// start returns a client of a service whose drive is open.
func start(t *testing.T, o service.Options) *fixture {
	t.Helper()
	f := &fixture{drive: newFakeDrive()}
	if o.Device == nil {
		o.Device = &fakeDevice{drive: f.drive}
	}
	f.svc = service.New(o)
	srv := httptest.NewServer(NewHandler(f.svc))
	f.Client, f.url = NewClient(srv.Client(), srv.URL), srv.URL
	t.Cleanup(func() {
		if err := f.svc.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
		srv.Close()
	})
	if _, err := f.Drives.Unlock(t.Context(), &sheafv1.UnlockRequest{Passphrase: []byte("open")}); err != nil {
		t.Fatal(err)
	}
	return f
}

// write makes a file of the drive.
func (f *fixture) write(t *testing.T, path, body string) {
	t.Helper()
	if err := vfs.WriteFile(t.Context(), f.drive.fs, path, []byte(body), vfs.New{Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
}

// read returns a file of the drive.
func (f *fixture) read(t *testing.T, path string) string {
	t.Helper()
	b, err := vfs.ReadFile(t.Context(), f.drive.fs, path, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// wantCode fails unless err is of that kind.
func wantCode(t *testing.T, err error, want sheafv1.Code) {
	t.Helper()
	if err == nil {
		t.Errorf("got no error, want %v", want)
	} else if got := FromWire(err); got.Code != want {
		t.Errorf("got %v (%v), want %v", got.Code, err, want)
	}
}
