package sim

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/peering"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/tier"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/kv/memkv"
	"github.com/sheaf-drive/sheaf/sync/engine"
	"github.com/sheaf-drive/sheaf/sync/remote/peer"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live"
	"github.com/sheaf-drive/sheaf/vfs/live/journal"
)

// A device is where one drive lives: what of it lasts, and the drive while it is open.
type device struct {
	w     *world
	name  string
	links []*link
	skew  time.Duration // of its clock
	power *power

	own, mirror *mem.Bucket
	shelf       *mem.Bucket // what others have put here
	tier        *tier.Tier  // what it keeps is on a disk that never fails
	disk        *disk
	wal         *journal.MemDir
	dir         string // has the keys of the device

	d    *sheaf.Drive // nil: it is down
	fsys vfs.FS
	held *held
	life int    // how many devices it was before
	id   string // as the drive has it; "": it is none yet

	backup  *backup
	wasBack bool // it was set back, and has not noticed yet

	// Of a device that is reached directly.
	pairs []*pair
	peers *peering.Peering // nil: it is down
	key   peer.Key
	ghost bool              // it was revoked, and goes on
	order map[blob.Name]int // when it has put something in its own bucket
	put   int               // how often it has
	seen  int               // put when others saw that bucket last
	took  int               // how often its shelf was changed
	stock stock
	made  []*fact

	loose    []*word // written, and not synced
	unpushed []*word // written, and perhaps at no place
	ending   []*word // replaced or removed, and not synced
	kills    []*word // replaced or removed, and no place may know of it
}

// A backup is all that lasts of a device.
type backup struct {
	db          *memkv.DB
	wal         *journal.MemDir
	own, mirror *mem.Bucket
	shelf       *mem.Bucket
	dir         string
	members     map[peer.Key]bool // that it knew of
	stock       stock
}

func newDevice(w *world, name string, places []*place) *device {
	d := &device{w: w, name: name, power: &power{left: -1}}
	for _, p := range places {
		d.links = append(d.links, &link{place: p, p: d.power, asked: map[string]int{}})
	}
	d.blank()
	return d
}

// blank makes the device one that has never been used.
func (d *device) blank() {
	d.life++
	d.id, d.backup, d.wasBack = "", nil, false
	d.shelf, d.key, d.order, d.seen, d.stock, d.made = mem.New(), peer.Key{}, map[blob.Name]int{}, d.put, stock{}, nil
	d.own, d.mirror, d.disk, d.wal = mem.New(), mem.New(), newDisk(memkv.New(), d.power), journal.NewMemDir()
	d.dir = filepath.Join(d.w.dir, fmt.Sprintf("%s-%d", d.name, d.life))
	d.connect()
}

// connect makes a tier of the buckets.
func (d *device) connect() {
	if d.tier != nil {
		d.w.must(d.tier.Close())
	}
	t, err := tier.Open(tier.Options{Local: d.ownFolder(), Mirror: &folder{d.mirror, d.power, nil}})
	d.w.must(err)
	d.tier = t
}

// now leaves out what retries waited for: how many there are before all of a step has failed is a matter of which goroutine runs first, and
// the times of files are in the trace.
func (d *device) now() time.Time { return d.w.clock.Add(d.skew) }

func (d *device) options(s sheaf.Secret) sheaf.Options {
	d.wal.Fail = func(op string) error {
		if op == "read" || op == "wrote" {
			return d.power.read()
		}
		_, err := d.power.write()
		return err
	}
	o := sheaf.Options{
		Dir: d.dir, Secret: s, DeviceName: d.name, Log: d.w.log(d),
		OpenKV: func(context.Context, string, [32]byte, *slog.Logger) (kv.DB, error) { return d.disk, nil },
		Tree:   live.Options{Idle: -1, Now: d.now, Journal: journal.Options{Dir: d.wal}},
		Replication: &sheaf.Replication{
			Tier: d.tier, Own: d.ownFolder(), Mirror: &folder{d.mirror, d.power, nil}, Poll: -1, Parallel: 1,
		},
	}
	if d.w.direct {
		o.Replication.Places = append(o.Replication.Places, peering.ShelfPlace(d.shelfFolder()))
	}
	for _, l := range d.links {
		o.Replication.Places = append(o.Replication.Places, engine.Place{
			Name: l.name, At: l.name, Open: func(context.Context) (blob.Bucket, error) { return l, nil },
		})
	}
	return o
}

// open opens the drive, or makes or joins it.
func (d *device) open() error {
	var err error
	_, noDevice := os.Stat(filepath.Join(d.dir, "device"))
	switch {
	case noDevice == nil:
		d.d, err = sheaf.Open(d.w.ctx, d.options(sheaf.Secret{}))
	case d.w.recovery == "":
		d.d, d.w.recovery, err = sheaf.Create(d.w.ctx, d.options(sheaf.Secret{}))
	case d.w.direct:
		err = d.join()
	default:
		d.d, err = sheaf.Join(d.w.ctx, d.options(sheaf.Secret{Recovery: d.w.recovery}), true)
	}
	if err != nil {
		d.d = nil
		return err
	}
	d.fsys = d.d.FS()
	id := d.d.Info().Device
	switch {
	case d.id == "" || d.id == id:
	case !d.wasBack:
		return fmt.Errorf("%s was %s and is %s now, though it lost nothing", d.name, d.id, id)
	default:
		d.w.leaves(former{d.id, d.life})
		d.life++
		d.wasBack = false
	}
	d.id = id
	if d.w.direct {
		return d.meet()
	}
	return nil
}

// down ends the drive as a crash does, or the end of its process if the power stays on.
func (d *device) down(ctx context.Context) error {
	if d.d == nil {
		return nil
	}
	d.held = nil
	d.part()
	err := d.d.Close(ctx)
	d.d = nil
	return err
}

// ended is a context that is done: who closes with it leaves all in the journal.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// crash lets the device die: whole is the death of its process, else the power goes, and with it what was not synced.
func (d *device) crash(whole bool) {
	d.power.cut()
	_ = d.down(ended()) // it is dead
	if whole {
		d.wal = d.wal.Clone()
		d.disk = newDisk(d.disk.DB.Clone(), d.power)
	} else {
		d.wal = d.wal.PowerCut(rand.New(rand.NewPCG(d.w.rng.Uint64(), 0)))
		d.disk = newDisk(d.disk.synced, d.power)
	}
	for _, x := range d.loose {
		x.free = true
	}
	d.loose, d.ending = nil, nil
	d.power.set(-1, false)
}

// wipe takes all that the device has.
func (d *device) wipe() {
	d.w.count["wipes"]++
	if d.id != "" {
		d.w.leaves(former{d.id, d.life})
	}
	d.crash(true)
	d.forget(nil)
	d.blank()
}

// forget notes that what no place may know of is lost.
// In a world where devices meet directly that is what nobody else has, and what is not in the backup that the device gets, nil: none.
func (d *device) forget(b *backup) {
	if d.w.direct {
		var kept stock
		if b != nil {
			kept = b.stock
		}
		d.stock.shrink(kept)
		d.made = slices.DeleteFunc(d.made, func(f *fact) bool { return !kept[f] })
		d.unpushed = nil
	}
	for _, x := range d.unpushed {
		x.free = true
	}
	d.loose, d.ending, d.unpushed, d.kills = nil, nil, nil, nil
}

// save keeps all that the device has now, which is down.
func (d *device) save() {
	b := &backup{db: d.disk.DB.Clone(), wal: d.wal.Clone(), own: mem.New(), mirror: mem.New(), dir: d.dir + "-saved", shelf: mem.New(), stock: maps.Clone(d.stock)}
	d.w.copy(b.own, d.own)
	d.w.copy(b.mirror, d.mirror)
	d.w.copy(b.shelf, d.shelf)
	d.w.must(os.RemoveAll(b.dir))
	d.w.must(os.CopyFS(b.dir, os.DirFS(d.dir)))
	d.backup = b
}

// setBack gives the device what it had when it was saved.
func (d *device) setBack() {
	d.crash(true)
	d.forget(d.backup)
	b := d.backup
	d.shelf = b.shelf
	d.own, d.mirror, d.disk, d.wal = b.own, b.mirror, newDisk(b.db, d.power), b.wal
	d.w.must(os.RemoveAll(d.dir))
	d.w.must(os.Rename(b.dir, d.dir))
	d.connect()
	d.backup, d.wasBack = nil, true
}

// troubled reports whether a place is not as it should be for this device.
func (d *device) troubled() bool {
	for _, l := range d.links {
		if l.now() != well {
			return true
		}
	}
	return false
}

// robbed reports whether a place of the device loses what it is given.
func (d *device) robbed() bool {
	return slices.ContainsFunc(d.links, func(l *link) bool { return l.now() == lossy })
}

// headless reports whether the device has put no head yet: it begins on what others have put, all of it, as one does that joins.
func (d *device) headless() bool {
	for range d.own.List(d.w.ctx, "heads/") {
		return false
	}
	return true
}

// heal ends all faults of its places.
func (d *device) heal() {
	for _, l := range d.links {
		l.set(d.w.ctx, well, 0)
		l.arrive(d.w.ctx)
	}
}

// ownFolder is where the device puts.
func (d *device) ownFolder() *folder {
	return &folder{d.own, d.power, func(name string) {
		d.put++
		d.order[blob.Name(name)] = d.put
	}}
}

// synced notes that all that was written is durable on the device.
func (d *device) synced() {
	if d.w.direct {
		d.knows()
	}
	for _, x := range d.loose {
		x.due = true
	}
	d.kills = append(d.kills, d.ending...)
	d.loose, d.ending = nil, nil
}

// exchange commits and gives each place a turn.
func (d *device) exchange() error {
	if err := d.d.Commit(d.w.ctx); err != nil {
		return err
	}
	d.synced()
	d.tend()
	err := d.d.Replicas().Sync(d.w.ctx)
	if d.w.direct {
		err = d.gave(err)
	}
	if err != nil {
		return err
	}
	d.unpushed = nil
	if d.w.direct {
		d.kills = nil
	}
	for _, x := range d.kills {
		x.sure[d.life] = true
	}
	d.kills = nil
	return nil
}
