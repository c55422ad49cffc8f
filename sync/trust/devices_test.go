package trust_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/sync/trust"
	"github.com/sheaf-drive/sheaf/sync/trust/pgp"
	"github.com/sheaf-drive/sheaf/sync/trust/wot"
)

var theDrive = [16]byte{4, 2}

// person is somebody with a ring, a device and a key.
type person struct {
	t    *testing.T
	dir  string
	ring *trust.Ring
	own  *pgp.Secret
	key  [32]byte // of the device
}

func newPerson(t *testing.T, name string, n byte) *person {
	t.Helper()
	p := &person{t: t, dir: t.TempDir(), own: generate(t, name), key: [32]byte{n}}
	p.ring = open(t, p.dir)
	must(t, p.ring.SetOwn(p.own))
	must(t, p.ring.Claim(p.record(theDrive), now))
	return p
}

func (p *person) record(drive [16]byte) trust.Record {
	return trust.Record{Drive: drive, Sign: p.key, KEM: []byte{1, 2}, Name: "of " + p.own.Certificate().Name(), Created: now}
}

// trusts compares a key, certifies it, and trusts its owner to introduce others.
func (p *person) trusts(o *person, v pgp.Vouch, at time.Time) {
	p.t.Helper()
	f := o.own.Certificate().Fingerprint()
	if _, err := p.ring.Import(o.own.Certificate()); err != nil {
		p.t.Fatal(err)
	}
	must(p.t, p.ring.Verify(f, pgp.Hex(f)))
	must(p.t, p.ring.Vouch(f, nil, v, at))
}

func all([32]byte) bool { return true }

// P4 without a network: A trusts B, B vouches for C. C is accepted, by what B tells or C shows; D, for whom nobody vouches, is not, and nor is C when A has taken back its trust.
func TestAccept_WhoIsVouchedFor(t *testing.T) {
	a, b, c, d := newPerson(t, "Anna", 1), newPerson(t, "Bob", 2), newPerson(t, "Cleo", 3), newPerson(t, "Dora", 4)
	later := now.Add(time.Hour)
	must(t, a.ring.SetNeed(wot.NeedFull))
	a.trusts(b, pgp.Vouch{Depth: 1, Amount: wot.AmountFull}, later)
	b.trusts(c, pgp.Vouch{}, later)
	accepts := func(p *person) wot.Verdict {
		t.Helper()
		v, _ := a.ring.Accept(p.key, theDrive, true, later)
		return v
	}
	if v := accepts(c); v.Accepted || v.Reason != wot.Unowned {
		t.Errorf("C, of which nothing is known: %+v", v)
	}
	must(t, a.ring.Shown(c.key, theDrive, c.ring.Card(c.key), later))
	must(t, a.ring.Shown(d.key, theDrive, d.ring.Card(d.key), later))
	if v := accepts(c); v.Accepted || v.Reason != wot.Unvouched {
		t.Errorf("C, which has shown its record, and B has told nothing yet: %+v", v)
	}
	must(t, b.ring.Shown(c.key, theDrive, c.ring.Card(c.key), later))
	if fresh, err := a.ring.Told(b.ring.Cards(), theDrive, later, all); !fresh || err != nil {
		t.Fatalf("B tells of C: %v, %v", fresh, err)
	}
	if v := accepts(c); !v.Accepted || v.Reason != wot.Vouched || len(v.Path) != 2 {
		t.Errorf("C, for which B vouches: %+v", v)
	}
	if v := accepts(d); v.Accepted || v.Reason != wot.Unvouched {
		t.Errorf("D: %+v", v)
	}
	if v, _ := a.ring.Accept(c.key, theDrive, false, later); v.Accepted {
		t.Error("C is no member of the drive, and is accepted")
	}
	if v, _ := a.ring.Accept(c.key, [16]byte{9}, true, later); v.Accepted {
		t.Error("C's record is of another drive, and it is accepted")
	}
	// It holds after a restart, and nothing is new when it is told again.
	a.ring = open(t, a.dir)
	if v := accepts(c); !v.Accepted || a.ring.Need() != wot.NeedFull {
		t.Errorf("after a restart: %+v", v)
	}
	if fresh, err := a.ring.Told(b.ring.Cards(), theDrive, later, all); fresh || err != nil {
		t.Errorf("told again: %v, %v", fresh, err)
	}
	must(t, a.ring.Withdraw(b.own.Certificate().Fingerprint(), later))
	if v := accepts(c); v.Accepted {
		t.Errorf("A has taken back its trust in B: %+v", v)
	}
	must(t, a.ring.SetDevice(c.key, func(x *trust.Device) { x.Answer = wot.AnswerYes }))
	if v := accepts(c); !v.Accepted || v.Reason != wot.Told {
		t.Errorf("a person said yes: %+v", v)
	}
}

// Who tells lies about devices changes nothing.
func TestTold_LiesChangeNothing(t *testing.T) {
	a, c, m := newPerson(t, "Anna", 1), newPerson(t, "Cleo", 3), newPerson(t, "Mallory", 5)
	must(t, a.ring.SetNeed(wot.NeedFull))
	a.trusts(c, pgp.Vouch{}, now)
	must(t, a.ring.Shown(c.key, theDrive, c.ring.Card(c.key), now))
	// Mallory says that C's device is Mallory's, by a younger record.
	must(t, m.ring.Claim(trust.Record{Drive: theDrive, Sign: c.key, KEM: []byte{1}, Name: "mine", Created: now.Add(time.Minute)}, now.Add(time.Minute)))
	if _, err := a.ring.Told(m.ring.Cards(), theDrive, now, all); err != nil {
		t.Fatal(err)
	}
	if v, _ := a.ring.Accept(c.key, theDrive, true, now); !v.Accepted {
		t.Errorf("C is refused for what Mallory told: %+v", v)
	}
	// A card that is not of who shows it, or of another drive, or altered.
	card := c.ring.Card(c.key)
	if err := a.ring.Shown(m.key, theDrive, card, now); !errors.Is(err, trust.ErrRecord) {
		t.Errorf("Mallory shows C's card: %v", err)
	}
	if err := a.ring.Shown(c.key, [16]byte{9}, card, now); !errors.Is(err, trust.ErrRecord) {
		t.Errorf("a card of another drive: %v", err)
	}
	for i := range card {
		bad := append([]byte(nil), card...)
		bad[i] ^= 1
		b := open(t, t.TempDir())
		if err := b.Shown(c.key, theDrive, bad, now); err == nil {
			if d := b.Device(c.key); d.Owner != c.own.Certificate().Fingerprint() || string(d.Certified.Record) != string(c.ring.Device(c.key).Certified.Record) {
				t.Fatalf("byte %d was altered, and another record is kept", i)
			}
		}
	}
	if _, err := a.ring.Told([]byte{0x9a, 0xff, 0xff, 0xff, 0xff}, theDrive, now, all); !errors.Is(err, trust.ErrRecord) {
		t.Errorf("four billion cards: %v", err)
	}
	if fresh, _ := a.ring.Told(m.ring.Cards(), theDrive, now, func([32]byte) bool { return false }); fresh {
		t.Error("something was kept of who is no member")
	}
}

// A key does not grow without end by what others tell, and its revocation is taken all the same.
func TestTold_AKeyThatIsFullCanBeRevokedStill(t *testing.T) {
	a, c := newPerson(t, "Anna", 1), newPerson(t, "Cleo", 3)
	must(t, a.ring.Shown(c.key, theDrive, c.ring.Card(c.key), now))
	long := strings.Repeat("a", 1500) + ".example"
	before := 0
	for i := range 200 {
		w := generate(t, "Witness")
		full, err := w.Certify(c.own.Certificate(), nil, pgp.Vouch{Depth: 1, Amount: 120, Domain: long}, now.Add(time.Duration(i)*time.Second))
		must(t, err)
		if _, err := c.ring.Import(full); err != nil {
			t.Fatal(err)
		}
		if i%10 != 9 {
			continue
		}
		must(t, a.ring.Shown(c.key, theDrive, c.ring.Card(c.key), now))
		size := known(t, a.ring, c.own, now).Certificate.Size()
		if size > 128<<10 {
			t.Fatalf("the key has grown to %d bytes", size)
		}
		if size == before {
			break
		}
		before = size
	}
	if before < 64<<10 {
		t.Fatalf("the key has %d bytes only: nothing was filled", before)
	}
	revoked, err := c.own.Revoke(now.Add(time.Hour))
	must(t, err)
	if _, err := c.ring.Import(revoked); err != nil {
		t.Fatal(err)
	}
	card := c.ring.Card(c.key)
	if len(card) > trust.MaxCard {
		t.Fatalf("a card of %d bytes", len(card))
	}
	must(t, a.ring.Shown(c.key, theDrive, card, now))
	if v, _ := a.ring.Accept(c.key, theDrive, true, now.Add(2*time.Hour)); v.Accepted || v.Reason != wot.OwnerRevoked {
		t.Errorf("its owner's key was revoked: %+v", v)
	}
}
