package keys

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
)

// An Account is an unlocked drive: its root, and all that follows from it. It prints
// as "[key]". Its methods that write to the Bucket must not run at the same time as
// each other; the rest is safe for concurrent use.
type Account struct {
	Ring       *Ring // as it was when the Account was made; Members has the newest
	Record     *Record
	RecordMark Mark // the place of Record in its chain, for the caller to remember

	members *atomic.Pointer[Members]
	root    secret
	owner   ed25519.PrivateKey
	bucket  blob.Bucket
	entropy io.Reader
	log     *slog.Logger
}

// Members returns the members log as it was when the Account was made or last wrote.
func (a *Account) Members() *Members { return a.members.Load() }

// Format prints "[key]" for every verb.
func (Account) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[key]")) }

// LogValue logs "[key]".
func (Account) LogValue() slog.Value { return slog.StringValue("[key]") }

// CreateOptions say what Create makes.
type CreateOptions struct {
	Entropy    io.Reader // nil: the system's
	Passphrase []byte    // empty: no passphrase slot
	Argon      Argon     // zero: DefaultArgon
	Chunker    []byte    // kept in the drive record, at most 4 KiB
	Suite      uint8     // kept in the drive record
	Now        time.Time // kept as information
	DeviceName string    // at most MaxDeviceName bytes of UTF-8

	// Dir is the folder of this device's own files; it must exist. KeepKey says whether
	// a device key is left there. With an empty Dir nothing is written on this device.
	Dir     string
	KeepKey bool
}

// Create makes a drive in an empty Bucket, with this device as its first member, and
// returns the 24 recovery words, which are nowhere stored. The drive record is put
// last: before it there is no drive, and what a Create that was cut off has left is
// cleared away by the next one. If anything else is there, the error wraps
// ErrExists. The device file is written before the drive record, so that a drive that
// exists can be opened even if the words were never shown.
func Create(ctx context.Context, bucket blob.Bucket, o CreateOptions) (a *Account, d *Device, words string, err error) {
	if o.Entropy == nil {
		o.Entropy = rand.Reader
	}
	if o.Argon == (Argon{}) {
		o.Argon = DefaultArgon
	}
	if len(o.Chunker) > maxChunker {
		return nil, nil, "", fmt.Errorf("create drive: chunker parameters of %d bytes", len(o.Chunker))
	}
	if err := checkName(o.DeviceName); err != nil {
		return nil, nil, "", fmt.Errorf("create drive: %w", err)
	}
	if err := clearDebris(ctx, bucket, o.Dir); err != nil {
		return nil, nil, "", fmt.Errorf("create drive: %w", err)
	}
	a, err = newAccount(bucket, o)
	if err != nil {
		return nil, nil, "", fmt.Errorf("create drive: %w", err)
	}
	if d, err = newDevice(o.Entropy); err != nil {
		return nil, nil, "", fmt.Errorf("create drive: %w", err)
	}
	if words, err = a.publish(ctx, d, o); err != nil {
		return nil, nil, "", fmt.Errorf("create drive: %w", err)
	}
	return a, d, words, nil
}

// newAccount draws all secrets of a drive. Nothing is written.
func newAccount(bucket blob.Bucket, o CreateOptions) (*Account, error) {
	var root, first secret
	rec := &Record{Version: 1, Suite: o.Suite, Chunker: bytes.Clone(o.Chunker), Created: o.Now}
	for _, p := range [][]byte{root[:], rec.Drive[:], first[:]} {
		if _, err := io.ReadFull(o.Entropy, p); err != nil {
			return nil, fmt.Errorf("draw secrets: %w", err)
		}
	}
	rec.Owner = publicKey(ownerKey(&root))
	var err error
	if rec.first, err = boxSecret(&root, rec.Drive, 1, &first, o.Entropy); err != nil {
		return nil, err
	}
	from, err := rec.source(&root)
	if err != nil {
		return nil, err
	}
	return makeAccount(bucket, rec, newMembers(from), UnlockOptions{Entropy: o.Entropy}), nil
}

func makeAccount(bucket blob.Bucket, rec *Record, m *Members, o UnlockOptions) *Account {
	a := &Account{
		Record: rec, Ring: m.ring, members: new(atomic.Pointer[Members]),
		root: m.from.root, owner: ownerKey(&m.from.root), bucket: bucket, entropy: o.Entropy, log: o.Log,
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.members.Store(m)
	return a
}

// publish writes a new drive: slots, members, device file, drive record.
func (a *Account) publish(ctx context.Context, d *Device, o CreateOptions) (words string, err error) {
	s, words, err := a.newRecovery()
	if err != nil {
		return "", err
	}
	slots := []*slot{s}
	if len(o.Passphrase) > 0 {
		if s, err = a.newPassphrase(o.Passphrase, o.Argon); err != nil {
			return "", err
		}
		slots = append(slots, s)
	}
	for _, s := range slots {
		if err := a.putSlot(ctx, s); err != nil {
			return "", err
		}
	}
	if err := a.addMember(ctx, d, EnrollOptions{Name: o.DeviceName, Roles: Writer | Admin, Now: o.Now}, slots...); err != nil {
		return "", err
	}
	if o.Dir != "" {
		if err := a.SaveDevice(o.Dir, d, o.KeepKey); err != nil {
			return "", err
		}
	}
	b, mark, err := a.Record.seal(&a.root, a.entropy)
	if err != nil {
		return "", err
	}
	if err := putTwice(ctx, a.bucket, recordName(1), b); err != nil {
		return "", err
	}
	a.RecordMark = mark
	return words, nil
}

// clearDebris makes sure that nothing is in the Bucket and no device file in dir, but for
// what a Create that was cut off may have left: slots, members and spare records without a drive
// record, and a device file of that same drive. These it removes.
func clearDebris(ctx context.Context, bucket blob.Bucket, dir string) error {
	left, drives, err := debris(ctx, bucket)
	if err != nil {
		return err
	}
	if dir != "" {
		f, err := ReadDevice(dir)
		if err == nil && !drives[f.Drive] {
			return fmt.Errorf("%w: the folder belongs to drive %s", ErrExists, f.Drive)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if len(left) == 0 {
		return nil
	}
	return bucket.Remove(ctx, left...)
}

// CutOff reports whether the Bucket and the device file in dir look like a Create that was cut off after it had
// written that file, and before there was a drive. A new drive that lost its record looks the same: the
// caller must know that it never opened one.
func CutOff(ctx context.Context, bucket blob.Bucket, dir string) (bool, error) {
	f, err := ReadDevice(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	versions, err := recordVersions(ctx, bucket)
	if err != nil || len(versions) > 0 {
		return false, err
	}
	_, drives, err := debris(ctx, bucket)
	if errors.Is(err, ErrExists) {
		return false, nil
	}
	return err == nil && drives[f.Drive], err
}

// debris lists what a Create that was cut off has left, and the drives that it names. If
// there is anything else in the Bucket the error wraps ErrExists.
func debris(ctx context.Context, bucket blob.Bucket) (left []blob.Name, drives map[DriveID]bool, err error) {
	drives = map[DriveID]bool{}
	for info, err := range bucket.List(ctx, "") {
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("list bucket: %w", err)
		case strings.HasPrefix(string(info.Name), string(slotPrefix)):
			b, err := ReadBlob(ctx, bucket, info.Name)
			if err != nil {
				return nil, nil, err
			}
			if s, ok := parseSlot(b); ok {
				drives[s.drive] = true
			}
		case strings.HasPrefix(string(info.Name), string(memberPrefix)), info.Name == spare(recordName(1)):
		default:
			return nil, nil, fmt.Errorf("%w: the bucket has %s", ErrExists, info.Name)
		}
		if left = append(left, info.Name); len(left) > maxSlots {
			return nil, nil, fmt.Errorf("%w: the bucket has %d blobs", ErrExists, len(left))
		}
	}
	return left, drives, nil
}

// A Secret opens a drive. Exactly one of its fields is set. A passphrase is taken as the bytes
// that it is: whoever reads it from a person normalises it.
type Secret struct {
	Passphrase []byte
	Recovery   string      // the 24 words
	Device     *DeviceFile // which HasKey
}

// UnlockOptions are what Unlock may be told besides the Secret.
type UnlockOptions struct {
	Drive   DriveID      // slots of other drives are left alone; zero: any drive
	Entropy io.Reader    // for what the Account writes later; nil: the system's
	Log     *slog.Logger // told of copies that were restored; nil: nobody
}

// Unlock opens the drive in a Bucket. If no slot opens with s, or only one that counts no more by the members log, the error is
// ErrWrongSecret, whatever the reason and whatever was done to the slots; if the words of s are none it
// wraps ErrWords. After that the drive record and the members log are read and verified; their
// errors wrap ErrTampered, ErrIncomplete, ErrFork or ErrFormat. A Bucket with neither slots nor
// a drive record is ErrNoDrive.
//
// Of each blob that opens a drive there are two copies. One that is missing or damaged is restored from the
// other, once that was verified. That it cannot be is no error: Verify tells.
func Unlock(ctx context.Context, bucket blob.Bucket, s Secret, o UnlockOptions) (*Account, error) {
	if o.Entropy == nil {
		o.Entropy = rand.Reader
	}
	for opened, err := range openSlots(ctx, bucket, s, o.Drive) {
		if err != nil {
			return nil, err
		}
		a, err := readAccount(ctx, bucket, opened, o)
		if err != nil {
			return nil, fmt.Errorf("unlock: %w", err)
		}
		if opened.slot.typ == DeviceSlot || a.Members().counts(opened.slot) {
			a.heal(ctx)
			return a, nil
		}
	}
	return nil, ErrWrongSecret
}

// readAccount reads the drive record and the members log with a root.
func readAccount(ctx context.Context, bucket blob.Bucket, s openedSlot, o UnlockOptions) (*Account, error) {
	versions, err := recordVersions(ctx, bucket)
	if err != nil {
		return nil, err
	}
	if len(versions) == 0 {
		return nil, fmt.Errorf("%w: the drive record is missing", ErrIncomplete)
	}
	rec, mark, err := readRecord(ctx, bucket, &s.root, s.slot.drive, versions[len(versions)-1])
	if err != nil {
		return nil, err
	}
	from, err := rec.source(&s.root)
	if err != nil {
		return nil, err
	}
	m, err := loadMembers(ctx, bucket, from, nil)
	if err != nil {
		return nil, err
	}
	a := makeAccount(bucket, rec, m, o)
	a.RecordMark = mark
	return a, nil
}

// EnrollOptions say how a new device is made known.
type EnrollOptions struct {
	Name    string // how people call it, at most MaxDeviceName bytes of UTF-8
	Roles   Roles
	Now     time.Time // kept as information
	Dir     string    // as in CreateOptions; a device file that is there is replaced
	KeepKey bool
	By      *Device // who signs: an admin; nil: the owner. What an admin signs ends with him if he is revoked meanwhile.
}

// Enroll makes a new device a member, signed by the owner. Its file is written before
// the entry: a crash between the two leaves a device that is not yet a member (see
// Member of Members), and Admit mends it.
func (a *Account) Enroll(ctx context.Context, o EnrollOptions) (*Device, error) {
	if err := checkName(o.Name); err != nil {
		return nil, fmt.Errorf("enroll device: %w", err)
	}
	d, err := newDevice(a.entropy)
	if err != nil {
		return nil, fmt.Errorf("enroll device: %w", err)
	}
	if o.Dir != "" {
		if err := a.SaveDevice(o.Dir, d, o.KeepKey); err != nil {
			return nil, fmt.Errorf("enroll device: %w", err)
		}
	}
	return d, a.Admit(ctx, d, o)
}

// Admit makes a device a member that has its keys already; Dir and KeepKey of o are not looked at. One that is a member
// stays what it is, and one that was revoked stays revoked.
func (a *Account) Admit(ctx context.Context, d *Device, o EnrollOptions) error {
	err := checkName(o.Name)
	if err == nil {
		err = a.addMember(ctx, d, o)
	}
	if err != nil {
		return fmt.Errorf("enroll device: %w", err)
	}
	return nil
}

func checkName(name string) error {
	if len(name) > MaxDeviceName || strings.ToValidUTF8(name, "") != name {
		return fmt.Errorf("name of the device is too long or not UTF-8: %q", name)
	}
	return nil
}

// addMember adds a device. The first entry of a drive has its slots.
func (a *Account) addMember(ctx context.Context, d *Device, o EnrollOptions, slots ...*slot) error {
	return a.appendEntry(ctx, o.By, func(m *Members) (Entry, error) {
		if len(m.members) >= MaxDevices {
			return Entry{}, fmt.Errorf("the drive has had %d devices, which is the most", MaxDevices)
		}
		e := &m.ring.epochs[m.ring.newest]
		wrapped, err := wrapSecret(&e.secret, m.ring.drive, e.number, d.public, o.By.id())
		return Entry{
			Op: OpAdd, Device: d.ID(), Public: d.public, Name: o.Name, Roles: o.Roles & (Writer | Admin),
			Wraps: []Wrap{{Device: d.ID(), Sealed: wrapped}}, Time: o.Now, Slots: slotBytes(slots),
		}, err
	})
}

// appendEntry signs an entry as by, nil being the owner, with the newest entries as its parents, and puts it. Others may do so at the same time: then
// neither entry comes after the other, and both count. change makes the entry from the log as it is now. If it would not count
// the error wraps ErrNotMember, and nothing is put.
func (a *Account) appendEntry(ctx context.Context, by *Device, change func(*Members) (Entry, error)) error {
	known, err := a.refreshMembers(ctx)
	if err != nil {
		return err
	}
	m := known
	if len(m.nodes) >= maxEntries {
		return fmt.Errorf("the members log has %d entries, which is the most", maxEntries)
	}
	e, err := change(m)
	if err != nil {
		return err
	}
	ring := m.ring
	e.Drive, e.Epoch, e.Parents, e.By = ring.drive, ring.Epoch(), m.tips, by.id()
	key := a.owner
	if by != nil {
		key = by.sign
	}
	s := sign(key, SignMember, e.encode())
	n := &node{hash: s.Hash(), e: &e, s: s}
	if m, err = m.with(n); err != nil {
		return err
	}
	if void := m.nodes[n.hash].void; void != "" {
		return fmt.Errorf("%w: %s", ErrNotMember, void)
	}
	name := entryName(n.hash)
	sealKey, _ := ring.DeriveEpoch(kdf.Members, e.Epoch)
	b, err := SealBlob(&sealKey, kdf.Members, e.Epoch, name, s.Encode(), 0, a.entropy)
	if err != nil {
		return err
	}
	if err := putTwice(ctx, a.bucket, name, b); err != nil {
		return err
	}
	for !a.members.CompareAndSwap(known, m) { // somebody has read the log meanwhile
		if known = a.Members(); known.nodes[n.hash] != nil {
			return nil
		}
		if m, err = known.with(n); err != nil {
			return err
		}
	}
	return nil
}

// refreshMembers reads the log again. It must have what the Account knows. What others have made known meanwhile, as an entry that
// was put after this had listed the log, stays known.
func (a *Account) refreshMembers(ctx context.Context) (*Members, error) {
	for {
		old := a.Members()
		m, err := old.Reload(ctx, a.bucket)
		if len(old.nodes) == 0 && errors.Is(err, ErrIncomplete) {
			return old, nil // the first entry of a new drive
		}
		if err != nil {
			return nil, err
		}
		if err := m.Follows(old.Tips()); err != nil {
			return nil, err
		}
		if a.members.CompareAndSwap(old, m) {
			return m, nil
		}
	}
}
