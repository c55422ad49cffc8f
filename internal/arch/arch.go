// Package arch holds the source tree against docs/ARCHITECTURE.md: who imports whom, what is
// pure, where heavy libraries live, and how large files and interfaces get. It judges no behaviour.
package arch

import (
	"bufio"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Rules are the tables of ARCHITECTURE.md.
type Rules struct {
	Floors map[string]Floor    // by room
	Pure   map[string][]string // package → what it may import all the same
	Finer  map[string][]string // package pattern → all that it may import of the house
	Homes  map[string][]string // import prefix → packages and folders that may
}

// Floor is one room's row.
type Floor struct {
	All bool     // may import everything
	May []string // rooms
}

// ParseRules reads the tables from the text of ARCHITECTURE.md. A table that is missing or
// empty is an error: rules that are not found would all be kept.
func ParseRules(doc string) (Rules, error) {
	r := Rules{Floors: map[string]Floor{}, Pure: map[string][]string{}, Finer: map[string][]string{}, Homes: map[string][]string{}}
	section := ""
	for lines := bufio.NewScanner(strings.NewReader(doc)); lines.Scan(); {
		line := lines.Text()
		if s, ok := strings.CutPrefix(line, "## "); ok {
			section = s
		}
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "| ---") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "| "), "|")
		if len(cells) == 1 {
			cells = append(cells, "")
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case cells[0] == "floor" || cells[0] == "package" || cells[0] == "import": // the head of the table
		case section == "Floors":
			if len(cells) == 2 { // the trim took an empty last cell
				cells = append(cells, "")
			}
			for _, room := range list(cells[1]) {
				r.Floors[room] = Floor{All: cells[2] == "everything", May: list(cells[2])}
			}
		case section == "Pure packages":
			r.Pure[cells[0]] = list(cells[1])
		case section == "Finer rules":
			r.Finer[cells[0]] = list(cells[1])
		case section == "Homes":
			r.Homes[cells[0]] = list(cells[1])
		}
	}
	if len(r.Floors) == 0 || len(r.Pure) == 0 || len(r.Finer) == 0 || len(r.Homes) == 0 {
		return Rules{}, fmt.Errorf("read rules: %d floors, %d pure packages, %d finer rules, %d homes: a table is missing",
			len(r.Floors), len(r.Pure), len(r.Finer), len(r.Homes))
	}
	return r, nil
}

// list splits a cell at its commas.
func list(cell string) []string {
	var all []string
	for s := range strings.SplitSeq(cell, ",") {
		if s = strings.TrimSpace(s); s != "" {
			all = append(all, s)
		}
	}
	return all
}

// A Package is what the rules look at in one package.
type Package struct {
	Path    string   // from the module's root: "" for the root package
	Name    string   // as its package clause has it
	Imports []string // of its files that are no tests; those of the module as "./" + Path
}

// house returns the path of an import that is of this module.
func house(imp string) (string, bool) { return strings.CutPrefix(imp, "./") }

// room returns the room of a package.
func room(p string) string {
	if p == "" {
		return "sheaf"
	}
	first, _, _ := strings.Cut(p, "/")
	return first
}

// suite reports whether a package is there for tests only.
func suite(p string) bool {
	base := path.Base(p)
	return strings.HasSuffix(base, "test") || base == "evil" || room(p) == "internal" || strings.Contains(p, "test/")
}

// CheckImports returns what breaks the rules in the imports of the packages.
func (r Rules) CheckImports(pkgs []Package) []string {
	var found []string
	say := func(p Package, format string, args ...any) {
		found = append(found, fmt.Sprintf("%s: ", orRoot(p.Path))+fmt.Sprintf(format, args...))
	}
	for _, p := range pkgs {
		if slices.Contains([]string{"sync", "util", "utils", "common", "helpers", "misc"}, p.Name) {
			say(p, "no package is named %s", p.Name)
		}
		if _, ok := r.Floors[room(p.Path)]; !ok && room(p.Path) != "internal" && room(p.Path) != "docs" {
			say(p, "room %s has no floor", room(p.Path))
		}
		for _, imp := range p.Imports {
			if to, ok := house(imp); ok {
				if why := r.inside(p, to); why != "" {
					say(p, "imports %s: %s", orRoot(to), why)
				}
			} else if why := r.outside(p, imp); why != "" {
				say(p, "imports %s: %s", imp, why)
			}
		}
	}
	return found
}

func orRoot(p string) string {
	if p == "" {
		return "sheaf"
	}
	return p
}

// inside says why p may not import to, which is of this house; "" if it may.
func (r Rules) inside(p Package, to string) string {
	from, floor := room(p.Path), r.Floors[room(p.Path)]
	switch {
	case suite(to) && !suite(p.Path) && !floor.All:
		return "only tests and suites import what is there for tests"
	case room(to) == "internal" && !suite(p.Path) && from != "bench":
		return "only tests and suites import internal"
	case room(to) == "internal" || from == "internal":
		return ""
	case room(to) != from && !floor.All && !slices.Contains(floor.May, room(to)):
		return fmt.Sprintf("%s is not below %s", room(to), from)
	}
	if suite(p.Path) {
		return "" // a suite may use its neighbours
	}
	for pattern, may := range r.Finer {
		if match(pattern, p.Path) && to != p.Path && !slices.Contains(may, to) && !match(pattern, to) {
			return fmt.Sprintf("%s may import only %s", pattern, strings.Join(may, ", "))
		}
	}
	return ""
}

// outside says why p may not import imp, which is not of this house; "" if it may.
func (r Rules) outside(p Package, imp string) string {
	if also, pure := r.Pure[p.Path]; pure && !slices.Contains(also, imp) {
		for _, bad := range []string{"os", "net", "sync", "log", "syscall"} {
			if within(imp, bad) {
				return "it is a pure package"
			}
		}
	}
	if room(p.Path) == "internal" {
		return ""
	}
	for lib, homes := range r.Homes {
		if !within(imp, lib) {
			continue
		}
		if !slices.ContainsFunc(homes, func(h string) bool { return within(p.Path, h) }) {
			return "its home is " + strings.Join(homes, ", ")
		}
	}
	return ""
}

// within reports whether p is folder, or lies below it.
func within(p, folder string) bool { return p == folder || strings.HasPrefix(p, folder+"/") }

// match reports whether p is pattern, or lies below it where the pattern ends with a star.
func match(pattern, p string) bool {
	if folder, ok := strings.CutSuffix(pattern, "/*"); ok {
		return strings.HasPrefix(p, folder+"/")
	}
	return p == pattern
}
