package ignore

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxImported is how many lines an import may have: braces multiply them.
const maxImported = 10_000

// FromSyncthing writes the text of a .stignore of Syncthing anew as that of a .sheafignore. There the first line that matches decides, a pattern matches in any
// folder unless it begins with "/", one that ends with "/" is what is in a folder without the folder itself, and "{a,b}" is one of both; so lines come in the other
// order, and some become two. What is included is put in its place. left are lines that have no counterpart, as "FILE:LINE: TEXT": a "**" beside other characters, "#escape=", what is not UTF-8.
//
// One thing is not the same: what is in a directory that is left out stays out, where Syncthing looks into the directory for the sake of a "!".
func FromSyncthing(file, text string, include Include) (out string, left []string, err error) {
	c := converter{files: maxIncludes}
	if err := c.read(file, text, include); err != nil {
		return "", nil, err
	}
	var b strings.Builder
	for i := len(c.lines) - 1; i >= 0; i-- {
		b.WriteString(c.lines[i] + "\n")
	}
	return b.String(), c.left, nil
}

// A converter has what was read so far, in the order of Syncthing.
type converter struct {
	lines, left []string
	files       int // that may still be included
}

func (c *converter) read(file, text string, include Include) error {
	n := 0
	for line := range strings.SplitSeq(strings.TrimPrefix(text, "\ufeff"), "\n") {
		n++
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "//"):
			continue
		case strings.HasPrefix(line, "#include"):
			name := strings.TrimSpace(strings.TrimPrefix(line, "#include"))
			sub, err := include.text(file, n, name, &c.files)
			if err == nil {
				err = c.read(name, sub, include)
			}
			if err != nil {
				return err
			}
			continue
		}
		made, ok := convert(line)
		if !ok {
			c.left = append(c.left, fmt.Sprintf("%s:%d: %s", file, n, line))
			continue
		}
		if c.lines = append(c.lines, made...); len(c.lines) > maxImported {
			return fmt.Errorf("%s:%d: more than %d lines come of it", file, n, maxImported)
		}
	}
	return nil
}

// convert returns the lines that one of Syncthing becomes.
func convert(line string) (made []string, ok bool) {
	if strings.HasPrefix(line, "#escape") || !utf8.ValidString(line) {
		return nil, false
	}
	prefix, negated := "", false
	for {
		rest, fold := options(line)
		if fold {
			prefix = "(?i)"
		}
		if line = rest; !strings.HasPrefix(line, "!") {
			break
		}
		negated, line = !negated, line[1:]
	}
	if negated {
		prefix += "!"
	}
	all, ok := alternatives(line)
	if !ok {
		return nil, false
	}
	for _, p := range all {
		inside := strings.HasSuffix(p, "/") || strings.HasSuffix(p, "/**") // and not the folder
		if inside {
			p = strings.TrimSuffix(strings.TrimSuffix(p, "**"), "/")
		}
		if p == "" || strings.HasSuffix(p, "/") || strings.HasSuffix(p, "**") {
			return nil, false
		}
		switch {
		case strings.HasPrefix(p, "**/"), strings.HasPrefix(p, "/"):
		default:
			p = "**/" + p
		}
		if loose(p) || strings.Contains(p, "**/**") {
			return nil, false
		}
		if at := strings.TrimPrefix(p, "**"); strings.Contains(at, "/**/") { // in Syncthing that is one folder at least
			p = p[:len(p)-len(at)] + strings.ReplaceAll(at, "/**/", "/*/**/")
		}
		switch {
		case inside:
			made = append(made, prefix+p+"/**")
		case negated: // in Syncthing it is also for what is in it
			made = append(made, prefix+p, prefix+p+"/**")
		default:
			made = append(made, prefix+p)
		}
	}
	return made, true
}

// loose reports whether a pattern has a "**" that does not stand for whole folders.
func loose(p string) bool {
	for e := range strings.SplitSeq(p, "/") {
		if strings.Contains(e, "**") && e != "**" {
			return true
		}
	}
	return false
}

// alternatives writes out the braces of a pattern.
func alternatives(p string) (all []string, ok bool) {
	open := -1
	for i := 0; i < len(p); i++ {
		switch p[i] {
		case '\\':
			i++
		case '[':
			if end := strings.IndexByte(p[i:], ']'); end > 0 {
				i += end
			}
		case '{':
			if open >= 0 {
				return nil, false // one in another
			}
			open = i
		case '}':
			if open < 0 {
				continue
			}
			for a := range strings.SplitSeq(p[open+1:i], ",") {
				if strings.Contains(a, `\`) {
					return nil, false
				}
				more, ok := alternatives(p[:open] + a + p[i+1:])
				if !ok || len(all)+len(more) > 1000 {
					return nil, false
				}
				all = append(all, more...)
			}
			return all, true
		}
	}
	if open >= 0 {
		return nil, false
	}
	return []string{p}, true
}
