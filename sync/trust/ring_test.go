package trust_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/trust"
	"github.com/sheaf-drive/sheaf/sync/trust/pgp"
	"github.com/sheaf-drive/sheaf/sync/trust/wot"
)

var ringKey = [32]byte{7}

func open(t *testing.T, dir string) *trust.Ring {
	t.Helper()
	r, err := trust.Open(dir, ringKey)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// known returns what a ring knows of a key.
func known(t *testing.T, r *trust.Ring, of *pgp.Secret, at time.Time) trust.Known {
	t.Helper()
	k, err := r.Find(pgp.Hex(of.Certificate().Fingerprint()), at)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestRing_ADeviceIsSuggestedAsLongAsItsOwnerIsVouchedFor is the half of P4 that is here: A signs B, B vouches for C, A trusts B to introduce; D is vouched for by nobody.
func TestRing_ADeviceIsSuggestedAsLongAsItsOwnerIsVouchedFor(t *testing.T) {
	a, b, c, d := generate(t, "Anna"), generate(t, "Bob"), generate(t, "Cleo"), generate(t, "Dora")
	later := now.Add(time.Hour)
	r := open(t, t.TempDir())
	must(t, r.SetOwn(a))
	vouched, err := b.Certify(c.Certificate(), nil, pgp.Vouch{}, later)
	must(t, err)
	if n, err := r.Import(b.Certificate(), vouched, d.Certificate()); err != nil || n != 3 {
		t.Fatalf("%d keys are new, %v", n, err)
	}
	bob := b.Certificate().Fingerprint()
	introducer := pgp.Vouch{Depth: 1, Amount: wot.AmountFull}
	if err := r.Vouch(bob, nil, introducer, later); err == nil {
		t.Error("a key was certified whose fingerprint nobody has compared")
	}
	if err := r.Verify(bob, pgp.Hex(d.Certificate().Fingerprint())); !errors.Is(err, trust.ErrNoKey) {
		t.Errorf("another fingerprint was told: %v", err)
	}
	must(t, r.Verify(bob, pgp.Compare(bob)))
	if k := known(t, r, c, later); k.MaySuggest() {
		t.Errorf("C is suggested, and %s, before A has said anything of B", k.Result.Validity)
	}
	must(t, r.Vouch(bob, nil, introducer, later))
	k := known(t, r, c, later)
	if !k.MaySuggest() || len(k.Path) != 2 || k.Path[0].To != bob || k.Path[1].From != bob {
		t.Errorf("C is %s by %v", k.Result.Validity, k.Path)
	}
	if k := known(t, r, d, later); k.MaySuggest() {
		t.Errorf("D, for whom nobody vouches, is %s", k.Result.Validity)
	}
	must(t, r.Withdraw(bob, later.Add(time.Second)))
	if k := known(t, r, c, later.Add(time.Minute)); k.MaySuggest() || len(k.Path) != 0 {
		t.Errorf("A has taken back what it said of B, and C is %s by %v", k.Result.Validity, k.Path)
	}
	// Whoever shows the key as it was brings nothing back.
	_, err = r.Import(b.Certificate(), vouched)
	must(t, err)
	if k := known(t, r, c, later.Add(time.Minute)); k.MaySuggest() {
		t.Error("an old copy undid a revocation")
	}
}

func TestRing_IsTheSameWhenItIsOpenedAgain(t *testing.T) {
	a, b := generate(t, "Anna"), generate(t, "Bob")
	dir := filepath.Join(t.TempDir(), "data")
	r := open(t, dir)
	must(t, r.SetOwn(a))
	_, err := r.Import(b.Certificate())
	must(t, err)
	bob := b.Certificate().Fingerprint()
	must(t, errors.Join(r.SetOwner(bob, wot.OwnerMarginal), r.Verify(bob, pgp.Hex(bob))))
	if err := r.SetOwner(bob, wot.OwnerUltimate); err == nil {
		t.Error("another's key is trusted ultimately")
	}
	if err := r.SetOwn(b); !errors.Is(err, trust.ErrExists) {
		t.Errorf("a second own key: %v", err)
	}
	r = open(t, dir)
	if own := r.Own(); own == nil || own.Certificate().Fingerprint() != a.Certificate().Fingerprint() {
		t.Error("the own key is another, or none")
	}
	k := known(t, r, b, now)
	if k.Owner != wot.OwnerMarginal || !k.Verified || k.Certificate.Name() != "Bob <bob@a.example>" {
		t.Errorf("Bob's key is now %+v", k)
	}
	if k, err := r.Find("BOB@a.example", now); err != nil || k.Certificate.Fingerprint() != bob {
		t.Errorf("by address: %v", err)
	}
	must(t, r.Forget(bob))
	if _, err := open(t, dir).Find("bob@a.example", now); !errors.Is(err, trust.ErrNoKey) {
		t.Errorf("a key that was forgotten: %v", err)
	}
	if err := r.Forget(a.Certificate().Fingerprint()); err == nil {
		t.Error("the own key was forgotten")
	}
}

// Whoever has revoked the key that was their own can have another. The old one counts for nothing, and its secret is still there.
func TestRing_AnotherOwnKeyAfterTheFirstIsRevoked(t *testing.T) {
	a, a2, b := generate(t, "Anna"), generate(t, "Anna anew"), generate(t, "Bob")
	dir := t.TempDir()
	r := open(t, dir)
	must(t, r.SetOwn(a))
	_, err := r.Import(b.Certificate())
	must(t, err)
	bob := b.Certificate().Fingerprint()
	later := now.Add(time.Hour)
	must(t, errors.Join(r.Verify(bob, pgp.Hex(bob)), r.Vouch(bob, nil, pgp.Vouch{}, later)))
	if k := known(t, r, b, later); k.Result.Validity != wot.Full {
		t.Fatalf("Bob is %s before", k.Result.Validity)
	}
	must(t, r.RevokeOwn(later))
	if err := r.SetOwn(a); !errors.Is(err, trust.ErrExists) {
		t.Errorf("the revoked one again: %v", err)
	}
	must(t, r.SetOwn(a2))
	later = later.Add(time.Hour)
	for range 2 {
		if own := r.Own(); own == nil || own.Certificate().Fingerprint() != a2.Certificate().Fingerprint() {
			t.Fatal("the own key is another, or none")
		}
		if k := known(t, r, a, later); k.Owner != wot.OwnerUnknown || k.Result.Validity != wot.Revoked {
			t.Errorf("the old key is trusted %v, and %s", k.Owner, k.Result.Validity)
		}
		if k := known(t, r, b, later); k.Result.Validity == wot.Full {
			t.Errorf("what the old key certified is %s", k.Result.Validity)
		}
		r = open(t, dir)
	}
	must(t, r.Vouch(bob, nil, pgp.Vouch{}, later))
	if k := known(t, r, b, later.Add(time.Minute)); k.Result.Validity != wot.Full {
		t.Errorf("what the new key certified is %s", k.Result.Validity)
	}
	if err := r.SetOwn(a); !errors.Is(err, trust.ErrExists) {
		t.Errorf("a second own key: %v", err)
	}
}

func TestRing_ItsFileShowsNoKeyAndIsFoundDamaged(t *testing.T) {
	a := generate(t, "Anna")
	dir := t.TempDir()
	must(t, open(t, dir).SetOwn(a))
	path := filepath.Join(dir, "openpgp")
	raw, err := os.ReadFile(path)
	must(t, err)
	secret, err := a.Bytes()
	must(t, err)
	for _, s := range []string{"Anna <anna@a.example>", string(secret[8:40]), string(a.Certificate().Fingerprint())} {
		if found := testkit.CanaryOf(s).Find(raw); found != "" {
			t.Errorf("the file shows %q as %s", s, found)
		}
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm()&0o077 != 0 {
		t.Errorf("others may read it: %v, %v", fi.Mode(), err)
	}
	for _, i := range []int{0, 13, len(raw) / 2, len(raw) - 1} {
		bad := bytes.Clone(raw)
		bad[i] ^= 1
		must(t, os.WriteFile(path, bad, 0o600))
		if _, err := trust.Open(dir, ringKey); !errors.Is(err, trust.ErrDamaged) {
			t.Errorf("byte %d is another: %v", i, err)
		}
	}
	must(t, os.WriteFile(path, raw, 0o600))
	if _, err := trust.Open(dir, [32]byte{8}); !errors.Is(err, trust.ErrDamaged) {
		t.Errorf("another key: %v", err)
	}
}
