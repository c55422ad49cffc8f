// Package ignore decides by the lines of ignore files what a rule between two places leaves out. It reads no file: the caller brings the text.
//
// A .sheafignore has the syntax of gitignore(5): the last line that matches decides, "!" takes back, a "/" at the front or in the middle ties a pattern to the folder
// of its file, one at the end asks for a directory, and what is in a directory that is left out is left out, whatever lines say. Besides,
// "#include NAME" brings in the lines of another file, and "(?i)" before a pattern lets it match whatever the case; "(?d)" is read and has no meaning
// here. A .stignore of Syncthing is written anew as one of these by [FromSyncthing].
package ignore

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// Name is how the files are called that are looked for in each folder.
const Name = ".sheafignore"

// maxIncludes is how many files one may bring in, in all.
const maxIncludes = 100

// ErrInclude says that a file that is to be included cannot be.
var ErrInclude = errors.New("include of an ignore file")

// A Line is one pattern.
type Line struct {
	File   string // as it was given to Add
	Number int    // from 1
	Text   string // as it was written

	glob    string
	negated bool
	dirOnly bool
	base    bool // it has no slash: the name alone counts
	fold    bool
	never   bool
}

// String returns where the line is and what it says.
func (l *Line) String() string { return fmt.Sprintf("%s:%d: %s", l.File, l.Number, l.Text) }

// list is the lines of one file, and of those that it includes.
type list struct{ lines []Line }

// A Set is the lines of all ignore files of a place. The zero value leaves nothing out. It may be read by several goroutines once all is added.
type Set struct {
	lists map[string]*list // by their folder
}

// Include returns the text of a file that another brings in.
type Include func(name string) (text string, err error)

// text returns what line n of a file brings in, as one of those that are left.
func (f Include) text(file string, n int, name string, left *int) (string, error) {
	if *left--; *left < 0 {
		return "", fmt.Errorf("%w: %s:%d: more than %d files: do they include each other?", ErrInclude, file, n, maxIncludes)
	}
	if f == nil {
		return "", fmt.Errorf("%w: %s:%d: %s: not here", ErrInclude, file, n, name)
	}
	sub, err := f(name)
	if err != nil {
		return "", fmt.Errorf("%w: %s:%d: %s: %w", ErrInclude, file, n, name, err)
	}
	return sub, nil
}

// Add adds the text of the file that is in the folder dir ("" is the root). include may be nil if nothing may be brought in.
func (s *Set) Add(dir, file, text string, include Include) error {
	l := &list{}
	left := maxIncludes
	if err := l.parse(file, text, include, &left); err != nil {
		return err
	}
	if s.lists == nil {
		s.lists = map[string]*list{}
	}
	s.lists[dir] = l
	return nil
}

func (l *list) parse(file, text string, include Include, left *int) error {
	text = strings.TrimPrefix(text, "\ufeff")
	n := 0
	for line := range strings.SplitSeq(text, "\n") {
		n++
		line = strings.TrimSuffix(line, "\r")
		if name, ok := strings.CutPrefix(line, "#include "); ok {
			name = strings.TrimSpace(name)
			sub, err := include.text(file, n, name, left)
			if err == nil {
				err = l.parse(name, sub, include, left)
			}
			if err != nil {
				return err
			}
			continue
		}
		if p, ok := parseLine(line); ok {
			p.File, p.Number, p.Text = file, n, line
			l.lines = append(l.lines, p)
		}
	}
	return nil
}

// parseLine reads a line as gitignore(5) has it.
func parseLine(line string) (p Line, ok bool) {
	if line == "" || line[0] == '#' {
		return p, false
	}
	line = trimBlanks(line)
	line, p.fold = options(line)
	if rest, ok := strings.CutPrefix(line, "!"); ok {
		p.negated = true
		line = rest
		var fold bool
		line, fold = options(line)
		p.fold = p.fold || fold
	}
	if line == "" {
		return p, false
	}
	if rest, ok := strings.CutSuffix(line, "/"); ok {
		p.dirOnly = true
		line = rest
	}
	p.base = !strings.Contains(line, "/")
	line = strings.TrimPrefix(line, "/")
	p.glob = line
	p.never = line == "" || danglingEscape(line)
	return p, true
}

// options cuts (?i) and (?d) off the front.
func options(line string) (rest string, fold bool) {
	for {
		switch {
		case strings.HasPrefix(line, "(?i)"):
			fold = true
		case strings.HasPrefix(line, "(?d)"):
		default:
			return line, fold
		}
		line = line[4:]
	}
}

// danglingEscape reports whether the last backslash escapes nothing.
func danglingEscape(s string) bool {
	n := 0
	for strings.HasSuffix(s[:len(s)-n], `\`) {
		n++
	}
	return n%2 == 1
}

// trimBlanks removes blanks from the end, but those that a backslash protects.
func trimBlanks(s string) string {
	end := -1
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case ' ':
			if end < 0 {
				end = i
			}
		case '\\':
			i++
			end = -1
		default:
			end = -1
		}
	}
	if end >= 0 {
		return s[:end]
	}
	return s
}

// Match reports whether path is left out, and the line that decides it; nil if none says anything. dir says that path is a directory.
func (s *Set) Match(name string, dir bool) (out bool, by *Line) {
	if len(s.lists) == 0 {
		return false, nil
	}
	for i := 0; i < len(name); i++ {
		if name[i] == '/' {
			if l := s.last(name[:i], true); l != nil && !l.negated {
				return true, l
			}
		}
	}
	return s.MatchIn(name, dir)
}

// MatchIn is Match of what is in no directory that is left out.
func (s *Set) MatchIn(name string, dir bool) (out bool, by *Line) {
	if l := s.last(name, dir); l != nil {
		return !l.negated, l
	}
	return false, nil
}

// last returns the line that decides about name, without what it is in.
func (s *Set) last(name string, dir bool) *Line {
	for in := name; ; {
		in = in[:max(strings.LastIndexByte(in, '/'), 0)]
		if l := s.lists[in]; l != nil {
			rel := name
			if in != "" {
				rel = name[len(in)+1:]
			}
			for i := len(l.lines) - 1; i >= 0; i-- {
				if l.lines[i].matches(rel, dir) {
					return &l.lines[i]
				}
			}
		}
		if in == "" {
			return nil
		}
	}
}

func (l *Line) matches(rel string, dir bool) bool {
	if l.never || l.dirOnly && !dir {
		return false
	}
	if l.base {
		rel = path.Base(rel)
	}
	// Up to its first special character git compares a pattern as it is, and takes what follows for the beginning of one.
	plain := strings.IndexAny(l.glob, `*?[\`)
	if plain <= 0 || l.base {
		return wild(l.glob, rel, l.fold)
	}
	if len(rel) < plain || rel[:plain] != l.glob[:plain] && !(l.fold && strings.EqualFold(rel[:plain], l.glob[:plain])) {
		return false
	}
	return wild(l.glob[plain:], rel[plain:], l.fold)
}
