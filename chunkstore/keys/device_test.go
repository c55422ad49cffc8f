package keys

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFingerprint_TextIsEightGroupsAndComesBack(t *testing.T) {
	rnd := rand.New(rand.NewPCG(seed(t), 1))
	for range 1000 {
		var f Fingerprint
		for i := range f {
			f[i] = byte(rnd.Uint32())
		}
		text := f.String()
		groups := strings.Split(text, "-")
		if len(groups) != 9 || groups[0] != "SHF" || len(text) != 3+8*8 {
			t.Fatalf("got %s", text)
		}
		loose := " " + strings.ToLower(strings.ReplaceAll(text, "-", " ")) + "\n"
		loose = strings.NewReplacer("o", "0", "i", "1").Replace(loose)
		for _, s := range []string{text, loose} {
			again, err := ParseFingerprint(s)
			if err != nil || again != f || again.ID() != f.ID() {
				t.Fatalf("%q: got %v, %v", s, again, err)
			}
		}
		// One wrong character, and two swapped ones, are found.
		at := 4 + rnd.IntN(len(text)-4)
		if text[at] != '-' {
			c := byte('A' + rnd.IntN(26))
			bad := text[:at] + string(c) + text[at+1:]
			if _, err := ParseFingerprint(bad); c != text[at] && !errors.Is(err, ErrDeviceText) {
				t.Fatalf("%s instead of %s: got %v", bad, text, err)
			}
		}
		if at < len(text)-1 && text[at] != text[at+1] && text[at] != '-' && text[at+1] != '-' {
			bad := text[:at] + text[at+1:at+2] + text[at:at+1] + text[at+2:]
			if _, err := ParseFingerprint(bad); !errors.Is(err, ErrDeviceText) {
				t.Fatalf("%s instead of %s: got %v", bad, text, err)
			}
		}
	}
	for _, bad := range []string{"", "SHF-", "ABC-AAAAAAA", strings.Repeat("A", 300), "SHF-" + strings.Repeat("A\n", 56)} {
		_, err := ParseFingerprint(bad)
		wantError(t, bad, err, ErrDeviceText)
	}
}

func TestSaveDevice_KeyComesAndGoes(t *testing.T) {
	d, dir := newDrive(t), t.TempDir()
	_, err := ReadDevice(dir)
	wantError(t, "nothing there", err, fs.ErrNotExist)
	for _, keepKey := range []bool{true, true, false, true} {
		wantError(t, "save", d.account.SaveDevice(dir, d.device, keepKey), nil)
		f, err := ReadDevice(dir)
		wantError(t, "read", err, nil)
		_, err = os.Stat(filepath.Join(dir, deviceKeyFile))
		if f.HasKey() != keepKey || (err == nil) != keepKey || f.Drive != d.account.Record.Drive || f.Fingerprint != d.device.Fingerprint() {
			t.Fatalf("keepKey %t: got %v, key file %v", keepKey, f, err)
		}
		want := error(nil)
		if !keepKey {
			want = ErrWrongSecret
		}
		_, err = Unlock(t.Context(), d.Bucket, Secret{Device: f}, UnlockOptions{})
		wantError(t, "unlock", err, want)
		dev, err := d.account.OpenDevice(f)
		if wantError(t, "open", err, nil); dev.ID() != d.device.ID() {
			t.Error("got another device")
		}
		entries, err := os.ReadDir(dir)
		wantError(t, "list", err, nil)
		for _, e := range entries {
			if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v, %v", e.Name(), info.Mode(), err)
			}
		}
	}
}

// G6 for the device file: no flipped bit gives another device or another drive.
func TestReadDevice_EachFlippedBitIsFound(t *testing.T) {
	d, dir := newDrive(t), t.TempDir()
	wantError(t, "save", d.account.SaveDevice(dir, d.device, true), nil)
	good, err := os.ReadFile(filepath.Join(dir, deviceFile))
	wantError(t, "read", err, nil)
	key, err := readDeviceKey(dir)
	wantError(t, "read key", err, nil)
	for bit := range len(good) * 8 {
		bad := append([]byte(nil), good...)
		bad[bit/8] ^= 1 << (bit % 8)
		f, err := parseDevice(bad)
		if err == nil {
			f.key = key
			_, err = Unlock(t.Context(), d.Bucket, Secret{Device: f}, UnlockOptions{})
		}
		if err == nil {
			_, err = d.account.OpenDevice(f)
		}
		if err == nil {
			t.Fatalf("bit %d is not noticed", bit)
		}
	}
	for n := range len(good) {
		if _, err := parseDevice(good[:n]); !errors.Is(err, ErrTampered) {
			t.Fatalf("cut to %d: got %v", n, err)
		}
	}
	other := newDrive(t)
	f, err := ReadDevice(dir)
	wantError(t, "read", err, nil)
	_, err = other.account.OpenDevice(f)
	wantError(t, "device of another drive", err, ErrTampered)
}

// A3: a private key is checked against the public key before any use.
func TestOpenDevice_RefusesKeysThatDoNotFit(t *testing.T) {
	d := newDrive(t)
	dir := t.TempDir()
	wrong := *d.device
	wrong.print[5] ^= 1
	wantError(t, "save", d.account.SaveDevice(dir, &wrong, false), nil)
	f, err := ReadDevice(dir)
	wantError(t, "read", err, nil)
	_, err = d.account.OpenDevice(f)
	wantError(t, "open", err, ErrTampered)
}

func TestEnroll_AddsADevice(t *testing.T) {
	d, dir := newDrive(t), t.TempDir()
	dev, err := d.mustUnlock(t).Enroll(t.Context(), EnrollOptions{Name: "phone", Roles: Writer, Now: noon, Dir: dir, KeepKey: true})
	wantError(t, "enroll", err, nil)
	f, err := ReadDevice(dir)
	wantError(t, "read", err, nil)
	a, err := Unlock(t.Context(), d.Bucket, Secret{Device: f}, UnlockOptions{})
	wantError(t, "unlock", err, nil)
	m, ok := a.Members().Member(dev.ID())
	if !ok || m.Name != "phone" || m.Roles != Writer || m.Revoked || !m.Time.Equal(noon) {
		t.Errorf("got %+v, %t", m, ok)
	}
	if id, ok := a.Members().ByShort(dev.ID().Short()); !ok || id != dev.ID() {
		t.Error("the short name is not known")
	}
	wantError(t, "wraps", a.Members().CheckWraps(dev), nil)
	wantError(t, "wraps of the first", a.Members().CheckWraps(d.device), nil)
	stranger, err := newDevice(entropy(9))
	wantError(t, "new device", err, nil)
	wantError(t, "wraps of a stranger", a.Members().CheckWraps(stranger), ErrNotMember)
	wantError(t, "chain", a.Members().Follows(d.account.Members().Tips()), nil)
	if found := findings(t, a); len(found) > 0 {
		t.Error(found)
	}
	_, err = a.Enroll(t.Context(), EnrollOptions{Name: strings.Repeat("x", 256)})
	if err == nil {
		t.Error("a name of 256 bytes is accepted")
	}
	_, err = a.Enroll(t.Context(), EnrollOptions{Name: "\xff"})
	if err == nil {
		t.Error("a name that is not UTF-8 is accepted")
	}
}
