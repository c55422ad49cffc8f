package winfsp

import (
	"bufio"
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs"
)

// corpusFile has names of trees, one a line, as Go quotes them, and after a tab how each is shown.
const corpusFile = "testdata/names.txt"

var rewrite = flag.Bool("rewrite", false, "write anew how the names of the corpus are shown")

type pair struct{ name, shown string }

func corpus(t testing.TB) []pair {
	t.Helper()
	f, err := os.Open(corpusFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []pair
	for lines := bufio.NewScanner(f); lines.Scan(); {
		left, right, _ := strings.Cut(lines.Text(), "\t")
		name, err := strconv.Unquote(left)
		if err != nil {
			t.Fatalf("%s: %v", left, err)
		}
		shown, err := strconv.Unquote(right)
		if err != nil && !*rewrite {
			t.Fatalf("%s: %v", right, err)
		}
		all = append(all, pair{name, shown})
	}
	return all
}

// The rules of "Naming Files, Paths, and Namespaces" in Microsoft's documentation, written down a second time.
var (
	badCharacter = regexp.MustCompile(`[\x00-\x1f<>:"/\\|?*]`)
	badEnd       = regexp.MustCompile(`[ .]$`)
	badDevice    = regexp.MustCompile(`(?i)^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$|clock\$) *(\.|$)`)
)

// bearable says why Windows cannot bear a name; "" if it can.
func bearable(shown string) string {
	switch {
	case !utf8.ValidString(shown):
		return "no UTF-8"
	case shown == "":
		return "empty"
	case badCharacter.MatchString(shown):
		return "a forbidden character"
	case badEnd.MatchString(shown):
		return "a space or dot at the end"
	case badDevice.MatchString(shown):
		return "a device"
	case len(utf16.Encode([]rune(shown))) > 255:
		return "too long"
	}
	return ""
}

// checkDir checks the map of the names of one directory.
func checkDir(names []string) error {
	shown := EncodeAll(names)
	taken := map[string]string{}
	for i, name := range names {
		w := shown[i]
		if why := bearable(w); why != "" {
			return fmt.Errorf("%q is shown as %q: %s", name, w, why)
		}
		key := strings.ToLower(Fold(w)) // any further folding of what is folded must not bring two together
		if other, ok := taken[key]; ok {
			return fmt.Errorf("%q and %q are both shown as %q", other, name, w)
		}
		taken[key] = name
		back, exact, ok := Decode(w)
		if back != name || !ok {
			return fmt.Errorf("%q is shown as %q, which is %q, %t", name, w, back, ok)
		}
		if plain := Encode(name); exact != (plain != w) {
			return fmt.Errorf("%q is shown as %q, by itself as %q, and exact is %t", name, w, plain, exact)
		}
		if got, want := len(utf16.Encode([]rune(w))), len(name); got > want {
			return fmt.Errorf("%q has %d bytes, and is shown by %d units", name, want, got)
		}
	}
	return nil
}

func TestNames_OfTheCorpus(t *testing.T) {
	all := corpus(t)
	if len(all) < 500 {
		t.Errorf("%d names are too few", len(all))
	}
	if *rewrite {
		var out strings.Builder
		for _, p := range all {
			fmt.Fprintf(&out, "%+q\t%+q\n", p.name, Encode(p.name))
		}
		if err := os.WriteFile(corpusFile, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Fatal("written; look at what changed")
	}
	names := map[string]bool{}
	for _, p := range all {
		if err := vfs.CheckName(p.name); err != nil {
			t.Errorf("%q is no name of a tree: %v", p.name, err)
		}
		if names[p.name] {
			t.Errorf("%q is there twice", p.name)
		}
		names[p.name] = true
		if got := Encode(p.name); got != p.shown {
			t.Errorf("%q is shown as %+q, want %+q", p.name, got, p.shown)
		}
		if err := checkDir([]string{p.name}); err != nil {
			t.Error(err)
		}
	}
	if err := checkDir(slices.Sorted(maps.Keys(names))); err != nil {
		t.Errorf("in one directory: %v", err)
	}
}

func TestNames_WhatIsShownIsANameOfATreeToo(t *testing.T) {
	// Whoever copies what Windows shows to a tree by another way brings names there that look like mapped ones.
	names := map[string]bool{}
	for _, p := range corpus(t) {
		names[p.name] = true
		name := p.name
		for range 3 {
			if name = Encode(name); len(name) <= vfs.MaxName {
				names[name] = true
			}
		}
	}
	if err := checkDir(slices.Sorted(maps.Keys(names))); err != nil {
		t.Error(err)
	}
}

func TestNames_InAllCases(t *testing.T) {
	seed := testkit.Seed(t)
	r := testkit.Rand(seed)
	for _, p := range corpus(t) {
		names := map[string]bool{p.name: true}
		for range 20 {
			variant := strings.Map(func(c rune) rune {
				for range r.IntN(4) {
					c = unicode.SimpleFold(c)
				}
				return c
			}, p.name)
			if utf8.ValidString(p.name) && len(variant) <= vfs.MaxName {
				names[variant] = true
			}
		}
		if err := checkDir(slices.Sorted(maps.Keys(names))); err != nil {
			t.Error(err)
		}
	}
}

func TestNames_FoldTakesTogetherWhatWindowsDoes(t *testing.T) {
	classes := map[rune][]rune{}
	for r := rune(1); r < 0x20000; r++ { // beyond are no letters that have cases
		if !utf8.ValidRune(r) {
			continue
		}
		f := foldRune(r)
		for _, o := range []rune{unicode.ToUpper(r), unicode.ToLower(r), unicode.ToTitle(r), unicode.SimpleFold(r)} {
			if foldRune(o) != f {
				t.Errorf("%q and %q are not taken together", r, o)
			}
		}
		if f != r {
			classes[f] = append(classes[f], r)
		}
	}
	for f, class := range classes {
		names := []string{string(f)}
		for _, r := range class {
			names = append(names, string(r))
		}
		for _, name := range names {
			if r, _ := utf8.DecodeRuneInString(name); !cased(r) {
				t.Errorf("%q has others that differ in case, and is not thought to have", r)
			}
		}
		slices.Sort(names)
		if err := checkDir(names); err != nil {
			t.Error(err)
		}
	}
	if len(classes) < 1000 {
		t.Errorf("%d classes are too few", len(classes))
	}
}

func TestDecode_TakesNothingThatIsNeverShown(t *testing.T) {
	for _, shown := range []string{
		"", ".", "..", "a/b", "a\x00b", "\xff", // no names
		"CON", "nul.txt", "Com1 .c", "lpt³", // devices, by \\?\
		"a.", "a ", // dots and spaces at the end, by \\?\
		"a\uf020b", "a\uf02eb", // a space and a dot that are not at the end
		"\uf0e2\uf082\uf0ac",       // the bytes of €, which are UTF-8
		"\uf0ef\uf080\uf0a8" + "x", // of U+F028, which stands for itself
	} {
		if name, _, ok := Decode(shown); ok {
			t.Errorf("%+q is taken for %+q", shown, name)
		}
	}
}

func TestDecode_TakesWhatWinFspMakesOfForbiddenCharacters(t *testing.T) {
	for shown, want := range map[string]string{
		"a:b": "a:b", "a\uf03ab": "a:b", "what?": "what?", `back\slash`: `back\slash`, "a\tb": "a\tb", // WinFsp hands them over as ASCII
	} {
		if name, exact, ok := Decode(shown); name != want || exact || !ok {
			t.Errorf("%+q is %+q, %t, %t, want %+q", shown, name, exact, ok, want)
		}
	}
}

func FuzzNames(f *testing.F) {
	for _, p := range corpus(f) {
		f.Add(p.name)
	}
	f.Add("README/ReadMe/readme")
	f.Add("CON/con/Con/\uf043ON")
	f.Fuzz(func(t *testing.T, dir string) {
		names := map[string]bool{}
		for name := range strings.SplitSeq(dir, "/") {
			if vfs.CheckName(name) == nil {
				names[name] = true
				names[strings.ToUpper(name)] = len(strings.ToUpper(name)) <= vfs.MaxName
			}
		}
		maps.DeleteFunc(names, func(name string, ok bool) bool { return !ok || vfs.CheckName(name) != nil })
		if err := checkDir(slices.Sorted(maps.Keys(names))); err != nil {
			t.Fatal(err)
		}
		// The other way: what is taken at all is shown so again, or, alone in its directory, as the same without escaped case.
		if name, exact, ok := Decode(dir); ok {
			if vfs.CheckName(name) != nil && len(name) <= vfs.MaxName {
				t.Fatalf("%q is taken for %q, which is no name", dir, name)
			}
			again, _, ok := Decode(Encode(name))
			if again != name || !ok {
				t.Fatalf("%q is taken for %q, which is shown as %q, which is %q, %t", dir, name, Encode(name), again, ok)
			}
			if !exact && Encode(name) != strings.Map(func(r rune) rune {
				if forbidden(r) {
					return r + private
				}
				return r
			}, dir) {
				t.Fatalf("%q is taken for %q, which is shown as %q", dir, name, Encode(name))
			}
		}
	})
}
