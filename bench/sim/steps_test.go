package sim

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/sync/remote/peer"
	"github.com/sheaf-drive/sheaf/vfs"
)

// A held is a file that a device has open for writing.
type held struct {
	f vfs.File
	h vfs.Handle
}

// step lets one device do one thing.
func (w *world) step() error {
	d := w.devices[w.rng.IntN(len(w.devices))]
	if w.direct {
		if done, err := w.directly(d); done || err != nil {
			return err
		}
	}
	if d.d == nil {
		return w.start(d)
	}
	var what string
	var err error
	n := w.rng.IntN(100)
	if w.tidy > 0 { // nothing but what garbage needs to go, and changes beside it
		w.tidy--
		n = []int{0, 38, 43, 43, 68, 68, 70, 70}[w.rng.IntN(8)]
	}
	switch {
	case n < 34:
		what, err = d.change()
	case n < 38:
		what, err = "sync", d.fsys.Sync(w.ctx)
		if err == nil {
			d.synced()
		}
	case n < 43:
		what, err = "commit", d.d.Commit(w.ctx)
		if err == nil {
			d.synced()
		}
	case n >= 54 && n < 68 && w.evicts() && w.rng.IntN(2) == 0:
		what, err = "evict", w.evict(d)
	case n < 63:
		what, err = "exchange", d.exchange()
		switch {
		case err == nil:
			w.count["exchanges"]++
		case w.loses() && d.robbed() && w.mayGo(d) && w.rng.IntN(2) == 0:
			w.say("%s: exchange: %s, and is wiped", d.name, outcome(err))
			d.wipe() // what it would have put again in its next turn is at that place, or it is nowhere
			return nil
		}
	case n < 66:
		what, err = "turn", d.d.Replicas().Sync(w.ctx)
	case n < 68:
		what = "adopt"
		_, err = d.d.Adopt(w.ctx)
	case n < 70:
		what, err = "thin", w.thin(d)
	case n < 75:
		what, err = w.gc(d)
	case n < 84 && len(d.links) == 0:
		what, err = d.change()
	case n < 84:
		w.trouble(d)
		return nil
	case n < 87:
		left, after := w.rng.IntN(40), w.rng.IntN(2) == 0
		d.power.set(left, after)
		w.say("%s will crash in %d writes", d.name, left)
		return nil
	case n < 89:
		w.say("%s crashes", d.name)
		d.crash(w.rng.IntN(2) == 0)
		return nil
	case n < 91:
		what, err = "restart", d.restart()
	case n < 93:
		d.skew = []time.Duration{0, -time.Hour, 5 * time.Hour, -10 * 365 * 24 * time.Hour, 10 * 365 * 24 * time.Hour}[w.rng.IntN(5)]
		w.say("the clock of %s is wrong by %s", d.name, d.skew)
		return nil
	case n < 94:
		if w.rng.IntN(2) == 0 {
			w.night()
		}
		return nil
	case n < 96:
		return w.loss(d)
	case n < 97:
		what, err = w.revoke(d)
	case n < 99:
		w.tidy = 10 + w.rng.IntN(30)
		return nil
	default:
		what, err = "keep", w.keep(d)
	}
	w.say("%s: %s: %s", d.name, what, outcome(err))
	return w.after(d, err)
}

// after looks at what a step came to.
func (w *world) after(d *device, err error) error {
	if w.notes != nil && err != nil {
		w.notes("    %v", err)
	}
	if errors.Is(err, errWrong) {
		return err
	}
	if d.power.read() != nil {
		whole := w.rng.IntN(2) == 0
		w.say("%s has crashed, power stays on: %t", d.name, whole)
		w.count["crashes"]++
		d.crash(whole)
		return nil //nolint:nilerr // that is what becomes of a device without power
	}
	w.count[outcome(err)]++
	if w.rng.IntN(3) > 0 || d.d == nil {
		return nil
	}
	t, err := w.look(d.fsys)
	if errors.Is(err, errWrong) {
		return err
	}
	if err == nil {
		w.say("%s shows %s", d.name, mark(t))
	} else {
		w.say("%s does not show all", d.name)
		w.count["unread"]++
	}
	if d.power.read() != nil {
		d.crash(true)
	}
	return nil
}

// start opens a device that is down.
func (w *world) start(d *device) error {
	err := d.open()
	w.say("%s starts: %s", d.name, outcome(err))
	switch {
	case err == nil:
		w.count["starts"]++
		return w.after(d, nil)
	case d.power.read() != nil:
		return w.after(d, err)
	case d.id == "" && w.direct:
		w.count["late joins"]++
		return nil // who lets it in may know of heads whose packs have not come to it yet, or nobody is there
	case d.id == "" && d.troubled():
		if w.rng.IntN(2) == 0 {
			d.heal() // or it would wait for ever
		}
		return nil
	case d.troubled():
		// What it needs to begin may be at its places only.
		w.count["not opened"]++
		if w.rng.IntN(2) == 0 {
			d.heal()
		}
		return nil
	case d.headless():
		// What others see at a place that is not well may be all there is of it.
		w.count["late joins"]++
		for _, other := range w.devices {
			if other.troubled() {
				return nil
			}
		}
	}
	return fmt.Errorf("%w: %s does not open: %w", errBroken, d.name, err)
}

// restart ends the process of a device in order.
func (d *device) restart() error {
	d.drop()
	err := d.down(d.w.ctx)
	if err == nil {
		d.synced()
	}
	return err
}

// drop gives back what a device has open.
func (w *world) drop(d *device) { d.drop() }

func (d *device) drop() {
	if d.held != nil {
		_ = d.held.h.Close(d.w.ctx) // what it wrote is noted as not synced
		d.held = nil
	}
}

// trouble begins or ends a fault of a place of d.
func (w *world) trouble(d *device) {
	l := d.links[w.rng.IntN(len(d.links))]
	f := well
	if w.rng.IntN(3) > 0 {
		f = fault(w.rng.IntN(int(faults)))
	}
	if f == late && w.loses() {
		f = lossy
	}
	if l.now() == late {
		l.arrive(w.ctx)
	}
	l.set(w.ctx, f, w.rng.Uint64())
	w.count["fault "+f.String()]++
	w.say("%s finds %s %s", d.name, l.name, f)
}

// loses reports whether this is a schedule in which places lose what they have acknowledged.
func (w *world) loses() bool { return w.seed%4 == 1 }

// evicts reports whether this is a schedule in which devices let go what places have.
func (w *world) evicts() bool { return w.seed%8 == 2 || w.seed%8 == 5 || w.seed%8 == 7 }

// evict lets go all of what a device has put, or some of it, that one of its places has, or each of two.
func (w *world) evict(d *device) error {
	r, err := d.d.Evict(w.ctx, sheaf.EvictOptions{Keep: int64(w.rng.IntN(2) * w.rng.IntN(256<<10)), Copies: w.rng.IntN(2)}, nil)
	w.count["evicted"] += int(r.Packs)
	return err
}

// night lets hours or days go by, while all devices are off.
func (w *world) night() {
	long := []time.Duration{time.Hour, 9 * time.Hour, 8 * 24 * time.Hour, 60 * 24 * time.Hour}[w.rng.IntN(4)]
	for _, d := range w.devices {
		if d.d == nil {
			continue
		}
		err := d.restart()
		if d.power.read() != nil {
			d.crash(true)
		}
		w.say("%s goes off: %s", d.name, outcome(err))
	}
	time.Sleep(long)
	w.clock = w.clock.Add(long)
	w.say("%s go by", long)
	w.count["nights"]++
}

// thin forgets the states that have no label.
func (w *world) thin(d *device) error {
	if err := d.d.Commit(w.ctx); err != nil {
		return err
	}
	d.synced()
	all, err := d.d.Snapshots(w.ctx)
	if err != nil {
		return err
	}
	var ids []sheaf.SnapshotID
	for _, k := range all {
		if k.Label == "" || w.rng.IntN(4) == 0 {
			ids = append(ids, sheaf.SnapshotID(k.Dot.String()))
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return d.d.DropSnapshot(w.ctx, ids...)
}

// keep gives the state of now a label.
func (w *world) keep(d *device) error {
	_, err := d.d.Snapshot(w.ctx, fmt.Sprint("kept ", w.n))
	if err == nil {
		d.synced()
	}
	return err
}

// gc collects garbage, with days of grace or without.
func (w *world) gc(d *device) (string, error) {
	o, what := sheaf.GCOptions{Grace: -1}, "gc at once"
	if w.tidy == 0 && w.rng.IntN(4) == 0 {
		o, what = sheaf.GCOptions{}, "gc"
	}
	r, err := d.d.GC(w.ctx, o, nil)
	if err == nil {
		d.synced() // it commits first
		w.count["collections"]++
		w.count["freed"] += int(r.Packs)
		w.count["announced"] += int(r.Announced)
	}
	return what, err
}

// loss takes all from a device, or gives it what it had some time ago.
func (w *world) loss(d *device) error {
	switch n := w.rng.IntN(6); {
	case n < 1 && d.id != "" && w.mayGo(d):
		w.say("%s is wiped", d.name)
		d.wipe()
		return nil
	case n < 4:
		members := map[peer.Key]bool{}
		for _, m := range d.d.Peers() {
			members[m.Key] = true
		}
		err := d.restart()
		if d.power.read() != nil {
			d.crash(true)
		}
		w.say("%s is saved: %s", d.name, outcome(err))
		d.save()
		d.backup.members = members
		return nil
	case d.backup != nil && w.count["set back"] < 2 && (!w.direct || w.spared(d, d.backup) && w.remembered(d) && w.gather(d)):
		w.count["set back"]++
		w.say("%s is set back", d.name)
		d.setBack()
		// Its places are well when it meets them: where one that knows what it has lost is away, what it puts at another would be a second world for whoever sees both.
		d.heal()
		if err := d.open(); err != nil {
			return fmt.Errorf("%w: %s does not open after it was set back: %w", errBroken, d.name, err)
		}
		if err := w.unaware(d); err != nil {
			return err
		}
		err := d.d.Replicas().Sync(w.ctx)
		w.say("%s meets: %s", d.name, outcome(err))
		if err := d.restart(); err != nil {
			w.say("%s ends: %s", d.name, outcome(err))
		}
	}
	return nil
}

// mayGo reports whether a device may be wiped, and the others go on.
func (w *world) mayGo(d *device) bool {
	return w.count["wipes"] < 2 && (!w.direct || w.spared(d, nil) && w.connected(d))
}

// unaware lets a device that was set back work for a while before it meets a place.
func (w *world) unaware(d *device) error {
	for range w.rng.IntN(5) {
		what, err := d.change()
		if w.rng.IntN(2) == 0 && err == nil {
			if err = d.d.Commit(w.ctx); err == nil {
				d.synced()
			}
			what += ", commit"
		}
		w.say("%s, unaware: %s: %s", d.name, what, outcome(err))
		if errors.Is(err, errWrong) {
			return err
		}
		w.count["unaware"]++
	}
	return nil
}

// revoke ends the membership of a device that is gone.
func (w *world) revoke(d *device) (string, error) {
	if len(w.gone) == 0 {
		return "nobody to revoke", nil
	}
	err := w.dismiss(d, w.gone[0])
	if err == nil || errors.Is(err, sheaf.ErrRevoked) || errors.Is(err, sheaf.ErrNoDevice) {
		w.gone = slices.Delete(w.gone, 0, 1)
	}
	return "revoke", err
}

// dismiss revokes a device, and notes what that means for what it wrote.
func (w *world) dismiss(d *device, g former) error {
	// What it wrote counts as far as this device knows it, which is what it shows.
	t, err := w.look(d.fsys)
	if err != nil {
		return fmt.Errorf("look before revoking: %w", err)
	}
	shown := map[string]bool{}
	for _, what := range t {
		for _, s := range wordForm.FindAllString(what, -1) {
			shown[s] = true
		}
	}
	for _, x := range w.words {
		delete(x.sure, g.life)
		if x.life == g && !shown[x.text] {
			x.free = true
		}
	}
	_, err = d.d.Revoke(w.ctx, g.id)
	if err == nil {
		w.count["revoked"]++
	}
	return err
}
