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
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
)

// An Account is an unlocked drive: its root, and all that follows from it. It prints
// as "[key]". Its methods that write to the Bucket must not run at the same time as
// each other; the rest is safe for concurrent use.
type Account struct {
	Ring       *Ring
	Record     *Record
	RecordMark Mark     // the place of Record in its chain, for the caller to remember
	Members    *Members // as it was when the Account was made or last wrote

	root    secret
	owner   ed25519.PrivateKey
	bucket  blob.Bucket
	entropy io.Reader
}

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
	a := &Account{bucket: bucket, entropy: o.Entropy}
	rec := &Record{Version: 1, Suite: o.Suite, Chunker: bytes.Clone(o.Chunker), Created: o.Now}
	var first secret
	for _, p := range [][]byte{a.root[:], rec.Drive[:], first[:]} {
		if _, err := io.ReadFull(o.Entropy, p); err != nil {
			return nil, fmt.Errorf("draw secrets: %w", err)
		}
	}
	a.owner = ownerKey(&a.root)
	rec.Owner = publicKey(a.owner)
	if err := rec.setSecrets(&a.root, []secret{first}, o.Entropy); err != nil {
		return nil, err
	}
	ring, err := rec.ring(&a.root)
	if err != nil {
		return nil, err
	}
	a.Record, a.Ring = rec, ring
	a.Members = newMembers(ring, rec.Owner)
	return a, nil
}

// publish writes a new drive: slots, members, device file, drive record.
func (a *Account) publish(ctx context.Context, d *Device, o CreateOptions) (words string, err error) {
	if words, err = a.addRecovery(ctx); err != nil {
		return "", err
	}
	if len(o.Passphrase) > 0 {
		if _, err := a.addPassphrase(ctx, o.Passphrase, o.Argon); err != nil {
			return "", err
		}
	}
	if err := a.addMember(ctx, d, EnrollOptions{Name: o.DeviceName, Roles: Writer | Admin, Now: o.Now}); err != nil {
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
	Drive   DriveID   // slots of other drives are left alone; zero: any drive
	Entropy io.Reader // for what the Account writes later; nil: the system's
}

// Unlock opens the drive in a Bucket. If no slot opens with s the error is ErrWrongSecret,
// whatever the reason and whatever was done to the slots; if the words of s are none it
// wraps ErrWords. After that the drive record and the members log are read and verified; their
// errors wrap ErrTampered, ErrIncomplete, ErrFork or ErrFormat. A Bucket with neither slots nor
// a drive record is ErrNoDrive.
func Unlock(ctx context.Context, bucket blob.Bucket, s Secret, o UnlockOptions) (*Account, error) {
	if o.Entropy == nil {
		o.Entropy = rand.Reader
	}
	root, drive, err := openSlots(ctx, bucket, s, o.Drive)
	if err != nil {
		return nil, err
	}
	versions, err := recordVersions(ctx, bucket)
	if err != nil {
		return nil, err
	}
	if len(versions) == 0 {
		return nil, fmt.Errorf("unlock: %w: the drive record is missing", ErrIncomplete)
	}
	rec, mark, err := readRecord(ctx, bucket, &root, drive, versions[len(versions)-1])
	if err != nil {
		return nil, fmt.Errorf("unlock: %w", err)
	}
	ring, err := rec.ring(&root)
	if err != nil {
		return nil, fmt.Errorf("unlock: %w", err)
	}
	members, err := LoadMembers(ctx, bucket, ring, rec.Owner)
	if err != nil {
		return nil, fmt.Errorf("unlock: %w", err)
	}
	return &Account{
		Ring: ring, Record: rec, RecordMark: mark, Members: members,
		root: root, owner: ownerKey(&root), bucket: bucket, entropy: o.Entropy,
	}, nil
}

// EnrollOptions say how a new device is made known.
type EnrollOptions struct {
	Name    string // how people call it, at most MaxDeviceName bytes of UTF-8
	Roles   Roles
	Now     time.Time // kept as information
	Dir     string    // as in CreateOptions; a device file that is there is replaced
	KeepKey bool
}

// Enroll makes a new device a member, signed by the owner. Its file is written before
// the entry: a crash between the two leaves a device that is not yet a member (see
// Member of Members), and enrolling again mends it.
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
	if err := a.addMember(ctx, d, o); err != nil {
		return nil, fmt.Errorf("enroll device: %w", err)
	}
	return d, nil
}

func checkName(name string) error {
	if len(name) > MaxDeviceName || strings.ToValidUTF8(name, "") != name {
		return fmt.Errorf("name of the device is too long or not UTF-8: %q", name)
	}
	return nil
}

func (a *Account) addMember(ctx context.Context, d *Device, o EnrollOptions) error {
	ds := &a.Ring.secrets[a.Ring.Epoch()-1]
	wrapped, err := wrapSecret(ds, a.Ring.drive, a.Ring.Epoch(), d.public, DeviceID{})
	if err != nil {
		return err
	}
	return a.appendEntry(ctx, Entry{
		Epoch: a.Ring.Epoch(), Op: OpAdd, Device: d.ID(), Public: d.public, Name: o.Name, Roles: o.Roles & (Writer | Admin),
		Wraps: []Wrap{{Device: d.ID(), Sealed: wrapped}}, Time: o.Now,
	})
}

// appendTries is how often appendEntry begins again if others append at the same time.
const appendTries = 5

// appendEntry signs e as the owner and puts it at the end of the log. A Bucket has no
// compare-and-swap, so two devices may put an entry in one place. Each looks after its Put: who finds
// another's entry beside his own takes his own back and tries again behind it. At least
// one of two sees the other, so no fork stays.
func (a *Account) appendEntry(ctx context.Context, e Entry) error {
	for range appendTries {
		if err := a.refreshMembers(ctx); err != nil {
			return err
		}
		e.Drive, e.Seq, e.Prev = a.Ring.drive, a.Members.Mark().Seq+1, a.Members.Mark().Hash
		s := sign(a.owner, SignMember, e.encode())
		name := entryName(Mark{e.Seq, s.Hash()})
		key := a.Ring.Derive(kdf.Members)
		b, err := SealBlob(&key, kdf.Members, a.Ring.Epoch(), name, s.Encode(), 0, a.entropy)
		if err != nil {
			return err
		}
		if err := putTwice(ctx, a.bucket, name, b); err != nil {
			return err
		}
		alone, err := aloneAt(ctx, a.bucket, name)
		if err != nil {
			return err
		}
		if alone {
			return a.refreshMembers(ctx)
		}
		if err := a.bucket.Remove(ctx, name, spare(name)); err != nil {
			return fmt.Errorf("take back %s: %w", name, err)
		}
	}
	return fmt.Errorf("append to the members log: others append all the time")
}

// refreshMembers reads the log again. It must go on from what the Account knows.
func (a *Account) refreshMembers(ctx context.Context) error {
	m, err := LoadMembers(ctx, a.bucket, a.Ring, a.Record.Owner)
	if a.Members.Mark().Seq == 0 && errors.Is(err, ErrIncomplete) {
		return nil // the first entry of a new drive
	}
	if err != nil {
		return err
	}
	if err := m.Follows(a.Members.Mark()); err != nil {
		return err
	}
	a.Members = m
	return nil
}

func aloneAt(ctx context.Context, bucket blob.Bucket, name blob.Name) (bool, error) {
	for info, err := range bucket.List(ctx, name[:len(memberPrefix)+9]) {
		if err != nil {
			return false, fmt.Errorf("list members: %w", err)
		}
		if firstName(info.Name) != name {
			return false, nil
		}
	}
	return true, nil
}
