package sheaf

import (
	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// State returns the tree as it was last committed. Its Dot is zero, for it need not be kept. It waits for a commit that is under way.
func (d *Drive) State() manifest.Kept {
	b := d.tree.Base()
	return manifest.Kept{Root: b.Root, Time: b.Time, Device: b.Device, Files: b.Files, Bytes: b.Bytes}
}

// Moved returns a channel that is closed when the next state is committed, or taken over from other devices. Whoever wants to miss nothing calls it
// before State.
func (d *Drive) Moved() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.moved == nil {
		d.moved = make(chan struct{})
	}
	return d.moved
}

// tellMoved tells those who wait for Moved. d.mu is held.
func (d *Drive) tellMoved() {
	if d.moved != nil {
		close(d.moved)
		d.moved = nil
	}
}

// DeviceOf returns the ID and the name of the device that is so called in writes; "" for one that is not known.
func (d *Drive) DeviceOf(short causal.Device) (id, name string) {
	for dev, m := range d.refs.Members().All() {
		if dev.Short() == short {
			info := d.deviceInfo(dev, m)
			return info.ID, info.Name
		}
	}
	return "", ""
}
