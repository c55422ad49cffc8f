package pgp_test

import (
	"bytes"
	"crypto"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/trust/pgp"
	"github.com/sheaf-drive/sheaf/sync/trust/wot"
)

// now is when all tests here are: GnuPG is told so.
const now = 1_700_000_000

const day = 86400

// born is when all keys were made.
const born = now - 1000*day

// gnupg is a home of GnuPG, at the time now.
type gnupg struct {
	t    testing.TB
	home string
	path string
}

func newGnuPG(t testing.TB) *gnupg {
	t.Helper()
	g := &gnupg{t: t, home: filepath.Join(t.TempDir(), "h"), path: testkit.Program(t, "gpg", "")}
	if err := os.Mkdir(g.home, 0o700); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *gnupg) run(args ...string) string {
	g.t.Helper()
	return testkit.Run(g.t, g.home, []string{"LC_ALL=C"}, g.path, append([]string{
		"--homedir", g.home, "--batch", "--no-tty", "--quiet", "--no-autostart", "--no-auto-check-trustdb", "--faked-system-time", fmt.Sprint(now) + "!",
	}, args...)...)
}

func (g *gnupg) file(name string, b []byte) string {
	g.t.Helper()
	p := filepath.Join(g.home, name)
	if err := os.WriteFile(p, b, 0o600); err != nil {
		g.t.Fatal(err)
	}
	return p
}

// validities returns what GnuPG shows of each key, "FINGERPRINT", and each user ID, "FINGERPRINT name", in letters.
func (g *gnupg) validities() map[string]string {
	g.t.Helper()
	out := map[string]string{}
	var key, letter string
	for line := range strings.SplitSeq(g.run("--with-colons", "--list-keys"), "\n") {
		f := strings.Split(line, ":")
		switch f[0] {
		case "pub":
			key, letter = "", f[1]
		case "fpr":
			if key == "" {
				key = f[9]
				out[key] = letter
			}
		case "uid":
			if letter != "r" && letter != "e" { // of those it shows the letter of the key
				out[key+" "+f[9]] = f[1]
			}
		}
	}
	return out
}

// letters returns the same of a web.
func letters(web wot.Web) map[string]string {
	of := map[wot.Validity]string{
		wot.Revoked: "r", wot.Expired: "e", wot.Unknown: "-", wot.Undefined: "q", wot.Marginal: "m", wot.Full: "f", wot.Ultimate: "u",
	}
	out := map[string]string{}
	for f, r := range web {
		key := pgp.Hex(f)
		out[key] = of[r.Validity]
		for _, n := range r.Names {
			if r.Validity != wot.Revoked && r.Validity != wot.Expired {
				out[key+" "+n.Text] = of[n.Validity]
			}
		}
	}
	return out
}

// pool makes keys, which take most of the time, once.
func pool(t testing.TB, n int) []*packet.PrivateKey {
	t.Helper()
	conf := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return time.Unix(born, 0) }}
	out := make([]*packet.PrivateKey, n)
	for i := range out {
		e, err := openpgp.NewEntity("x", "", "x@x.example", conf)
		if err != nil {
			t.Fatal(err)
		}
		out[i] = e.PrivateKey
	}
	return out
}

// maker makes graphs of keys by chance.
type maker struct {
	t testing.TB
	r *rand.Rand
}

func (m *maker) one(percent int) bool { return m.r.IntN(100) < percent }

func pick[T any](m *maker, all ...T) T { return all[m.r.IntN(len(all))] }

// sign makes a signature on a user ID.
func (m *maker) sign(by *packet.PrivateKey, sig *packet.Signature, name string, on *packet.PublicKey) []byte {
	m.t.Helper()
	sig.Version, sig.PubKeyAlgo, sig.Hash, sig.IssuerKeyId = 4, by.PubKeyAlgo, crypto.SHA512, &by.KeyId
	if err := sig.SignUserId(name, on, by, nil); err != nil {
		m.t.Fatal(err)
	}
	var b bytes.Buffer
	if err := sig.Serialize(&b); err != nil {
		m.t.Fatal(err)
	}
	return b.Bytes()
}

func secs(n uint32) *uint32 { return &n }

// self makes the signatures of a key on its user ID.
func (m *maker) self(k *packet.PrivateKey, name string, root bool) []byte {
	sig := &packet.Signature{
		SigType: packet.SigTypePositiveCert, CreationTime: time.Unix(born+int64(m.r.IntN(10)), 0),
		FlagsValid: true, FlagCertify: true, FlagSign: true,
	}
	if !root {
		switch {
		case m.one(4):
			sig.KeyLifetimeSecs = secs(uint32(m.r.IntN(999) * day)) // expired; 0 is never
		case m.one(10):
			sig.KeyLifetimeSecs = secs(2000 * day)
		}
		if m.one(4) {
			sig.SigLifetimeSecs = secs(100 * day)
		}
	}
	out := m.sign(k, sig, name, &k.PublicKey)
	if m.one(6) && !root {
		out = append(out, m.sign(k, &packet.Signature{SigType: packet.SigTypeCertificationRevocation, CreationTime: time.Unix(born+int64(m.r.IntN(20)), 0)}, name, &k.PublicKey)...)
	}
	return out
}

// cert makes a certification by one key of a user ID of another, of any kind there is.
func (m *maker) cert(by *packet.PrivateKey, name string, on *packet.PublicKey) []byte {
	at := born + int64(100+m.r.IntN(5))*day
	switch {
	case m.one(2):
		at = born - day
	case m.one(2):
		at = now + day
	}
	sig := &packet.Signature{
		SigType:      pick(m, packet.SigTypeGenericCert, packet.SigTypeGenericCert, packet.SigTypeCasualCert, packet.SigTypePositiveCert, packet.SigTypePositiveCert),
		CreationTime: time.Unix(at, 0),
	}
	switch {
	case m.one(5):
		sig.SigType = packet.SigTypePersonaCert
	case m.one(6):
		sig.SigType = packet.SigTypeCertificationRevocation
	}
	switch {
	case m.one(5):
		sig.SigLifetimeSecs = secs(uint32(1 + m.r.IntN(100*day)))
	case m.one(10):
		sig.SigLifetimeSecs = secs(2000 * day)
	}
	if m.one(55) && sig.SigType != packet.SigTypeCertificationRevocation {
		sig.TrustLevel = packet.TrustLevel(1 + m.r.IntN(4))
		sig.TrustAmount = packet.TrustAmount(pick(m, 0, 1, 59, 60, 60, 60, 119, 120, 120, 120, 255))
		if m.one(15) {
			scope := pick(m, `<[^>]+[@.]a\.example>$`, `<[^>]+[@.]b.example>$`, `A.EXAMPLE`, `<[^>]+[@.]example>$`, `c\.example`, `k1`, ``, `[ab]`, `(x`)
			sig.TrustRegularExpression = &scope
		}
	}
	if m.one(8) && sig.SigType != packet.SigTypeCertificationRevocation {
		return m.final(by, sig, name, on)
	}
	return m.sign(by, sig, name, on)
}

// graph makes one graph of keys, as GnuPG and we read it, and says how far each owner is trusted.
func (m *maker) graph(keys []*packet.PrivateKey, owner map[wot.Fingerprint]wot.Owner) []byte {
	roots := pick(m, 1, 1, 1, 2)
	density := pick(m, 15, 25, 40, 60)
	chain := m.one(50) // of those that go on from root to root
	var out bytes.Buffer
	for i, k := range keys {
		root := i < roots
		switch {
		case root:
			owner[wot.Fingerprint(k.Fingerprint)] = wot.OwnerUltimate
		default:
			owner[wot.Fingerprint(k.Fingerprint)] = pick(m, wot.OwnerUnknown, wot.OwnerUnknown, wot.OwnerUnknown, wot.OwnerUndefined, wot.OwnerNever,
				wot.OwnerMarginal, wot.OwnerMarginal, wot.OwnerMarginal, wot.OwnerFull, wot.OwnerFull)
		}
		if err := k.PublicKey.Serialize(&out); err != nil {
			m.t.Fatal(err)
		}
		if m.one(4) && !root {
			sig := &packet.Signature{
				Version: 4, SigType: packet.SigTypeKeyRevocation, PubKeyAlgo: k.PubKeyAlgo, Hash: crypto.SHA512, IssuerKeyId: &k.KeyId,
				CreationTime: time.Unix(now-day, 0), RevocationReason: new(packet.ReasonForRevocation),
			}
			if err := sig.RevokeKey(&k.PublicKey, k, nil); err != nil {
				m.t.Fatal(err)
			}
			if err := sig.Serialize(&out); err != nil {
				m.t.Fatal(err)
			}
		}
		for u := range pick(m, 1, 1, 2, 3) {
			name := fmt.Sprintf("K%d n%d <k%d-%d@%s.example>", i, u, i, u, pick(m, "a", "b", "sub.a", "c"))
			if err := packet.NewUserId(fmt.Sprintf("K%d n%d", i, u), "", strings.TrimSuffix(name[strings.Index(name, "<")+1:], ">")).Serialize(&out); err != nil {
				m.t.Fatal(err)
			}
			out.Write(m.self(k, name, root))
			for j, by := range keys {
				likely := density
				if chain && j != i-1 {
					likely = 8
				} else if chain {
					likely = 85
				}
				for m.one(likely) && i != j {
					out.Write(m.cert(by, name, &k.PublicKey))
					likely = 25 // and sometimes another one
				}
			}
		}
	}
	return out.Bytes()
}

// TestWeb_AgreesWithGnuPG is T-WOT: it makes graphs of keys by chance, and holds each validity against GnuPG's trust database. SHEAF_GRAPHS says how many; SHEAF_LONG=1 means 10,000.
func TestWeb_AgreesWithGnuPG(t *testing.T) {
	otherwise := uint64(120)
	if os.Getenv("SHEAF_LONG") != "" {
		otherwise = 10_000
	}
	left := int(testkit.Environ(t, "SHEAF_GRAPHS", otherwise))
	m := &maker{t: t, r: testkit.Rand(testkit.Seed(t))}
	keys := pool(t, 100) // GnuPG looks for keys one after another, so that many in one home take long
	seen := map[string]int{}
	graphs := 0
	longest := 0
	for left > 0 {
		owner := map[wot.Fingerprint]wot.Owner{}
		var all []byte
		for at := 0; left > 0; {
			n := 3 + m.r.IntN(9)
			if at+n > len(keys) {
				break
			}
			all = append(all, m.graph(keys[at:at+n], owner)...)
			at, left, graphs = at+n, left-1, graphs+1
		}
		certs, err := pgp.Read(bytes.NewReader(all))
		if err != nil {
			t.Fatal(err)
		}
		var check pgp.Checker
		web := wot.Compute(check.Keys(certs, func(f wot.Fingerprint) wot.Owner { return owner[f] }), wot.Defaults(), now)

		g := newGnuPG(t)
		var trust strings.Builder
		for f, o := range owner {
			if o != wot.OwnerUnknown {
				fmt.Fprintf(&trust, "%s:%d:\n", pgp.Hex(f), o)
			}
		}
		g.file("pubring.gpg", all) // its old format is keys in a row; --import takes minutes for as many
		g.run("--import-ownertrust", g.file("trust", []byte(trust.String())))
		g.run("--check-trustdb")
		want, got := g.validities(), letters(web)
		for _, l := range want {
			seen[l]++
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("GnuPG (-) and we (+) differ:\n%s", d)
		}
		for f, r := range web {
			p := web.Path(f)
			longest = max(longest, len(p))
			if (len(p) > 0) != (r.Validity > wot.Unknown && r.Validity != wot.Ultimate) {
				t.Fatalf("%s is %s, by %d steps", pgp.Hex(f), r.Validity, len(p))
			}
		}
		if err := os.RemoveAll(g.home); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d graphs, validities %v, longest path %d", graphs, seen, longest)
	for _, l := range []string{"r", "e", "-", "q", "m", "f", "u"} {
		if seen[l] == 0 {
			t.Errorf("no key was ever %q: the graphs test too little", l)
		}
	}
}
