package keys

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
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
		if b.RecordMark != a.RecordMark || !b.Members().Tips().Equal(a.Members().Tips()) {
			t.Errorf("%s: got other marks than Create", name)
		}
		again, err := b.OpenDevice(file)
		wantError(t, "open device", err, nil)
		if again.ID() != d.ID() || again.Sign(SignHead, nil).Sig != d.Sign(SignHead, nil).Sig {
			t.Errorf("%s: the device is another one", name)
		}
		wantError(t, "wraps", b.Members().CheckWraps(again), nil)
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

// opens reports whether a secret opens the drive in a Bucket, as a device without memory sees it.
func opens(t testing.TB, b blob.Bucket, s Secret) bool {
	t.Helper()
	_, err := Unlock(t.Context(), b, s, UnlockOptions{})
	if err != nil && !errors.Is(err, ErrWrongSecret) {
		t.Fatal(err)
	}
	return err == nil
}

// A change of the passphrase that is cut off after each write: exactly one of the two opens the drive, and Verify has nothing to say once
// the drive was opened again.
func TestSetPassphrase_IsOneStep(t *testing.T) {
	old, next := Secret{Passphrase: []byte("old")}, Secret{Passphrase: []byte("new")}
	d := newDrive(t)
	wantError(t, "first passphrase", d.account.SetPassphrase(t.Context(), old.Passphrase, cheap), nil)
	done := false
	for n := 0; !done; n++ {
		bucket := d.Clone()
		a, err := Unlock(t.Context(), &cutBucket{bucket, n}, Secret{Recovery: d.words}, UnlockOptions{})
		wantError(t, "unlock", err, nil)
		err = a.SetPassphrase(t.Context(), next.Passphrase, cheap)
		isOld, isNew := opens(t, bucket, old), opens(t, bucket, next)
		// A slot, twice; then the entry, of which one copy is enough to count.
		if wantNew := n >= 3; isOld == isNew || isNew != wantNew || (err == nil) != (n >= 4) {
			t.Errorf("after %d writes: old opens %t, new opens %t, error %v", n, isOld, isNew, err)
		}
		a, err = Unlock(t.Context(), bucket, Secret{Recovery: d.words}, UnlockOptions{})
		wantError(t, "unlock", err, nil)
		for name, err := range findings(t, a) {
			t.Errorf("after %d writes: %s: %v", n, name, err)
		}
		if n == 2 {
			if slots, err := Slots(t.Context(), bucket); err != nil || len(slots) != 3 {
				t.Errorf("%d slots, %v", len(slots), err)
			}
			wantError(t, "remove", a.SetPassphrase(t.Context(), nil, Argon{}), nil)
			if got := names(t, bucket, slotPrefix); len(got) != 2 {
				t.Errorf("what was cut off is not cleared away: %v", got)
			}
		}
		done = n == 5
	}
	has, err := HasPassphrase(t.Context(), d.Bucket)
	if wantError(t, "has", err, nil); !has {
		t.Error("no passphrase slot")
	}
	wantError(t, "too cheap", d.account.SetPassphrase(t.Context(), next.Passphrase, Argon{8, 1, 1}), ErrCost)
	wantError(t, "remove", d.account.SetPassphrase(t.Context(), nil, Argon{}), nil)
	if has, _ = HasPassphrase(t.Context(), d.Bucket); has {
		t.Error("the passphrase slot is still there")
	}
	d.mustUnlock(t)
	err = d.account.changeSlots(t.Context(), nil, func(m *Members) ([]*slot, error) { return m.slotsOf(RecoverySlot), nil })
	wantError(t, "end all", err, nil)
	wantError(t, "remove the last", d.account.SetPassphrase(t.Context(), nil, Argon{}), ErrLastSlot)
}

// T-A1, T-A12: a slot that has ended and that the Bucket puts back opens nothing, whatever else is shown, as long as the entry is that ended it.
func TestUnlock_RefusesASlotThatIsPutBack(t *testing.T) {
	d := newDrive(t)
	old, next := Secret{Passphrase: []byte("old")}, Secret{Passphrase: []byte("new")}
	wantError(t, "old", d.account.SetPassphrase(t.Context(), old.Passphrase, cheap), nil)
	before := d.Clone()
	wantError(t, "new", d.account.SetPassphrase(t.Context(), next.Passphrase, cheap), nil)
	words, err := d.account.NewRecovery(t.Context())
	wantError(t, "new words", err, nil)
	wantError(t, "retire", d.account.RetireRecovery(t.Context(), words), nil)
	wantSlots := names(t, d.Bucket, slotPrefix)
	back := 0
	for _, name := range names(t, before, slotPrefix) {
		put(t, d.Bucket, name, get(t, before, name))
		back++
		wantError(t, "verify", findings(t, d.account)[name], ErrTampered)
	}
	if back != 4 {
		t.Fatalf("%d blobs are put back", back)
	}
	for what, s := range map[string]Secret{"old passphrase": old, "old words": {Recovery: d.words}} {
		if _, err := Unlock(t.Context(), d.Bucket, s, UnlockOptions{}); err != ErrWrongSecret { //nolint:errorlint // one and the same
			t.Errorf("%s: %v", what, err)
		}
	}
	// Without the entry a device that remembers nothing cannot know better; one that does notices.
	blind := d.copiedWithout(t, d.account.Members().order[2:])
	if !opens(t, blind, old) {
		t.Error("this test does not put back what it says")
	}
	a, err := Unlock(t.Context(), blind, old, UnlockOptions{})
	wantError(t, "unlock", err, nil)
	wantError(t, "one who remembers", a.Members().Follows(d.account.Members().Tips()), ErrRollback)
	// A drive that is opened by a secret that counts is rid of the slots.
	for _, s := range []Secret{next, {Recovery: words}} {
		if !opens(t, d.Bucket, s) {
			t.Error("what counts does not open the drive")
		}
	}
	if got := names(t, d.Bucket, slotPrefix); !slices.Equal(got, wantSlots) {
		t.Errorf("got slots %v, want %v", got, wantSlots)
	}
}

// copiedWithout is the Bucket without some entries.
func (d drive) copiedWithout(t testing.TB, nodes []*node) *mem.Bucket {
	t.Helper()
	c := d.copied()
	for _, n := range nodes {
		c.drop(t, n.hash)
	}
	return c.Bucket
}

// A change of the recovery words that is cut off after each write, at each of its steps: the words that the person has seen open the
// drive.
func TestNewRecovery_AtNoTimeOnlyWordsThatNobodyHasSeen(t *testing.T) {
	d := newDrive(t)
	for n := 0; ; n++ {
		bucket := d.Clone()
		cut := &cutBucket{bucket, n}
		a, err := Unlock(t.Context(), cut, Secret{Recovery: d.words}, UnlockOptions{})
		wantError(t, "unlock", err, nil)
		words, err := a.NewRecovery(t.Context())
		if !opens(t, bucket, Secret{Recovery: d.words}) {
			t.Fatalf("after %d writes, before the new words were shown, the old ones open nothing", n)
		}
		if err != nil {
			if words != "" && opens(t, bucket, Secret{Recovery: words}) {
				t.Logf("after %d writes both open", n)
			}
			continue
		}
		// Now they are shown.
		err = a.RetireRecovery(t.Context(), words)
		isOld, isNew := opens(t, bucket, Secret{Recovery: d.words}), opens(t, bucket, Secret{Recovery: words})
		if !isNew || err == nil && isOld {
			t.Fatalf("after %d writes the old words open: %t, the new ones: %t, %v", n, isOld, isNew, err)
		}
		if err == nil {
			break
		}
	}
	words, err := d.account.NewRecovery(t.Context())
	wantError(t, "new words", err, nil)
	wantError(t, "retire by others", d.account.RetireRecovery(t.Context(), Words([32]byte{1})), ErrWrongSecret)
	wantError(t, "retire by none", d.account.RetireRecovery(t.Context(), "one two"), ErrWords)
	if !opens(t, d.Bucket, Secret{Recovery: d.words}) || !opens(t, d.Bucket, Secret{Recovery: words}) {
		t.Error("words are retired by words that are none")
	}
	// Words that nobody ever retires for do not pile up, and neither the first nor the last go.
	for range 2 * maxRecovery {
		words, err = d.account.NewRecovery(t.Context())
		wantError(t, "new words", err, nil)
	}
	if n := len(d.account.Members().slotsOf(RecoverySlot)); n != maxRecovery {
		t.Errorf("%d recovery slots", n)
	}
	if !opens(t, d.Bucket, Secret{Recovery: d.words}) || !opens(t, d.Bucket, Secret{Recovery: words}) {
		t.Error("the first or the last words are gone")
	}
	wantError(t, "retire", d.account.RetireRecovery(t.Context(), words), nil)
	if opens(t, d.Bucket, Secret{Recovery: d.words}) || !opens(t, d.Bucket, Secret{Recovery: words}) {
		t.Error("the words are not replaced")
	}
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

func TestRing_HasAKeyForEachEpoch(t *testing.T) {
	r := &Ring{drive: DriveID{9}, epochs: []epoch{{number: 1, secret: secret{11}}}}
	r = r.with(epoch{number: 3, entry: [32]byte{3}, secret: secret{13}})
	r = r.with(epoch{number: 2, entry: [32]byte{2}, secret: secret{12}})
	r = r.with(epoch{number: 3, entry: [32]byte{1}, secret: secret{14}}).writing([32]byte{3})
	if again := r.with(epoch{number: 2, entry: [32]byte{2}, secret: secret{12}}); again != r {
		t.Error("an epoch is there twice")
	}
	seen := map[[32]byte]bool{}
	for e, s := range map[uint32]secret{1: {11}, 2: {12}, 3: {13}} {
		got, ok := r.DeriveEpoch(kdf.Head, e)
		if !ok || got != deriveFrom(kdf.Head, &s, r.drive, e) || seen[got] {
			t.Errorf("epoch %d: got other keys", e)
		}
		seen[got] = true
	}
	if r.Epoch() != 3 || r.Derive(kdf.Head) != deriveFrom(kdf.Head, &secret{13}, r.drive, 3) {
		t.Error("Derive is not of the epoch to write under")
	}
	all := r.DeriveAll(kdf.Head)
	if len(all) != 4 || all[0] != r.Derive(kdf.Head) || all[1] != deriveFrom(kdf.Head, &secret{14}, r.drive, 3) || all[3] != deriveFrom(kdf.Head, &secret{11}, r.drive, 1) {
		t.Error("DeriveAll has other keys, or another order")
	}
	for _, e := range []uint32{0, 4, 1 << 31} {
		if _, ok := r.DeriveEpoch(kdf.Head, e); ok {
			t.Errorf("epoch %d is there", e)
		}
	}
}
