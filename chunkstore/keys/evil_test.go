package keys

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
)

// typed reports whether an error is one that says what is wrong.
func typed(err error) bool {
	for _, e := range []error{ErrWrongSecret, ErrNoDrive, ErrTampered, ErrFork, ErrRollback, ErrIncomplete, ErrFormat, ErrNotMember} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// besieged is a drive with a history: four devices, one of which is revoked, one that two have enrolled at the same time as another, and
// recovery words that were replaced; and what a Bucket has seen of it: every blob that there ever was.
type besieged struct {
	drive
	seen              *mem.Bucket
	gone, left, right *Device
	old               string // words
	logical           []blob.Name
	foreign           map[blob.Name][]byte
}

func newBesieged(t testing.TB) *besieged {
	t.Helper()
	s := &besieged{drive: newDrive(t), seen: mem.New(), foreign: map[blob.Name][]byte{}}
	remember := func() {
		for _, n := range names(t, s.Bucket, "") {
			put(t, s.seen, n, get(t, s.Bucket, n))
		}
	}
	var err error
	s.gone, err = s.account.Enroll(t.Context(), EnrollOptions{Name: "gone", Roles: Writer | Admin})
	wantError(t, "enroll", err, nil)
	two := s.copied()
	s.left, err = s.account.Enroll(t.Context(), EnrollOptions{Name: "left", Roles: Writer})
	wantError(t, "enroll", err, nil)
	s.right, err = two.mustUnlock(t).Enroll(t.Context(), EnrollOptions{Name: "right", Roles: Writer})
	wantError(t, "enroll", err, nil)
	for _, n := range names(t, two.Bucket, memberPrefix) {
		put(t, s.Bucket, n, get(t, two.Bucket, n))
	}
	remember()
	s.account = s.mustUnlock(t)
	wantError(t, "revoke", s.account.Revoke(t.Context(), s.gone.ID(), RevokeOptions{Last: Mark{Seq: 9}}), nil)
	s.old = s.words
	s.words, err = s.account.NewRecovery(t.Context())
	wantError(t, "words", err, nil)
	remember()
	wantError(t, "retire", s.account.RetireRecovery(t.Context(), s.words), nil)
	remember()
	for _, n := range names(t, s.seen, "") {
		if n == firstName(n) {
			s.logical = append(s.logical, n)
		}
	}
	other := newDrive(t)
	for _, n := range names(t, other.Bucket, "") {
		s.foreign[n] = get(t, other.Bucket, n)
	}
	return s
}

// check opens the drive that a Bucket shows, by either words, as one who remembers nothing and as one who remembers all.
func (s *besieged) check(t *testing.T, what string, b *mem.Bucket) {
	t.Helper()
	for _, words := range []string{s.words, s.old} {
		shown := b.Clone()
		a, err := Unlock(t.Context(), shown, Secret{Recovery: words}, UnlockOptions{})
		if err != nil {
			if !typed(err) {
				t.Fatalf("%s: %v", what, err)
			}
			continue
		}
		m := a.Members()
		if k, ok := a.Ring.DeriveEpoch("head", 1); a.Ring.Drive() != s.account.Ring.Drive() || !ok || k != s.account.Ring.derive("head", 0) {
			t.Fatalf("%s: another drive is opened", what)
		}
		// What it shows is a part of the truth, and follows from itself.
		for id, d := range m.All() {
			want, ok := s.account.Members().Member(id)
			if !ok || d.Name != want.Name || d.Roles != want.Roles || d.Revoked && !want.Revoked {
				t.Fatalf("%s: device %s is %+v", what, id, d)
			}
		}
		if d, ok := m.Member(s.gone.ID()); ok && d.Revoked && a.Ring.Epoch() == 1 {
			t.Fatalf("%s: a device is revoked and its epoch goes on", what)
		}
		all := m.Follows(s.account.Members().Tips()) == nil
		if all && (len(m.order) != len(s.account.Members().order) || words == s.old) {
			t.Fatalf("%s: the whole log is shown, and is not what it is, or a slot that ended opens", what)
		}
		c := s.accountOver(shown)
		if _, err := c.refreshMembers(t.Context()); (err == nil) != all || err != nil && !typed(err) {
			t.Fatalf("%s: one who remembers: %v, while all is shown: %t", what, err, all)
		}
		// It goes on from there, as who knows no better; and then the Bucket is honest again.
		dev, err := a.Enroll(t.Context(), EnrollOptions{Name: "late", Roles: Writer})
		if err != nil {
			t.Fatalf("%s: enroll: %v", what, err)
		}
		s.honest(t, what, shown, dev, a.Members().Tips())
	}
	s.honest(t, what, b, nil, nil)
}

// honest holds the drive against the truth, when the Bucket shows all that it ever got.
func (s *besieged) honest(t *testing.T, what string, b *mem.Bucket, late *Device, entry Tips) {
	t.Helper()
	again := s.Clone()
	for _, h := range entry {
		put(t, again, entryName(h), get(t, b, entryName(h)))
	}
	a, err := Unlock(t.Context(), again, Secret{Recovery: s.words}, UnlockOptions{})
	if err != nil {
		t.Fatalf("%s: honest again: %v", what, err)
	}
	want := map[*Device]string{s.device: "yes", s.gone: "revoked", s.left: "yes", s.right: "yes"}
	if late != nil {
		want[late] = "yes"
	}
	wantMembers(t, what+": honest again", a.Members(), want)
	wantError(t, what, a.Members().Follows(s.account.Members().Tips()), nil)
	if a.Members().Stale() || a.Ring.Epoch() < 2 {
		t.Errorf("%s: honest again: stale %t, epoch %d", what, a.Members().Stale(), a.Ring.Epoch())
	}
	if opens(t, again, Secret{Recovery: s.old}) {
		t.Errorf("%s: honest again: the old words open the drive", what)
	}
}

// T-A1, T-A5, T-A12, T-A20, T-A29: each subset of what there ever was is shown, both copies or one.
func TestEvil_EachSubsetOfTheAccount(t *testing.T) {
	s := newBesieged(t)
	if len(s.logical) != 1+2+7 {
		t.Fatalf("%d objects: %v", len(s.logical), s.logical)
	}
	rnd := rand.New(rand.NewPCG(seed(t), 11))
	step := 29
	if long() {
		step = 1
	}
	for set := rnd.IntN(step); set < 1<<len(s.logical); set += step {
		b := s.seen.Clone()
		for i, n := range s.logical {
			if set>>i&1 == 1 {
				remove(t, b, n, spare(n))
			} else if rnd.IntN(3) == 0 {
				remove(t, b, []blob.Name{n, spare(n)}[rnd.IntN(2)])
			}
		}
		s.check(t, "subset "+s.text(set), b)
	}
}

func (s *besieged) text(set int) (text string) {
	for i, n := range s.logical {
		if set>>i&1 == 1 {
			text += " " + string(n)
		}
	}
	return "without" + text
}

// The same, with blobs that are swapped, altered, cut, put under other names, or of another drive, some at a time.
func TestEvil_RandomLiesAboutTheAccount(t *testing.T) {
	s := newBesieged(t)
	rnd := rand.New(rand.NewPCG(seed(t), 12))
	rounds := 60
	if long() {
		rounds = 5000
	}
	all := names(t, s.seen, "")
	var foreign []blob.Name
	for n := range s.foreign {
		foreign = append(foreign, n)
	}
	for round := range rounds {
		b := s.seen.Clone()
		if rnd.IntN(2) == 0 {
			b = s.Clone()
		}
		for range 1 + rnd.IntN(4) {
			n, o := all[rnd.IntN(len(all))], all[rnd.IntN(len(all))]
			body, other := get(t, s.seen, n), get(t, s.seen, o)
			switch rnd.IntN(8) {
			case 0:
				put(t, b, n, other)
				put(t, b, o, body)
			case 1:
				body[rnd.IntN(len(body))] ^= 1 << rnd.IntN(8)
				put(t, b, n, body)
			case 2:
				put(t, b, n, body[:rnd.IntN(len(body))])
			case 3:
				remove(t, b, n)
			case 4:
				remove(t, b, firstName(n), spare(n))
			case 5: // under a name that nothing has
				put(t, b, firstName(n)[:len(firstName(n))-2]+blob.Name([]byte{"0123456789abcdef"[rnd.IntN(16)], "0123456789abcdef"[rnd.IntN(16)]}), body)
			case 6:
				f := foreign[rnd.IntN(len(foreign))]
				put(t, b, f, s.foreign[f])
			case 7: // both copies
				put(t, b, firstName(n), other)
				put(t, b, spare(firstName(n)), other)
			}
		}
		s.check(t, "round "+string(rune('0'+round%10)), b)
	}
}
