package ignore

import "strings"

// wild matches a pattern with *, ?, [] and ** against a path, byte by byte, as git's wildmatch does with the flag that a star stops at a slash.
func wild(pat, s string, fold bool) bool {
	m := matcher{fold: fold}
	return m.match(pat, s, true)
}

type matcher struct {
	fold  bool
	steps int
}

// maxSteps bounds the work for one path: patterns with many stars take exponential time.
const maxSteps = 1 << 16

func (m *matcher) eq(a, b byte) bool {
	if m.fold {
		a, b = lower(a), lower(b)
	}
	return a == b
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// match: begin says that pat is at its beginning, or behind a slash.
func (m *matcher) match(pat, s string, begin bool) bool {
	for len(pat) > 0 {
		if m.steps++; m.steps > maxSteps {
			return false
		}
		c := pat[0]
		if s == "" && c != '*' {
			return false
		}
		switch c {
		case '\\':
			if len(pat) < 2 || !m.eq(pat[1], s[0]) {
				return false
			}
			begin, pat, s = pat[1] == '/', pat[2:], s[1:]
		case '?':
			if s[0] == '/' {
				return false
			}
			begin, pat, s = false, pat[1:], s[1:]
		case '[':
			n, ok := m.class(pat, s[0])
			if n == 0 || !ok || s[0] == '/' {
				return false
			}
			begin, pat, s = false, pat[n:], s[1:]
		case '*':
			rest := strings.TrimLeft(pat, "*")
			deep := len(pat)-len(rest) >= 2 && begin && (rest == "" || rest[0] == '/' || strings.HasPrefix(rest, `\/`))
			if deep && strings.HasPrefix(rest, "/") && m.match(rest[1:], s, true) { // "**/" is also nothing at all
				return true
			}
			if rest == "" {
				return deep || !strings.Contains(s, "/")
			}
			for i := 0; i <= len(s); i++ {
				if m.match(rest, s[i:], false) {
					return true
				}
				if i < len(s) && s[i] == '/' && !deep {
					return false
				}
			}
			return false
		default:
			if !m.eq(c, s[0]) {
				return false
			}
			begin, pat, s = c == '/', pat[1:], s[1:]
		}
	}
	return s == ""
}

// class reads the brackets at the front of pat, and reports how long they are, 0 if they do not end, and whether c is in them.
func (m *matcher) class(pat string, c byte) (n int, in bool) {
	i := 1
	negated := false
	if i < len(pat) && (pat[i] == '!' || pat[i] == '^') {
		negated = true
		i++
	}
	if m.fold {
		c = lower(c)
	}
	var prev byte
	for first := true; ; first = false {
		if i >= len(pat) {
			return 0, false
		}
		p := pat[i]
		switch {
		case p == ']' && !first:
			return i + 1, in != negated
		case p == '\\':
			i++
			if i >= len(pat) {
				return 0, false
			}
			p = pat[i]
			in = in || m.eq(p, c)
		case p == '-' && prev != 0 && i+1 < len(pat) && pat[i+1] != ']':
			i++
			p = pat[i]
			if p == '\\' {
				i++
				if i >= len(pat) {
					return 0, false
				}
				p = pat[i]
			}
			if c >= prev && c <= p || m.fold && c >= 'a' && c <= 'z' && c-'a'+'A' >= prev && c-'a'+'A' <= p {
				in = true
			}
			p = 0 // the end of a range begins none
		case p == '[' && i+1 < len(pat) && pat[i+1] == ':':
			end := strings.IndexByte(pat[i+2:], ']')
			if end < 0 {
				return 0, false
			}
			name := pat[i+2 : i+2+end]
			if !strings.HasSuffix(name, ":") { // it was no name after all
				in = in || m.eq('[', c)
				break
			}
			is, known := named(strings.TrimSuffix(name, ":"), c, m.fold)
			if !known {
				return 0, false
			}
			in = in || is
			i += 2 + end
			p = 0
		default:
			in = in || m.eq(p, c)
		}
		prev = p
		i++
	}
}

// named reports whether c is of a class of characters that has a name.
func named(name string, c byte, fold bool) (is, known bool) {
	low, up, digit := c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9'
	graph := c > ' ' && c < 0x7f
	switch name {
	case "alnum":
		return low || up || digit, true
	case "alpha":
		return low || up, true
	case "blank":
		return c == ' ' || c == '\t', true
	case "cntrl":
		return c < ' ' || c == 0x7f, true
	case "digit":
		return digit, true
	case "graph":
		return graph, true
	case "lower":
		return low, true
	case "print":
		return graph || c == ' ', true
	case "punct":
		return graph && !low && !up && !digit, true
	case "space":
		return c == ' ' || c >= '\t' && c <= '\r', true
	case "upper":
		return up || fold && low, true
	case "xdigit":
		return digit || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F', true
	}
	return false, false
}
