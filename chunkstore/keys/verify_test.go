package keys

import (
	"errors"
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
		found := findings(t, d.account)
		for _, name := range touched {
			if err := found[name]; !errors.Is(err, ErrTampered) && !errors.Is(err, ErrIncomplete) {
				t.Errorf("%s: %s: got %v", what, name, err)
			}
		}
		a, err := d.unlock(t)
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
		if x[:5] != slotPrefix {
			found := findings(t, d.account)
			if !errors.Is(found[x], ErrIncomplete) && !errors.Is(found[firstName(x)], ErrIncomplete) {
				t.Errorf("%s removed: got %v", x, found)
			}
		}
		put(t, d.Bucket, x, was)
	}
	if found := findings(t, d.account); len(found) > 0 {
		t.Fatal(found)
	}
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
	remove(t, d.Bucket, names(t, d.Bucket, slotPrefix)...)
	wantError(t, "no recovery slot", findings(t, d.account)[slotPrefix], ErrIncomplete)
}

// One lost or damaged copy of the drive record, or of an entry of the members log, does not lock the drive.
func TestUnlock_OneCopyIsEnough(t *testing.T) {
	d := newDrive(t)
	for _, name := range append(names(t, d.Bucket, recordPrefix), names(t, d.Bucket, memberPrefix)...) {
		was := get(t, d.Bucket, name)
		put(t, d.Bucket, name, make([]byte, len(was)))
		d.mustUnlock(t)
		wantError(t, "verify", findings(t, d.account)[name], ErrTampered)
		remove(t, d.Bucket, name)
		d.mustUnlock(t)
		put(t, d.Bucket, name, was)
	}
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
