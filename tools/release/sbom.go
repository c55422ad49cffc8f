package main

import (
	"debug/buildinfo"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// A component is one module, as CycloneDX 1.5 has it.
type component struct {
	Type    string `json:"type"`
	Name    string `json:"name"`
	Version string `json:"version"`
	PURL    string `json:"purl"`
}

// sbom says from which modules a program was built, by what the linker has written into it.
func sbom(bin, version string, when time.Time) ([]byte, error) {
	b, err := buildinfo.ReadFile(bin)
	if err != nil {
		return nil, err
	}
	all := []component{{"library", "std", strings.TrimPrefix(b.GoVersion, "go"), "pkg:golang/std@" + strings.TrimPrefix(b.GoVersion, "go")}}
	for _, m := range b.Deps {
		for m.Replace != nil {
			m = m.Replace
		}
		all = append(all, component{"library", m.Path, m.Version, "pkg:golang/" + m.Path + "@" + m.Version})
	}
	slices.SortFunc(all, func(a, b component) int { return strings.Compare(a.Name, b.Name) })
	type metadata struct {
		Timestamp string    `json:"timestamp"`
		Component component `json:"component"`
	}
	text, err := json.MarshalIndent(struct {
		Format     string      `json:"bomFormat"`
		Spec       string      `json:"specVersion"`
		Version    int         `json:"version"`
		Metadata   metadata    `json:"metadata"`
		Components []component `json:"components"`
	}{"CycloneDX", "1.5", 1, metadata{when.Format(time.RFC3339), component{"application", b.Main.Path, version, "pkg:golang/" + b.Main.Path + "@" + version}}, all}, "", "  ")
	return append(text, '\n'), err
}
