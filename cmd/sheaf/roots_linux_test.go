package main

import (
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// A process in whose system there is no certificate at all believes Mozilla's list; one that has some does not.
func TestHaveRoots_OnlyWhereThereAreNone(t *testing.T) {
	const job = "SHEAF_TEST_ROOTS"
	if where := os.Getenv(job); where != "" {
		if err := haveRoots(func(string) string { return "" }, []string{where}); err != nil {
			t.Fatal(err)
		}
		for c := range bundle.Roots() {
			cert, err := x509.ParseCertificate(c.Certificate)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := cert.Verify(x509.VerifyOptions{KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
				os.Exit(7)
			}
		}
		return
	}
	empty, full := t.TempDir(), t.TempDir()
	file := filepath.Join(full, "some.crt")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for place, want := range map[string]int{full: 0, file: 0, empty: 7, empty + "/none": 7} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestHaveRoots_OnlyWhereThereAreNone$")
		cmd.Env = append(os.Environ(), job+"="+place, "SSL_CERT_FILE="+empty+"/none", "SSL_CERT_DIR="+empty) // as if the system had none
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("%s: exit code %d, want %d: %s", place, got, want, out)
		}
	}
}
