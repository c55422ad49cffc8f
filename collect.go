package sheaf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/gc"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
	"github.com/sheaf-drive/sheaf/chunkstore/refs"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// Garbage on a drive with many devices. Each device collects the packs that it has put, and no other, and frees nothing that another one
// may need: docs/adr/0020-garbage-and-devices.md has the rules and why they suffice. In short:
//
//  1. The collector finds packs in which much is garbage, for longer than the days of grace, and says so in its head (a Collection).
//  2. Each other device takes nothing in these packs for stored any more. Once all that it put before is in a head,
//     it gives its word on that in one (Agreed).
//  3. When every device has given its word, and each has seen such a head of each other, the collector marks what all heads
//     from these on reach, moves what is live out of the packs, and removes them.

// DefaultGrace is how long something stays that nothing reaches, if there are other devices.
const DefaultGrace = gc.DefaultGrace

// GCOptions say how GC decides.
type GCOptions struct {
	// Grace is how long something stays that nothing reaches, if there are other devices; 0 for DefaultGrace, below zero for no time.
	// What is read but not reached, on another device, may be gone after that: a file that is open and removed, or a snapshot that
	// is mounted and was thinned. Alone a device knows what is in use, and there is no grace.
	Grace time.Duration
}

// GCReport is what GC did, in bytes of packs.
type GCReport struct {
	Live, Freed, Kept int64 // bytes of live chunks; of packs that are gone; of dead chunks that stay for now
	Condemned         int64 // chunks that were found dead and wait for the second phase
	Packs             int64 // packs removed
	// Announced counts packs that go once the other devices have agreed.
	Announced int64
	// Waits are who keeps what was announced before from going: devices whose word is missing, by name, and replicas that could not be looked at,
	// as "replica NAME".
	Waits []string
}

// The heads that a device leaves in the Bucket.
const (
	keepHeads  = 64
	keepUnseen = 1024 // if other devices have not seen them
	lagging    = keepUnseen / 4
)

// cyclesAtOnce is how many cycles one GC goes through at most: one ends what was announced before, one condemns, one finds what is worth it, one
// removes that.
const cyclesAtOnce = 4

// announceMost is how many packs are collected at a time.
const announceMost = 1 << 16

// GC frees what nothing reaches, while the drive is in use, in phases. In the first, what is not reached is condemned. In a later one,
// what is condemned and still is not reached goes. With other devices on the drive that takes several calls, with exchanges of heads
// between them, and their Adopt. With replicas, each has a turn before anything is removed: one that cannot be reached may have
// a device that is new.
func (d *Drive) GC(ctx context.Context, o GCOptions, p Progress) (GCReport, error) {
	var report GCReport
	if err := d.tree.Commit(ctx); err != nil {
		return report, err
	}
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	// Writers make garbage all the time, and so does what is announced.
	again := true
	for i := 0; again && i < cyclesAtOnce; i++ {
		away, err := d.round(ctx)
		if err != nil {
			return report, err
		}
		if again, err = d.collect(ctx, o, away, &report, p); err != nil {
			return report, err
		}
	}
	return report, d.prune(ctx)
}

// round gives each replica a turn if a collection was announced: afterwards what was announced is known there, and who is new there
// is known here. It returns the replicas of which that is not so.
func (d *Drive) round(ctx context.Context) (away []string, err error) {
	if d.replicas == nil {
		return nil, nil
	}
	own, err := d.refs.Head(ctx)
	if errors.Is(err, fs.ErrNotExist) || err == nil && own.Collection == (refs.Collection{}) {
		return nil, nil
	}
	if err != nil {
		return nil, asDamage(err)
	}
	e := d.replicas.engine
	from := e.Mark()
	if err := e.Sync(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		d.o.Log.Warn("garbage stays: not all replicas could be looked at", "err", err)
	}
	return e.Late(from), nil
}

// collect does one cycle, and reports whether another one can do more.
func (d *Drive) collect(ctx context.Context, o GCOptions, away []string, report *GCReport, p Progress) (again bool, err error) {
	plan, r, err := d.sweep(ctx, o, away, p)
	if err != nil {
		return false, err
	}
	report.Live, report.Condemned, report.Waits = r.LiveBytes, r.Waiting, plan.waits
	report.Kept = r.WaitingBytes + r.DeadBytesKept
	report.Freed += r.FreedBytes
	report.Packs += r.PacksRemoved
	switch {
	case plan.agreed: // is done
		return report.Announced == 0, d.say(ctx, func(refs.Head) refs.Collection { return refs.Collection{} })
	case len(plan.waits) > 0:
		return false, nil
	case len(r.Worth) > 0:
		report.Announced = int64(min(len(r.Worth), announceMost))
		return plan.alone, d.announce(ctx, r.Worth)
	}
	return r.Condemned > 0 && plan.o.Grace <= 0, nil
}

// prune removes old heads of this device, but for those that the others may not have seen.
func (d *Drive) prune(ctx context.Context) error {
	oldest := uint64(math.MaxUint64)
	seen := map[keys.DeviceID]uint64{}
	for h, err := range d.refs.Heads(ctx) {
		if err == nil {
			seen[h.Device] = h.Sees(d.device.ID())
		}
	}
	for id := range d.writers() {
		oldest = min(oldest, seen[id])
	}
	if err := d.refs.PruneSeen(ctx, keepHeads, oldest, keepUnseen); err != nil {
		return fmt.Errorf("prune heads: %w", err)
	}
	return nil
}

// writers returns the names of the other devices that may write, by the members log as the last Poll found it.
func (d *Drive) writers() map[keys.DeviceID]string {
	others := map[keys.DeviceID]string{}
	for id, m := range d.refs.Members().Active() {
		if id != d.device.ID() && m.Roles&keys.Writer != 0 {
			others[id] = m.Name
		}
	}
	return others
}

// A gcPlan says what one cycle goes by.
type gcPlan struct {
	alone  bool        // there is no other device
	heads  []refs.Head // whose roots are live
	o      gc.Options
	agreed bool     // all devices agree to the collection that was announced
	waits  []string // else: those that are missing
}

// sweep is one cycle.
func (d *Drive) sweep(ctx context.Context, o GCOptions, away []string, p Progress) (gcPlan, gc.Report, error) {
	cycle, err := d.store.BeginGC(ctx)
	if err != nil {
		return gcPlan{}, gc.Report{}, err
	}
	defer cycle.Abort()
	// What a commit has stored before the cycle began is named by no head yet.
	base, more := d.tree.Roots()
	plan, err := d.plan(ctx, o, away)
	if err != nil {
		return plan, gc.Report{}, err
	}
	var done int64
	seen := nodes{}
	mark := func(name string, ref chunk.Ref) error {
		err := manifest.Walk(ctx, d.store, ref, seen.met, func(ref chunk.Ref) error {
			cycle.Mark(ref.ID)
			if done++; p != nil && done%1000 == 0 {
				p(done, 0)
			}
			return ctx.Err()
		})
		if err != nil {
			// What cannot be read may name anything: nothing is freed.
			return fmt.Errorf("mark %s: %w", name, err)
		}
		return nil
	}
	for _, ref := range append(append(more, base), d.inUse()...) {
		if err := mark("the tree", ref); err != nil {
			return plan, gc.Report{}, err
		}
	}
	for _, h := range plan.heads {
		for root, err := range d.rootsOf(ctx, h) {
			if err == nil {
				err = mark(root.name, root.ref)
			}
			if err != nil {
				return plan, gc.Report{}, err
			}
		}
	}
	r, err := cycle.Sweep(ctx, plan.o)
	return plan, r, err
}

// plan looks at the heads of all devices. Others may have joined, and put heads, since the drive was opened: these are known
// afterwards. Heads that are there but cannot be read are an error, for they may name anything.
func (d *Drive) plan(ctx context.Context, o GCOptions, away []string) (gcPlan, error) {
	if err := d.refs.Poll(ctx); err != nil {
		return gcPlan{}, asDamage(fmt.Errorf("look for other devices: %w", err))
	}
	var p gcPlan
	newest := map[keys.DeviceID]refs.Head{}
	for h, err := range d.refs.Heads(ctx) {
		if err != nil {
			return p, asDamage(err)
		}
		newest[h.Device] = h
		p.heads = append(p.heads, h)
	}
	self, others := d.device.ID(), d.writers()
	if p.alone = len(others) == 0; !p.alone {
		p.o.Grace = max(o.Grace, 0)
	} else if d.replicas == nil || len(d.replicas.engine.Mark()) == 0 {
		return p, nil // nobody can come by any way
	}
	p.o.May = func(pack.Name) bool { return false }
	c := newest[self].Collection
	if c == (refs.Collection{}) {
		return p, nil
	}
	heads, missing, err := d.agreement(ctx, c, newest, others)
	if err != nil {
		return p, err
	}
	if len(missing) > 0 {
		for id := range missing {
			p.waits = append(p.waits, others[id])
		}
	}
	for _, name := range away {
		p.waits = append(p.waits, "replica "+name)
	}
	if slices.Sort(p.waits); len(p.waits) > 0 {
		return p, nil
	}
	list, err := d.collected(ctx, c)
	if err != nil {
		return p, err
	}
	may := make(map[pack.Name]bool, len(list))
	for _, name := range list {
		may[name] = true
	}
	p.heads, p.agreed = heads, true
	p.o.May = func(name pack.Name) bool { return may[name] }
	return p, nil
}

// agreement returns all heads that a device can ever begin from again, given that all others have agreed to this device's collection: of each
// device those from the oldest one on that is the newest which another device has seen of it. missing are the devices that have not agreed,
// or have not seen that each other one has.
func (d *Drive) agreement(ctx context.Context, c refs.Collection, newest map[keys.DeviceID]refs.Head, others map[keys.DeviceID]string) (heads []refs.Head, missing map[keys.DeviceID]bool, err error) {
	self := d.device.ID()
	missing = map[keys.DeviceID]bool{}
	for id := range others {
		if !newest[id].Agrees(self, c.Number) {
			missing[id] = true
		}
	}
	if len(missing) > 0 {
		return nil, missing, nil
	}
	for id, h := range newest {
		from := h.Seq
		late := map[keys.DeviceID]bool{} // those that have seen no later one
		for by := range others {
			if by == id {
				continue
			}
			switch seen := newest[by].Sees(id); {
			case seen < from:
				from, late = seen, map[keys.DeviceID]bool{by: true}
			case seen == from:
				late[by] = true
			}
		}
		since, err := d.refs.Since(ctx, id, from)
		if errors.Is(err, fs.ErrNotExist) { // none was seen, or that is pruned
			for by := range late {
				missing[by] = true
			}
			continue
		}
		if err != nil {
			return nil, nil, asDamage(err)
		}
		_, active := others[id]
		switch first := since[0]; {
		case id == self && first.Collection != c, active && !first.Agrees(self, c.Number):
			for by := range late {
				missing[by] = true
			}
		}
		heads = append(heads, since...)
	}
	if len(missing) > 0 {
		return nil, missing, nil
	}
	return heads, nil, nil
}

// announce says in a head of this device which packs it is about to remove.
func (d *Drive) announce(ctx context.Context, packs []pack.Name) error {
	defer d.store.Hold()()
	packs = slices.Clone(packs)
	slices.SortFunc(packs, pack.Name.Compare)
	packs = packs[:min(len(packs), announceMost)]
	list := make([]byte, 0, len(packs)*len(pack.Name{}))
	for _, name := range packs {
		list = append(list, name[:]...)
	}
	ref, err := d.store.Put(ctx, chunk.Data, list)
	if err == nil {
		err = d.store.Flush(ctx)
	}
	if err != nil {
		return fmt.Errorf("announce collection: %w", err)
	}
	return d.say(ctx, func(h refs.Head) refs.Collection { return refs.Collection{Number: h.Seq + 1, Packs: ref} })
}

// say puts a head with another collection, given the newest head.
func (d *Drive) say(ctx context.Context, what func(refs.Head) refs.Collection) error {
	d.adoptMu.Lock()
	defer d.adoptMu.Unlock()
	h, err := d.refs.Head(ctx)
	if err == nil {
		_, err = d.refs.Collect(ctx, what(h), time.Now())
	}
	return asDamage(err)
}

// collected returns the packs of a collection.
func (d *Drive) collected(ctx context.Context, c refs.Collection) ([]pack.Name, error) {
	list, err := d.store.Get(ctx, nil, c.Packs)
	if err != nil {
		return nil, fmt.Errorf("read collection: %w", err)
	}
	const size = len(pack.Name{})
	if len(list)%size != 0 {
		return nil, fmt.Errorf("read collection: %w: %d bytes", refs.ErrTampered, len(list))
	}
	names := make([]pack.Name, 0, len(list)/size)
	for part := range slices.Chunk(list, size) {
		names = append(names, pack.Name(part))
	}
	return names, nil
}
