package main

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
)

//go:embed homebrew.tmpl
var homebrewText string

//go:embed winget.tmpl
var wingetText string

// An archive is one for people, and where it will lie.
type archive struct {
	OS, Arch string // as Go has them
	Folder   string // that is in it
	URL, Sum string
}

// A shelf is what a template of a package manager is filled with.
type shelf struct {
	Version  string
	When     string // the day
	Archives []archive
}

// On returns the archive for a system, if there is one.
func (s shelf) On(goos, arch string) *archive {
	i := slices.IndexFunc(s.Archives, func(a archive) bool { return a.OS == goos && a.Arch == arch })
	if i < 0 {
		return nil
	}
	return &s.Archives[i]
}

// shelves writes the formula of Homebrew and the manifests of winget for what was built.
func (r *release) shelves(targets []string) error {
	s := shelf{Version: r.version, When: r.when.Format("2006-01-02")}
	for _, text := range targets {
		goos, arch, _ := strings.Cut(text, "/")
		folder := fmt.Sprintf("sheaf-%s-%s-%s", r.version, goos, arch)
		name := folder + ".tar.gz"
		if goos == "windows" {
			name = folder + ".zip"
		}
		b, err := os.ReadFile(filepath.Join(r.out, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		sum := sha256.Sum256(b)
		s.Archives = append(s.Archives, archive{goos, arch, folder, strings.TrimSuffix(r.url, "/") + "/" + name, hex.EncodeToString(sum[:])})
	}
	if s.On("darwin", "amd64") != nil || s.On("darwin", "arm64") != nil || s.On("linux", "amd64") != nil || s.On("linux", "arm64") != nil {
		if err := r.fill("sheaf.rb", homebrewText, s); err != nil {
			return err
		}
	}
	if s.On("windows", "amd64") == nil && s.On("windows", "arm64") == nil {
		return nil
	}
	for _, kind := range []string{"version", "installer", "locale"} {
		name := map[string]string{"version": "Sheaf.Sheaf.yaml", "installer": "Sheaf.Sheaf.installer.yaml", "locale": "Sheaf.Sheaf.locale.en-US.yaml"}[kind]
		if err := r.fill(name, wingetText+"{{template \""+kind+"\" .}}", s); err != nil {
			return err
		}
	}
	return nil
}

// fill writes a template, filled.
func (r *release) fill(name, text string, s shelf) error {
	t, err := template.New(name).Funcs(template.FuncMap{"upper": strings.ToUpper}).Parse(text)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, s); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.out, name), append(bytes.TrimSpace(b.Bytes()), '\n'), 0o644)
}
