package wot

import (
	"strings"
	"unicode/utf8"
)

// item is one character of a scope; any stands for each.
type item struct {
	r   rune
	any bool
}

// The frame of a scope for all addresses of a domain.
const (
	scopeHead = "<[^>]+[@.]"
	scopeTail = ">$"
)

// InScope reports whether a user ID is in the scope of a trust signature. As GnuPG does, it takes two forms of the regular expressions of RFC 9580, section 8: "<[^>]+[@.]…>$", for the addresses of a
// domain and of those below it, or … anywhere in the user ID. In … a dot stands for any character, a backslash before punctuation for that, and all else for itself, whatever the case of ASCII
// letters. What is not of this form has nothing in its scope. It takes time in proportion to both lengths, multiplied.
func InScope(scope, userID string) bool {
	body, framed := scope, false
	if len(scope) >= len(scopeHead)+len(scopeTail) && strings.HasPrefix(scope, scopeHead) && strings.HasSuffix(scope, scopeTail) {
		body, framed = scope[len(scopeHead):len(scope)-len(scopeTail)], true
	}
	want, ok := parseScope(body)
	if !ok {
		return false
	}
	text := runes(userID)
	if framed {
		return inDomain(want, text)
	}
	for at := 0; at+len(want) <= len(text); at++ {
		if matches(want, text[at:]) {
			return true
		}
	}
	return false
}

// inDomain looks for: "<", at least one that is not ">", "@" or ".", what is wanted, ">" at the end.
func inDomain(want []item, text []rune) bool {
	at := len(text) - 1 - len(want) // where what is wanted begins
	if at < 3 || text[len(text)-1] != '>' || !matches(want, text[at:]) || text[at-1] != '@' && text[at-1] != '.' {
		return false
	}
	for i := at - 2; i >= 0 && text[i] != '>'; i-- {
		if text[i] == '<' && i < at-2 {
			return true
		}
	}
	return false
}

func matches(want []item, text []rune) bool {
	for i, w := range want {
		if !w.any && w.r != text[i] {
			return false
		}
	}
	return true
}

// parseScope reads what is in a scope besides its frame.
func parseScope(s string) ([]item, bool) {
	var out []item
	escaped := false
	for _, r := range runes(s) {
		switch {
		case !escaped && r == '\\':
			escaped = true
			continue
		case !escaped && r == '.':
			out = append(out, item{any: true})
		case escaped && (r >= utf8.RuneSelf || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r == '<' || r == '>' || r == '`' || r == '\''):
			return nil, false // programs disagree about what that means
		default:
			out = append(out, item{r: r})
		}
		escaped = false
	}
	return out, !escaped
}

// runes returns the characters of a text, ASCII letters as small ones. A byte that is no UTF-8 is one of its own.
func runes(s string) []rune {
	out := make([]rune, 0, len(s))
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			r = rune(s[0]) | 1<<24
		}
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		out, s = append(out, r), s[n:]
	}
	return out
}
