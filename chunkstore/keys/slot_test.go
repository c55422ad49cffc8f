package keys

import (
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// seed returns the seed of a random test: SHEAF_SEED, or the time. It prints it.
func seed(t testing.TB) uint64 {
	n := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("SHEAF_SEED"), 10, 64); err == nil {
		n = s
	}
	t.Logf("SHEAF_SEED=%d", n)
	return n
}

// entropy returns bytes that are the same for the same n.
func entropy(n uint64) *rand.ChaCha8 {
	return rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
}

// T-A3: each flipped bit of a slot gives the same error, for a recovery slot through
// the whole of Unlock.
func TestUnlock_EachFlippedBitOfARecoverySlotIsTheOneError(t *testing.T) {
	d := newDrive(t)
	name := names(t, d.Bucket, slotPrefix)[0]
	good := get(t, d.Bucket, name)
	for bit := range len(good) * 8 {
		bad := append([]byte(nil), good...)
		bad[bit/8] ^= 1 << (bit % 8)
		put(t, d.Bucket, name, bad)
		put(t, d.Bucket, spare(name), bad)
		if _, err := d.unlock(t); err != ErrWrongSecret { //nolint:errorlint // one and the same
			t.Fatalf("bit %d: got %v, want %v", bit, err, ErrWrongSecret)
		}
	}
	put(t, d.Bucket, name, good)
	d.mustUnlock(t)
}

// T-A3 for the slot of a device key.
func TestUnlock_EachFlippedBitOfADeviceSlotIsTheOneError(t *testing.T) {
	d, dir := newDrive(t), t.TempDir()
	wantError(t, "save", d.account.SaveDevice(dir, d.device, true), nil)
	f, err := ReadDevice(dir)
	wantError(t, "read", err, nil)
	for bit := range len(f.slot) * 8 {
		f.slot[bit/8] ^= 1 << (bit % 8)
		_, err := Unlock(t.Context(), d.Bucket, Secret{Device: f}, UnlockOptions{})
		if err != ErrWrongSecret { //nolint:errorlint // one and the same
			t.Fatalf("bit %d: got %v, want %v", bit, err, ErrWrongSecret)
		}
		f.slot[bit/8] ^= 1 << (bit % 8)
	}
	_, err = Unlock(t.Context(), d.Bucket, Secret{Device: f}, UnlockOptions{})
	wantError(t, "unaltered", err, nil)
}

// T-A3 for a passphrase slot: one bit of each field through all of Unlock, and all bits by what
// the holder of the root checks without the passphrase.
func TestUnlock_FlippedBitsOfAPassphraseSlotAreTheOneError(t *testing.T) {
	d := newDrive(t)
	wantError(t, "set", d.account.SetPassphrase(t.Context(), []byte("p"), cheap), nil)
	name := slotName(d.account.Members().slotsOf(PassphraseSlot)[0].id)
	good := get(t, d.Bucket, name)
	s, ok := parseSlot(good)
	if !ok || !s.fits(&d.account.root) {
		t.Fatal("the slot does not fit")
	}
	for bit := range len(good) * 8 {
		bad := append([]byte(nil), good...)
		bad[bit/8] ^= 1 << (bit % 8)
		if s, ok := parseSlot(bad); ok && slotName(s.id) == name && s.fits(&d.account.root) {
			t.Fatalf("bit %d is not noticed", bit)
		}
	}
	salt, boxed, mac := s.salt, s.box, s.mac
	for i, flip := range []func(){func() { s.salt[3] ^= 1 }, func() { s.box[70] ^= 8 }, func() { s.mac[31] ^= 128 }, func() { s.drive[0] ^= 1 }} {
		s.salt, s.box, s.mac, s.drive = salt, boxed, mac, d.account.Record.Drive
		flip()
		put(t, d.Bucket, name, s.bytes())
		put(t, d.Bucket, spare(name), s.bytes())
		_, err := Unlock(t.Context(), d.Bucket, Secret{Passphrase: []byte("p")}, UnlockOptions{})
		if err != ErrWrongSecret { //nolint:errorlint // one and the same
			t.Errorf("field %d: got %v", i, err)
		}
	}
}

// T-A4: 10^4 mutated slots give one class of error.
func TestUnlock_MutatedSlotsGiveOneError(t *testing.T) {
	d := newDrive(t)
	rnd := rand.New(rand.NewPCG(seed(t), 4))
	name := names(t, d.Bucket, slotPrefix)[0]
	good := get(t, d.Bucket, name)
	for i := range 10_000 {
		bad := append([]byte(nil), good...)
		switch rnd.IntN(3) {
		case 0:
			for range 1 + rnd.IntN(8) {
				bad[rnd.IntN(300)] ^= byte(1 + rnd.IntN(255))
			}
		case 1:
			bad = bad[:rnd.IntN(len(bad))]
		case 2:
			copy(bad[rnd.IntN(250):], bad[rnd.IntN(250):][:1+rnd.IntN(40)])
		}
		if string(bad) == string(good) {
			continue
		}
		put(t, d.Bucket, name, bad)
		put(t, d.Bucket, spare(name), bad)
		if _, err := d.unlock(t); err != ErrWrongSecret { //nolint:errorlint // one and the same
			t.Fatalf("mutation %d: got %v", i, err)
		}
	}
}

// T-A8: no store can offer a cheaper passphrase slot, nor one that eats all memory, not even
// one that the owner himself would have sealed.
func TestUnlock_RefusesCostsOutsideOfTheLimits(t *testing.T) {
	d := newDrive(t)
	for _, a := range []Argon{
		{},
		{Memory: minArgonMemory - 1, Time: 3, Threads: 1},
		{Memory: minArgonMemory, Time: 2, Threads: 1},
		{Memory: minArgonMemory, Time: 3},
		{Memory: maxArgonMemory + 1, Time: 3, Threads: 1},
		{Memory: minArgonMemory, Time: maxArgonTime + 1, Threads: 1},
		{Memory: 1<<32 - 1, Time: 1<<32 - 1, Threads: 255},
	} {
		wantError(t, "check", a.Check(), ErrCost)
		_, err := newSlot(DriveID{}, PassphraseSlot, a, entropy(1))
		wantError(t, "new slot", err, ErrCost)
		s, err := newSlot(d.account.Record.Drive, PassphraseSlot, cheap, entropy(1))
		wantError(t, "new slot", err, nil)
		s.argon = a
		material := [32]byte{7}
		wantError(t, "wrap", s.wrap((*[32]byte)(&d.account.root), &material, entropy(2)), nil)
		if _, ok := parseSlot(s.bytes()); ok {
			t.Errorf("a slot with %+v is accepted", a)
		}
		put(t, d.Bucket, slotName(s.id), s.bytes())
		wantError(t, "verify", findings(t, d.account)[slotName(s.id)], ErrTampered)
		remove(t, d.Bucket, slotName(s.id))
	}
	wantError(t, "default", DefaultArgon.Check(), nil)
	wantError(t, "cheap", cheap.Check(), nil)
}

// A1, A27: a slot that was put there by somebody else opens nothing, whoever's secret it was made for.
func TestUnlock_RefusesASlotOfAnotherRoot(t *testing.T) {
	d := newDrive(t)
	code, err := ParseWords(d.words)
	wantError(t, "words", err, nil)
	s, err := newSlot(d.account.Record.Drive, RecoverySlot, Argon{}, entropy(3))
	wantError(t, "new slot", err, nil)
	evil := secret{6}
	wantError(t, "wrap", s.wrap((*[32]byte)(&evil), &code, entropy(4)), nil)
	remove(t, d.Bucket, names(t, d.Bucket, slotPrefix)...)
	put(t, d.Bucket, slotName(s.id), s.bytes())
	// Even one who knew the words has not the owner's key: the drive record is not his.
	_, err = d.unlock(t)
	wantError(t, "unlock", err, ErrTampered)
	wantError(t, "verify", findings(t, d.account)[slotName(s.id)], ErrTampered)
}

// A6: a slot under another slot's name is none.
func TestUnlock_RefusesASlotUnderAnotherName(t *testing.T) {
	d := newDrive(t)
	name := names(t, d.Bucket, slotPrefix)[0]
	put(t, d.Bucket, slotName(SlotID{1}), get(t, d.Bucket, name))
	wantError(t, "verify", findings(t, d.account)[slotName(SlotID{1})], ErrTampered)
	remove(t, d.Bucket, name, spare(name))
	_, err := d.unlock(t)
	if !errors.Is(err, ErrWrongSecret) {
		t.Errorf("got %v", err)
	}
}

func TestWords_AreThoseOfBIP39(t *testing.T) {
	// From the test vectors of BIP-39, for 256 bits.
	for b, last := range map[byte]string{0x00: "art", 0x7f: "title", 0x80: "bless", 0xff: "vote"} {
		var code [32]byte
		for i := range code {
			code[i] = b
		}
		text := Words(code)
		if got := text[len(text)-len(last):]; got != last {
			t.Errorf("%x: got %q at the end, want %q", b, got, last)
		}
		if again, err := ParseWords(text); err != nil || again != code {
			t.Errorf("%x: got %x, %v back", b, again, err)
		}
	}
	if got, want := Words([32]byte{}), "abandon abandon"; got[:len(want)] != want {
		t.Errorf("got %q", got)
	}
}

func TestParseWords_FindsMistakes(t *testing.T) {
	good := Words([32]byte{1, 2, 3})
	for _, bad := range []string{"", good + " art", good[:len(good)-5], "x" + good, string(make([]byte, 5000))} {
		_, err := ParseWords(bad)
		wantError(t, "bad words", err, ErrWords)
	}
	// The checksum has eight bits: one in 256 mistakes passes by chance.
	passed := 0
	rnd := rand.New(rand.NewPCG(seed(t), 5))
	for range 2000 {
		var code [32]byte
		for i := range code {
			code[i] = byte(rnd.Uint32())
		}
		other := code
		other[rnd.IntN(32)] ^= byte(1 + rnd.IntN(255))
		a, b := Words(code), Words(other)
		// Where the halves meet in the space between two words there may be two of them.
		mixed := strings.Join(strings.Fields(a[:len(a)/2]+b[len(b)/2:]), " ")
		if mixed != a && mixed != b {
			if _, err := ParseWords(mixed); err == nil {
				passed++
			}
		}
	}
	if passed > 40 {
		t.Errorf("%d of 2000 mistakes passed the checksum", passed)
	}
}

func TestPadded_SaysLittle(t *testing.T) {
	sizes := map[int]bool{}
	for n := range 1 << 16 {
		p := padded(n, minBlob)
		if p < n || p < minBlob || n > minBlob && float64(p) > 1.12*float64(n) {
			t.Fatalf("%d becomes %d", n, p)
		}
		sizes[p] = true
	}
	if len(sizes) > 150 {
		t.Errorf("%d sizes", len(sizes))
	}
}

// T-A17 and A6 for sealed blobs: another key, kind or name does not open them, nor does any other bit.
func TestOpenBlob_IsBoundToKeyKindNameAndEveryBit(t *testing.T) {
	key, other := [32]byte{1}, [32]byte{2}
	b, err := SealBlob(&key, "members", 3, "members/x", []byte("text"), 0, entropy(5))
	wantError(t, "seal", err, nil)
	if e, err := BlobEpoch(b); e != 3 || err != nil || len(b) != minBlob {
		t.Errorf("got epoch %d, %v, %d bytes", e, err, len(b))
	}
	plain, err := OpenBlob(&key, "members", "members/x", b)
	if wantError(t, "open", err, nil); string(plain) != "text" {
		t.Errorf("got %q", plain)
	}
	_, err = OpenBlob(&other, "members", "members/x", b)
	wantError(t, "other key", err, ErrTampered)
	_, err = OpenBlob(&key, "head", "members/x", b)
	wantError(t, "other kind", err, ErrTampered)
	_, err = OpenBlob(&key, "members", blob.Name("members/y"), b)
	wantError(t, "other name", err, ErrTampered)
	for bit := range len(b) * 8 {
		b[bit/8] ^= 1 << (bit % 8)
		if _, err = OpenBlob(&key, "members", "members/x", b); !errors.Is(err, ErrTampered) {
			t.Fatalf("bit %d: got %v", bit, err)
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
	for n := range len(b) {
		if _, err := OpenBlob(&key, "members", "members/x", b[:n]); !errors.Is(err, ErrTampered) {
			t.Fatalf("cut to %d: got %v", n, err)
		}
	}
	_, err = SealBlob(&key, "members", 1, "members/x", make([]byte, MaxBlob), 0, entropy(6))
	if err == nil {
		t.Error("a blob that is too long is sealed")
	}
}

// One slot has one encoding: a record with a part missing, or with one too many, is none.
func TestParseSlot_RefusesPartsThatDoNotBelong(t *testing.T) {
	s, err := newSlot(DriveID{1}, PassphraseSlot, cheap, entropy(1))
	wantError(t, "new slot", err, nil)
	frame := func(body []byte) []byte {
		b := make([]byte, maxSlot)
		copy(b, slotMagic)
		b[len(slotMagic)+3], b[len(slotMagic)+2] = byte(len(body)), byte(len(body)>>8)
		copy(b[slotHead:], body)
		return b
	}
	whole := s.encode(slotWhole)
	if _, ok := parseSlot(frame(whole)); !ok {
		t.Fatal("the whole is refused")
	}
	for part := slotClear; part < slotWhole; part++ {
		if _, ok := parseSlot(frame(s.encode(part))); ok {
			t.Errorf("part %d is accepted", part)
		}
	}
	at := 1 + 2 + (1 + 17) + (1 + 17) + 1 // where the type is
	if whole[at] != byte(PassphraseSlot) {
		t.Fatalf("got type %d", whole[at])
	}
	whole[at] = byte(RecoverySlot)
	if _, ok := parseSlot(frame(whole)); ok {
		t.Error("recovery words with a cost are accepted")
	}
}
