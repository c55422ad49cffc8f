package treetest

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

// Names returns some 500 names of one path element each that have given somebody's tool trouble: of both Unicode forms, that differ
// in case only, reserved by some system, with dots and blanks at their ends, with control characters, with what is no UTF-8, long ones. They are always the same
// and no two are equal.
func Names() []string {
	var names []string
	seen := map[string]bool{}
	add := func(more ...string) {
		for _, n := range more {
			if n != "" && n != "." && n != ".." && !strings.ContainsAny(n, "/\x00") && len(n) <= 255 && !seen[n] {
				seen[n] = true
				names = append(names, n)
			}
		}
	}
	add("plain", "UPPER", "upper", "Upper", "name.txt", "NAME.TXT", "no ending.", "two..dots", "trailing ", "trailing  ", " leading", "trailing. ", "trailing .",
		".hidden", "..hidden", "...", "....", ". ", " ", "  ", "-", "--", "-rf", "--help", "~", "~tmp", "#hash", "%41", "%2F", "%", "%%", "a%2Fb", "a+b", "a b", "&amp;", "&",
		"a=b", "a,b", "a;b", "a:b", ":", "a'b", `a"b`, "`a`", "$HOME", "$(x)", "!x", "^", "a|b", "a<b", "a>b", "a?b", "a*b", "*", "?", `a\b`, `\`, "[a]", "{a}", "(a)", "@a", "a@b",
		"CON", "con", "Con.txt", "PRN", "AUX", "aux.c", "NUL", "nul.tar.gz", "COM1", "com9.x", "LPT1", "lpt9", "CONIN$", "CONOUT$", "CLOCK$", "COM¹", "desktop.ini", "Thumbs.db", ".DS_Store",
		".Trash", "lost+found", "System Volume Information", ".git", ".sheaf", "Icon\r", "con ", "nul.", "\ufeffbom", "a\u200bb", "a\u202eb", "a\u00a0b", "\u3000", "a\u2028b", "a\u0085b",
		"‛", "‛‛", "a‛b", "‛FF", "␀", "␊", "␡", "／", "．", "．．", "：", "？", "＊", "＂", "＜", "＞", "｜", "＼", "％", "a␠", "␠a", "～",
		"file.partial", "file.part", "file.tmp", "file~", "~$file.docx", ".~lock.file#", "file (1).txt", "file (conflict).txt", ".file.swp", "#file#")
	// Both forms of the same letters; the last of some are in neither.
	for _, n := range []string{"é", "Å", "ñ", "ü", "ö.txt", "Ångström", "ệ", "ṩ", "각", "한글", "が", "パス", "ﬁ", "ſ", "Ω", "ǆ", "q̣̇", "a\u0323\u0307b", "אָ", "ই়", "𝒳", "ΐ", "ẞ", "straße"} {
		add(norm.NFC.String(n), norm.NFD.String(n), n)
	}
	// What one rule of folding makes equal and another does not.
	for _, n := range []string{"straße", "STRASSE", "ı", "I", "i", "İ", "i̇", "K", "k", "K", "Å", "å", "ς", "σ", "Σ", "ǅ", "Ǆ", "ά", "Ά", "ё", "Ё", "Ꭰ", "ꭰ"} {
		add(n, strings.ToUpper(n), strings.ToLower(n), strings.ToTitle(norm.NFC.String(n)))
	}
	for c := range 0x20 {
		add("c"+string(rune(c))+"d", string(rune(c)), "end"+string(rune(c)))
	}
	add("del\x7f", "\x7f")
	for c := 0x80; c < 0x100; c += 4 {
		add("bad"+string([]byte{byte(c)}), string([]byte{byte(c)}))
	}
	add("\xc3", "\xc3\x28", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\xaf", "ok\xffbad\xfeend", "\xef\xbf\xbd", "latin-\xe4\xf6\xfc.txt")
	for _, n := range []int{100, 127, 128, 142, 143, 144, 200, 243, 250, 251, 252, 253, 254, 255} {
		add(strings.Repeat("n", n), strings.Repeat("ä", n/2), strings.Repeat("€", n/3), strings.Repeat("😀", n/4), strings.Repeat(" ", n-1)+"x", strings.Repeat(".", n-1)+"x")
	}
	for c := '!'; c < 0x7f; c++ {
		add("x"+string(c), string(c)+"x", string(c)+string(c))
	}
	for _, r := range []rune{0x7ff, 0x800, 0xd7ff, 0xe000, 0xfdd0, 0xfffd, 0xfffe, 0xffff, 0x10000, 0x1f600, 0x10ffff} {
		add("r" + string(r))
	}
	return names
}

var nameTests = []test{
	{"a path that is none is refused everywhere", func(s *suite) {
		s.dir("d")
		it := s.put("d/f", "x")
		for _, bad := range []string{"", "/", "/abs", "d/", "d//f", ".", "..", "d/..", "../x", "d/../d/f", "./d", "d/./f", "nul\x00byte"} {
			_, err := s.Tree.Stat(s.ctx, bad)
			s.fails(fmt.Sprintf("stat %q", bad), err, remote.ErrIllegal)
			_, err = s.readAll(s.Tree, bad, 0, -1, "")
			s.fails(fmt.Sprintf("open %q", bad), err, remote.ErrIllegal)
			_, err = s.try(s.Tree, bad, "x", "")
			s.fails(fmt.Sprintf("put %q", bad), err, remote.ErrIllegal)
			_, err = s.Tree.Mkdir(s.ctx, bad, 0o755)
			s.fails(fmt.Sprintf("mkdir %q", bad), err, remote.ErrIllegal)
			s.fails(fmt.Sprintf("remove %q", bad), s.Tree.Remove(s.ctx, bad, it.Version), remote.ErrIllegal)
			_, err = s.Tree.Move(s.ctx, "d/f", bad, it.Version)
			s.fails(fmt.Sprintf("move to %q", bad), err, remote.ErrIllegal)
			_, err = s.Tree.Move(s.ctx, bad, "new", it.Version)
			s.fails(fmt.Sprintf("move from %q", bad), err, remote.ErrIllegal)
			if bad != "" {
				_, err = items(s.Tree.List(s.ctx, bad))
				s.fails(fmt.Sprintf("list %q", bad), err, remote.ErrIllegal)
			}
		}
		s.want("d/", "d/f")
	}},
	{"a hostile name is kept as it is, or refused", func(s *suite) {
		names := Names()
		step := s.some(1, 9)
		var kept, refused int
		for i := 0; i < len(names); i += step {
			if s.hostile(i, names[i]) {
				kept++
			} else {
				refused++
			}
		}
		s.Logf("%d names kept, %d refused", kept, refused)
		if kept < 10 {
			s.Error("it refuses nearly all names")
		}
	}},
	{"names that differ are two, but where the place says otherwise", func(s *suite) {
		for i, c := range []struct {
			a, b  string
			folds bool
		}{
			{"name", "NAME", s.can.Fold},
			{"ä", "Ä", s.can.Fold},
			{norm.NFC.String("é"), norm.NFD.String("é"), s.can.Normal},
			{"x", "x ", false},
			{"x", "x.", false},
			{"a b", "a+b", false},
			{"%41", "A", false},
			{"／", "a", false},
		} {
			d := fmt.Sprint("d", i)
			s.dir(d)
			if _, err := s.try(s.Tree, d+"/"+c.a, "first", ""); errors.Is(err, remote.ErrIllegal) {
				continue
			} else if err != nil {
				s.Errorf("put %q: %v", c.a, err)
				continue
			}
			_, err := s.try(s.Tree, d+"/"+c.b, "second", "")
			switch {
			case errors.Is(err, remote.ErrIllegal):
			case c.folds:
				s.fails(fmt.Sprintf("put %q beside %q", c.b, c.a), err, remote.ErrChanged)
				s.same("bytes", s.read(d+"/"+c.a), "first")
			case err != nil:
				s.Errorf("put %q beside %q: unexpected error: %v", c.b, c.a, err)
			default:
				s.same("bytes of "+c.a, s.read(d+"/"+c.a), "first")
				s.same("bytes of "+c.b, s.read(d+"/"+c.b), "second")
				if got := s.list(d); len(got) != 2 {
					s.Errorf("list with %q and %q: got %q", c.a, c.b, paths(got))
				}
			}
		}
	}},
}

// hostile puts a file of that name in a directory of its own, and reports whether the place keeps it.
func (s *suite) hostile(i int, name string) bool {
	s.Helper()
	d := fmt.Sprint("d", i)
	s.dir(d)
	data := fmt.Sprintf("the bytes of %q", name)
	it, err := s.try(s.Tree, d+"/"+name, data, "")
	if errors.Is(err, remote.ErrIllegal) {
		if got, err := items(s.Tree.List(s.ctx, d)); err == nil && len(got) > 0 {
			s.Errorf("%q was refused, and this is there: %q", name, paths(got))
		}
		return false
	}
	if err != nil {
		s.Errorf("put %q: got error %v, want none or ErrIllegal", name, err)
		return false
	}
	if got := strings.TrimPrefix(it.Path, d+"/"); got != name && (!s.can.Normal || norm.NFC.String(got) != norm.NFC.String(name)) {
		s.Errorf("put %q: it became %q", name, got)
	}
	got := s.list(d)
	if len(got) != 1 || got[0].Path != it.Path {
		s.Errorf("list after %q (UTF-8: %v): got %q, want %q", name, utf8.ValidString(name), paths(got), it.Path)
		return true
	}
	st, err := s.Tree.Stat(s.ctx, d+"/"+name)
	if err != nil {
		s.Errorf("stat %q: %v", name, err)
		return true
	}
	s.alike(fmt.Sprintf("stat %q", name), st, it)
	if back, err := s.readAll(s.Tree, d+"/"+name, 0, -1, st.Version); err != nil || back != data {
		s.Errorf("read %q: got %q, %v", name, back, err)
	}
	if err := s.Tree.Remove(s.ctx, d+"/"+name, st.Version); err != nil {
		s.Errorf("remove %q: %v", name, err)
	}
	return true
}
