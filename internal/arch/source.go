package arch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The limits of size.
const (
	MaxLines   = 600 // of a file
	MaxMethods = 8   // of an interface, without those it embeds
)

// Load lists the packages of the module in dir as they are built for an operating system,
// without cgo.
func Load(ctx context.Context, dir, goos, goarch string) ([]Package, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-e", "-json=ImportPath,Name,Imports,Module,Error,GoFiles", "./...")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list packages for %s: %w\n%s", goos, err, stderr.Bytes())
	}
	var pkgs []Package
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath, Name string
			Imports, GoFiles []string
			Module           struct{ Path string }
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs, nil
		} else if err != nil {
			return nil, fmt.Errorf("list packages for %s: %w", goos, err)
		}
		if len(p.GoFiles) == 0 {
			continue // not built there, or tests alone
		}
		q := Package{Name: p.Name, Path: strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, p.Module.Path), "/")}
		for _, imp := range p.Imports {
			if imp == p.Module.Path || strings.HasPrefix(imp, p.Module.Path+"/") {
				imp = "./" + strings.TrimPrefix(strings.TrimPrefix(imp, p.Module.Path), "/")
			}
			q.Imports = append(q.Imports, imp)
		}
		pkgs = append(pkgs, q)
	}
}

// CheckSource returns what breaks the rules in the text of the files below dir, whatever the
// system they are for: missing package comments, files and interfaces that are too
// large, and clocks in the pure packages.
func (r Rules) CheckSource(dir string) ([]string, error) {
	var found []string
	comment := map[string]bool{} // folder → has a package comment; only folders with Go files
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		if e.IsDir() {
			if base := e.Name(); rel != "." && (base[0] == '.' || base[0] == '_' || base == "testdata" || base == "tools" || base == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		f, err := parser.ParseFile(token.NewFileSet(), rel, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		folder := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(rel)), ".")
		if !strings.HasSuffix(rel, "_test.go") {
			comment[folder] = comment[folder] || f.Doc != nil && good(f)
		}
		if !ast.IsGenerated(f) {
			found = append(found, r.checkFile(rel, folder, f, bytes.Count(text, []byte("\n")))...)
		}
		return nil
	})
	for folder, ok := range comment {
		if !ok {
			found = append(found, fmt.Sprintf("%s: no package comment that begins with its name", orRoot(folder)))
		}
	}
	return found, err
}

// good reports whether a package comment begins as it should, and says what the package is.
func good(f *ast.File) bool {
	text := f.Doc.Text()
	if f.Name.Name == "main" {
		return len(text) > 20
	}
	return strings.HasPrefix(text, "Package "+f.Name.Name+" ") && len(text) > 40
}

func (r Rules) checkFile(rel, folder string, f *ast.File, lines int) []string {
	var found []string
	if lines > MaxLines {
		found = append(found, fmt.Sprintf("%s: %d lines, at most %d", rel, lines, MaxLines))
	}
	_, pure := r.Pure[folder]
	pure = pure && !strings.HasSuffix(rel, "_test.go")
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.TypeSpec:
			if it, ok := n.Type.(*ast.InterfaceType); ok {
				if own := methods(it); own > MaxMethods {
					found = append(found, fmt.Sprintf("%s: interface %s has %d methods of its own, at most %d", rel, n.Name, own, MaxMethods))
				}
			}
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && pure && x.Name == "time" && clock[n.Sel.Name] {
				found = append(found, fmt.Sprintf("%s: time.%s in a pure package", rel, n.Sel.Name))
			}
		}
		return true
	})
	return found
}

// clock are the functions of package time that ask for the time or wait.
var clock = map[string]bool{
	"Now": true, "Since": true, "Until": true, "Sleep": true, "After": true, "AfterFunc": true, "Tick": true, "NewTimer": true, "NewTicker": true,
}

func methods(it *ast.InterfaceType) (n int) {
	for _, m := range it.Methods.List {
		if _, ok := m.Type.(*ast.FuncType); ok {
			n += len(m.Names)
		}
	}
	return n
}
