package winfsp

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// The names of a tree are 1 to 255 bytes without NUL and '/'. Windows has fewer: no control characters and none of "*:<>?|\, no
// space or dot at the end, none that mean a device (CON, COM1.txt), nothing but UTF-16, and of two that differ in case only one.
//
// What it has not is shown with characters of a private range of Unicode, as Services for Macintosh, Cygwin and WinFsp
// itself do it: U+F000 plus the byte that stands in the tree.
//
//   - A character that Windows forbids, and a space or dot at the end, is shown as U+F000 plus itself.
//   - A byte that is no UTF-8 is shown as U+F000 plus itself.
//   - The first letter of the name of a device is shown as U+F000 plus itself.
//   - A name in the tree that has a character of the private range which could be one of these has each byte of it
//     shown as a byte that is no UTF-8. All other characters of that range are shown as they are.
//   - Of names in one directory that differ in case only, the first by its bytes is shown as it is. Of the others, each letter that
//     differs from it is shown as U+F000 plus itself, or, if it is not of ASCII, byte by byte.
//
// So what is shown says by itself which name it means, whatever else there is; only how a name is shown depends on the directory.
// No name gets longer, counted as Windows counts, than it has bytes in the tree.

// private is where the range begins that stands for bytes.
const private = 0xF000

// forbidden reports whether Windows has no such character in a name. '/' is in no name of a tree.
func forbidden(r rune) bool {
	return r > 0 && r < 0x20 || r < utf8.RuneSelf && strings.ContainsRune(`"*:<>?|\`, r)
}

func letter(b byte) bool { return b|0x20 >= 'a' && b|0x20 <= 'z' }

// meant returns the byte that r stands for, if r is a character of the private range that stands for one.
func meant(r rune) (byte, bool) {
	if r < private || r > private+0xFF {
		return 0, false
	}
	b := byte(r - private)
	return b, b >= utf8.RuneSelf || b == ' ' || b == '.' || letter(b) || forbidden(rune(b))
}

// Encode returns how a name of a tree is shown where no other name differs from it in case only.
func Encode(name string) string {
	var out strings.Builder
	out.Grow(len(name))
	for i := 0; i < len(name); {
		r, n := utf8.DecodeRuneInString(name[i:])
		_, taken := meant(r)
		switch {
		case r == utf8.RuneError && n == 1, taken:
			for _, b := range []byte(name[i : i+n]) {
				out.WriteRune(private + rune(b))
			}
		case forbidden(r), (r == ' ' || r == '.') && i+n == len(name):
			out.WriteRune(private + r)
		default:
			out.WriteRune(r)
		}
		i += n
	}
	shown := out.String()
	if device(shown) {
		shown = string(private+rune(shown[0])) + shown[1:]
	}
	return shown
}

// devices are the names that mean a device, with or without an extension, in whatever case. Those of ports end with a digit besides.
var devices = []string{"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"}

// device reports whether Windows takes the name for a device.
func device(shown string) bool {
	if shown == "" || !letter(shown[0]) {
		return false
	}
	base, _, _ := strings.Cut(shown, ".")
	base = Fold(strings.TrimRight(base, " "))
	for _, d := range devices {
		if base == Fold(d) {
			return true
		}
	}
	for _, port := range []string{"COM", "LPT"} {
		if digit, ok := strings.CutPrefix(base, Fold(port)); ok {
			switch r, n := utf8.DecodeRuneInString(digit); {
			case n != len(digit) || n == 0:
			case r >= '0' && r <= '9', r == '¹', r == '²', r == '³':
				return true
			}
		}
	}
	return false
}

// Decode returns the name of a tree that is shown so. exact says that letters of it are shown as private ones, so that no name but this is
// meant, whatever there is that differs in case. ok is false if nothing is ever shown so: then there is no such
// name, and none can be made.
func Decode(shown string) (name string, exact, ok bool) {
	if !utf8.ValidString(shown) {
		return "", false, false
	}
	var raw []byte
	var plain strings.Builder // as shown, but that forbidden characters that WinFsp has translated stand for themselves no more
	for _, r := range shown {
		if r == 0 || r == '/' {
			return "", false, false
		}
		if forbidden(r) {
			r += private
		}
		plain.WriteRune(r)
		if b, ok := meant(r); ok {
			raw = append(raw, b)
		} else {
			raw = utf8.AppendRune(raw, r)
		}
	}
	name = string(raw)
	exact, ok = caseEscaped(Encode(name), plain.String())
	if name == "" || name == "." || name == ".." {
		ok = false
	}
	return name, exact, ok
}

// caseEscaped reports whether shown is encoded, but that some letters of it may be escaped; some says that there are such.
func caseEscaped(encoded, shown string) (some, ok bool) {
	for _, r := range encoded {
		if s, n := utf8.DecodeRuneInString(shown); s == r && n > 0 {
			shown = shown[n:]
			continue
		}
		rest, found := strings.CutPrefix(shown, escapeRune(r))
		if !found || !cased(r) {
			return some, false
		}
		some, shown = true, rest
	}
	return some, shown == ""
}

// escapeRune shows each byte of a character by one of the private range.
func escapeRune(r rune) string {
	var out strings.Builder
	for _, b := range []byte(string(r)) {
		out.WriteRune(private + rune(b))
	}
	return out.String()
}

// cased reports whether other characters differ from r in case only.
func cased(r rune) bool {
	return unicode.SimpleFold(r) != r || unicode.ToUpper(r) != r || unicode.ToLower(r) != r
}

// Fold returns what is the same for all names that differ in case only. It tells fewer names apart than Windows does, never more:
// it takes the characters together that Unicode's simple folding, its upper or its lower case does.
func Fold(name string) string { return strings.Map(foldRune, name) }

func foldRune(r rune) rune {
	if r >= 'a' && r <= 'z' {
		return r - 'a' + 'A'
	}
	if r < utf8.RuneSelf {
		return r
	}
	r = unicode.ToUpper(unicode.ToLower(r))
	least := r
	for o := unicode.SimpleFold(r); o != r; o = unicode.SimpleFold(o) {
		least = min(least, o)
	}
	return least
}

// escapeCase shows an encoded name where another differs from it in case only, and is shown as it is.
func escapeCase(encoded, other string) string {
	var out strings.Builder
	for _, r := range encoded {
		o, n := utf8.DecodeRuneInString(other)
		other = other[n:]
		if r == o {
			out.WriteRune(r)
		} else {
			out.WriteString(escapeRune(r))
		}
	}
	return out.String()
}

// EncodeAll returns how the names of one directory are shown. They are in the order of their bytes, and none is there twice.
func EncodeAll(names []string) []string {
	first := make(map[string]string, len(names)) // by Fold
	shown := make([]string, len(names))
	for i, name := range names {
		shown[i] = encodeNext(first, name)
	}
	return shown
}

// encodeNext is EncodeAll for one name after the other; first holds what was shown as it is, by Fold.
func encodeNext(first map[string]string, name string) string {
	encoded := Encode(name)
	key := Fold(encoded)
	if other, ok := first[key]; ok {
		return escapeCase(encoded, other)
	}
	first[key] = encoded
	return encoded
}
