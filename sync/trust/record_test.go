package trust_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/trust"
	"github.com/sheaf-drive/sheaf/sync/trust/pgp"
	"github.com/sheaf-drive/sheaf/sync/trust/wot"
)

var now = time.Unix(1_700_000_000, 0).UTC()

func generate(t testing.TB, name string) *pgp.Secret {
	t.Helper()
	s, err := pgp.Generate(name, strings.ToLower(name)+"@a.example", now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func record() trust.Record {
	return trust.Record{Drive: [16]byte{1, 2}, Sign: [32]byte{3}, KEM: []byte("kem"), Name: "Anna's laptop", Created: now, Expires: now.Add(24 * time.Hour)}
}

// gnupg is a home of GnuPG, with an agent that ends with the test.
type gnupg struct {
	t    *testing.T
	home string
	gpg  string
}

func newGnuPG(t *testing.T) *gnupg {
	t.Helper()
	// Not in t.TempDir: the name of a socket has 107 bytes at most.
	home, err := os.MkdirTemp("", "gpg") //nolint:usetesting // the same
	if err != nil {
		t.Fatal(err)
	}
	g := &gnupg{t: t, home: home, gpg: testkit.Program(t, "gpg", "")}
	// By default it makes a passphrase cost a tenth of a second, of a processor that is all its own.
	if err := os.WriteFile(filepath.Join(home, "gpg-agent.conf"), []byte("s2k-count 65536\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := testkit.Program(t, "gpgconf", "")
	t.Cleanup(func() {
		if out, err := exec.CommandContext(context.WithoutCancel(t.Context()), conf, "--homedir", home, "--kill", "all").CombinedOutput(); err != nil {
			t.Errorf("end the agent of GnuPG: %v\n%s", err, out)
		}
		_ = os.RemoveAll(home)
	})
	return g
}

func (g *gnupg) run(args ...string) string {
	g.t.Helper()
	return testkit.Run(g.t, g.home, []string{"LC_ALL=C"}, g.gpg, append([]string{
		"--homedir", g.home, "--batch", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", "pw", "--faked-system-time", fmt.Sprint(now.Unix()+60) + "!",
	}, args...)...)
}

func (g *gnupg) file(name string, write func(b *bytes.Buffer) error) string {
	g.t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		g.t.Fatal(err)
	}
	p := filepath.Join(g.home, name)
	if err := os.WriteFile(p, b.Bytes(), 0o600); err != nil {
		g.t.Fatal(err)
	}
	return p
}

func (g *gnupg) bytes(name string, b []byte) string {
	g.t.Helper()
	return g.file(name, func(w *bytes.Buffer) error { _, err := w.Write(b); return err })
}

func TestRecord_IsVerifiedByGnuPG(t *testing.T) {
	anna := generate(t, "Anna")
	c, err := trust.Certify(anna, record(), now)
	if err != nil {
		t.Fatal(err)
	}
	g := newGnuPG(t)
	g.run("--import", g.file("anna.asc", func(b *bytes.Buffer) error { return pgp.Armor(b, anna.Certificate()) }))
	out := g.run("--status-fd", "1", "--verify", g.bytes("r.sig", c.Signature), g.bytes("r", c.Record))
	for _, want := range []string{"VALIDSIG " + pgp.Hex(anna.Certificate().Fingerprint()), "NOTATION_NAME device-record@sheaf-drive"} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is not in:\n%s", want, out)
		}
	}
}

func TestRecord_IsGoodForOneOwnerOneTextAndItsTime(t *testing.T) {
	anna, eve := generate(t, "Anna"), generate(t, "Eve")
	c, err := trust.Certify(anna, record(), now)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Check(anna.Certificate(), now)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(record(), got); d != "" {
		t.Errorf("the record (-want +got):\n%s", d)
	}
	if _, err := c.Check(eve.Certificate(), now); !errors.Is(err, pgp.ErrSignature) {
		t.Errorf("another owner: %v", err)
	}
	if _, err := c.Check(anna.Certificate(), now.Add(25*time.Hour)); !errors.Is(err, trust.ErrExpired) {
		t.Errorf("a day later: %v", err)
	}
	for i := range c.Record {
		bad := trust.Certified{Record: bytes.Clone(c.Record), Signature: c.Signature}
		bad.Record[i] ^= 1
		if _, err := bad.Check(anna.Certificate(), now); !errors.Is(err, pgp.ErrSignature) {
			t.Fatalf("byte %d is another: %v", i, err)
		}
	}
	// What Anna has signed for another purpose is no record, though its bytes are those of one.
	other, err := anna.Sign(c.Record, "other@sheaf-drive", "1", now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (trust.Certified{Record: c.Record, Signature: other}).Check(anna.Certificate(), now); !errors.Is(err, pgp.ErrSignature) {
		t.Errorf("another purpose: %v", err)
	}
	g := newGnuPG(t)
	g.run("--import", g.file("anna.key", func(b *bytes.Buffer) error { return anna.Export(b, []byte("pw")) }))
	g.run("--output", filepath.Join(g.home, "plain.sig"), "--detach-sign", g.bytes("r", c.Record))
	plain, err := os.ReadFile(filepath.Join(g.home, "plain.sig"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (trust.Certified{Record: c.Record, Signature: plain}).Check(anna.Certificate(), now); !errors.Is(err, pgp.ErrSignature) {
		t.Errorf("a signature by GnuPG, of the same bytes: %v", err)
	}
}

func TestSecret_GoesToGnuPGAndBack(t *testing.T) {
	anna := generate(t, "Anna")
	g := newGnuPG(t)
	g.run("--import", g.file("anna.key", func(b *bytes.Buffer) error { return anna.Export(b, []byte("pw")) }))
	out := g.run("--armor", "--export-secret-keys")
	text := out[strings.Index(out, "-----BEGIN"):]
	if _, err := pgp.ReadSecret(strings.NewReader(text), []byte("wrong")); !errors.Is(err, pgp.ErrPassphrase) {
		t.Errorf("a wrong passphrase: %v", err)
	}
	back, err := pgp.ReadSecret(strings.NewReader(text), []byte("pw"))
	if err != nil {
		t.Fatal(err)
	}
	if back.Certificate().Fingerprint() != anna.Certificate().Fingerprint() {
		t.Error("another key came back")
	}
	if _, err := trust.Certify(back, record(), now.Add(time.Minute)); err != nil {
		t.Errorf("what came back does not sign: %v", err)
	}
	if s := fmt.Sprintf("%v %+v %s %x", anna, anna, anna, anna); strings.Count(s, "[secret key ") != 4 {
		t.Errorf("it prints as %s", s)
	}
}

// TestWeb_OfKeysThatGnuPGMade lets GnuPG make B's key, which we sign as an introducer, and certify C's with it.
func TestWeb_OfKeysThatGnuPGMade(t *testing.T) {
	a, c, d := generate(t, "Anna"), generate(t, "Cleo"), generate(t, "Dora")
	g := newGnuPG(t)
	g.run("--quick-gen-key", "Bob <bob@b.example>", "ed25519", "sign", "never")
	g.run("--import", g.file("c.asc", func(b *bytes.Buffer) error { return pgp.Armor(b, c.Certificate(), d.Certificate()) }))
	g.run("--yes", "--quick-sign-key", pgp.Hex(c.Certificate().Fingerprint()))
	out := g.run("--armor", "--export")
	all, err := pgp.Read(strings.NewReader(out[strings.Index(out, "-----BEGIN"):]))
	if err != nil {
		t.Fatal(err)
	}
	var bob *pgp.Certificate
	for i, k := range all {
		if k.Name() == "Bob <bob@b.example>" {
			if bob, err = a.Certify(k, nil, pgp.Vouch{Depth: 1, Amount: wot.AmountFull, Domain: "a.example"}, now.Add(2*time.Minute)); err != nil {
				t.Fatal(err)
			}
			all[i] = bob
		}
	}
	web := func(all []*pgp.Certificate) wot.Web {
		var check pgp.Checker
		return wot.Compute(check.Keys(append(all, a.Certificate()), func(f wot.Fingerprint) wot.Owner {
			if f == a.Certificate().Fingerprint() {
				return wot.OwnerUltimate
			}
			return wot.OwnerUnknown
		}), wot.Defaults(), now.Unix()+300)
	}
	w := web(all)
	if v := w[c.Certificate().Fingerprint()].Validity; v != wot.Full {
		t.Errorf("whom Bob certifies is %s", v)
	}
	if p := w.Path(c.Certificate().Fingerprint()); len(p) != 2 || p[0].From != a.Certificate().Fingerprint() || p[1].From != bob.Fingerprint() {
		t.Errorf("the path is %v", p)
	}
	if v := w[d.Certificate().Fingerprint()].Validity; v != wot.Unknown {
		t.Errorf("whom nobody certifies is %s", v)
	}
	// GnuPG, who is told that A is ours, says the same.
	g.run("--import", g.file("b.asc", func(b *bytes.Buffer) error { return pgp.Armor(b, a.Certificate(), bob) }))
	g.run("--import-ownertrust", g.bytes("trust", fmt.Appendf(nil, "%s:6:\n%s:2:\n", pgp.Hex(a.Certificate().Fingerprint()), pgp.Hex(bob.Fingerprint()))))
	g.run("--check-trustdb")
	if out := g.run("--with-colons", "--list-keys", pgp.Hex(c.Certificate().Fingerprint())); !strings.Contains(out, "pub:f:") {
		t.Errorf("GnuPG says of C:\n%s", out)
	}
	// A withdraws it: nothing is left of C's validity.
	gone, err := a.Withdraw(bob, now.Add(3*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range all {
		if k == bob {
			all[i] = gone
		}
	}
	w = web(all)
	if b, c := w[bob.Fingerprint()].Validity, w[c.Certificate().Fingerprint()].Validity; b != wot.Unknown || c != wot.Unknown {
		t.Errorf("after A withdrew it, Bob is %s and C is %s", b, c)
	}
}

// FuzzDecode: what is read is written as the same bytes.
func FuzzDecode(f *testing.F) {
	b, err := record().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := trust.Decode(b)
		if err != nil {
			return
		}
		if again, err := r.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x was read, and is written as %x, %v", b, again, err)
		}
	})
}
