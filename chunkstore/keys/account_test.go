package keys

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
)

func TestUnlock_OpensByEachSecret(t *testing.T) {
	bucket, dir := mem.New(), t.TempDir()
	a, d, words, err := Create(t.Context(), bucket, CreateOptions{
		Passphrase: []byte("correct horse"), Argon: cheap, Chunker: []byte{1, 2}, Suite: 2, Now: noon,
		DeviceName: "laptop", Dir: dir, KeepKey: true,
	})
	wantError(t, "create", err, nil)
	file, err := ReadDevice(dir)
	wantError(t, "read device", err, nil)
	for name, s := range map[string]Secret{
		"passphrase": {Passphrase: []byte("correct horse")},
		"words":      {Recovery: strings.ToUpper("  " + words + "\n")},
		"device key": {Device: file},
	} {
		b, err := Unlock(t.Context(), bucket, s, UnlockOptions{Drive: a.Record.Drive})
		wantError(t, name, err, nil)
		if b.Ring.Derive(kdf.Head) != a.Ring.Derive(kdf.Head) || b.Ring.Epoch() != 1 {
			t.Errorf("%s: got other keys than Create", name)
		}
		if r := b.Record; r.Suite != 2 || !bytes.Equal(r.Chunker, []byte{1, 2}) || !r.Created.Equal(noon) {
			t.Errorf("%s: got record %+v", name, r)
		}
		if b.RecordMark != a.RecordMark || b.Members.Mark() != a.Members.Mark() {
			t.Errorf("%s: got other marks than Create", name)
		}
		again, err := b.OpenDevice(file)
		wantError(t, "open device", err, nil)
		if again.ID() != d.ID() || again.Sign(SignHead, nil).Sig != d.Sign(SignHead, nil).Sig {
			t.Errorf("%s: the device is another one", name)
		}
		wantError(t, "wraps", b.Members.CheckWraps(again), nil)
	}
	for name, s := range map[string]Secret{
		"passphrase": {Passphrase: []byte("correct horsf")},
		"words":      {Recovery: Words([32]byte{1})},
		"device key": {Device: &DeviceFile{Drive: file.Drive, slot: file.slot}},
		"drive":      {Recovery: words},
	} {
		o := UnlockOptions{Drive: DriveID{1}}
		if name != "drive" {
			o = UnlockOptions{}
		}
		_, err := Unlock(t.Context(), bucket, s, o)
		if err != ErrWrongSecret { //nolint:errorlint // one and the same, not only alike
			t.Errorf("wrong %s: got %v, want %v", name, err, ErrWrongSecret)
		}
	}
	if _, err := Unlock(t.Context(), bucket, Secret{}, UnlockOptions{}); err == nil {
		t.Error("no secret: got no error")
	}
	_, err = Unlock(t.Context(), bucket, Secret{Recovery: "one two"}, UnlockOptions{})
	wantError(t, "no words", err, ErrWords)
	_, err = Unlock(t.Context(), mem.New(), Secret{Recovery: words}, UnlockOptions{})
	wantError(t, "empty bucket", err, ErrNoDrive)
}

func TestCreate_RefusesAPlaceThatIsNotEmpty(t *testing.T) {
	d := newDrive(t)
	_, _, _, err := Create(t.Context(), d.Bucket, CreateOptions{})
	wantError(t, "drive there", err, ErrExists)

	strange := mem.New()
	put(t, strange, "packs/1", []byte("x"))
	_, _, _, err = Create(t.Context(), strange, CreateOptions{})
	wantError(t, "other blobs there", err, ErrExists)

	// Slots without a drive record beside packs may be all that is left of a drive.
	remove(t, d.Bucket, names(t, d.Bucket, recordPrefix)...)
	put(t, d.Bucket, "packs/1", []byte("x"))
	_, _, _, err = Create(t.Context(), d.Bucket, CreateOptions{})
	wantError(t, "slots and packs there", err, ErrExists)

	dir := t.TempDir()
	other := newDrive(t)
	wantError(t, "save", other.account.SaveDevice(dir, other.device, false), nil)
	_, _, _, err = Create(t.Context(), mem.New(), CreateOptions{Dir: dir})
	wantError(t, "device of another drive there", err, ErrExists)
}

// A Create that is cut off leaves no drive, or a whole one; and in the first case the next Create works.
func TestCreate_CutOffAfterEachWrite(t *testing.T) {
	for n := 0; ; n++ {
		bucket, dir := mem.New(), t.TempDir()
		o := CreateOptions{Dir: dir, KeepKey: true, Now: noon}
		_, _, _, err := Create(t.Context(), &cutBucket{bucket, n}, o)
		if err == nil {
			if n < 5 {
				t.Fatalf("only %d writes", n)
			}
			return
		}
		wantError(t, "create", err, errCut)
		if has := len(names(t, bucket, recordName(1))) == 2; has {
			t.Fatalf("after %d writes the drive is there, and yet Create says %v", n, err)
		}
		a, _, _, err := Create(t.Context(), bucket, o)
		wantError(t, fmt.Sprintf("create after %d writes", n), err, nil)
		if found := findings(t, a); len(found) > 0 {
			t.Fatalf("after %d writes: %v", n, found)
		}
		file, err := ReadDevice(dir)
		wantError(t, "read device", err, nil)
		_, err = Unlock(t.Context(), bucket, Secret{Device: file}, UnlockOptions{})
		wantError(t, "unlock by device", err, nil)
	}
}

func TestSetPassphrase_AlwaysLeavesOneThatOpens(t *testing.T) {
	old, next := []byte("old"), []byte("new")
	opens := func(b blob.Bucket, p []byte) bool {
		_, err := Unlock(t.Context(), b, Secret{Passphrase: p}, UnlockOptions{})
		if err != nil && !errors.Is(err, ErrWrongSecret) {
			t.Fatal(err)
		}
		return err == nil
	}
	d := newDrive(t)
	wantError(t, "first passphrase", d.account.SetPassphrase(t.Context(), old, cheap), nil)
	for n := 0; n <= 2; n++ {
		bucket := d.Clone()
		a, err := Unlock(t.Context(), &cutBucket{bucket, n}, Secret{Recovery: d.words}, UnlockOptions{})
		wantError(t, "unlock", err, nil)
		err = a.SetPassphrase(t.Context(), next, cheap)
		isOld, isNew := opens(bucket, old), opens(bucket, next)
		if wantOld, wantNew := n < 2, n > 0; isOld != wantOld || isNew != wantNew || (err == nil) != (n == 2) {
			t.Errorf("after %d writes: old opens %t, new opens %t, error %v", n, isOld, isNew, err)
		}
	}
	has, err := HasPassphrase(t.Context(), d.Bucket)
	if wantError(t, "has", err, nil); !has {
		t.Error("no passphrase slot")
	}
	wantError(t, "too cheap", d.account.SetPassphrase(t.Context(), next, Argon{8, 1, 1}), ErrCost)
	wantError(t, "remove", d.account.SetPassphrase(t.Context(), nil, Argon{}), nil)
	if has, _ = HasPassphrase(t.Context(), d.Bucket); has {
		t.Error("the passphrase slot is still there")
	}
	d.mustUnlock(t)
	remove(t, d.Bucket, names(t, d.Bucket, slotPrefix)...)
	wantError(t, "remove the last", d.account.SetPassphrase(t.Context(), nil, Argon{}), ErrLastSlot)
}

func TestNewRecovery_EndsTheOldWords(t *testing.T) {
	d := newDrive(t)
	words, err := d.account.NewRecovery(t.Context())
	wantError(t, "new words", err, nil)
	if words == d.words {
		t.Fatal("the words are the same")
	}
	_, err = d.unlock(t)
	wantError(t, "old words", err, ErrWrongSecret)
	d.words = words
	if found := findings(t, d.mustUnlock(t)); len(found) > 0 {
		t.Error(found)
	}
	slots, err := Slots(t.Context(), d.Bucket)
	if wantError(t, "slots", err, nil); len(slots) != 1 || slots[0].Type != RecoverySlot {
		t.Errorf("got slots %v", slots)
	}
}

func TestSecrets_PrintAsKey(t *testing.T) {
	d := newDrive(t)
	// Copies too: fmt asks no method of an unexported field, so a secret's own type does not guard it there.
	for _, v := range []any{d.account, *d.account, d.account.Ring, *d.account.Ring, d.device, *d.device, d.account.root, &d.account.root} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			if got := fmt.Sprintf(verb, v); got != "[key]" {
				t.Errorf("%T by %s: got %s", v, verb, got)
			}
		}
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "ring", d.account.Ring, "account", d.account, "root", d.account.root)
	if n := strings.Count(log.String(), `"[key]"`); n != 3 {
		t.Errorf("log: got %s", log.String())
	}
	if b, err := json.Marshal(d.account.Ring); err != nil || string(b) != `"[key]"` {
		t.Errorf("JSON: got %s, %v", b, err)
	}
}

func TestRing_WalksBackFromTheNewestEpoch(t *testing.T) {
	root := secret{1}
	rec := &Record{Drive: DriveID{9}, Version: 1}
	secrets := []secret{{11}, {12}, {13}}
	wantError(t, "set", rec.setSecrets(&root, secrets, entropy(1)), nil)
	again, err := parseRecord(rec.encode())
	wantError(t, "parse", err, nil)
	ring, err := again.ring(&root)
	wantError(t, "ring", err, nil)
	seen := map[[32]byte]bool{}
	for e := uint32(1); e <= 3; e++ {
		got, ok := ring.DeriveEpoch(kdf.Head, e)
		if !ok || got != deriveFrom(kdf.Head, &secrets[e-1], rec.Drive, e) || seen[got] {
			t.Errorf("epoch %d: got other keys", e)
		}
		seen[got] = true
	}
	if ring.Derive(kdf.Head) != deriveFrom(kdf.Head, &secrets[2], rec.Drive, 3) {
		t.Error("Derive is not of the newest epoch")
	}
	for _, e := range []uint32{0, 4, 1 << 31} {
		if _, ok := ring.DeriveEpoch(kdf.Head, e); ok {
			t.Errorf("epoch %d is there", e)
		}
	}
	_, err = again.ring(&secret{2})
	wantError(t, "other root", err, ErrTampered)
	again.past[0], again.past[1] = again.past[1], again.past[0]
	_, err = again.ring(&root)
	wantError(t, "past secrets swapped", err, ErrTampered)
}
