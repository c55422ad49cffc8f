package pgp_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/trust/pgp"
	"github.com/sheaf-drive/sheaf/sync/trust/wot"
)

// bare makes a key with one user ID, its own signature on it, and more signatures.
func (m *maker) bare(k *packet.PrivateKey, name string, more ...[]byte) []byte {
	m.t.Helper()
	var b bytes.Buffer
	if err := errors.Join(k.PublicKey.Serialize(&b), packet.NewUserId(name, "", "").Serialize(&b)); err != nil {
		m.t.Fatal(err)
	}
	b.Write(m.sign(k, &packet.Signature{SigType: packet.SigTypePositiveCert, CreationTime: time.Unix(born, 0), FlagsValid: true, FlagCertify: true}, name, &k.PublicKey))
	return append(b.Bytes(), bytes.Join(more, nil)...)
}

func read(t *testing.T, b []byte) []*pgp.Certificate {
	t.Helper()
	all, err := pgp.Read(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func bytesOf(t *testing.T, c *pgp.Certificate) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := c.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestMerge_KeepsWhatEitherHas(t *testing.T) {
	m := &maker{t: t, r: testkit.Rand(testkit.Seed(t))}
	keys := pool(t, 3)
	me, a, b := keys[0], keys[1], keys[2]
	sig := func(by *packet.PrivateKey, kind packet.SignatureType, at int64) []byte {
		return m.sign(by, &packet.Signature{SigType: kind, CreationTime: time.Unix(born+at, 0)}, "me", &me.PublicKey)
	}
	first := m.bare(me, "me", sig(a, packet.SigTypeGenericCert, 1)) // made once: there is chance in each signature
	one := read(t, first)[0]
	two := read(t, append(bytes.Clone(first), bytes.Join([][]byte{sig(a, packet.SigTypeCertificationRevocation, 2), sig(b, packet.SigTypeGenericCert, 3)}, nil)...))[0]
	got, err := pgp.Merge(one, two)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(bytesOf(t, got), bytesOf(t, two)) {
		t.Error("one into two is not two, which has all")
	}
	others := read(t, append(m.bare(a, "a"), m.bare(b, "b")...))
	var check pgp.Checker
	k := check.Keys(append(others, got), func(wot.Fingerprint) wot.Owner { return 0 })[2]
	if n := len(k.UserIDs[0].Certs); n != 3 {
		t.Errorf("%d certifications, want 3", n)
	}
	if again, err := pgp.Merge(got, one); err != nil || !bytes.Equal(bytesOf(t, again), bytesOf(t, got)) {
		t.Errorf("what is known changes something: %v", err)
	}
}

// A user ID that its owner has revoked stays, and stays revoked, in whatever order its signatures are: who then comes with the key as it was before brings it back for nobody.
func TestMerge_ARevokedUserIDStaysRevoked(t *testing.T) {
	m := &maker{t: t, r: testkit.Rand(testkit.Seed(t))}
	me := pool(t, 1)[0]
	own := func(name string, kind packet.SignatureType, at int64) []byte {
		return m.sign(me, &packet.Signature{SigType: kind, CreationTime: time.Unix(born+at, 0), FlagsValid: true, FlagCertify: true}, name, &me.PublicKey)
	}
	var id bytes.Buffer
	if err := packet.NewUserId("old", "", "").Serialize(&id); err != nil {
		t.Fatal(err)
	}
	cert, gone := own("old", packet.SigTypePositiveCert, 0), own("old", packet.SigTypeCertificationRevocation, 9)
	head := m.bare(me, "me")
	key := func(sigs ...[]byte) *pgp.Certificate {
		return read(t, bytes.Join([][]byte{head, id.Bytes(), bytes.Join(sigs, nil)}, nil))[0]
	}
	for _, order := range [][][]byte{{cert, gone}, {gone, cert}} {
		got, err := pgp.Merge(key(order...), key(cert))
		if err != nil {
			t.Fatal(err)
		}
		var check pgp.Checker
		ids := check.Keys([]*pgp.Certificate{got}, func(wot.Fingerprint) wot.Owner { return 0 })[0].UserIDs
		if len(ids) != 2 || ids[0].Revoked || !ids[1].Revoked {
			t.Errorf("of two user IDs, of which the second is revoked, there are %+v", ids)
		}
	}
}

func TestRead_TakesOnlyWhatTheKeySays(t *testing.T) {
	m := &maker{t: t, r: testkit.Rand(testkit.Seed(t))}
	keys := pool(t, 2)
	foreign := append(bytes.Clone(m.bare(keys[0], "me")), m.bare(keys[1], "x")[len(headOf(t, keys[1])):]...) // the user ID of another key, with its signature
	all := read(t, foreign)
	if got := all[0].UserIDs(); len(got) != 1 || got[0] != "me" {
		t.Errorf("user IDs %q", got)
	}
	if _, err := pgp.Read(bytes.NewReader(headOf(t, keys[0]))); !errors.Is(err, pgp.ErrUnusable) {
		t.Errorf("a key without user IDs: %v", err)
	}
	var secret bytes.Buffer
	if err := keys[0].Serialize(&secret); err != nil {
		t.Fatal(err)
	}
	if _, err := pgp.Read(&secret); !errors.Is(err, pgp.ErrSecret) {
		t.Errorf("a secret key: %v", err)
	}
	// A certification is good for the key and the name it was made for.
	cert := m.sign(keys[1], &packet.Signature{SigType: packet.SigTypeGenericCert, CreationTime: time.Unix(born, 0)}, "other", &keys[0].PublicKey)
	var check pgp.Checker
	for _, k := range check.Keys(read(t, append(m.bare(keys[0], "me", cert), m.bare(keys[1], "x")...)), func(wot.Fingerprint) wot.Owner { return 0 }) {
		if len(k.UserIDs[0].Certs) != 0 {
			t.Error("a certification of another name counts")
		}
	}
	for _, text := range []string{"", "no key", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!\n"} {
		if _, err := pgp.Read(strings.NewReader(text)); err == nil {
			t.Errorf("%q is a key", text)
		}
	}
}

func headOf(t *testing.T, k *packet.PrivateKey) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := k.PublicKey.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestArmor_IsReadByGnuPG has GnuPG import what we write, and us read what it exports.
func TestArmor_IsReadByGnuPG(t *testing.T) {
	m := &maker{t: t, r: testkit.Rand(testkit.Seed(t))}
	keys := pool(t, 5)
	owner := map[wot.Fingerprint]wot.Owner{}
	all := read(t, m.graph(keys, owner))
	var b bytes.Buffer
	if err := pgp.Armor(&b, all...); err != nil {
		t.Fatal(err)
	}
	g := newGnuPG(t)
	g.run("--import", g.file("keys.asc", b.Bytes()))
	out := g.run("--armor", "--export")
	again := read(t, []byte(out[strings.Index(out, "-----BEGIN"):]))
	if len(again) != len(all) {
		t.Fatalf("%d keys came back of %d", len(again), len(all))
	}
	var one, two pgp.Checker
	of := func(f wot.Fingerprint) wot.Owner { return owner[f] }
	want, got := letters(wot.Compute(one.Keys(all, of), wot.Defaults(), now)), letters(wot.Compute(two.Keys(again, of), wot.Defaults(), now))
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s was %s, is %s", k, v, got[k])
		}
	}
}

// FuzzRead: whatever the bytes, what is read can be written and read again, and is the same.
func FuzzRead(f *testing.F) {
	m := &maker{t: f, r: testkit.Rand(1)}
	keys := pool(f, 3)
	graph := m.graph(keys, map[wot.Fingerprint]wot.Owner{})
	f.Add(graph)
	var text bytes.Buffer
	w, err := armor.Encode(&text, "PGP PUBLIC KEY BLOCK", nil)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := w.Write(graph); err != nil {
		f.Fatal(err)
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(text.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 20_000 {
			return
		}
		all, err := pgp.Read(bytes.NewReader(b))
		if err != nil {
			return
		}
		var check pgp.Checker
		check.Keys(all, func(wot.Fingerprint) wot.Owner { return wot.OwnerFull })
		for _, c := range all {
			was := bytesOf(t, c)
			again := read(t, was)
			if len(again) != 1 || !bytes.Equal(bytesOf(t, again[0]), was) {
				t.Fatal("what was read is not what was written")
			}
			if two, err := pgp.Merge(c, again[0]); err != nil || len(two.UserIDs()) > len(c.UserIDs()) {
				t.Fatalf("a key merged with itself: %v", err)
			}
		}
	})
}

// TestKeys_SayWhatCannotBeRevoked also shows that GnuPG takes the signatures that are made by hand here for good ones.
func TestKeys_SayWhatCannotBeRevoked(t *testing.T) {
	m := &maker{t: t, r: testkit.Rand(testkit.Seed(t))}
	keys := pool(t, 2)
	me, b := keys[0], keys[1]
	final := m.final(me, &packet.Signature{SigType: packet.SigTypeGenericCert, CreationTime: time.Unix(born+1, 0)}, "b", &b.PublicKey)
	revoke := m.sign(me, &packet.Signature{SigType: packet.SigTypeCertificationRevocation, CreationTime: time.Unix(born+2, 0)}, "b", &b.PublicKey)
	all := append(m.bare(me, "me"), m.bare(b, "b", final, revoke)...)
	owner := func(f wot.Fingerprint) wot.Owner {
		if f == wot.Fingerprint(me.Fingerprint) {
			return wot.OwnerUltimate
		}
		return wot.OwnerUnknown
	}
	var check pgp.Checker
	ring := check.Keys(read(t, all), owner)
	if certs := ring[1].UserIDs[0].Certs; len(certs) != 2 || !certs[0].Final || certs[1].Final {
		t.Fatalf("it was read as %+v", certs)
	}
	g := newGnuPG(t)
	g.file("pubring.gpg", all)
	g.run("--import-ownertrust", g.file("trust", []byte(pgp.Hex(wot.Fingerprint(me.Fingerprint))+":6:\n")))
	g.run("--check-trustdb")
	want, got := g.validities(), letters(wot.Compute(ring, wot.Defaults(), now))
	if f := pgp.Hex(wot.Fingerprint(b.Fingerprint)); want[f] != "f" || got[f] != "f" {
		t.Errorf("what cannot be revoked, and was, is %q to GnuPG and %q to us", want[f], got[f])
	}
}
