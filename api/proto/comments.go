package proto

import (
	"bufio"
	"fmt"
	"io/fs"
	"strings"
)

// Comments returns the comments of the contract, by the full names of what they are of: the Go code that is generated of it does not have
// them. The sources are in the one form that they are checked to have: what is commented begins a line of its own.
func Comments() (map[string]string, error) {
	all := map[string]string{}
	err := fs.WalkDir(Sources, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		f, err := Sources.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		var said []string
		scopes := []string{"sheaf.v1"} // of the blocks that are open; "" is one that gives no name
		for sc := bufio.NewScanner(f); sc.Scan(); {
			line := strings.TrimSpace(sc.Text())
			if text, ok := strings.CutPrefix(line, "//"); ok {
				said = append(said, strings.TrimPrefix(text, " "))
				continue
			}
			name, inner := named(line)
			if name != "" && len(said) > 0 {
				all[within(scopes, name)] = strings.Join(said, "\n")
			}
			said = nil
			switch {
			case strings.HasSuffix(line, "{"):
				if !inner {
					name = ""
				}
				scopes = append(scopes, name)
			case line == "}" || line == "};":
				if len(scopes) == 1 {
					return fmt.Errorf("%s: a block ends that did not begin", path)
				}
				scopes = scopes[:len(scopes)-1]
			}
		}
		return nil
	})
	return all, err
}

// named returns what a line of a source declares, and whether the names in its block are in its own.
func named(line string) (name string, inner bool) {
	words := strings.Fields(line)
	if len(words) < 2 {
		return "", false
	}
	switch words[0] {
	case "message", "service", "enum":
		return words[1], true
	case "rpc":
		name, _, _ := strings.Cut(words[1], "(")
		return name, true
	case "oneof":
		return words[1], false
	case "option", "import", "package", "syntax":
		return "", false
	}
	for i, w := range words[1:] { // "repeated string paths = 1;", "CODE_USAGE = 1;"
		if w == "=" {
			return words[i], false
		}
	}
	return "", false
}

func within(scopes []string, name string) string {
	full := ""
	for _, s := range append(scopes, name) {
		if s != "" {
			full += "." + s
		}
	}
	return full[1:]
}
