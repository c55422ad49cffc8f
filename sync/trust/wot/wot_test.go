package wot_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/sync/trust/wot"
)

const now = 1_000_000

// key makes a key with one user ID and the certifications on it.
func key(name string, owner wot.Owner, certs ...wot.Cert) wot.Key {
	return wot.Key{
		Fingerprint: wot.Fingerprint(name), Owner: owner, Created: 1,
		UserIDs: []wot.UserID{{Name: name + " <" + name + "@a.example>", Created: 1, Certs: certs}},
	}
}

func by(name string) wot.Cert { return wot.Cert{By: wot.Fingerprint(name), Time: 10} }

func trust(name string, depth, amount uint8) wot.Cert {
	return wot.Cert{By: wot.Fingerprint(name), Time: 10, Depth: depth, Amount: amount}
}

func compute(keys ...wot.Key) wot.Web { return wot.Compute(keys, wot.Defaults(), now) }

func TestCompute_SaysWhyAKeyIsValid(t *testing.T) {
	w := compute(key("me", wot.OwnerUltimate), key("b", wot.OwnerUnknown, trust("me", 1, wot.AmountFull)), key("c", wot.OwnerUnknown, by("b")), key("d", wot.OwnerUnknown, by("c")))
	if got := w["c"].Validity; got != wot.Full {
		t.Errorf("whom a full introducer certifies is %s", got)
	}
	if got := w["d"].Validity; got != wot.Undefined {
		t.Errorf("whom one certifies whose owner is not trusted is %s", got)
	}
	want := []wot.Link{
		{From: "me", To: "b", Name: "b <b@a.example>", Owner: wot.OwnerUltimate, Cert: trust("me", 1, wot.AmountFull)},
		{From: "b", To: "c", Name: "c <c@a.example>", Owner: wot.OwnerFull, Cert: by("b")},
	}
	if d := cmp.Diff(want, w.Path("c")); d != "" {
		t.Errorf("the path (-want +got):\n%s", d)
	}
	if p := w.Path("me"); p != nil {
		t.Errorf("a root has the path %v", p)
	}
	if p := w.Path("nobody"); p != nil {
		t.Errorf("a key that is not there has the path %v", p)
	}
}

func TestCompute_ARevocationEndsWhatHangsOnIt(t *testing.T) {
	revoked := key("b", wot.OwnerUnknown, trust("me", 1, wot.AmountFull), wot.Cert{By: "me", Time: 20, Revocation: true})
	w := compute(key("me", wot.OwnerUltimate), revoked, key("c", wot.OwnerUnknown, by("b")))
	if w["b"].Validity != wot.Unknown || w["c"].Validity != wot.Unknown {
		t.Errorf("b is %s, c is %s", w["b"].Validity, w["c"].Validity)
	}
	gone := key("b", wot.OwnerUnknown, trust("me", 1, wot.AmountFull))
	gone.Revoked = true
	w = compute(key("me", wot.OwnerUltimate), gone, key("c", wot.OwnerUnknown, by("b")))
	if w["b"].Validity != wot.Revoked || w["c"].Validity != wot.Unknown {
		t.Errorf("b is %s, c is %s", w["b"].Validity, w["c"].Validity)
	}
}

// GnuPG 2.2 lets these introduce.
func TestCompute_ARootThatIsOverIntroducesNobody(t *testing.T) {
	revoked, expired := key("me", wot.OwnerUltimate), key("me", wot.OwnerUltimate)
	revoked.Revoked, expired.Expires = true, now-1
	for want, root := range map[wot.Validity]wot.Key{wot.Revoked: revoked, wot.Expired: expired} {
		w := compute(root, key("b", wot.OwnerUnknown, by("me")))
		if w["me"].Validity != want || w["b"].Validity != wot.Unknown {
			t.Errorf("the root is %s, and whom it certified %s", w["me"].Validity, w["b"].Validity)
		}
	}
}

func TestCompute_OfSeveralCertificationsByOneKeyOneCounts(t *testing.T) {
	c := func(time int64, change func(*wot.Cert)) wot.Cert {
		x := by("me")
		x.Time = time
		if change != nil {
			change(&x)
		}
		return x
	}
	revoke := func(x *wot.Cert) { x.Revocation = true }
	final := func(x *wot.Cert) { x.Final = true }
	over := func(x *wot.Cert) { x.Expires = now }
	finalAndOver := func(x *wot.Cert) { x.Final, x.Expires = true, now }
	persona := func(x *wot.Cert) { x.Persona = true }
	for what, tt := range map[string]struct {
		certs []wot.Cert
		want  wot.Validity
	}{
		"a newer revocation":                       {[]wot.Cert{c(10, nil), c(20, revoke)}, wot.Unknown},
		"an older revocation":                      {[]wot.Cert{c(20, nil), c(10, revoke)}, wot.Full},
		"of one time, the last":                    {[]wot.Cert{c(10, revoke), c(10, nil)}, wot.Full},
		"of one time, the last, which revokes":     {[]wot.Cert{c(10, nil), c(10, revoke)}, wot.Unknown},
		"a newer one that has expired":             {[]wot.Cert{c(10, nil), c(20, over)}, wot.Unknown},
		"a revocation of what cannot be revoked":   {[]wot.Cert{c(10, final), c(20, revoke)}, wot.Full},
		"the same, the other way round":            {[]wot.Cert{c(20, revoke), c(10, final)}, wot.Full},
		"a revocation of that when it has expired": {[]wot.Cert{c(10, finalAndOver), c(20, revoke)}, wot.Unknown},
		"a persona":                                 {[]wot.Cert{c(10, persona)}, wot.Unknown},
		"one from before the key":                   {[]wot.Cert{c(0, nil)}, wot.Unknown},
		"one from the future":                       {[]wot.Cert{c(now+10, nil)}, wot.Full},
		"a revocation before a persona, which is 0": {[]wot.Cert{c(10, nil), c(20, revoke), c(30, persona)}, wot.Unknown},
	} {
		if got := compute(key("me", wot.OwnerUltimate), key("b", wot.OwnerUnknown, tt.certs...))["b"].Validity; got != tt.want {
			t.Errorf("%s: it is %s, want %s", what, got, tt.want)
		}
	}
}

func TestCompute_ThreeMarginalOwnersAreEnough(t *testing.T) {
	keys := []wot.Key{key("me", wot.OwnerUltimate)}
	for _, n := range []string{"x", "y", "z"} {
		keys = append(keys, key(n, wot.OwnerMarginal, by("me")))
	}
	two, three := key("two", wot.OwnerUnknown, by("x"), by("y")), key("three", wot.OwnerUnknown, by("x"), by("y"), by("z"))
	w := compute(append(keys, two, three)...)
	if w["two"].Validity != wot.Marginal || w["three"].Validity != wot.Full {
		t.Errorf("two make %s, three make %s", w["two"].Validity, w["three"].Validity)
	}
	if n := len(w["three"].Names[0].Steps); n != 3 {
		t.Errorf("%d reasons", n)
	}
}

func TestCompute_GoesFiveRoundsAtMost(t *testing.T) {
	keys := []wot.Key{key("0", wot.OwnerUltimate)}
	for i := 1; i < 8; i++ {
		keys = append(keys, key(fmt.Sprint(i), wot.OwnerFull, by(fmt.Sprint(i-1))))
	}
	w := compute(keys...)
	if w["5"].Validity != wot.Full || w["6"].Validity != wot.Unknown {
		t.Errorf("the fifth is %s, the sixth %s", w["5"].Validity, w["6"].Validity)
	}
	if n := len(w.Path("5")); n != 5 {
		t.Errorf("the path has %d steps", n)
	}
}

// Two user IDs may become valid in different rounds, by each other's keys; a path ends all the same.
func TestPath_EndsWhereKeysCertifyEachOther(t *testing.T) {
	b := key("b", wot.OwnerFull)
	b.UserIDs = append([]wot.UserID{{Name: "late", Created: 1, Certs: []wot.Cert{by("c")}}}, wot.UserID{Name: "early", Created: 1, Certs: []wot.Cert{by("me")}})
	w := compute(key("me", wot.OwnerUltimate), b, key("c", wot.OwnerFull, by("b")))
	var got []wot.Fingerprint
	for _, l := range w.Path("b") {
		got = append(got, l.To)
	}
	if want := []wot.Fingerprint{"b", "c", "b"}; !slices.Equal(got, want) {
		t.Errorf("the path goes to %q, want %q", got, want)
	}
}

func TestInScope_TakesTheTwoFormsThereAre(t *testing.T) {
	const id = "Anna <anna@mail.a.example>"
	for scope, want := range map[string]bool{
		`<[^>]+[@.]a\.example>$`: true, `<[^>]+[@.]A.EXAMPLE>$`: true, `<[^>]+[@.]example>$`: true, `<[^>]+[@.]b\.example>$`: false, `<[^>]+[@.]l.a.example>$`: false,
		`<[^>]+[@.]anna@mail.a.example>$`: false, `a.example`: true, `A\.example`: true, ``: true, `.`: true, `^a`: false, `anna|x`: false, `a\`: false, `\w`: false, `[ab]`: false,
	} {
		if got := wot.InScope(scope, id); got != want {
			t.Errorf("%q: got %v, want %v", scope, got, want)
		}
	}
	// Some programs take the sign for one kelvin for a K.
	if wot.InScope(`bank`, "ban\u212a") {
		t.Error("only ASCII letters are alike")
	}
}

// FuzzCompute: whatever the graph, it ends, does the same again, and what is valid has a way from a root.
func FuzzCompute(f *testing.F) {
	f.Add([]byte{6, 0, 5, 1, 0, 1, 120, 4, 2, 1, 0, 0})
	f.Add([]byte{6, 6, 6, 3, 0, 2, 255, 5, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 400 {
			return
		}
		const n = 6
		keys := make([]wot.Key, n)
		at := func(i int) byte {
			if i < len(b) {
				return b[i]
			}
			return 0
		}
		for i := range keys {
			o := wot.Owner(at(i) % 7)
			if o == 1 {
				o = 0
			}
			keys[i] = wot.Key{
				Fingerprint: wot.Fingerprint(fmt.Sprint(i)), Owner: o, Created: 1, Revoked: at(i)&0x80 != 0,
				UserIDs: []wot.UserID{{Name: "a", Created: 1}, {Name: "b", Created: 1, Revoked: at(i)&0x40 != 0}},
			}
		}
		for i := n; i+3 < len(b); i += 4 {
			to := &keys[b[i]%n].UserIDs[b[i]>>7]
			to.Certs = append(to.Certs, wot.Cert{
				By: wot.Fingerprint(fmt.Sprint(b[i+1] % n)), Time: int64(b[i+1] >> 4), Depth: b[i+2] & 3, Amount: b[i+3], Revocation: b[i+2]&4 != 0, Final: b[i+2]&8 != 0,
				Expires: map[byte]int64{0: 0, 16: 1, 32: math.MaxInt64}[b[i+2]&48], Scoped: b[i+2]&64 != 0, Scope: "a",
			})
		}
		w := wot.Compute(keys, wot.Defaults(), now)
		if d := cmp.Diff(w, wot.Compute(keys, wot.Defaults(), now), cmp.AllowUnexported(wot.Result{}, wot.Name{})); d != "" {
			t.Fatalf("the same keys, another result:\n%s", d)
		}
		for f, r := range w {
			p := w.Path(f)
			if r.Validity == wot.Full || r.Validity == wot.Marginal {
				if len(p) == 0 || w[p[0].From].Validity != wot.Ultimate || p[len(p)-1].To != f || len(p) > 5 {
					t.Fatalf("%q is %s by %v", f, r.Validity, p)
				}
			}
			for i := 1; i < len(p); i++ {
				if p[i].From != p[i-1].To {
					t.Fatalf("the path %v has a gap", p)
				}
			}
		}
	})
}

// FuzzInScope: it ends, and a scope of a domain takes no address of another.
func FuzzInScope(f *testing.F) {
	f.Add(`<[^>]+[@.]a\.example>$`, "x <x@a.example>")
	f.Add(`a\`, "a")
	f.Fuzz(func(t *testing.T, scope, id string) {
		if len(scope)+len(id) > 500 {
			return
		}
		wot.InScope(scope, id)
		if wot.InScope(`<[^>]+[@.]a\.example>$`, id+"@b.example>") {
			t.Fatalf("%q is in another domain", id)
		}
	})
}
