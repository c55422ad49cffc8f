package posix

import (
	"bufio"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// A verdict is what a suite says of one of its tests.
type verdict uint8

const (
	passed verdict = iota
	failed
	inapplicable // the suite itself found that it cannot be run here
)

// A result is one test of a suite.
type result struct {
	name    string
	verdict verdict
	said    string // by the suite, where it did not pass
}

//go:embed testdata/*.txt
var testdata embed.FS // a plain user need not reach the folder

// exceptions reads testdata/name: on each line the name of a test that is known to fail, and the reason.
func exceptions(t *testing.T, name string) map[string]string {
	t.Helper()
	path := "testdata/" + name
	f, err := testdata.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := map[string]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		test, reason, _ := strings.Cut(line, " ")
		if reason = strings.TrimSpace(reason); reason == "" {
			t.Fatalf("%s: %s is excepted without a reason", path, test)
		}
		if _, twice := all[test]; twice {
			t.Fatalf("%s: %s is there twice", path, test)
		}
		all[test] = reason
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// judge holds what a suite said against testdata/name, and prints the totals.
func judge(t *testing.T, suite, name string, results []result) {
	t.Helper()
	line, wrong := compare(suite, results, exceptions(t, name), only(t) == nil)
	for _, w := range wrong {
		t.Error(w)
	}
	t.Log(line)
}

// compare returns the totals in one line, and what is not as the exceptions have it. whole says that every
// test was run.
func compare(suite string, results []result, excepted map[string]string, whole bool) (line string, wrong []string) {
	var n [3]int
	seen := map[string]bool{}
	known := 0
	for _, r := range results {
		n[r.verdict]++
		_, ok := excepted[r.name]
		switch seen[r.name] = true; {
		case r.verdict == failed && ok:
			known++
		case r.verdict == failed:
			wrong = append(wrong, fmt.Sprintf("%s: %s fails: %s", suite, r.name, r.said))
		case r.verdict == passed && ok:
			wrong = append(wrong, fmt.Sprintf("%s: %s passes, and is excepted", suite, r.name))
		}
	}
	for test := range excepted {
		if whole && !seen[test] {
			wrong = append(wrong, fmt.Sprintf("%s: %s is excepted, and there is no such test", suite, test))
		}
	}
	if len(results) == 0 {
		wrong = append(wrong, suite+": no test was run")
	}
	slices.Sort(wrong)
	line = fmt.Sprintf("%s: %d apply, %d pass, %d excepted, %d fail; %d do not apply",
		suite, n[passed]+n[failed], n[passed], known, n[failed]-known, n[inapplicable])
	return line, wrong
}

// only returns which tests of a suite are to be run (SHEAF_POSIX_ONLY, a regular expression); nil: all.
func only(t *testing.T) *regexp.Regexp {
	t.Helper()
	s := os.Getenv("SHEAF_POSIX_ONLY")
	if s == "" {
		return nil
	}
	re, err := regexp.Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	return re
}

// from returns the path that the environment names for a suite, of which the files in want must be there.
func from(t *testing.T, variable, what string, want ...string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		missing(t, variable+" is not set: it names "+what)
	}
	for _, w := range want {
		if _, err := os.Stat(filepath.Join(path, w)); err != nil {
			t.Fatalf("%s=%s is to name %s: %v", variable, path, what, err)
		}
	}
	return path
}

// missing ends a test that lacks what scripts/deps does not bring: as a failure if everything is to be run.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("SHEAF_POSIX") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// lacks ends a test that lacks what scripts/deps brings.
func lacks(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("SHEAF_POSIX") != "" {
		t.Fatal(what)
	}
	testkit.Lacks(t, what)
}

func TestCompare_AnExceptionMustBeTrue(t *testing.T) {
	results := []result{{"a", passed, ""}, {"b", failed, "no"}, {"c", inapplicable, ""}, {"d", failed, "no"}}
	for _, c := range []struct {
		excepted map[string]string
		wrong    int
	}{
		{map[string]string{"b": "x", "d": "x"}, 0},
		{map[string]string{"b": "x"}, 1},                                  // d fails
		{map[string]string{"a": "x", "b": "x", "d": "x"}, 1},              // a passes
		{map[string]string{"b": "x", "d": "x", "e": "x"}, 1},              // there is no e
		{map[string]string{"b": "x", "c": "not everywhere", "d": "x"}, 0}, // c may apply elsewhere
	} {
		if line, wrong := compare("s", results, c.excepted, true); len(wrong) != c.wrong {
			t.Errorf("%v: got %q (%s), want %d", c.excepted, wrong, line, c.wrong)
		}
	}
	if _, wrong := compare("s", nil, nil, true); len(wrong) != 1 {
		t.Errorf("a suite that ran nothing: got %q", wrong)
	}
}
