package ignore_test

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/merge/ignore"
)

// What Syncthing's documentation says of its patterns.
func TestFromSyncthing_IsWhatItsDocumentationSays(t *testing.T) {
	var s ignore.Set
	text, left, err := ignore.FromSyncthing(".stignore", "// a comment\n!frobble\n!quuz\n!keep\n(?i)*.TMP\n/only-here\nfoo*\nsub/dir\n(?d)(?i).ds_store\n*2\nqu*\ninside/\n*.{jpg,png}\n#include more\na**b\n",
		func(name string) (string, error) { return map[string]string{"more": "from-more\n"}[name], nil })
	if err == nil {
		err = s.Add("", ignore.Name, text, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{".stignore:15: a**b"}; !slices.Equal(left, want) {
		t.Errorf("got %q, want %q left over", left, want)
	}
	for path, want := range map[string]bool{
		"frobble": false, "quuz": false, "quux": true, "a/b.tmp": true, "only-here": true, "x/only-here": false, "foo": true, "x/foobar/in": true, "sub/dir/a": true,
		"x/sub/dir": true, "subdir": false, ".DS_Store": true, "x2": true, "x2/y": true, "y": false, "keep/x.tmp": false, "inside": false, "inside/x": true, "a/inside/x": true,
		"i.jpg": true, "d/i.png": true, "i.gif": false, "from-more": true,
	} {
		if got, by := s.Match(path, false); got != want {
			t.Errorf("%s: left out is %v by %v, want %v", path, got, by, want)
		}
	}
}

func TestFromSyncthing_TellsOfAnIncludeThatIsNotThere(t *testing.T) {
	_, _, err := ignore.FromSyncthing("f", "#include nothing\n", func(string) (string, error) { return "", fs.ErrNotExist })
	if !errors.Is(err, ignore.ErrInclude) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want ErrInclude", err)
	}
	if _, _, err := ignore.FromSyncthing("f", "#include f\n", func(string) (string, error) { return "#include f\n", nil }); !errors.Is(err, ignore.ErrInclude) {
		t.Errorf("got %v, want ErrInclude", err)
	}
}

// A stLine is a line as Syncthing reads it: "/" at the end is what is in it, else it is itself and what is in it.
type stLine struct {
	out bool
	res []*regexp.Regexp
}

// stRead is Syncthing's way to read a pattern, by regular expressions.
func stRead(line string) (l stLine) {
	l.out = true
	flags := "(?s)"
	if rest, ok := strings.CutPrefix(line, "!"); ok {
		line, l.out = rest, false
	}
	if rest, ok := strings.CutPrefix(line, "(?i)"); ok {
		line, flags = rest, "(?si)"
	}
	pats := []string{line, line + "/**"}
	if strings.HasSuffix(line, "/") {
		pats = []string{line + "**"}
	}
	for _, p := range pats {
		at := "^(?:.*/)?"
		if rest, ok := strings.CutPrefix(p, "/"); ok {
			p, at = rest, "^"
		} else {
			p = strings.TrimPrefix(p, "**/") // it is tried without, too
		}
		q := regexp.QuoteMeta(p)
		for _, r := range [][2]string{{`\*\*`, "\x00"}, {`\*`, "[^/]*"}, {"\x00", ".*"}, {`\?`, "[^/]"}, {`\{`, "(?:"}, {`\}`, ")"}, {",", "|"}} {
			q = strings.ReplaceAll(q, r[0], r[1])
		}
		l.res = append(l.res, regexp.MustCompile(flags+at+q+"$"))
	}
	return l
}

// stOut reports whether Syncthing leaves path out, or something that it is in.
func stOut(lines []stLine, path string) bool {
	for i := 0; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			continue
		}
	first:
		for _, l := range lines {
			for _, re := range l.res {
				if re.MatchString(path[:i]) {
					if l.out {
						return true
					}
					break first
				}
			}
		}
	}
	return false
}

// Thousands of patterns mean the same after the import as to Syncthing before.
func TestFromSyncthing_MeansTheSame(t *testing.T) {
	r := testkit.Rand(testkit.Seed(t))
	names := []string{"a", "b", "ab", "A", "x.c", "y.o", "abc", "d"}
	path := func(r *rand.Rand) string {
		var e []string
		for range 1 + r.IntN(4) {
			e = append(e, names[r.IntN(len(names))])
		}
		return strings.Join(e, "/")
	}
	parts := []string{"a", "b", "ab", "A", "*", "?", "*.o", "*.{c,o}", "{a,d}", "a*", "**/", "/**/", "/", "x.c", "d"}
	checked, outs := 0, 0
	for range 3000 {
		var st []stLine
		var text []string
		for range 1 + r.IntN(4) {
			line := ""
			for range 1 + r.IntN(3) {
				line += parts[r.IntN(len(parts))]
			}
			if strings.Contains(line, "//") || strings.Contains(line, "***") || strings.Contains(line, "**a") || line == "/" {
				continue
			}
			line = []string{"", "", "/", "!", "(?i)"}[r.IntN(5)] + line
			if strings.Contains(line, "//") {
				continue
			}
			_, left, err := ignore.FromSyncthing("f", line, nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(left) > 0 {
				continue
			}
			st, text = append(st, stRead(line)), append(text, line)
		}
		made, _, err := ignore.FromSyncthing("f", strings.Join(text, "\n"), nil)
		var s ignore.Set
		if err == nil {
			err = s.Add("", "f", made, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			p := path(r)
			want := stOut(st, p)
			checked++
			if want {
				outs++
			}
			if got, by := s.Match(p, true); got != want {
				t.Fatalf("%q: left out is %v by %v, Syncthing says %v by %q, which became %q", p, got, by, want, text, made)
			}
		}
	}
	if outs*20 < checked || outs*20 > checked*19 {
		t.Errorf("%d of %d are left out: that proves little", outs, checked)
	}
}
