package merge

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Names says which names a place can have, and maps those that it cannot. The zero value is a place that can have all and tells all apart.
//
// The mapping is reversible. A character that is not allowed becomes U+FF05 (a wide percent sign) and the two hexadecimal digits of each of its bytes; a wide percent
// sign that such digits follow becomes one of these itself. Of two names that the place cannot tell apart one gets " {xxxxxxxx}" before its extension: the
// FNV-1a hash of the name without it, by which it is known again.
type Names struct {
	Fold   bool   // names that differ in case only are one
	Normal bool   // names that differ in their Unicode form only are one
	UTF8   bool   // names must be valid UTF-8
	Bad    string // ASCII characters that no name may have, besides "/"; never "%"
	// Windows forbids what Windows does: control characters, <>:"\|?*, a dot or blank at the end, and the names of devices.
	Windows bool
	// Max is how many bytes an element may have; 0 means 255.
	Max int
}

const (
	wide     = "％" // U+FF05
	windows  = `<>:"\|?*`
	wideCode = "25"
)

func (n *Names) escapes() bool  { return n.UTF8 || n.Bad != "" || n.Windows }
func (n *Names) suffixes() bool { return n.Fold || n.Normal }

// Encode returns how the place has the element name; apart asks for a form that is not taken for another name. ok is false if it is too long then.
func (n *Names) Encode(name string, apart bool) (enc string, ok bool) {
	enc = name
	if n.escapes() {
		enc = n.escape(name)
	}
	if n.suffixes() {
		if _, is := unsuffix(enc); is || apart {
			enc = suffix(enc)
		}
	}
	limit := n.Max
	if limit == 0 {
		limit = 255
	}
	return enc, len(enc) <= limit
}

// Decode returns the name whose form at the place is enc.
func (n *Names) Decode(enc string) string {
	if n.suffixes() {
		if plain, is := unsuffix(enc); is {
			enc = plain
		}
	}
	if n.escapes() && strings.Contains(enc, wide) {
		enc = unescape(enc)
	}
	return enc
}

// DecodePath is Decode of each element.
func (n *Names) DecodePath(p string) string {
	if !n.escapes() && !n.suffixes() || !strings.Contains(p, wide) && !strings.Contains(p, " {") {
		return p
	}
	parts := strings.Split(p, "/")
	for i := range parts {
		parts[i] = n.Decode(parts[i])
	}
	return strings.Join(parts, "/")
}

// bad reports whether the place cannot have the character c.
func (n *Names) bad(c byte) bool {
	return strings.IndexByte(n.Bad, c) >= 0 || n.Windows && (c < ' ' || strings.IndexByte(windows, c) >= 0)
}

func (n *Names) escape(name string) string {
	var b strings.Builder
	last := len(name) - 1
	for i := 0; i < len(name); {
		r, size := utf8.DecodeRuneInString(name[i:])
		c := name[i]
		switch {
		case r == utf8.RuneError && size == 1 && (n.UTF8 || n.Windows), size == 1 && n.bad(c),
			n.Windows && i == last && (c == '.' || c == ' '), n.Windows && i == 0 && isDevice(name):
			fmt.Fprintf(&b, wide+"%02X", c)
		case strings.HasPrefix(name[i:], wide) && isCode(name[i+len(wide):]):
			b.WriteString(wide + wideCode)
		default:
			b.WriteString(name[i : i+size])
		}
		i += size
	}
	return b.String()
}

// isCode reports whether s begins with two hexadecimal digits.
func isCode(s string) bool { return len(s) >= 2 && isHex(s[0]) && isHex(s[1]) }

func isHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'A' && c <= 'F' }

func unescape(s string) string {
	var b strings.Builder
	for {
		i := strings.Index(s, wide)
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i])
		s = s[i+len(wide):]
		if !isCode(s) {
			b.WriteString(wide)
			continue
		}
		if s[:2] == wideCode {
			b.WriteString(wide)
		} else {
			c, _ := strconv.ParseUint(s[:2], 16, 8)
			b.WriteByte(byte(c))
		}
		s = s[2:]
	}
}

// isDevice reports whether Windows takes name for a device, whatever its extension.
func isDevice(name string) bool {
	stem, _, _ := strings.Cut(name, ".")
	stem = strings.ToUpper(strings.TrimRight(stem, " "))
	switch stem {
	case "CON", "PRN", "AUX", "NUL":
		return true
	}
	if len(stem) < 4 || stem[:3] != "COM" && stem[:3] != "LPT" {
		return false
	}
	switch stem[3:] {
	case "1", "2", "3", "4", "5", "6", "7", "8", "9", "¹", "²", "³":
		return true
	}
	return false
}

// split cuts name before its extension, if it has one.
func split(name string) (stem, ext string) {
	if i := strings.LastIndexByte(name, '.'); i > 0 && len(name)-i <= 12 && !strings.ContainsAny(name[i:], " {}") {
		return name[:i], name[i:]
	}
	return name, ""
}

func suffix(enc string) string {
	stem, ext := split(enc)
	return fmt.Sprintf("%s {%08x}%s", stem, mark(enc), ext)
}

func mark(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(s))
	return h.Sum32()
}

// unsuffix returns what suffix was given.
func unsuffix(s string) (string, bool) {
	stem, ext := split(s)
	const n = len(" {00000000}")
	if len(stem) < n || stem[len(stem)-n:len(stem)-n+2] != " {" || stem[len(stem)-1] != '}' {
		return "", false
	}
	v, err := strconv.ParseUint(stem[len(stem)-n+2:len(stem)-1], 16, 32)
	plain := stem[:len(stem)-n] + ext
	if err != nil || mark(plain) != uint32(v) || suffix(plain) != s {
		return "", false
	}
	return plain, true
}

// slot returns what the place takes for the same as name.
func (n *Names) slot(name string) string { return simplify(name, n.Fold, n.Normal) }

// One reports whether the place takes two paths for one.
func (n *Names) One(a, b string) bool { return n.slot(a) == n.slot(b) }

// same reports whether a and b are one name: a place may show another Unicode form than it was given. Another case is another name.
func (n *Names) same(a, b string) bool {
	return a == b || n.Normal && norm.NFC.String(a) == norm.NFC.String(b)
}

// simplify returns a form that is equal for all names that are one where names fold, or have no Unicode form of their own.
func simplify(s string, fold, normal bool) string {
	if !fold && !normal {
		return s
	}
	ascii, lower := true, true
	for i := range len(s) {
		ascii = ascii && s[i] < utf8.RuneSelf
		lower = lower && (s[i] < 'A' || s[i] > 'Z')
	}
	if ascii {
		if fold && !lower {
			return strings.ToLower(s)
		}
		return s
	}
	if normal {
		s = norm.NFC.String(s)
	}
	if !fold {
		return s
	}
	if !utf8.ValidString(s) { // its letters cannot be told from its other bytes
		return lowerASCII(s)
	}
	return strings.Map(func(r rune) rune {
		least := r
		for o := unicode.SimpleFold(r); o != r; o = unicode.SimpleFold(o) {
			least = min(least, o)
		}
		return unicode.ToLower(least)
	}, s)
}

func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// simplify returns a form that is equal for all names or paths that one of the sides takes for one.
func (o *Options) simplify(s string) string {
	return simplify(s, o.Names[0].Fold || o.Names[1].Fold, o.Names[0].Normal || o.Names[1].Normal)
}

// keyOf returns the part of Key that is equal for all paths that a side may take for one, and the rest.
func (o *Options) keyOf(s Side, p string) (group, tail string) {
	p = o.Names[s].DecodePath(p)
	folded := o.simplify(p)
	if folded != p {
		tail = p
	}
	return zeros(folded), tail
}

// Key returns what orders the items of side s: paths that no side can tell apart come together, parents before what they hold. All that is in a directory
// has the Key of that up to its two zero bytes, one zero byte, and more.
func (o *Options) Key(s Side, p string) string {
	group, tail := o.keyOf(s, p)
	return group + "\x00\x00" + tail
}

// zeros replaces "/" by a zero byte, which comes before all others.
func zeros(p string) string {
	if strings.IndexByte(p, '/') < 0 {
		return p
	}
	return strings.ReplaceAll(p, "/", "\x00")
}
