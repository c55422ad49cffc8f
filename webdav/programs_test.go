package webdav_test

import (
	"os/exec"
	"regexp"
	"testing"
)

// M8: the suite of the neon people, all its groups.
func TestLitmus_EveryGroupPasses(t *testing.T) {
	litmus := need(t, "litmus")
	s := inMemory(t)
	runLitmus(t, litmus, s.URL+"/")
}

var (
	litmusSummary = regexp.MustCompile("<- summary for `(\\w+)': of (\\d+) tests run: (\\d+) passed, (\\d+) failed")
	litmusWarning = regexp.MustCompile(`(?m)^.*WARNING:.*$`)
)

func runLitmus(t *testing.T, litmus, url string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), litmus, "-k", url)
	cmd.Dir = t.TempDir() // it leaves its log there
	out, err := cmd.CombinedOutput()
	groups := litmusSummary.FindAllSubmatch(out, -1)
	for _, g := range groups {
		t.Logf("%s: %s of %s passed", g[1], g[3], g[2])
	}
	if err != nil || len(groups) < 5 {
		t.Errorf("litmus: %v, %d groups\n%s", err, len(groups), out)
	}
	for _, w := range litmusWarning.FindAll(out, -1) {
		t.Errorf("litmus warns: %s", w)
	}
}
