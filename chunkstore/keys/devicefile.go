package keys

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sheaf-drive/sheaf/chunkstore/cbor"
	"github.com/sheaf-drive/sheaf/chunkstore/durable"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
)

// The files of a device in its own folder of a drive. Both are readable by their
// owner only. deviceFile has the private keys, sealed under the account root, and may have a
// device slot; deviceKeyFile is there exactly if the drive opens on this device without a
// passphrase, and whoever can read both can read the drive.
const (
	deviceFile    = "device"
	deviceKeyFile = "device.key"

	deviceMagic  = "SHEAFDEV"
	deviceFormat = 1
	deviceHead   = len(deviceMagic) + 4
	deviceBox    = ed25519.SeedSize + kemSeedSize + boxOverhead
	maxDevice    = 8 << 10
)

// A DeviceFile is what lies in the folder of a device: which drive and device
// it is, and its private keys, still sealed. ReadDevice reads one.
type DeviceFile struct {
	Drive       DriveID
	Fingerprint Fingerprint

	box  [deviceBox]byte
	slot []byte    // a device slot record, or empty
	key  *[32]byte // the device key, nil if there is none
}

// HasKey reports whether the drive opens on this device without another secret. Whether
// the key is the right one is known when Unlock has used it.
func (f *DeviceFile) HasKey() bool { return f.key != nil && len(f.slot) > 0 }

// Format prints the drive and the device, and no key.
func (f *DeviceFile) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "device %s of drive %s", f.Fingerprint.ID(), f.Drive)
}

func (f *DeviceFile) encode(whole bool) []byte {
	n := 3
	if whole {
		n = 5
	}
	b := cbor.AppendMap(nil, n)
	b = cbor.AppendUint(cbor.AppendUint(b, 1), deviceFormat)
	b = cbor.AppendBytes(cbor.AppendUint(b, 2), f.Drive[:])
	b = cbor.AppendBytes(cbor.AppendUint(b, 3), f.Fingerprint[:])
	if whole {
		b = cbor.AppendBytes(cbor.AppendUint(b, 4), f.box[:])
		b = cbor.AppendBytes(cbor.AppendUint(b, 5), f.slot)
	}
	return b
}

func (f *DeviceFile) bytes() []byte {
	body := f.encode(true)
	b := append(make([]byte, 0, deviceHead+len(body)), deviceMagic...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	return append(b, body...)
}

// parseDevice is the inverse of bytes. The error wraps ErrTampered.
func parseDevice(b []byte) (*DeviceFile, error) {
	if len(b) < deviceHead || len(b) > maxDevice || string(b[:len(deviceMagic)]) != deviceMagic ||
		uint64(binary.BigEndian.Uint32(b[len(deviceMagic):])) != uint64(len(b)-deviceHead) {
		return nil, fmt.Errorf("%w: no device file", ErrTampered)
	}
	f := new(DeviceFile)
	r := cbor.NewReader(b[deviceHead:])
	last := int64(-1)
	pairs, err := readFormat(r, &last, deviceFormat)
	if err != nil {
		return nil, err
	}
	if pairs != 5 {
		r.Fail("%d pairs", pairs)
	}
	readKey(r, &last, 2)
	r.Fixed(f.Drive[:])
	readKey(r, &last, 3)
	r.Fixed(f.Fingerprint[:])
	readKey(r, &last, 4)
	r.Fixed(f.box[:])
	readKey(r, &last, 5)
	f.slot = bytes.Clone(r.BytesMax(maxSlot))
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTampered, err)
	}
	return f, nil
}

// ReadDevice reads the device file in dir. The error wraps [io/fs.ErrNotExist] if there is
// none, ErrTampered if it is damaged, and ErrFormat if a newer program wrote it.
func ReadDevice(dir string) (*DeviceFile, error) {
	b, err := readSmall(filepath.Join(dir, deviceFile), maxDevice)
	if err != nil {
		return nil, err
	}
	f, err := parseDevice(b)
	if err != nil {
		return nil, fmt.Errorf("read device file: %w", err)
	}
	f.key, err = readDeviceKey(dir)
	return f, err
}

// readDeviceKey returns nil without an error if there is no device key in dir. A
// damaged one counts as none: other secrets still open the drive.
func readDeviceKey(dir string) (*[32]byte, error) {
	b, err := readSmall(filepath.Join(dir, deviceKeyFile), 32)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrTampered):
		return nil, nil
	case err != nil:
		return nil, err
	case len(b) != 32:
		return nil, nil
	}
	return (*[32]byte)(b), nil
}

func readSmall(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: %s is too long", ErrTampered, filepath.Base(path))
	}
	return b, nil
}

// SaveDevice writes the device file into dir, which must exist. With keepKey the drive
// opens on this device without a passphrase from then on: a device key is kept in a file
// of its own. Without it, such a key is removed. A crash leaves the old file or the
// new one, and at no time a key that does not fit.
func (a *Account) SaveDevice(dir string, d *Device, keepKey bool) error {
	f := &DeviceFile{Drive: a.Ring.drive, Fingerprint: d.print}
	key := kdf.Key(kdf.RootDevice, a.root[:], f.Drive[:])
	private, err := d.kem.Bytes()
	if err != nil {
		return fmt.Errorf("save device: %w", err)
	}
	sealed, err := box(&key, f.encode(false), append(d.sign.Seed(), private...), a.entropy)
	if err != nil {
		return fmt.Errorf("save device: %w", err)
	}
	if copy(f.box[:], sealed); len(sealed) != len(f.box) {
		return fmt.Errorf("save device: private keys of %d bytes", len(sealed)-boxOverhead)
	}
	if keepKey {
		if err := a.addDeviceKey(dir, f); err != nil {
			return fmt.Errorf("save device: %w", err)
		}
	}
	if err := durable.WriteFile(filepath.Join(dir, deviceFile), f.bytes()); err != nil {
		return fmt.Errorf("save device: %w", err)
	}
	if keepKey {
		return nil
	}
	for _, name := range []string{deviceKeyFile, "." + deviceKeyFile + ".new"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove device key: %w", err)
		}
	}
	return durable.SyncDir(dir)
}

// addDeviceKey gives f a slot for the key in dir. One that is there is used again, so
// that the device file there fits until the new one takes its place.
func (a *Account) addDeviceKey(dir string, f *DeviceFile) error {
	key, err := readDeviceKey(dir)
	if err != nil {
		return err
	}
	if key == nil {
		key = new([32]byte)
		if _, err := io.ReadFull(a.entropy, key[:]); err != nil {
			return fmt.Errorf("draw device key: %w", err)
		}
		if err := durable.WriteFile(filepath.Join(dir, deviceKeyFile), key[:]); err != nil {
			return err
		}
	}
	s, err := newSlot(f.Drive, DeviceSlot, Argon{}, a.entropy)
	if err != nil {
		return err
	}
	if err := s.wrap((*[32]byte)(&a.root), key, a.entropy); err != nil {
		return err
	}
	f.slot, f.key = s.bytes(), key
	return nil
}

// OpenDevice opens the private keys in a device file and checks them against the
// fingerprint beside them before anything uses them. The error wraps ErrTampered.
func (a *Account) OpenDevice(f *DeviceFile) (*Device, error) {
	if f.Drive != a.Ring.drive {
		return nil, fmt.Errorf("open device: %w: it belongs to drive %s", ErrTampered, f.Drive)
	}
	key := kdf.Key(kdf.RootDevice, a.root[:], f.Drive[:])
	seeds, ok := unbox(&key, f.encode(false), f.box[:])
	if !ok {
		return nil, fmt.Errorf("open device: %w", ErrTampered)
	}
	d, err := deviceFromSeeds(seeds)
	if err != nil {
		return nil, err
	}
	if d.print != f.Fingerprint {
		return nil, fmt.Errorf("open device: %w: private and public keys do not fit", ErrTampered)
	}
	return d, nil
}
