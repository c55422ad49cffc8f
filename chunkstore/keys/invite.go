package keys

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/sheaf-drive/sheaf/chunkstore/cbor"
)

// maxWelcome is the longest Welcome.
const maxWelcome = 16 << 10

// A Newcomer is a device that is about to join a drive on the word of one of its devices, and not by a secret that a person knows. It has its keys, and knows
// no drive yet. It prints as "[key]".
type Newcomer struct{ device *Device }

// NewNewcomer draws the keys of a device. entropy nil is the system's.
func NewNewcomer(entropy io.Reader) (*Newcomer, error) {
	if entropy == nil {
		entropy = rand.Reader
	}
	d, err := newDevice(entropy)
	if err != nil {
		return nil, err
	}
	return &Newcomer{d}, nil
}

// Device returns what will be the identity of this device.
func (n *Newcomer) Device() *Device { return n.device }

// Format prints "[key]" for every verb.
func (Newcomer) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[key]")) }

// Append appends the public half of an identity as CBOR: an array of the two keys.
func (p DevicePublic) Append(b []byte) []byte {
	b = cbor.AppendArray(b, 2)
	b = cbor.AppendBytes(b, p.Sign[:])
	return cbor.AppendBytes(b, p.KEM)
}

// ReadPublic reads what Append wrote. That the keys are ones is not looked at: who wraps to them finds out.
func ReadPublic(r *cbor.Reader) (p DevicePublic) {
	r.ArrayOf(2)
	r.Fixed(p.Sign[:])
	p.KEM = append([]byte(nil), r.BytesMax(kemPublicSize)...)
	if r.Err() == nil && len(p.KEM) != kemPublicSize {
		r.Fail("a key of %d bytes", len(p.KEM))
	}
	return p
}

// Welcome makes a new device a member that another place has the keys of, signed by the owner, and returns what it has to be given, by a channel that nobody else
// reads or writes: the account root is in it. The entry is in the Bucket before. A device that is a member is none that is new: the error wraps ErrExists.
func (a *Account) Welcome(ctx context.Context, p DevicePublic, o EnrollOptions) ([]byte, error) {
	if err := checkName(o.Name); err != nil {
		return nil, fmt.Errorf("welcome device: %w", err)
	}
	if _, ok := a.Members().Member(p.ID()); ok {
		return nil, fmt.Errorf("welcome device: %w", ErrExists)
	}
	if err := a.addMember(ctx, &Device{public: p, print: p.Fingerprint()}, o); err != nil {
		return nil, fmt.Errorf("welcome device: %w", err)
	}
	b := cbor.AppendMap(nil, 4)
	b = cbor.AppendUint(cbor.AppendUint(b, 1), 1)
	b = cbor.AppendBytes(cbor.AppendUint(b, 2), a.Ring.drive[:])
	b = cbor.AppendBytes(cbor.AppendUint(b, 3), a.root[:])
	return AppendTips(cbor.AppendUint(b, 4), a.Members().Tips()), nil
}

// Accept makes the device file in dir of what a Welcome gave, so that the drive opens on this device from then on, without a passphrase: by a key beside it. It returns which drive that
// is, and the newest entries of its members log as the welcoming device knew them. The error wraps ErrTampered if it is no Welcome, and ErrExists if dir has a device.
func (n *Newcomer) Accept(dir string, welcome []byte) (DriveID, Tips, error) {
	if len(welcome) > maxWelcome {
		return DriveID{}, nil, fmt.Errorf("accept welcome: %w: %d bytes", ErrTampered, len(welcome))
	}
	r := cbor.NewReader(welcome)
	last := int64(-1)
	if pairs := r.Map(); pairs != 4 {
		r.Fail("%d pairs", pairs)
	}
	a := &Account{Ring: &Ring{}, entropy: rand.Reader}
	readKey(r, &last, 1)
	if v := r.Uint(); v != 1 {
		r.Fail("version %d", v)
	}
	readKey(r, &last, 2)
	r.Fixed(a.Ring.drive[:])
	readKey(r, &last, 3)
	r.Fixed(a.root[:])
	readKey(r, &last, 4)
	tips := ReadTips(r)
	if err := r.Close(); err != nil {
		return DriveID{}, nil, fmt.Errorf("accept welcome: %w: %w", ErrTampered, err)
	}
	if _, err := ReadDevice(dir); err == nil {
		return DriveID{}, nil, fmt.Errorf("accept welcome: %w", ErrExists)
	}
	if err := a.SaveDevice(dir, n.device, true); err != nil {
		return DriveID{}, nil, errors.Join(errors.New("accept welcome"), err)
	}
	return a.Ring.drive, tips, nil
}
