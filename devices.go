package sheaf

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/keys"
)

// A DeviceInfo is what is known of one device of the drive.
type DeviceInfo struct {
	ID      string   // SHF-…
	Key     [32]byte // its public Ed25519 key
	KEM     []byte   // its public key of the key exchange
	Name    string
	Self    bool // it is this one
	Writer  bool
	Revoked bool
	Added   time.Time // as the device that added it said; zero: not known
	Seen    time.Time // the time of its newest head that is known here, by its own clock; zero: there is none
	// Err is what is wrong with its heads, or nil: they were set back, withheld or forged, or the device was cloned.
	Err error
}

// Devices returns all devices of the drive, also those that were revoked, this one first and then in the order of when they were added.
func (d *Drive) Devices(ctx context.Context) ([]DeviceInfo, error) {
	seen := map[keys.DeviceID]time.Time{}
	for h, err := range d.refs.Heads(ctx) {
		if err == nil {
			seen[h.Device] = h.Time
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	faults := d.refs.Faults()
	var all []DeviceInfo
	for id, m := range d.refs.Members().All() {
		info := d.deviceInfo(id, m)
		info.Seen, info.Err = seen[id], faults[id]
		all = append(all, info)
	}
	slices.SortFunc(all, func(a, b DeviceInfo) int {
		if a.Self != b.Self {
			if a.Self {
				return -1
			}
			return 1
		}
		return cmp.Or(a.Added.Compare(b.Added), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

// deviceInfo returns what the members log says of a device.
func (d *Drive) deviceInfo(id keys.DeviceID, m keys.Member) DeviceInfo {
	return DeviceInfo{
		ID: m.Public.Fingerprint().String(), Key: m.Public.Sign, KEM: m.Public.KEM, Name: m.Name, Self: id == d.device.ID(), Writer: m.Roles&keys.Writer != 0, Revoked: m.Revoked, Added: m.Time,
	}
}

// The errors of Revoke.
var (
	// ErrNotMember is the error of all that writes on a device that was revoked.
	ErrNotMember = keys.ErrNotMember

	ErrNoDevice = errors.New("the drive has no such device")
	ErrSelf     = errors.New("a device cannot revoke itself: another one has to do it")
	ErrRevoked  = errors.New("the device is revoked already")
)

// Revoke ends the membership of a device, given its name, or its ID or the beginning of it, which no other has, for good. What it wrote until now, as far as this device knows,
// counts; nothing that it writes from now on does. A new epoch begins: what this device writes after it
// returned, and each other device from when it hears of it, is sealed with keys that the revoked one is not given. What that one has read stays readable
// to it, and where it keeps the drive's passphrase, words, or a key that opens the drive without them, these have to be changed, too.
// It returns what the members log says of the device then.
func (d *Drive) Revoke(ctx context.Context, device string) (DeviceInfo, error) {
	if err := d.hear(ctx); err != nil {
		return DeviceInfo{}, err
	}
	id, err := d.findDevice(device)
	if err != nil {
		return DeviceInfo{}, err
	}
	var last keys.Mark
	for h, err := range d.refs.Heads(ctx) {
		if err == nil && h.Device == id {
			last = h.Mark()
		}
	}
	if err := ctx.Err(); err != nil {
		return DeviceInfo{}, err
	}
	if err := d.revoke(ctx, id, last); err != nil {
		return DeviceInfo{}, err
	}
	// Only when the new keys are in use is it true that the old ones are no more.
	if err := d.rekey(d.account.Members().Ring()); err != nil {
		return DeviceInfo{}, err
	}
	if err := d.hear(ctx); err != nil {
		return DeviceInfo{}, err
	}
	m, _ := d.refs.Members().Member(id)
	return d.deviceInfo(id, m), nil
}

// hear polls the heads. What is wrong with those of single devices is logged, and keeps nobody from going on; the error is that of ctx.
func (d *Drive) hear(ctx context.Context) error {
	if err := d.refs.Poll(ctx); err != nil && ctx.Err() == nil {
		d.o.Log.Warn("heads of other devices do not fit", "err", err)
	}
	return ctx.Err()
}

func (d *Drive) revoke(ctx context.Context, id keys.DeviceID, last keys.Mark) error {
	d.keysMu.Lock()
	defer d.keysMu.Unlock()
	if err := d.account.Revoke(ctx, id, keys.RevokeOptions{Last: last, Now: time.Now()}); err != nil {
		return err
	}
	if d.replicas != nil {
		d.replicas.engine.Nudge()
	}
	return nil
}

// leastID is how much of an ID has to be told: SHF- and one group.
const leastID = 11

// Is reports whether a text means the device: its name in the members log, or its ID or the beginning of it. Another device may be meant as well.
func (x DeviceInfo) Is(text string) bool {
	id := strings.ToUpper(strings.TrimSpace(text))
	return x.Name == text || len(id) >= leastID && strings.HasPrefix(x.ID, id)
}

// findDevice returns the device that is meant.
func (d *Drive) findDevice(text string) (keys.DeviceID, error) {
	var found []keys.DeviceID
	var revoked bool
	for id, m := range d.refs.Members().All() {
		if d.deviceInfo(id, m).Is(text) {
			found, revoked = append(found, id), m.Revoked
		}
	}
	switch {
	case len(found) == 0:
		return keys.DeviceID{}, fmt.Errorf("%w: %s", ErrNoDevice, text)
	case len(found) > 1:
		return keys.DeviceID{}, fmt.Errorf("%w: that may be more than one: %s", ErrNoDevice, text)
	case found[0] == d.device.ID():
		return keys.DeviceID{}, ErrSelf
	case revoked:
		return keys.DeviceID{}, fmt.Errorf("%w: %s", ErrRevoked, text)
	}
	return found[0], nil
}

// rekey lets the Store write with the keys of the newest epoch of the ring.
func (d *Drive) rekey(ring *keys.Ring) error {
	all := storeKeysOf(ring)
	if err := d.store.Rekey(all[0], all[1:]); err != nil {
		return fmt.Errorf("begin to write in epoch %d: %w", ring.Epoch(), err)
	}
	return nil
}
