// Package sheaf puts a drive together: an encrypted, deduplicated tree of files
// over a bucket of sealed packs. It constructs, hands out and closes; what
// decides something belongs to a floor below.
package sheaf

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/cdc"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/durable"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/refs"
	"github.com/sheaf-drive/sheaf/chunkstore/seal"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live"
)

// The errors of a drive, besides those of vfs and chunkstore.
var (
	ErrNoDrive    = errors.New("no drive here")
	ErrExists     = errors.New("a drive is here already")
	ErrLocked     = errors.New("another process has the drive open")
	ErrPassphrase = errors.New("wrong passphrase or recovery words")
	ErrNeedSecret = errors.New("the drive is locked: a passphrase or the recovery words are needed")
	ErrNoSnapshot = errors.New("no such snapshot")
)

// A Secret opens a drive. The zero Secret means the key that Create left on the
// device, if it did.
type Secret struct {
	Passphrase []byte // not empty: the passphrase
	Recovery   string // not empty: the 24 words
}

// Options say where a drive lies and how it is opened. Dir and Bucket are needed.
type Options struct {
	// Dir is the folder of this device's own state of the drive: the device key, the
	// key-value database, the journal. It is made if it is not there.
	Dir string
	// Bucket is where the sealed packs lie; nil: the Tier of Replication.
	Bucket blob.Bucket
	// Replication, if not nil, keeps the drive alike in many places.
	Replication *Replication
	Secret      Secret
	// DeviceName is how this device is shown to people; "" for the host's name.
	DeviceName string
	// Chunker names the chunker of a new drive ("rabin" or "fastcdc"); "" for the default.
	Chunker string
	// Log takes what sheaf has to say; nil discards it.
	Log *slog.Logger
	// Argon is the cost of a new passphrase slot; zero for the default of package keys.
	Argon keys.Argon
	// OpenKV opens the key-value database of this device in a folder, encrypted with a key; nil
	// for the one that suits the system. A database that is damaged is an error that wraps
	// kv.ErrDamaged: the folder is removed then, and opened again.
	OpenKV func(ctx context.Context, dir string, key [32]byte, log *slog.Logger) (kv.DB, error)
	// Usage reports the room where the Bucket lies, LocalUsage that of Dir; nil: unknown. What is written is refused before one
	// of them is full, so that files can still be removed, and what was acknowledged finds its place.
	Usage, LocalUsage func(context.Context) (vfs.Usage, error)
	// Remotes, if not nil, is given the key under which this device may seal what it knows of remotes, as soon as the drive's secrets are open and
	// before any place is reached, and again each time the passphrase has changed.
	Remotes func(key [32]byte)
	// Tree changes when commits are made; its other fields are not looked at.
	Tree live.Options
}

// A Drive is an open drive. It is safe for concurrent use.
type Drive struct {
	o        Options
	lock     io.Closer
	account  *keys.Account
	device   *keys.Device
	db       kv.DB
	store    treeStore
	refs     *refs.Refs
	tree     *live.FS
	replicas *replicating // nil: there is one place

	mu     sync.Mutex
	keysMu sync.Mutex        // one writer of slots at a time
	past   map[chunk.Ref]int // roots of the trees of the past that are in use, and how often
	tried  []chunk.Ref       // since the last move of the head: snapshots whose heads may have been put
	moved  chan struct{}     // closed when the head has moved; nil: nobody waits

	adoptMu    sync.Mutex // held to put a head beside the commits of the tree, and to take over the work of others
	agreements agreeing   // guarded by adoptMu
	firstKept  bool       // see keepFirst; guarded by adoptMu

	closing sync.Once
	err     error // of Close
}

// Create makes a new drive in an empty Bucket and opens it. It returns the 24
// recovery words, which are nowhere stored. Without a passphrase in o.Secret a
// key that opens the drive is kept in o.Dir, readable by its owner only.
func Create(ctx context.Context, o Options) (d *Drive, recovery string, err error) {
	setDefaults(&o)
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, "", err
	}
	defer func() {
		if err != nil {
			_ = lock.Close()
		}
	}()
	if _, err := keys.ReadDevice(o.Dir); err == nil {
		if cut, err := CutOff(ctx, o.Dir, o.Bucket); err != nil || !cut {
			return nil, "", fmt.Errorf("create drive in %s: %w", o.Dir, errors.Join(ErrExists, err))
		}
	}
	params, err := cdc.NewParams(o.Chunker, rand.Reader)
	if err != nil {
		return nil, "", fmt.Errorf("create drive: %w", err)
	}
	account, device, words, err := keys.Create(ctx, o.Bucket, keys.CreateOptions{
		Passphrase: o.Secret.Passphrase, Argon: o.Argon, Chunker: params.Append(nil), Suite: uint8(seal.AESGCM),
		Now: time.Now(), DeviceName: o.DeviceName, Dir: o.Dir, KeepKey: len(o.Secret.Passphrase) == 0,
	})
	if errors.Is(err, keys.ErrExists) {
		return nil, "", fmt.Errorf("%w: %w", ErrExists, err)
	}
	if err != nil {
		return nil, "", err
	}
	d = &Drive{o: o, lock: lock, account: account, device: device}
	if err := d.start(ctx); err != nil {
		// The drive exists: whoever asked for it must see the words.
		return nil, words, err
	}
	return d, words, nil
}

// CutOff reports whether a Create was cut off, by a crash or an error, before there was a drive. Open fails with
// ErrNoDrive then, and Create begins anew.
func CutOff(ctx context.Context, dir string, bucket blob.Bucket) (bool, error) {
	// A drive that was open once has a database here.
	if _, err := os.Stat(filepath.Join(dir, "kv")); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return keys.CutOff(ctx, bucket, dir)
}

// Open opens a drive that Create or Join made on this device. It looks at places only if something is missing without which the drive
// cannot be opened here.
func Open(ctx context.Context, o Options) (*Drive, error) {
	setDefaults(&o)
	d, err := openHere(ctx, o)
	if !errors.Is(err, refs.ErrIncomplete) || o.Replication == nil {
		return d, err
	}
	o.Log.Warn("something is missing here, and is looked for at the places", "err", err)
	if ferr := o.Replication.Fetch(ctx, o.Log); ferr != nil {
		return nil, errors.Join(err, ferr)
	}
	return openHere(ctx, o)
}

// openHere is Open with what is on this device.
func openHere(ctx context.Context, o Options) (d *Drive, err error) {
	file, err := keys.ReadDevice(o.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open drive in %s: %w", o.Dir, ErrNoDrive)
	}
	if err != nil {
		return nil, fmt.Errorf("open drive: %w", err)
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = lock.Close()
		}
	}()
	account, err := unlock(ctx, o, file)
	if errors.Is(err, keys.ErrIncomplete) {
		if cut, _ := CutOff(ctx, o.Dir, o.Bucket); cut {
			err = fmt.Errorf("open drive in %s: %w: its creation was cut off", o.Dir, ErrNoDrive)
		}
	}
	if err != nil {
		return nil, err
	}
	device, err := account.OpenDevice(file)
	if err != nil {
		return nil, fmt.Errorf("open drive: %w", err)
	}
	d = &Drive{o: o, lock: lock, account: account, device: device}
	if err := d.start(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

// Join opens an existing drive from its Bucket alone, as a new device. The
// Secret is the passphrase or the recovery words. With keepKey, the drive
// opens on this device without a passphrase from then on.
func Join(ctx context.Context, o Options, keepKey bool) (d *Drive, err error) {
	setDefaults(&o)
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = lock.Close()
		}
	}()
	if _, err := keys.ReadDevice(o.Dir); err == nil {
		return nil, fmt.Errorf("join drive in %s: %w", o.Dir, ErrExists)
	}
	account, err := unlockAt(ctx, o)
	if err != nil {
		return nil, err
	}
	device, err := enroll(ctx, account, o, keepKey)
	if err != nil {
		return nil, err
	}
	d = &Drive{o: o, lock: lock, account: account, device: device}
	if err := d.start(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

func setDefaults(o *Options) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.DeviceName == "" {
		if o.DeviceName, _ = os.Hostname(); o.DeviceName == "" {
			o.DeviceName = "device"
		}
	}
	if o.Chunker == "" {
		o.Chunker = cdc.Default
	}
	if o.OpenKV == nil {
		o.OpenKV = openKV
	}
	if o.Bucket == nil && o.Replication != nil {
		o.Bucket = o.Replication.Tier
	}
}

func unlock(ctx context.Context, o Options, file *keys.DeviceFile) (*keys.Account, error) {
	s := keys.Secret{Passphrase: o.Secret.Passphrase, Recovery: o.Secret.Recovery}
	uo := keys.UnlockOptions{Log: o.Log}
	if file != nil {
		uo.Drive = file.Drive
	}
	switch {
	case len(s.Passphrase) > 0 && s.Recovery != "":
		s.Recovery = ""
	case len(s.Passphrase) > 0 || s.Recovery != "":
	case file != nil && file.HasKey():
		s.Device = file
	default:
		return nil, ErrNeedSecret
	}
	account, err := keys.Unlock(ctx, o.Bucket, s, uo)
	if errors.Is(err, keys.ErrWrongSecret) && s.Device == nil && file != nil && file.HasKey() {
		// No passphrase opens this drive: the key of this device does.
		account, err = keys.Unlock(ctx, o.Bucket, keys.Secret{Device: file}, uo)
	}
	switch {
	case errors.Is(err, keys.ErrWrongSecret), errors.Is(err, keys.ErrWords):
		return nil, fmt.Errorf("%w: %w", ErrPassphrase, err)
	case errors.Is(err, keys.ErrNoDrive):
		return nil, fmt.Errorf("%w: %w", ErrNoDrive, err)
	}
	return account, err
}

func enroll(ctx context.Context, account *keys.Account, o Options, keepKey bool) (*keys.Device, error) {
	return account.Enroll(ctx, keys.EnrollOptions{
		Name: o.DeviceName, Roles: keys.Writer | keys.Admin, Now: time.Now(), Dir: o.Dir, KeepKey: keepKey,
	})
}

// start opens all that lies on the keys. If it fails all is closed again but the lock. A local database that is
// damaged is put aside and built anew, also if that shows only when something is read from it.
func (d *Drive) start(ctx context.Context) error {
	err := d.startOn(ctx)
	if !errors.Is(err, kv.ErrDamaged) {
		return err
	}
	// The files are kept, one set of them, for who wants to know what happened.
	dir := d.kvDir()
	aside := dir + ".damaged"
	d.o.Log.Warn("the local database is damaged and is built anew", "err", err, "kept", aside)
	if asideErr := errors.Join(os.RemoveAll(aside), os.Rename(dir, aside)); asideErr != nil {
		return fmt.Errorf("put damaged database aside: %w: %w", asideErr, err)
	}
	return d.startOn(ctx)
}

// tellRemotes gives the key of the remotes to who asked for it.
func (d *Drive) tellRemotes() {
	if d.o.Remotes != nil {
		key, _ := d.account.Ring.DeriveEpoch(kdf.Remotes, 1)
		d.o.Remotes(key)
	}
}

func (d *Drive) kvDir() string { return filepath.Join(d.o.Dir, "kv") }

// startOn is start with the local database as it is.
func (d *Drive) startOn(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			_ = d.closeParts(ctx) // err is why there is nothing to use
			d.tree, d.store.Store, d.db = nil, nil, nil
		}
	}()
	key, _ := d.account.Ring.DeriveEpoch(kdf.Local, 1) // what never leaves the device is under the first epoch, for good
	if err := durable.MkdirAll(d.kvDir()); err != nil {
		return fmt.Errorf("make folder of the local database: %w", err)
	}
	d.db, err = d.o.OpenKV(ctx, d.kvDir(), key, d.o.Log)
	if err != nil {
		return fmt.Errorf("open local database: %w", err)
	}
	d.tellRemotes()
	if err := d.reach(); err != nil {
		return err
	}
	if err := d.admit(ctx); err != nil {
		return err
	}
	all := storeKeysOf(d.account.Members().Ring())
	o := chunkstore.Options{
		Bucket: d.o.Bucket, KV: d.db, Suite: seal.Suite(d.account.Record.Suite), Level: seal.Fastest, Log: d.o.Log,
		Keys: all[0], Past: all[1:],
	}
	if r := d.o.Replication; r != nil {
		o.Mine, o.Renew, o.Forget, o.Lazy = r.mine, d.replicas.look, r.Tier.Forget, true
	}
	d.store.Store, err = chunkstore.Open(ctx, o)
	if err != nil {
		return err
	}
	if err := d.openRefs(ctx); err != nil {
		return err
	}
	d.beNear(ctx)
	params, err := cdc.ParseParams(d.account.Record.Chunker)
	if err != nil {
		return fmt.Errorf("read chunker of the drive: %w", err)
	}
	t := d.o.Tree
	t.Store, t.Owner = d.store, owner()
	t.Device, t.Chunker, t.Entropy = d.device.ID().Short(), params, rand.Reader
	t.Journal = d.journalOptions()
	t.Adopting, t.State = d.noteAdopting, d.stateOf
	if r, set := d.replicas, t; r != nil {
		t.Pace = func() (idle, age time.Duration) {
			idle, age = r.pace()
			return cmp.Or(set.Idle, idle), cmp.Or(set.MaxAge, age)
		}
	}
	t.Publish, t.Usage, t.LocalUsage, t.Log = d.publish, d.o.Usage, d.o.LocalUsage, d.o.Log
	if d.replicas != nil {
		if err := d.arrive(ctx); err != nil {
			return err
		}
	}
	if err := d.openTree(ctx, t); err != nil {
		return err
	}
	d.replicate()
	return nil
}

// storeKeysOf returns the keys of the chunk store for each epoch, the one to write under first.
func storeKeysOf(ring *keys.Ring) []chunkstore.Keys {
	var all []chunkstore.Keys
	siv, ck := ring.DeriveAll(kdf.FrameSIV), ring.DeriveAll(kdf.ChunkKey)
	dir, index := ring.DeriveAll(kdf.PackDir), ring.DeriveAll(kdf.Index)
	for i, cid := range ring.DeriveAll(kdf.ChunkIDOwn) {
		all = append(all, chunkstore.Keys{Seal: seal.Secrets{CID: cid, SIV: siv[i], Chunk: ck[i]}, PackDir: dir[i], Index: index[i]})
	}
	return all
}

// admit makes this device known if a crash came before it was, and begins a new epoch if one is due. A place that hides the
// entry of a device that was known gets no second one: what the device remembers tells.
func (d *Drive) admit(ctx context.Context) error {
	if err := refs.Check(ctx, d.db, d.account.Members()); err != nil {
		return asDamage(fmt.Errorf("open members log: %w", err))
	}
	if _, known := d.account.Members().Member(d.device.ID()); !known {
		err := d.account.Admit(ctx, d.device, keys.EnrollOptions{Name: d.o.DeviceName, Roles: keys.Writer | keys.Admin, Now: time.Now()})
		if err != nil {
			return err
		}
	}
	if !d.account.Members().Stale() {
		return nil
	}
	return d.settle(ctx)
}

// Info says who the drive and this device are.
type Info struct {
	Drive      string // 32 hexadecimal digits
	Device     string // SHF-…
	DeviceName string
	Chunker    string
	Created    time.Time
	Passphrase bool // a passphrase slot exists
}

// Info returns who the drive and this device are.
func (d *Drive) Info() Info {
	i := Info{
		Drive: d.account.Ring.Drive().String(), Device: d.device.Fingerprint().String(), DeviceName: d.o.DeviceName,
		Created: d.account.Record.Created,
	}
	if m, ok := d.account.Members().Member(d.device.ID()); ok {
		i.DeviceName = m.Name
	}
	if p, err := cdc.ParseParams(d.account.Record.Chunker); err == nil {
		i.Chunker = p.Algorithm
	}
	i.Passphrase, _ = keys.HasPassphrase(context.Background(), d.o.Bucket)
	return i
}

// FS returns the writable tree as it is now. Each call returns a view of its own, which is told
// of the changes that are made through the others.
func (d *Drive) FS() vfs.FS { return d.tree.View() }

// Load begins to bring whole files into the tree of FS past its journal. A tree that has no chunks
// returns an error that wraps errors.ErrUnsupported.
func (d *Drive) Load() (*live.Load, error) { return d.tree.Load() }

// Pending returns how many bytes are durable in the journal only, and not yet in packs.
func (d *Drive) Pending() int64 { return d.tree.Pending() }

// Trim gives back the memory of what was read last and can be read again. It changes nothing, and may be called at any time.
func (d *Drive) Trim() {
	d.tree.Trim()
	d.store.Trim()
}

// Commit puts all that was written into packs and moves the head, and returns
// when that is durable.
func (d *Drive) Commit(ctx context.Context) error { return d.tree.Commit(ctx) }

// Close commits what it can, unlocks and closes. With a done ctx it only closes:
// what is not committed stays in the journal.
func (d *Drive) Close(ctx context.Context) error {
	d.closing.Do(func() {
		d.err = errors.Join(d.closeParts(ctx), d.lock.Close())
	})
	return d.err
}

func (d *Drive) closeParts(ctx context.Context) error {
	var errs []error
	if d.replicas != nil {
		errs = append(errs, d.replicas.end())
		d.replicas = nil
	}
	if d.tree != nil {
		errs = append(errs, d.tree.Close(ctx))
	}
	if d.store.Store != nil {
		errs = append(errs, d.store.Close(ctx))
	}
	if d.db != nil {
		errs = append(errs, d.db.Close())
	}
	return errors.Join(errs...)
}
