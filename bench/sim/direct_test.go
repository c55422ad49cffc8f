package sim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/peering"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/sync/remote/peer"
	"github.com/sheaf-drive/sheaf/vfs"
)

// known lets happen what is known to go wrong, for whoever mends it: a device without a head of its own is started again while all others are away (it does not open),
// and devices that were revoked put at places and at devices that have not heard of it (when they prune their heads, the last that counts is lost, and nobody can be let in any more).
var known = os.Getenv("SHEAF_KNOWN") != ""

// peersOnly makes devices reach each other directly in all schedules.
var peersOnly = os.Getenv("SHEAF_PEERS") != ""

// errNobody is what a device says that nobody can let in now.
var errNobody = errors.New("nobody is there who could let it in")

// acquaint makes places and devices that reach each other directly, and lets them all know of each other. Two of three drives have no place at all.
func (w *world) acquaint() error {
	if w.rng.IntN(3) == 0 {
		for i := range 1 + w.rng.IntN(2) {
			w.places = append(w.places, newPlace(string(rune('p'+i))))
		}
	}
	mesh := w.rng.IntN(2) == 0
	for i := range 2 + w.rng.IntN(4) {
		var places []*place
		for _, p := range w.places {
			if i == 0 || w.rng.IntN(2) == 0 {
				places = append(places, p)
			}
		}
		d := newDevice(w, string(rune('a'+i)), places)
		first := w.rng.IntN(i + 1) // who it knows in any case
		for j, o := range w.devices {
			if mesh || j == first%i || w.rng.IntN(3) == 0 {
				w.pair(d, o)
			}
		}
		w.devices = append(w.devices, d)
		if err := d.open(); err != nil {
			w.say("%s begins: %s", d.name, outcome(err)) // who lets it in may know of heads whose packs have not come to it yet
			continue
		}
		if err := d.exchange(); err != nil {
			w.say("%s begins: %s", d.name, outcome(err)) // not all whom it reaches know of it yet
		}
	}
	for range len(w.devices) {
		for _, d := range w.devices {
			time.Sleep(2 * time.Second)
			if d.d == nil && d.open() != nil {
				continue
			}
			w.say("%s meets all: %s", d.name, outcome(d.exchange()))
		}
	}
	return nil
}

func (w *world) pair(a, b *device) {
	p := newPair(a, b)
	w.pairs = append(w.pairs, p)
	a.pairs, b.pairs = append(a.pairs, p), append(b.pairs, p)
}

// peerName is how a device is called among the replicas of others.
func peerName(id string) string {
	if all := strings.Split(id, "-"); len(all) > 1 {
		return "peer-" + strings.ToLower(all[1])
	}
	return ""
}

// join makes a new device one of the drive: by the recovery words at a place, or by one that lets it in.
func (d *device) join() error {
	var hosts []*device
	for _, p := range d.pairs {
		if o := p.other(d); o.d != nil && o.peers != nil && !o.ghost && !o.wasBack && !p.apart {
			hosts = append(hosts, o)
		}
	}
	if d.w.shares(d) && (len(hosts) == 0 || d.w.rng.IntN(2) == 0) {
		var err error
		if d.d, err = sheaf.Join(d.w.ctx, d.options(sheaf.Secret{Recovery: d.w.recovery}), true); err != nil {
			return err
		}
		return nil
	}
	if len(hosts) == 0 {
		return errNobody
	}
	err := d.arrive(hosts[d.w.rng.IntN(len(hosts))])
	if err == nil && !known && d.name != "z" {
		_, err = vfs.MkdirAll(d.w.ctx, d.d.FS(), d.name+" is here", vfs.New{Kind: vfs.KindDir, Mode: 0o755})
		if err == nil {
			err = d.d.Commit(d.w.ctx)
		}
		if err != nil {
			d.w.leaves(former{d.d.Info().Device, 0})
			d.power.cut()
			d.part()
			_ = d.d.Close(ended())
			d.power.set(-1, false)
			d.blank()
		}
	}
	if err != nil {
		d.part()
		d.d = nil
		// What was given to it is thrown away, as it was never one of the drive.
		for _, name := range []string{"device", "device.key"} {
			if rerr := os.Remove(filepath.Join(d.dir, name)); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
				err = errors.Join(err, rerr)
			}
		}
	}
	return err
}

// arrive is what a device does that another one lets in when both sides are certain of each other, as the command does it.
func (d *device) arrive(by *device) error {
	n, err := keys.NewNewcomer(nil)
	if err != nil {
		return err
	}
	gift, err := by.d.Welcome(d.w.ctx, n.Device().Public(), d.name)
	if err != nil {
		return err
	}
	d.w.leaves(former{n.Device().Public().Fingerprint().String(), 0}) // until it is here
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	drive, tips, err := n.Accept(d.dir, gift)
	if err != nil {
		return err
	}
	d.key = n.Device().Public().Sign
	if err := d.attend(peering.Options{Signer: n.Device().Signer(), Drive: drive}); err != nil {
		return err
	}
	d.peers.Trust(by.key)
	if err := d.peers.Know(by.key, address(by.name).String()); err != nil {
		return err
	}
	o := d.options(sheaf.Secret{})
	o.Replication.Places = append(o.Replication.Places, d.peers.Place(sheaf.PeerDevice{Key: by.key, Name: by.name, ID: by.id}))
	// Whoever lets a device in gives it a turn when it is connected: what it begins on may be at a place that it does not know.
	turn := make(chan struct{})
	late := time.AfterFunc(time.Second, func() {
		defer close(turn)
		by.tend()
		_ = by.d.Replicas().Sync(d.w.ctx) // what it does not bring is missing
	})
	d.d, err = sheaf.Arrive(d.w.ctx, o, tips)
	if !late.Stop() {
		<-turn
	}
	if err != nil {
		return err
	}
	d.w.gone = d.w.gone[:len(d.w.gone)-1]
	d.peers.Take(d.d)
	d.tend()
	d.w.count["let in"]++
	return nil
}

// attend makes the device one that others reach.
func (d *device) attend(o peering.Options) (err error) {
	o.Name, o.Dir, o.Log, o.NoLAN, o.Dial = d.name, d.dir, d.w.log(d), true, d.dial
	o.Own, o.Mirror, o.Shelf = &folder{d.own, d.power, nil}, &folder{d.mirror, d.power, nil}, d.shelfFolder()
	d.peers, err = peering.New(o)
	return err
}

// shelfFolder is where others put.
func (d *device) shelfFolder() *folder { return &folder{d.shelf, d.power, func(string) { d.took++ }} }

// meet lets a device that was opened be reached.
func (d *device) meet() error {
	if d.peers != nil {
		return nil // it has just been let in
	}
	d.key = d.d.Public().Sign
	if err := d.attend(peering.Options{Signer: d.d.Signer(), Drive: d.d.DriveID()}); err != nil {
		return err
	}
	d.peers.Take(d.d)
	d.tend()
	return nil
}

// tend is what a device does now and then: it learns who its peers are by now.
func (d *device) tend() {
	if d.peers == nil || d.d == nil {
		return
	}
	for _, m := range d.d.Peers() {
		for _, p := range d.pairs {
			if o := p.other(d); o.key == m.Key && len(d.peers.Known(m.Key)) == 0 {
				_ = d.peers.Know(m.Key, address(o.name).String()) // it is known in memory all the same
			}
		}
	}
	d.peers.Tend(d.d)
}

// part ends that it is reached.
func (d *device) part() {
	if d.peers != nil {
		d.w.must(d.peers.Close())
		d.peers = nil
	}
}

// knowsRevoked reports whether a device knows that another one was revoked.
func (d *device) knowsRevoked(o *device) bool {
	if d.d == nil || o.key == (peer.Key{}) {
		return false
	}
	_, err := d.d.PeerByKey(o.key)
	return errors.Is(err, sheaf.ErrNotMember)
}

// directly does a step that only devices have that reach each other directly. It reports whether it did one.
func (w *world) directly(d *device) (bool, error) {
	n := w.rng.IntN(100)
	switch {
	case n < 12 && len(w.ghosts) > 0:
		return true, w.haunt(w.ghosts[w.rng.IntN(len(w.ghosts))])
	case n < 24:
		if len(d.pairs) == 0 {
			return false, nil
		}
		w.disturb(d, d.pairs[w.rng.IntN(len(d.pairs))])
		return true, nil
	case n < 27 && d.d != nil:
		return w.expel(d)
	}
	return false, nil
}

// disturb begins or ends what is wrong between two devices.
func (w *world) disturb(d *device, p *pair) {
	o, what := p.other(d), ""
	if w.rng.IntN(3) == 0 {
		p.heal()
		w.say("%s and %s reach each other", d.name, o.name)
		return
	}
	p.mu.Lock()
	switch w.rng.IntN(5) {
	case 0, 1:
		p.apart, what = true, "are parted"
	case 2:
		p.left = w.rng.IntN(1 << (6 + w.rng.IntN(12)))
		what = fmt.Sprintf("lose their cable after %d bytes", p.left)
	case 3:
		p.rot = w.rng.IntN(1 << (4 + w.rng.IntN(12)))
		what = fmt.Sprintf("get one wrong byte after %d", p.rot)
	case 4:
		p.delay = []time.Duration{30 * time.Millisecond, 700 * time.Millisecond, 9 * time.Second}[w.rng.IntN(3)]
		what = fmt.Sprint("wait ", p.delay)
	}
	c := p.cable
	p.mu.Unlock()
	if c != nil && strings.HasPrefix(what, "are") {
		c.cut()
	}
	w.count["pairs "+strings.Fields(what)[0]]++
	w.say("%s and %s %s", d.name, o.name, what)
}

// connected reports whether all devices come together by those of them that are left without one, and by places that do not fail.
func (w *world) connected(without *device) bool {
	left := slices.DeleteFunc(slices.Clone(w.devices), func(d *device) bool { return d == without })
	if len(left) < 2 {
		return false
	}
	met := map[*device]bool{left[0]: true}
	for range left {
		for _, a := range left {
			for _, b := range left {
				meets := slices.ContainsFunc(a.pairs, func(p *pair) bool { return p.other(a) == b })
				for _, l := range a.links {
					meets = meets || slices.ContainsFunc(b.links, func(m *link) bool { return m.place == l.place })
				}
				if met[a] && meets {
					met[b] = true
				}
			}
		}
	}
	return len(met) == len(left)
}

// expel revokes a device that is there still, and goes on calling: a ghost.
func (w *world) expel(d *device) (bool, error) {
	v := w.devices[w.rng.IntN(len(w.devices))]
	if v == d || v.id == "" || v.wasBack || len(w.ghosts) > 0 || !w.connected(v) || !w.spared(v, nil) {
		return false, nil
	}
	entries := len(w.list(d.own, "members/"))
	err := w.dismiss(d, former{v.id, v.life})
	w.say("%s revokes %s: %s", d.name, v.name, outcome(err))
	// Also if it crashed while it did so: it reads what it has put when it starts again.
	if _, gone := d.d.PeerByKey(v.key); errors.Is(gone, sheaf.ErrNotMember) || len(w.list(d.own, "members/")) > entries {
		v.ghost = true
		v.stock.shrink(nil)
		w.ghosts = append(w.ghosts, v)
		if !known {
			v.links = nil // what it signs in with at places is changed
			if err := v.down(ended()); err != nil {
				w.say("ghost %s: down: %s", v.name, outcome(err))
			}
		}
		w.devices = slices.DeleteFunc(w.devices, func(o *device) bool { return o == v })
		w.count["ghosts"]++
	}
	d.tend()
	return true, w.after(d, err)
}

// haunt lets a device go on that was revoked. Whoever knows that refuses it, and nothing that was written by who knew it is readable for it.
func (w *world) haunt(g *device) error {
	if g.d == nil {
		w.say("ghost %s starts: %s", g.name, outcome(g.open()))
		return nil
	}
	var knew []*device
	for _, p := range g.pairs {
		if o := p.other(g); o.knowsRevoked(g) {
			knew = append(knew, o)
		}
	}
	what := ""
	switch n := w.rng.IntN(5); {
	case n == 0:
		g.skew = time.Duration(w.rng.IntN(3)-1) * time.Hour
		what, _ = g.change()
	case n == 1:
		what = "restart"
		_ = g.restart()
	default:
		before := map[string]uint64{}
		for _, s := range g.d.Replicas().List() {
			before[s.Name] = s.Turn
		}
		what = "exchange: " + outcome(g.exchange())
		served(w, g, knew, before)
	}
	w.say("ghost %s: %s", g.name, what)
	return w.peep(g)
}

// served looks whether a device that was revoked came to anything with those who knew.
func served(w *world, g *device, knew []*device, before map[string]uint64) {
	for _, s := range g.d.Replicas().List() {
		for _, o := range knew {
			if s.Name == peerName(o.id) && s.Turn > before[s.Name] {
				if s.Err == nil {
					w.failf("%s was revoked, %s knows it, and gave it a turn", g.name, o.name)
				}
				w.count["refused"]++
			}
		}
	}
}

// peep looks for what a revoked device must not read.
func (w *world) peep(g *device) error {
	if g.d == nil {
		return nil
	}
	t, err := w.look(g.fsys)
	if errors.Is(err, errWrong) {
		return err
	}
	for _, what := range t {
		for _, s := range wordForm.FindAllString(what, -1) {
			if w.words[s].hidden[g] {
				w.failf("%s was revoked, and reads %s, which was written by who knew that", g.name, s)
			}
		}
	}
	return nil
}

// bury ends devices whose power went off while they served another one, and tends the rest.
func (w *world) bury() {
	for _, d := range append(slices.Clone(w.devices), w.ghosts...) {
		if d.power.read() != nil {
			whole := w.rng.IntN(2) == 0
			w.say("%s has crashed, and power stays on: %t", d.name, whole)
			w.count["crashes of who serves"]++
			d.crash(whole)
		}
		d.tend()
	}
	time.Sleep(time.Duration(1+w.rng.IntN(3)) * time.Second) // who was not reached is not dialled for a second
}

// gather starts all whom a device meets directly, and ends what keeps them apart, so that it learns what it has lost.
func (w *world) gather(d *device) bool {
	for _, p := range d.pairs {
		o := p.other(d)
		if o.ghost {
			continue
		}
		p.heal()
		if o.wasBack {
			return false
		}
		o.power.set(-1, false)
		if o.d == nil && o.open() != nil {
			return false
		}
	}
	return true
}

// settleTogether is a round of the settling in which all are there when one of them has its turn.
func (w *world) settleTogether(last bool) (quiet bool, err error) {
	quiet = true
	for _, d := range w.devices {
		if d.d != nil {
			continue
		}
		quiet = false
		if err := d.open(); err != nil {
			if w.say("settle %s: open: %v", d.name, err); last || !d.headless() {
				return false, fmt.Errorf("%w: %s does not open when all is well: %w", errBroken, d.name, err)
			}
		}
	}
	for _, g := range w.ghosts {
		if err := w.haunt(g); err != nil {
			return false, err
		}
	}
	var failed []*device
	trees := map[string]bool{}
	for _, d := range w.devices {
		if d.d == nil {
			continue
		}
		err := d.exchange()
		if err != nil {
			if last {
				return false, fmt.Errorf("%w: %s does not come to rest: %w", errBroken, d.name, err)
			}
			w.say("settle %s: %v", d.name, err)
			failed, quiet = append(failed, d), false
			continue
		}
		t, err := w.look(d.fsys)
		if err != nil {
			if errors.Is(err, errWrong) || last {
				return false, fmt.Errorf("%w: %s when all is well: %w", errBroken, d.name, err)
			}
			w.say("settle %s: look: %v", d.name, err)
			quiet = false
			continue
		}
		trees[mark(t)] = true
	}
	for _, d := range failed { // its state may be one that it has to begin anew from
		if err := d.down(w.ctx); err != nil {
			w.say("settle %s: close: %v", d.name, err)
		}
	}
	for _, d := range w.devices {
		d.tend()
	}
	return quiet && len(trees) == 1, nil
}
