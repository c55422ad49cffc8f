package posix

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// pjdfstest: what system calls may do to names, modes, owners and times. Needs root.
func TestPjdfstest(t *testing.T) {
	suite := from(t, "PJDFSTEST", "the folder of a built pjdfstest", "pjdfstest", "tests/conf")
	dir := mounted(t, "")
	tests := filepath.Join(suite, "tests")
	var names []string
	err := filepath.WalkDir(tests, func(path string, e fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".t" {
			name, _ := filepath.Rel(tests, path)
			if re := only(t); re == nil || re.MatchString(name) {
				names = append(names, name)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	of := make([][]result, len(names))
	var wg sync.WaitGroup
	room := make(chan struct{}, 3)
	for i, name := range names {
		work := filepath.Join(dir, strings.ReplaceAll(name, "/", "-"))
		if err := os.Mkdir(work, 0o755); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			of[i] = runTAP(t.Context(), work, name, filepath.Join(tests, name))
		})
	}
	wg.Wait()
	var all []result
	for _, r := range of {
		all = append(all, r...)
	}
	judge(t, "pjdfstest", "pjdfstest.txt", all)
}

var (
	tapPlan = regexp.MustCompile(`^1\.\.(\d+)`)
	tapLine = regexp.MustCompile(`^(not )?ok (\d+)(.*)$`)
)

// runTAP runs a script that speaks the Test Anything Protocol, and returns one result per
// assertion, named name:number.
func runTAP(ctx context.Context, work, name, script string) []result {
	cmd := exec.CommandContext(ctx, "sh", script)
	cmd.Dir = work
	out, err := cmd.Output()
	return readTAP(name, string(out), err)
}

// readTAP reads what a script said and how it ended. An assertion that its plan promises and that is not there
// fails; one that its author expects to fail (TODO) may do either.
func readTAP(name, out string, ended error) []result {
	var all []result
	plan := -1
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if m := tapPlan.FindStringSubmatch(line); m != nil {
			fmt.Sscan(m[1], &plan)
			if plan == 0 {
				return []result{{name, inapplicable, line}}
			}
		}
		m := tapLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		r := result{name: name + ":" + m[2]}
		if m[1] != "" && !strings.Contains(m[3], "# TODO") {
			r.verdict, r.said = failed, line
		}
		all = append(all, r)
	}
	if len(all) != plan || ended != nil {
		all = append(all, result{name, failed, fmt.Sprintf("%d assertions of %d; %v", len(all), plan, ended)})
	}
	return all
}

func TestReadTAP(t *testing.T) {
	for _, c := range []struct {
		out  string
		want string
	}{
		{"1..2\nok 1\nok 2\n", "ok ok"},
		{"1..2\nok 1\nnot ok 2 - tried 'x', expected 0, got ENOENT\n", "ok fail"},
		{"1..2\nok 1\nnot ok 2 # TODO as it is\n", "ok ok"},
		{"1..2\nok 1\n", "ok fail"},
		{"1..0 # SKIP other system\n", "skip"},
		{"", "fail"},
	} {
		var got []string
		for _, r := range readTAP("x", c.out, nil) {
			got = append(got, [...]string{"ok", "fail", "skip"}[r.verdict])
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%q: got %s, want %s", c.out, s, c.want)
		}
	}
}
