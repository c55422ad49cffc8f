package merge

import (
	"strings"
	"testing"
)

var placeNames = []Names{
	{},
	{Fold: true},
	{Normal: true},
	{Fold: true, Normal: true},
	{Windows: true},
	{Windows: true, Fold: true},
	{UTF8: true},
	{Bad: "#?", UTF8: true},
	{Windows: true, Fold: true, Normal: true, UTF8: true},
}

func checkName(t *testing.T, name string) {
	for _, n := range placeNames {
		for _, apart := range []bool{false, true} {
			enc, ok := n.Encode(name, apart)
			if !ok {
				continue
			}
			if got := n.Decode(enc); got != name {
				t.Errorf("%+v: %q is %q there, and that is %q", n, name, enc, got)
			}
			if strings.ContainsAny(enc, "/") || enc == "" || n.Windows && (strings.ContainsAny(enc, windows) || isDevice(enc)) {
				t.Errorf("%+v: %q is %q there, which it cannot be", n, name, enc)
			}
			if apart && (n.Fold || n.Normal) && n.slot(enc) == n.slot(name) {
				t.Errorf("%+v: %q is set apart as %q, which is the same", n, name, enc)
			}
		}
	}
}

func TestNames_AreReversible(t *testing.T) {
	for _, name := range []string{
		"a", "A", "é", "é", "d:e", "nul", "NUL.txt", "con .x", "com¹", "LPT9.a.b", "aux", "q.", "q ", ".", "..x", "a％3Ab", "％", "％％", "％25", "％2525", "％3", "a\x01b",
		"x\xff", "\xff\xfe", "{0}", "a {deadbeef}", "a {deadbeef}.txt", "a {e40c292c}", "x.tar.gz", "what?", "#1", "ſ", "K", "ß", "İ", "ı", ".hidden", "a.b c",
		strings.Repeat("x", 250), strings.Repeat("é", 127),
	} {
		checkName(t, name)
		for _, n := range placeNames { // also of what is in the form already
			for _, apart := range []bool{false, true} {
				enc, _ := n.Encode(name, apart)
				checkName(t, enc)
			}
		}
	}
}

func TestNames_EscapeWhatAPlaceCannotHave(t *testing.T) {
	n := Names{Windows: true}
	for name, want := range map[string]string{
		"nul": "％6Eul", "CON.txt": "％43ON.txt", "lpt1": "％6Cpt1", "a:b": "a％3Ab", "q.": "q％2E", "q ": "q％20", "a\x1f": "a％1F", "COM0": "COM0", "console": "console", "％3A": "％253A",
	} {
		if got, ok := n.Encode(name, false); got != want || !ok {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func FuzzName(f *testing.F) {
	f.Add("a")
	f.Add("％3A {00000000}.x")
	f.Fuzz(func(t *testing.T, name string) {
		if name == "" || strings.ContainsAny(name, "/\x00") {
			t.Skip()
		}
		checkName(t, name)
	})
}

// FuzzPlan makes schedules of bytes.
func FuzzPlan(f *testing.F) {
	f.Add(uint64(1), []byte("usus"))
	f.Fuzz(func(t *testing.T, seed uint64, order []byte) {
		sc := newSchedule(seed)
		var actions []action
		for i, b := range order[:min(len(order), 24)] {
			a := sc.actions[i%len(sc.actions)]
			a.kind = 'u'
			if b%4 == 0 {
				a.kind = 's'
			}
			a.a[3] += uint32(b)
			a.a[4] ^= uint32(b) << 3
			actions = append(actions, a)
		}
		sc.actions = actions
		if _, err := sc.run(false); err != nil {
			w, err := sc.shrink().run(true)
			t.Errorf("%v\n%s\n%s", err, describe(w), lines(w.said))
		}
	})
}
