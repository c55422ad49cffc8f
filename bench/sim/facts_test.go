package sim

import (
	"errors"
	"slices"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// Where devices are places of each other, what is at one of them may be lost with it. So it is counted who has what: a fact is something that was
// written or ended, and a stock is what one device has. A device that is wiped has another stock after it.
type fact struct {
	stocks int  // that have it
	safe   bool // a place that loses nothing has it
	lost   func()
}

type stock map[*fact]bool

func (s stock) add(f *fact) {
	if !s[f] {
		s[f] = true
		f.stocks++
	}
}

// shrink takes from a stock all that is not in another one, which was kept of it. What nobody has any more is lost.
func (s stock) shrink(kept stock) {
	for f := range s {
		if kept[f] {
			continue
		}
		delete(s, f)
		if f.stocks--; f.stocks == 0 && !f.safe {
			f.lost()
		}
	}
}

// knows notes that what a device wrote and ended is durable there.
func (d *device) knows() {
	if d.ghost {
		return
	}
	made := func(lost func()) {
		f := &fact{lost: lost}
		d.stock.add(f)
		d.made = append(d.made, f)
	}
	for _, x := range d.loose {
		made(func() { x.free = true })
	}
	for _, x := range d.ending {
		life := d.life
		x.sure[life] = true
		made(func() { delete(x.sure, life) })
	}
}

// gave notes to whom all has got that this device had when it committed last: to those whose turn went well. It returns err, what the turns came to, without what is said of devices that are no more.
func (d *device) gave(err error) error {
	var errs []error
	for _, s := range d.d.Replicas().List() {
		if s.Err != nil && !d.w.isGone(s.Name) {
			errs = append(errs, s.Err)
		}
		if s.Err != nil || s.Here || s.Gives || d.ghost {
			continue
		}
		if s.Passing {
			for _, p := range d.pairs {
				if o := p.other(d); peerName(o.id) == s.Name {
					for _, f := range d.made {
						o.stock.add(f)
					}
				}
			}
			continue
		}
		for _, f := range d.made {
			f.safe = true
		}
	}
	if err == nil {
		return nil
	}
	return errors.Join(errs...)
}

// leaves notes that a device is none any more. Somebody is to revoke it.
func (w *world) leaves(f former) {
	w.gone = append(w.gone, f)
	w.former[peerName(f.id)] = true
}

// isGone reports whether a replica is a device that is none any more. It counts as one also when somebody has revoked it, for others may never hear of that: who did it may
// have been lost, or revoked, since.
func (w *world) isGone(name string) bool {
	alive := slices.ContainsFunc(w.devices, func(d *device) bool { return d.id != "" && peerName(d.id) == name })
	return w.former[name] && !alive ||
		slices.ContainsFunc(w.ghosts, func(g *device) bool { return peerName(g.id) == name })
}

// has reports whether one of some buckets has a blob.
func (w *world) has(name blob.Name, all ...blob.Bucket) bool {
	for _, b := range all {
		r, err := b.Get(w.ctx, name, 0, 0)
		if err == nil {
			w.must(r.Close())
			return true
		}
	}
	return false
}

func (w *world) list(b blob.Bucket, prefix blob.Name) (all []blob.Name) {
	for info, err := range b.List(w.ctx, prefix) {
		w.must(err)
		all = append(all, info.Name)
	}
	return all
}

// spared reports whether a device can be lost, or get what was kept of it, nil: nothing, and all others can go on: whatever they may know to lie there lies elsewhere, too. A device
// on which alone there is what others have built upon is a loss that no drive stands, and nothing that is to be found out here.
func (w *world) spared(d *device, kept *backup) bool {
	var others []blob.Bucket
	for _, o := range w.devices {
		if o != d {
			others = append(others, o.own, o.shelf)
		}
	}
	for _, p := range w.places {
		others = append(others, p.inner)
	}
	for _, name := range w.list(d.own, "packs/") {
		if d.order[name] <= d.seen && !(kept != nil && w.has(name, kept.own)) && !w.has(name, others...) {
			return false
		}
	}
	for _, name := range w.list(d.shelf, "packs/") {
		if !(kept != nil && w.has(name, kept.shelf)) && !w.has(name, others...) {
			return false
		}
	}
	return true
}

// shares reports whether a device is at a place with another one, which learns there that it has joined. Who meets others directly only is let in by one of them, or not at all.
func (w *world) shares(d *device) bool {
	return slices.ContainsFunc(d.links, func(l *link) bool {
		return slices.ContainsFunc(w.devices, func(o *device) bool {
			return o != d && slices.ContainsFunc(o.links, func(m *link) bool { return m.place == l.place })
		})
	})
}

// remembered reports whether those whom a device meets after it was set back know of all its heads that anybody knows of.
func (w *world) remembered(d *device) bool {
	var all, near []blob.Bucket
	for _, o := range w.devices {
		if o != d {
			all = append(all, o.mirror, o.shelf)
		}
	}
	for _, p := range w.places {
		all = append(all, p.inner)
	}
	for _, p := range d.pairs {
		if o := p.other(d); !o.ghost && d.backup.members[o.key] {
			near = append(near, o.mirror, o.shelf)
		}
	}
	for _, l := range d.links {
		near = append(near, l.inner)
	}
	for _, name := range w.list(d.own, "heads/") {
		if !w.has(name, d.backup.own) && w.has(name, all...) && !w.has(name, near...) {
			return false
		}
	}
	return true
}
