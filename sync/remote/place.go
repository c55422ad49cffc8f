package remote

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Self is the name that means the drive itself, as in sheaf:/path. No remote can have it.
const Self = "sheaf"

// nameForm is the form of a name: letters, digits, and _ . + @ - and blanks between them, as rclone has it.
var nameForm = regexp.MustCompile(`^[\w\p{L}\p{N}.+@]+(?:[ -]+[\w\p{L}\p{N}.+@-]+)*$`)

// CheckName returns an error that wraps ErrName if name cannot be that of a remote.
func CheckName(name string) error {
	switch {
	case !nameForm.MatchString(name) || len(name) > 100:
		return fmt.Errorf("%w: %q: letters, digits, _ - . + @ and blanks between them, at most 100 bytes", ErrName, name)
	case strings.EqualFold(name, Self):
		return fmt.Errorf("%w: %s: is the drive itself", ErrName, name)
	case name == "." || name == "..":
		return fmt.Errorf("%w: %q", ErrName, name)
	}
	return nil
}

// A Place is what a person calls a place: a path below a remote that has a name, a path below one that is described on
// the spot, or a path of this machine. One of Name, Kind and Local is set.
type Place struct {
	Name    string
	Kind    string            // of a remote described on the spot
	Options map[string]string // that go before those of the named remote; nil: none
	Local   bool
	Path    string
}

// Parse reads "name:path", "name,option=value:path", ":kind,option=value:path" or a path of this machine, which has no
// colon before its first slash. A value in single or double quotes may contain anything, that
// quote doubled; a value without quotes ends at the next comma or colon; an option without a value is "true". With
// windows set, names of a single letter are drives of that machine and \ separates as / does. Errors wrap ErrSyntax or ErrName.
func Parse(s string, windows bool) (Place, error) {
	if s == "" {
		return Place{}, fmt.Errorf("%w: it is empty", ErrSyntax)
	}
	colon := strings.IndexByte(s, ':')
	slash := strings.IndexByte(s, '/')
	quoted := colon >= 0 && strings.Contains(s[:colon], ",")
	switch {
	case colon < 0, slash >= 0 && slash < colon && !quoted:
		return Place{Local: true, Path: s}, nil
	case windows && (colon == 1 && isLetter(s[0]) || strings.HasPrefix(s, `\\`)):
		return Place{Local: true, Path: s}, nil
	}
	p := parser{rest: s}
	var pl Place
	if p.take(":") {
		pl.Kind = p.until(",:")
		if pl.Kind == "" {
			return Place{}, fmt.Errorf("%w: %q: no kind after the colon", ErrSyntax, s)
		}
	} else {
		pl.Name = p.until(",:")
		if err := checkUsed(pl.Name, windows); err != nil {
			return Place{}, err
		}
	}
	for p.take(",") {
		key, value, err := p.option()
		if err != nil {
			return Place{}, fmt.Errorf("%w: %q: %w", ErrSyntax, s, err)
		}
		if pl.Options == nil {
			pl.Options = map[string]string{}
		}
		pl.Options[key] = value
	}
	if !p.take(":") {
		return Place{}, fmt.Errorf("%w: %q: no colon before the path", ErrSyntax, s)
	}
	pl.Path = p.rest
	if windows {
		pl.Path = strings.ReplaceAll(pl.Path, `\`, "/")
	}
	return pl, nil
}

// checkUsed is CheckName for a name that is used: sheaf: is told apart by who asks.
func checkUsed(name string, windows bool) error {
	if name == Self {
		return nil
	}
	if windows && len(name) == 1 {
		return fmt.Errorf("%w: %q is a drive of Windows", ErrName, name)
	}
	return CheckName(name)
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// parser eats a text from its front.
type parser struct{ rest string }

// take eats s if it comes next.
func (p *parser) take(s string) bool {
	rest, ok := strings.CutPrefix(p.rest, s)
	p.rest = rest
	return ok
}

// until eats and returns what comes before any of the bytes, or all.
func (p *parser) until(any string) string {
	i := strings.IndexAny(p.rest, any)
	if i < 0 {
		i = len(p.rest)
	}
	s := p.rest[:i]
	p.rest = p.rest[i:]
	return s
}

// option eats key=value, or a key alone.
func (p *parser) option() (key, value string, err error) {
	key = p.until("=,:")
	if key == "" || strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.") != "" {
		return "", "", fmt.Errorf("%q is no name of an option", key)
	}
	if !p.take("=") {
		return key, "true", nil
	}
	if p.rest == "" || p.rest[0] != '"' && p.rest[0] != '\'' {
		return key, p.until(",:"), nil
	}
	quote := p.rest[:1]
	var b strings.Builder
	for {
		p.rest = p.rest[1:]
		end := strings.Index(p.rest, quote)
		if end < 0 {
			return "", "", fmt.Errorf("the quote of %s does not end", key)
		}
		b.WriteString(p.rest[:end])
		p.rest = p.rest[end+1:]
		if !strings.HasPrefix(p.rest, quote) {
			break
		}
		b.WriteString(quote)
	}
	if p.rest != "" && p.rest[0] != ',' && p.rest[0] != ':' {
		return "", "", fmt.Errorf("%q after the quote of %s", p.rest, key)
	}
	return key, b.String(), nil
}

// String returns the place as Parse reads it.
func (p Place) String() string {
	if p.Local {
		return p.Path
	}
	var b strings.Builder
	if b.WriteString(p.Name); p.Kind != "" {
		b.WriteString(":" + p.Kind)
	}
	keys := make([]string, 0, len(p.Options))
	for k := range p.Options {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		v := p.Options[k]
		if v == "" || strings.ContainsAny(v, `,:"'`) {
			v = `"` + strings.ReplaceAll(v, `"`, `""`) + `"`
		}
		b.WriteString("," + k + "=" + v)
	}
	return b.String() + ":" + p.Path
}

// only reports whether a list of providers, as Option.Only has it, has this one.
func only(list, provider string) bool {
	if list == "" {
		return true
	}
	rest, not := strings.CutPrefix(list, "!")
	return slices.Contains(strings.Split(rest, ","), provider) != not
}
