package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/access"
	"github.com/sheaf-drive/sheaf/api/peering"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/service"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/disk"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/tier"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/cmd/sheaf/home"
	"github.com/sheaf-drive/sheaf/cmd/sheaf/settings"
	"github.com/sheaf-drive/sheaf/sync/engine"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/book"
)

// device is the service.Device of a Home.
type device struct {
	home  home.Home
	store string // where the packs of a new drive go
	log   *slog.Logger
	reach service.Reach
	pace  *pace

	remotes *service.Remotes

	cacheSize int64         // of what is kept of replicas, in bytes; 0: the default
	storeSize int64         // of what this device has put and replicas have, in bytes; 0: all of it
	noCopies  bool          // what other devices write is not kept here
	poll      time.Duration // as sheaf.Replication has it
	noLAN     bool          // no announcements to the networks of this machine, whatever is set

	trust atomic.Pointer[trustState]
	shelf blob.Bucket // what peers have put here, while a drive is open
	peers atomic.Pointer[peering.Peering]
}

// options returns what a Service of this Home is made of.
func (a *app) options(daemon bool, log *slog.Logger) service.Options {
	remotes := &service.Remotes{Kinds: remoteKinds, Book: openBook(a.home), Getenv: a.getenv}
	d := &device{home: a.home, store: a.storeDir(), log: log, remotes: remotes, reach: reach{a.home, remotes}, pace: &pace{}, poll: -1, noLAN: a.getenv("SHEAF_LAN") == "off"}
	set := &set{app: a, pace: d.pace}
	c, err := a.home.ReadConfig()
	if err != nil {
		c = home.Config{} // whoever needs more of it says so
	}
	if daemon {
		d.poll, _ = time.ParseDuration(set.value(settings.Poll, c)) // it was checked, as the next ones were
	}
	if n, err := parseSize(set.value(settings.CacheSize, c)); err == nil {
		d.cacheSize = max(n, 1)
	}
	if n, err := parseSize(set.value(settings.StoreSize, c)); err == nil { // off is no size
		d.storeSize = n
	}
	d.noCopies = set.value(settings.DeviceCopies, c) == settings.Off
	set.keep(c)
	o := service.Options{
		Device: d, Peers: d, Trust: d, Reach: d.reach, Remotes: remotes, Settings: set, Tokens: access.NewStore(filepath.Join(a.home.Data, "tokens.json")), Door: mountDoor(log), Gate: a.gate(log), Daemon: daemon, Log: log, Store: a.storeDir(),
		Version: version(), Checks: a.checks,
		Mounts: func(dirs []string) {
			if err := a.home.SetMounts(dirs); err != nil {
				log.Warn("list of mounts was not written", "error", err)
			}
		},
		Wanted: func(all []*sheafv1.MountRequest) {
			var wanted []home.Wanted
			for _, r := range all {
				wanted = append(wanted, home.Wanted{Dir: []byte(r.GetDir()), ReadOnly: r.GetReadOnly(), At: r.GetAt()})
			}
			if err := a.home.SetWanted(wanted); err != nil {
				log.Warn("list of wanted mounts was not written", "error", err)
			}
		},
	}
	if uid := os.Getuid(); uid >= 0 {
		o.UID, o.GID = uint32(uid), uint32(os.Getgid())
	}
	return o
}

// storeDir is the folder of the packs: of the drive to be joined, or that is here, or else of the one
// that would be made: SHEAF_STORE, or a folder of the Home.
func (a *app) storeDir() string {
	if a.joinFrom != "" {
		return a.joinFrom
	}
	if c, err := a.home.ReadConfig(); err == nil && c.Store != "" {
		return c.Store
	}
	if s := a.getenv("SHEAF_STORE"); s != "" {
		if full, err := filepath.Abs(s); err == nil {
			return full
		}
	}
	return a.home.Store
}

// logger returns a logger to w: of the level that is set; JSON if SHEAF_LOG_JSON is set.
func (a *app) logger(w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: settings.Level((&set{app: a}).get(settings.LogLevel))}
	if a.getenv("SHEAF_LOG_JSON") != "" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// Exists implements service.Device. A drive of which a crash left only the beginning is none.
func (d *device) Exists() bool {
	if _, err := keys.ReadDevice(d.home.Data); err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	return !d.cutOff()
}

// cutOff reports whether a crash came while the drive was made. What cannot be looked at is taken for a
// drive.
func (d *device) cutOff() bool {
	c, err := d.home.ReadConfig()
	if err != nil || c.Store == "" {
		return false
	}
	if _, err := os.Stat(filepath.Join(c.Store, "keys")); err != nil {
		return false
	}
	b, err := disk.Open(c.Store, disk.Options{})
	if err != nil {
		return false
	}
	defer func() { _ = b.Close() }()
	cut, err := sheaf.CutOff(context.Background(), d.home.Data, b)
	return err == nil && cut
}

// Open implements service.Device.
func (d *device) Open(ctx context.Context, secret sheaf.Secret) (service.Drive, error) {
	c, err := d.home.ReadConfig()
	if err != nil {
		return nil, err
	}
	store := c.Store
	if store == "" {
		store = d.store
	}
	o, err := d.options(store, c.Replicas, false)
	if err != nil {
		return nil, err
	}
	o.Secret = secret
	dr, err := sheaf.Open(ctx, o)
	return d.opened(ctx, dr, o.Replication, err)
}

// open is a drive that closes its buckets too.
type open struct {
	*sheaf.Drive
	r       *sheaf.Replication
	remotes *book.Book
	d       *device
}

// Close closes the drive and then its buckets, and the remotes with it.
func (o open) Close(ctx context.Context) error {
	defer o.remotes.Lock()
	return errors.Join(o.d.part(), o.Drive.Close(ctx), o.d.closeReplication(o.r))
}

func (d *device) closeReplication(r *sheaf.Replication) error {
	errs := []error{r.Tier.Close()}
	for _, b := range []blob.Bucket{r.Own, r.Mirror, d.shelf} {
		if c, ok := b.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// opened returns a drive that closes its buckets, or err with these closed.
func (d *device) opened(ctx context.Context, dr *sheaf.Drive, r *sheaf.Replication, err error) (service.Drive, error) {
	if err == nil {
		d.openTrust(dr)
		if err = d.meet(ctx, dr, r); err != nil {
			err = errors.Join(err, dr.Close(context.WithoutCancel(ctx)))
		}
	}
	if err != nil {
		defer d.remotes.Book.Lock()
		return nil, errors.Join(err, d.closeReplication(r))
	}
	return open{dr, r, d.remotes.Book, d}, nil
}

// unlockBook gives the remotes the key of the open drive. If they cannot be opened, the drive can be all the same.
func (d *device) unlockBook(key [32]byte) {
	if err := d.remotes.Book.Unlock(key); err != nil {
		d.log.Warn("the remotes of this device cannot be opened", "error", err)
	}
}

// options returns those of a drive whose packs lie in store. A store that is not there is made only
// if it is to be: else it may be a disk that is not plugged in.
func (d *device) options(store string, replicas []home.Replica, create bool) (o sheaf.Options, err error) {
	if !create {
		if _, err := os.Stat(store); err != nil {
			return sheaf.Options{}, &service.Error{
				Code: sheafv1.Code_CODE_NO_DRIVE, Hint: "bring the folder back, or name where it is now in " + d.home.Config,
				Err: fmt.Errorf("store: %w", err),
			}
		}
	}
	own, err := disk.Open(store, disk.Options{})
	if err != nil {
		return sheaf.Options{}, fmt.Errorf("open store: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, own.Close())
		}
	}()
	mirror, err := disk.Open(filepath.Join(d.home.Data, "mirror"), disk.Options{})
	if err != nil {
		return sheaf.Options{}, fmt.Errorf("open mirror: %w", err)
	}
	t, err := tier.Open(tier.Options{
		Local: own, Mirror: mirror, Dir: filepath.Join(d.home.Data, "remote"), CacheBytes: d.cacheSize, Log: d.log,
	})
	if err != nil {
		return sheaf.Options{}, errors.Join(fmt.Errorf("open cache: %w", err), mirror.Close())
	}
	shelf, err := disk.Open(filepath.Join(d.home.Data, "shelf"), disk.Options{})
	if err != nil {
		return sheaf.Options{}, errors.Join(fmt.Errorf("open what peers have put here: %w", err), t.Close(), mirror.Close())
	}
	d.shelf = shelf
	r := &sheaf.Replication{Tier: t, Own: own, Mirror: mirror, Poll: d.poll, Limit: d.storeSize, Places: []engine.Place{peering.ShelfPlace(shelf)}}
	for _, p := range replicas {
		r.Places = append(r.Places, engine.Place{Name: p.Name, At: p.At, Open: func(ctx context.Context) (blob.Bucket, error) {
			return d.reach.Open(ctx, p.At, false)
		}})
	}
	return sheaf.Options{Tree: o.Tree, Dir: d.home.Data, Replication: r, Log: d.log, Usage: usage(store), LocalUsage: usage(d.home.Data), Remotes: d.unlockBook}, nil
}

// Init implements service.Device. The configuration is written before the drive is made, for without
// it the drive would not be found.
func (d *device) Init(ctx context.Context, secret sheaf.Secret, r *sheafv1.InitRequest) (service.Drive, string, error) {
	var replicas []home.Replica
	if r.GetFrom() != "" {
		if err := d.mayJoin(r.GetFrom()); err != nil {
			return nil, "", err
		}
		replicas = []home.Replica{{Name: service.PlaceName(r.GetFrom()), At: r.GetFrom()}}
	}
	o, err := d.options(d.store, replicas, !r.GetJoin() || r.GetFrom() != "")
	if err != nil {
		return nil, "", err
	}
	o.Secret, o.Chunker, o.DeviceName = secret, r.GetChunker(), r.GetDeviceName()
	if err := d.home.SetDrive(d.store, replicas...); err != nil {
		return nil, "", errors.Join(err, d.closeReplication(o.Replication))
	}
	if r.GetJoin() {
		dr, err := sheaf.Join(ctx, o, len(secret.Passphrase) == 0)
		drive, err := d.opened(ctx, dr, o.Replication, err)
		if err != nil {
			return nil, "", errors.Join(err, d.forget())
		}
		return drive, "", nil
	}
	dr, words, err := sheaf.Create(ctx, o)
	drive, err := d.opened(ctx, dr, o.Replication, err)
	switch {
	case err != nil && words != "":
		// The drive is made, and these words are nowhere else.
		return nil, "", fmt.Errorf("the drive was made, but not opened: %w; its recovery words, shown only here: %s", err, words)
	case err != nil:
		return nil, "", errors.Join(err, d.forget())
	}
	return drive, words, nil
}

// mayJoin returns an error if a drive cannot be opened from a place, which is kept as its replica.
func (d *device) mayJoin(at string) error {
	p, err := service.ParsePlace(at)
	if err != nil {
		return err
	}
	if p.Name == remote.Self {
		return usagef("", "%s is the drive itself", at)
	}
	if err := d.remotes.Kinds.CheckPlain(p, d.remotes.Book); err != nil {
		return usagef("sheaf remote add NAME KIND key=value …, and then --from NAME:path", "%w", err)
	}
	return nil
}

// forget takes the configuration back if no drive came of it.
func (d *device) forget() error {
	if d.Exists() {
		return nil
	}
	return d.home.SetDrive("")
}

// version says what program this is.
func version() *sheafv1.VersionResponse {
	v := &sheafv1.VersionResponse{Version: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Api: "sheaf.v1"}
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Version = b.Main.Version
	if v.Version == "" || v.Version == "(devel)" {
		for _, s := range b.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				v.Version = "commit " + s.Value[:12]
			}
		}
	}
	if v.Version == "" {
		v.Version = "(devel)"
	}
	return v
}
