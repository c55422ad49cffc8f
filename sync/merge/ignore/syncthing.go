package ignore

import (
	"strings"
	"unicode/utf8"
)

// AddSyncthing adds the text of a .stignore, which counts for the whole place and before all other files. The first line that matches
// decides; a pattern matches in any folder unless it begins with "/", and with a directory all in it; "//" begins a comment. That a directory which is left out is looked
// into for the sake of a later "!" is not so here: what is in it stays out.
func (s *Set) AddSyncthing(file, text string, include Include) error {
	l := &list{}
	left := maxIncludes
	if err := l.parseSyncthing(file, text, include, &left); err != nil {
		return err
	}
	s.st = l
	return nil
}

func (l *list) parseSyncthing(file, text string, include Include, left *int) error {
	n := 0
	for line := range strings.SplitSeq(strings.TrimPrefix(text, "\ufeff"), "\n") {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "//") {
			continue
		}
		if name, ok := strings.CutPrefix(line, "#include"); ok {
			name = strings.TrimSpace(name)
			sub, err := include.text(file, n, name, left)
			if err == nil {
				err = l.parseSyncthing(name, sub, include, left)
			}
			if err != nil {
				return err
			}
			continue
		}
		p := Line{File: file, Number: n, Text: line}
		rest := line
		for {
			var fold bool
			rest, fold = options(rest)
			p.fold = p.fold || fold
			after, ok := strings.CutPrefix(rest, "!")
			if !ok {
				break
			}
			p.negated, rest = !p.negated, after
		}
		rest = strings.TrimSuffix(rest, "/")
		if rest == "" || !utf8.ValidString(rest) {
			continue
		}
		if after, ok := strings.CutPrefix(rest, "/"); ok {
			p.glob = after
		} else if strings.HasPrefix(rest, "**/") {
			p.glob = rest
		} else {
			p.glob = "**/" + rest
		}
		l.lines = append(l.lines, p)
	}
	return nil
}

// first returns the line that decides about name, or about something that it is in.
func (l *list) first(name string) *Line {
	for i := range l.lines {
		p := &l.lines[i]
		for at := name; ; {
			if !p.never && wild(p.glob, at, p.fold) {
				return p
			}
			j := strings.LastIndexByte(at, '/')
			if j < 0 {
				break
			}
			at = at[:j]
		}
	}
	return nil
}
