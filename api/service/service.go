package service

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"sync"
	"time"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/access"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/service/transfer"
	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// A Drive is what the use cases need of a drive. *sheaf.Drive is one; its comments
// are the specification.
type Drive interface {
	Tree
	Telling
	Words
	Past
	Care
	Many
	Notes
	Pairs
}

// Tree is the drive as it is now.
type Tree interface {
	Info() sheaf.Info
	FS() vfs.FS
	Load() (*live.Load, error)
	Pending() int64
	Trim()
	Commit(ctx context.Context) error
	Close(ctx context.Context) error
}

// Telling is how a drive tells that it changed.
type Telling interface {
	State() manifest.Kept
	Moved() <-chan struct{}
	DeviceOf(short causal.Device) (id, name string)
}

// Words are the secrets that open the drive.
type Words interface {
	SetPassphrase(ctx context.Context, passphrase []byte) error
	NewRecovery(ctx context.Context) (string, error)
	RetireRecovery(ctx context.Context, words string) error
}

// Past is its history.
type Past interface {
	Snapshots(ctx context.Context) ([]manifest.Kept, error)
	Resolve(ctx context.Context, id sheaf.SnapshotID) (manifest.Kept, error)
	ResolveTime(ctx context.Context, at time.Time) (manifest.Kept, error)
	Snapshot(ctx context.Context, label string) (manifest.Kept, error)
	DropSnapshot(ctx context.Context, ids ...sheaf.SnapshotID) error
	At(ctx context.Context, k manifest.Kept) (vfs.FS, error)
	Diff(ctx context.Context, from, to manifest.Kept) iter.Seq2[sheaf.Difference, error]
	History(ctx context.Context, path string) iter.Seq2[sheaf.Version, error]
}

// Care is the upkeep of its store.
type Care interface {
	Verify(ctx context.Context, p sheaf.Progress) (sheaf.VerifyReport, error)
	GC(ctx context.Context, o sheaf.GCOptions, p sheaf.Progress) (sheaf.GCReport, error)
	Evict(ctx context.Context, o sheaf.EvictOptions, p sheaf.Progress) (sheaf.EvictReport, error)
	Stats(ctx context.Context) (sheaf.Stats, error)
	Unique(ctx context.Context, path string) (logical, unique, stored int64, err error)
}

var _ Drive = (*sheaf.Drive)(nil)

// A Device is where this device's drive lies. Its methods are not called at the same
// time. Errors are those of the functions of package sheaf that they call.
type Device interface {
	// Exists reports whether this device has a drive.
	Exists() bool
	// Open opens it.
	Open(ctx context.Context, secret sheaf.Secret) (Drive, error)
	// Init makes a drive, or joins one, and opens it.
	Init(ctx context.Context, secret sheaf.Secret, r *sheafv1.InitRequest) (d Drive, recovery string, err error)
}

// Mounted is a mount, as package mount has it.
type Mounted interface {
	Unmount(ctx context.Context) error
	Abort(ctx context.Context) error
	Wait() error
}

// A Door shows a tree in a folder that is there, and returns when it answers. An error of
// Unmount with CODE_TEMPORARY means that the mount is in use and goes on.
type Door func(ctx context.Context, fsys vfs.FS, dir string, readOnly bool) (Mounted, error)

// Options are what a Service is made of. Device and Reach are needed.
type Options struct {
	Device Device
	Reach  Reach
	// Remotes are those of this device; nil: it has none.
	Remotes *Remotes
	// Peers are the other devices; nil: they are not reached directly.
	Peers Peers
	// Trust has the OpenPGP keys that this device knows; nil: it has none.
	Trust Trust
	// Settings are what can be set of this device; nil: nothing.
	Settings Settings
	// Tokens are those that let callers from the network in; nil: there are none.
	Tokens *access.Store
	Door   Door // nil: nothing can be mounted here
	// Gate makes what the drive is served by on TCP; nil: nothing can be served here.
	Gate NewGate
	// Mounts is told the folders that are mounted, each time they change; nil: nobody is.
	Mounts func(dirs []string)
	// Wanted is told what Restore is to mount by the next process, each time that changes: what was mounted and not unmounted since, by whomever, while
	// this one served. The end of the process, by Close or a kill, changes nothing; Stop ends it. nil: nobody is.
	Wanted func(mounts []*sheafv1.MountRequest)
	// Checks are done by Doctor, besides those of the drive itself.
	Checks func(ctx context.Context) []*sheafv1.Check
	// Store is the folder of the packs, for people.
	Store string
	// Version is the program.
	Version *sheafv1.VersionResponse
	// Daemon says that the process serves others, and not only itself.
	Daemon bool
	// UID and GID own what is made here by path.
	UID, GID uint32
	// Stopped is called once, by Stop, when all is closed.
	Stopped func()
	// Log takes what there is to say; nil discards it.
	Log *slog.Logger
	// Now tells the time; nil: the clock.
	Now func() time.Time
}

// A Service does what the contract says. It is safe for concurrent use. New makes
// one, with the drive closed; Close ends it.
type Service struct {
	o     Options
	since time.Time

	opening sync.Mutex // held while a drive is opened, made or closed

	mu     sync.Mutex // guards the rest
	drive  Drive      // nil: not open
	closed bool
	ending bool // all is being unmounted for the process ends
	// somebody has asked what happens; it is looked at
	watched, observed bool
	users             int        // calls and jobs that use drive
	idle              *sync.Cond // of mu: users became 0
	mounts            map[string]*mounted
	wanted            map[string]*sheafv1.MountRequest
	jobs              []*job
	lastID            int

	observing sync.Mutex // held while that begins

	replicas sync.Mutex // held while the list of replicas changes
	mounting sync.Mutex // held while something is mounted or unmounted
	doors    doors
	rules    rules
	folders  folders

	life   context.Context // done when the Service closes; jobs live by it
	end    context.CancelFunc
	claims transfer.Claims

	signIns signIns
	pairs   pairings
	events  *events
}

// New returns a Service whose drive is not open yet.
func New(o Options) *Service {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{o: o, events: newEvents(), since: time.Now(), mounts: map[string]*mounted{}, wanted: map[string]*sheafv1.MountRequest{}}
	s.idle = sync.NewCond(&s.mu)
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// now returns the time.
func (s *Service) now() time.Time {
	if s.o.Now != nil {
		return s.o.Now()
	}
	return time.Now()
}

// use returns the open drive, which stays open until release is called, and a context
// that is done when the Service closes too.
func (s *Service) use(ctx context.Context) (_ context.Context, d Drive, release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, nil, nil, errorf(sheafv1.Code_CODE_NO_DAEMON, "", "sheaf is stopping")
	case s.drive == nil && !s.o.Device.Exists():
		return nil, nil, nil, sheaf.ErrNoDrive
	case s.drive == nil:
		return nil, nil, nil, sheaf.ErrNeedSecret
	}
	ctx, release = s.admit(ctx)
	return ctx, s.drive, release, nil
}

// serve is use for what needs no drive.
func (s *Service) serve(ctx context.Context) (_ context.Context, _ Drive, release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, nil, errorf(sheafv1.Code_CODE_NO_DAEMON, "", "sheaf is stopping")
	}
	ctx, release = s.admit(ctx)
	return ctx, nil, release, nil
}

// admit counts a user, until release. s.mu is held.
func (s *Service) admit(ctx context.Context) (_ context.Context, release func()) {
	s.users++
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.life, cancel)
	return ctx, func() {
		stop()
		cancel()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.users--; s.users == 0 {
			s.idle.Broadcast()
		}
	}
}

// Close unmounts all, in use or not, closes all doors, ends all jobs, commits and closes the drive. With ctx
// done it commits nothing: what is in the journal stays there. Further calls do nothing.
func (s *Service) Close(ctx context.Context) error {
	s.mu.Lock()
	s.ending = true // what is unmounted now is to be mounted by the next process
	s.mu.Unlock()
	_, err := s.leave(context.WithoutCancel(ctx), true)
	_, cerr := s.close(ctx)
	return errors.Join(err, cerr)
}

// Trim gives back the memory that an open drive does not need for what it is. It may be called at any time.
func (s *Service) Trim(ctx context.Context) {
	if _, d, release, err := s.use(ctx); err == nil {
		d.Trim()
		release()
	}
}

// leave unmounts all and lets nothing be begun any more, or fails and changes nothing but
// what it has unmounted.
func (s *Service) leave(ctx context.Context, force bool) (unmounted int, err error) {
	s.mounting.Lock()
	defer s.mounting.Unlock()
	n, err := s.unmountAll(ctx, force)
	if err != nil && !force {
		return n, err
	}
	s.mu.Lock()
	s.closed = true // so that no door is opened any more
	s.mu.Unlock()
	if e := s.shutAll(context.WithoutCancel(ctx)); e != nil {
		s.o.Log.Warn("a door was not closed in order", "error", e)
	}
	return n, err
}

// close is Close after leave. It returns how the replicas stood last, with all that was committed.
func (s *Service) close(ctx context.Context) ([]*sheafv1.Replica, error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	s.end()
	s.signIns.close()
	s.mu.Lock()
	for s.users > 0 {
		s.idle.Wait()
	}
	for _, r := range s.listRules() { // nobody uses them any more
		r.shut(true)
	}
	d := s.drive
	s.drive = nil
	s.mu.Unlock()
	if d == nil {
		return nil, nil
	}
	var last []*sheafv1.Replica
	if ctx.Err() == nil && d.Commit(ctx) == nil { // what fails here fails when it is closed, and is told then
		last = replicasOf(d)
	}
	return last, d.Close(ctx)
}
