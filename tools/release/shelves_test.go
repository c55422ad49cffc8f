package main

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The formula and the manifests name the archives that were made, with their sums, and nothing else.
func TestShelves_NameWhatWasMade(t *testing.T) {
	r := &release{out: t.TempDir(), version: "1.2.3", url: "https://example.org/v1.2.3/", when: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)}
	sums := map[string]string{}
	for _, name := range []string{"sheaf-1.2.3-linux-amd64.tar.gz", "sheaf-1.2.3-darwin-arm64.tar.gz", "sheaf-1.2.3-windows-amd64.zip", "sheaf-1.2.3-windows-arm64.zip"} {
		if err := os.WriteFile(filepath.Join(r.out, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(name))
		sums[name] = hex.EncodeToString(sum[:])
	}
	if err := r.shelves(strings.Fields("linux/amd64 darwin/arm64 windows/amd64 windows/arm64 android/arm64")); err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(r.out, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	formula := read("sheaf.rb")
	want := `
  on_macos do
    on_arm do
      url "https://example.org/v1.2.3/sheaf-1.2.3-darwin-arm64.tar.gz"
      sha256 "` + sums["sheaf-1.2.3-darwin-arm64.tar.gz"] + `"
    end
  end

  on_linux do
    on_intel do
      url "https://example.org/v1.2.3/sheaf-1.2.3-linux-amd64.tar.gz"
      sha256 "` + sums["sheaf-1.2.3-linux-amd64.tar.gz"] + `"
    end
  end

  def install
`
	if !strings.Contains(formula, want) {
		t.Errorf("the formula is\n%s", formula)
	}
	installer := read("Sheaf.Sheaf.installer.yaml")
	want = `
Installers:
- Architecture: x64
  NestedInstallerFiles:
  - RelativeFilePath: sheaf-1.2.3-windows-amd64\sheaf.exe
    PortableCommandAlias: sheaf
  InstallerUrl: https://example.org/v1.2.3/sheaf-1.2.3-windows-amd64.zip
  InstallerSha256: ` + strings.ToUpper(sums["sheaf-1.2.3-windows-amd64.zip"]) + `
- Architecture: arm64
`
	if !strings.Contains(installer, want) || strings.Count(installer, "InstallerUrl") != 2 {
		t.Errorf("the manifest is\n%s", installer)
	}
	for _, name := range []string{"Sheaf.Sheaf.yaml", "Sheaf.Sheaf.installer.yaml", "Sheaf.Sheaf.locale.en-US.yaml"} {
		if text := read(name); !strings.HasPrefix(text, "PackageIdentifier: Sheaf.Sheaf\nPackageVersion: 1.2.3\n") || !strings.HasSuffix(text, "ManifestVersion: 1.6.0\n") {
			t.Errorf("%s is\n%s", name, text)
		}
	}
}
