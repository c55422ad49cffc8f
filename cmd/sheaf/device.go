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

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/service"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/disk"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/cmd/sheaf/home"
)

// device is the service.Device of a Home.
type device struct {
	home  home.Home
	store string // where the packs of a new drive go
	log   *slog.Logger
}

// options returns what a Service of this Home is made of.
func (a *app) options(daemon bool, log *slog.Logger) service.Options {
	o := service.Options{
		Device: &device{a.home, a.storeDir(), log}, Door: door(log), Daemon: daemon, Log: log, Store: a.storeDir(),
		Version: version(), Checks: a.checks,
		Mounts: func(dirs []string) {
			if err := a.home.SetMounts(dirs); err != nil {
				log.Warn("list of mounts was not written", "error", err)
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

// logger returns a logger to w: warnings only, or what SHEAF_LOG_LEVEL names; JSON if SHEAF_LOG_JSON is set.
func (a *app) logger(w io.Writer) *slog.Logger {
	level := slog.LevelWarn
	if s := a.getenv("SHEAF_LOG_LEVEL"); s != "" && level.UnmarshalText([]byte(s)) != nil {
		level = slog.LevelWarn
	}
	o := &slog.HandlerOptions{Level: level}
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
	o, err := d.options(store, false)
	if err != nil {
		return nil, err
	}
	o.Secret = secret
	dr, err := sheaf.Open(ctx, o)
	return withBucket(dr, o.Bucket, err)
}

// open is a drive that closes its bucket too.
type open struct {
	*sheaf.Drive
	bucket io.Closer
}

// Close closes the drive and then its bucket.
func (o open) Close(ctx context.Context) error {
	return errors.Join(o.Drive.Close(ctx), o.bucket.Close())
}

// withBucket returns a drive that closes its bucket, or err with the bucket closed.
func withBucket(d *sheaf.Drive, b blob.Bucket, err error) (service.Drive, error) {
	c, ok := b.(io.Closer)
	switch {
	case err != nil && ok:
		return nil, errors.Join(err, c.Close())
	case err != nil:
		return nil, err
	case ok:
		return open{d, c}, nil
	}
	return d, nil
}

// options returns those of a drive whose packs lie in store. A store that is not there is made only
// if it is to be: else it may be a disk that is not plugged in.
func (d *device) options(store string, create bool) (sheaf.Options, error) {
	if !create {
		if _, err := os.Stat(store); err != nil {
			return sheaf.Options{}, &service.Error{
				Code: sheafv1.Code_CODE_NO_DRIVE, Hint: "bring the folder back, or name where it is now in " + d.home.Config,
				Err: fmt.Errorf("store: %w", err),
			}
		}
	}
	b, err := disk.Open(store, disk.Options{})
	if err != nil {
		return sheaf.Options{}, fmt.Errorf("open store: %w", err)
	}
	return sheaf.Options{Dir: d.home.Data, Bucket: b, Log: d.log, Usage: usage(store), LocalUsage: usage(d.home.Data)}, nil
}

// Init implements service.Device. The configuration is written before the drive is made, for without
// it the drive would not be found.
func (d *device) Init(ctx context.Context, secret sheaf.Secret, r *sheafv1.InitRequest) (service.Drive, string, error) {
	o, err := d.options(d.store, !r.GetJoin())
	if err != nil {
		return nil, "", err
	}
	o.Secret, o.Chunker, o.DeviceName = secret, r.GetChunker(), r.GetDeviceName()
	if err := d.home.WriteConfig(home.Config{Store: d.store}); err != nil {
		return nil, "", err
	}
	if r.GetJoin() {
		dr, err := sheaf.Join(ctx, o, len(secret.Passphrase) == 0)
		opened, err := withBucket(dr, o.Bucket, err)
		if err != nil {
			return nil, "", errors.Join(err, d.forget())
		}
		return opened, "", nil
	}
	dr, words, err := sheaf.Create(ctx, o)
	opened, err := withBucket(dr, o.Bucket, err)
	switch {
	case err != nil && words != "":
		// The drive is made, and these words are nowhere else.
		return nil, "", fmt.Errorf("the drive was made, but not opened: %w; its recovery words, shown only here: %s", err, words)
	case err != nil:
		return nil, "", errors.Join(err, d.forget())
	}
	return opened, words, nil
}

// forget takes the configuration back if no drive came of it.
func (d *device) forget() error {
	if d.Exists() {
		return nil
	}
	if err := os.Remove(d.home.Config); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
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
