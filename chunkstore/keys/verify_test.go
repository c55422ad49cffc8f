package keys

import (
	"bytes"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// G6: each flipped bit of each blob is found by what Verify does with that blob. Slots
// have a test of their own.
func TestVerify_EachFlippedBitIsFound(t *testing.T) {
	d := newDrive(t)
	a := d.account
	for _, name := range names(t, d.Bucket, "") {
		good := get(t, d.Bucket, name)
		for bit := range len(good) * 8 {
			good[bit/8] ^= 1 << (bit % 8)
			var err error
			switch first := firstName(name); {
			case name[:5] == slotPrefix:
				if s, ok := parseSlot(good); ok && slotName(s.id) == name && s.fits(&a.root) {
					t.Fatalf("%s: bit %d is not noticed", name, bit)
				}
				err = ErrTampered
			case name[:6] == recordPrefix:
				_, _, err = openRecord(&a.root, a.Record.Drive, 1, good)
			default:
				_, _, err = openEntry(a.Ring, first, good)
			}
			if !errors.Is(err, ErrTampered) {
				t.Fatalf("%s: bit %d: got %v", name, bit, err)
			}
			good[bit/8] ^= 1 << (bit % 8)
		}
		// And some of them, through the whole.
		for bit := 0; bit < len(good)*8; bit += 997 {
			good[bit/8] ^= 1 << (bit % 8)
			put(t, d.Bucket, name, good)
			if found := findings(t, a); !errors.Is(found[name], ErrTampered) {
				t.Fatalf("%s: bit %d: got %v", name, bit, found)
			}
			good[bit/8] ^= 1 << (bit % 8)
		}
		put(t, d.Bucket, name, good)
	}
	if found := findings(t, a); len(found) > 0 {
		t.Fatal(found)
	}
}

// T-A6: any two blobs swapped, any blob replaced by any other, any blob removed: Verify names
// them, and Unlock gives a typed error or the right drive.
func TestVerify_FindsSwappedReplacedAndRemovedBlobs(t *testing.T) {
	d := newDrive(t)
	wantError(t, "enroll", second(d.account.Enroll(t.Context(), EnrollOptions{Name: "b", Roles: Writer})), nil)
	other := newDrive(t)
	all := names(t, d.Bucket, "")
	check := func(what string, touched ...blob.Name) {
		t.Helper()
		d := d.copied() // for opening it mends what it can
		d.account = d.accountOver(d.Bucket)
		found := findings(t, d.account)
		for _, name := range touched {
			if err := found[name]; !errors.Is(err, ErrTampered) && !errors.Is(err, ErrIncomplete) {
				t.Errorf("%s: %s: got %v", what, name, err)
			}
		}
		a, err := d.unlock(t)
		if err == nil && len(findings(t, a)) > len(touched) {
			t.Errorf("%s: after it was opened: %v", what, findings(t, a))
		}
		switch {
		case err == nil && a.Ring.Derive("x") != d.account.Ring.Derive("x"):
			t.Errorf("%s: another drive was opened", what)
		case err != nil && !errors.Is(err, ErrWrongSecret) && !errors.Is(err, ErrTampered) && !errors.Is(err, ErrIncomplete):
			t.Errorf("%s: got %v", what, err)
		}
	}
	for i, x := range all {
		was := get(t, d.Bucket, x)
		for _, y := range all[i+1:] {
			if firstName(x) == firstName(y) {
				continue // equal copies
			}
			yWas := get(t, d.Bucket, y)
			put(t, d.Bucket, x, yWas)
			put(t, d.Bucket, y, was)
			check("swapped "+string(x)+", "+string(y), x, y)
			put(t, d.Bucket, x, was)
			put(t, d.Bucket, y, yWas)
		}
		for _, y := range names(t, other.Bucket, "") {
			put(t, d.Bucket, x, get(t, other.Bucket, y))
			check("replaced by another drive's "+string(y), x)
		}
		remove(t, d.Bucket, x)
		wantError(t, string(x)+" removed", findings(t, d.account)[x], ErrIncomplete)
		d.mustUnlock(t)
		if !bytes.Equal(get(t, d.Bucket, x), was) {
			t.Errorf("%s removed: it is not restored", x)
		}
		put(t, d.Bucket, x, was)
	}
	if found := findings(t, d.account); len(found) > 0 {
		t.Fatal(found)
	}
}

// accountOver is the account with another Bucket.
func (d drive) accountOver(b blob.Bucket) *Account {
	a := *d.account
	a.bucket, a.members = b, new(atomic.Pointer[Members])
	a.members.Store(d.account.Members())
	return &a
}

func second(_ *Device, err error) error { return err }

// T-A5: blobs that somebody without keys adds change nothing, and Verify names them.
func TestVerify_FindsStrangeBlobs(t *testing.T) {
	d := newDrive(t)
	for _, name := range []blob.Name{
		"keys/x", "keys/00000000000000000000000000000000", "drive/x", "drive/00000000", "members/x", "members/00000001-xx",
	} {
		for _, b := range [][]byte{nil, make([]byte, 1024), get(t, d.Bucket, names(t, d.Bucket, slotPrefix)[0]), make([]byte, MaxBlob+1)} {
			put(t, d.Bucket, name, b)
			wantError(t, string(name), findings(t, d.account)[name], ErrTampered)
			d.mustUnlock(t)
			remove(t, d.Bucket, name)
		}
	}
	// Key slots that are all gone are named, and come back when the drive is opened by whatever opens it.
	slots, dir := names(t, d.Bucket, slotPrefix), t.TempDir()
	remove(t, d.Bucket, slots...)
	for _, name := range slots {
		wantError(t, "no slot", findings(t, d.account)[name], ErrIncomplete)
	}
	wantError(t, "save", d.account.SaveDevice(dir, d.device, true), nil)
	f, err := ReadDevice(dir)
	wantError(t, "read", err, nil)
	_, err = Unlock(t.Context(), d.Bucket, Secret{Device: f}, UnlockOptions{})
	wantError(t, "unlock", err, nil)
	d.mustUnlock(t)
	if found := findings(t, d.account); len(found) > 0 {
		t.Error(found)
	}
}

// X6: any one blob is lost or damaged: the drive opens, Verify names the copy before, and it is there again after.
func TestUnlock_OneCopyIsEnoughAndRestoresTheOther(t *testing.T) {
	d := newDrive(t)
	wantError(t, "enroll", second(d.account.Enroll(t.Context(), EnrollOptions{Name: "b", Roles: Writer})), nil)
	gone := someDevice(t, 1)
	d.add(t, gone, Writer)
	wantError(t, "revoke", d.account.Revoke(t.Context(), gone.ID(), RevokeOptions{}), nil)
	want := map[blob.Name][]byte{}
	for _, name := range names(t, d.Bucket, "") {
		want[name] = get(t, d.Bucket, name)
	}
	if len(want) != 2+2+8 {
		t.Fatalf("%d blobs", len(want))
	}
	for name := range want {
		for what, bad := range map[string][]byte{
			"lost": nil, "zeros": make([]byte, len(want[name])), "cut": want[name][:len(want[name])/2], "too long": make([]byte, MaxBlob+1),
			"a flipped bit": append(append([]byte(nil), want[name][:99]...), append([]byte{want[name][99] ^ 1}, want[name][100:]...)...),
			"another blob":  want["drive/00000001"],
		} {
			if bytes.Equal(bad, want[name]) || what == "another blob" && firstName(name) == "drive/00000001" {
				continue
			}
			wantErr := ErrTampered
			if remove(t, d.Bucket, name); bad == nil {
				wantErr = ErrIncomplete
			} else {
				put(t, d.Bucket, name, bad)
			}
			wantError(t, string(name)+" "+what, findings(t, d.account)[name], wantErr)
			a := d.mustUnlock(t)
			if found := findings(t, a); len(found) > 0 {
				t.Errorf("%s %s: after it was opened: %v", name, what, found)
			}
			if got := get(t, d.Bucket, name); !bytes.Equal(got, want[name]) {
				t.Errorf("%s %s: it is not restored", name, what)
			}
		}
	}
	// A Bucket that takes no writes: the drive opens, and stays as it is.
	remove(t, d.Bucket, "drive/00000001")
	_, err := Unlock(t.Context(), &cutBucket{d.Bucket, 0}, Secret{Recovery: d.words}, UnlockOptions{})
	wantError(t, "read-only", err, nil)
	wantError(t, "read-only", findings(t, d.account)["drive/00000001"], ErrIncomplete)
	d.mustUnlock(t)
	for _, prefix := range []blob.Name{recordPrefix, memberPrefix} {
		saved := d.Clone()
		for _, name := range names(t, saved, prefix) {
			put(t, saved, name, make([]byte, 2048))
		}
		_, err := Unlock(t.Context(), saved, Secret{Recovery: d.words}, UnlockOptions{})
		wantError(t, "both copies damaged", err, ErrTampered)
		remove(t, saved, names(t, saved, prefix)...)
		_, err = Unlock(t.Context(), saved, Secret{Recovery: d.words}, UnlockOptions{})
		wantError(t, "both copies gone", err, ErrIncomplete)
	}
}

// A8: an authentic record of a later format is refused by that name, one of an earlier format as damage.
func TestOpenRecord_RefusesOtherFormats(t *testing.T) {
	d := newDrive(t)
	body := d.account.Record.encode()
	for format, want := range map[byte]error{0: ErrTampered, 2: ErrFormat, 23: ErrFormat} {
		body[2] = format
		s := sign(d.account.owner, SignDrive, body)
		key := recordKey(&d.account.root, d.account.Record.Drive)
		b, err := SealBlob(&key, "root-record", 0, recordName(1), s.Encode(), 0, entropy(1))
		wantError(t, "seal", err, nil)
		wantError(t, "put", putTwice(t.Context(), d.Bucket, recordName(1), b), nil)
		_, err = d.unlock(t)
		wantError(t, "unlock", err, want)
	}
	// T-A17: a signature for another purpose is none.
	body[2] = recordFormat
	s := sign(d.account.owner, SignMember, body)
	wantError(t, "other purpose", s.Check(d.account.Record.Owner, SignDrive), ErrTampered)
}
