package ignore_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/merge/ignore"
)

// git runs git in dir, with no settings but its own.
func git(t *testing.T, dir string, in []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(in)
	cmd.Env = append(os.Environ(), "HOME="+dir, "GIT_CONFIG_NOSYSTEM=1", "XDG_CONFIG_HOME="+dir)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() > 1) {
		t.Fatalf("git %v: %v", args, err)
	}
	return out
}

var elements = []string{"a", "b", "ab", "abc", "B", "foo", "foo.o", "x.c", "a b", "a ", "[x]", "a-b", "é", "1", "#h", "!n", `b\s`}

// paths makes a tree of files and directories and returns their paths, those of directories with a slash behind them.
func paths(t *testing.T, r *rand.Rand, root string) (all []string) {
	dirs := []string{""}
	for range 60 {
		dir := dirs[r.IntN(len(dirs))]
		name := filepath.Join(dir, elements[r.IntN(len(elements))])
		full := filepath.Join(root, name)
		if _, err := os.Lstat(full); err == nil {
			continue
		}
		if r.IntN(3) == 0 {
			if err := os.Mkdir(full, 0o700); err != nil {
				t.Fatal(err)
			}
			dirs = append(dirs, name)
			all = append(all, name+"/")
			continue
		}
		if err := os.WriteFile(full, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		all = append(all, name)
	}
	return all
}

func pattern(r *rand.Rand) string {
	parts := []string{
		"a", "b", "ab", "foo", "*", "**", "?", "/", "/", "[ab]", "[!a]", "[^b]", "[a-c]", "[[:alpha:]]", "[]x]", `\a`, `\*`, "*.o", "*.c", "x", ".", " ", `\ `, "!", "#", "[", "]",
		"[[:digit:]-]", "[a-", "é", "B", "c", "[[:nope:]]", `[\]]`, "-", "1", `\`, "**/", "/**", "/**/",
	}
	var b strings.Builder
	if r.IntN(5) == 0 {
		b.WriteByte('!')
	}
	if r.IntN(5) == 0 {
		b.WriteByte('/')
	}
	for range 1 + r.IntN(4) {
		if r.IntN(2) == 0 {
			b.WriteString(elements[r.IntN(len(elements))])
		} else {
			b.WriteString(parts[r.IntN(len(parts))])
		}
	}
	if r.IntN(5) == 0 {
		b.WriteByte('/')
	}
	return b.String()
}

// Thousands of patterns mean the same here as to git.
func TestSet_IsWhatGitSays(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Fatal("git is not installed: apt-get install git")
	}
	r := testkit.Rand(testkit.Seed(t))
	rounds := 150
	if testing.Short() {
		rounds = 20
	}
	if s := os.Getenv("SHEAF_LONG"); s != "" {
		rounds = 2000
	}
	checked, left := 0, 0
	for range rounds {
		root := t.TempDir()
		all := paths(t, r, root)
		git(t, root, nil, "init", "-q")
		var set ignore.Set
		dirs := []string{""}
		for _, p := range all {
			if strings.HasSuffix(p, "/") && r.IntN(3) == 0 {
				dirs = append(dirs, strings.TrimSuffix(p, "/"))
			}
		}
		texts := map[string]string{}
		for _, dir := range dirs {
			var lines []string
			for range 1 + r.IntN(5) {
				lines = append(lines, pattern(r))
			}
			text := strings.Join(lines, "\n") + "\n"
			texts[dir] = text
			if err := os.WriteFile(filepath.Join(root, dir, ".gitignore"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := set.Add(dir, dir, text, nil); err != nil {
				t.Fatal(err)
			}
		}
		var in bytes.Buffer
		for _, p := range all {
			in.WriteString(strings.TrimSuffix(p, "/") + "\x00")
		}
		out := strings.Split(strings.TrimSuffix(string(git(t, root, in.Bytes(), "check-ignore", "-z", "-v", "-n", "--no-index", "--stdin")), "\x00"), "\x00")
		if len(out) != 4*len(all) {
			t.Fatalf("git says %d things of %d paths", len(out), len(all))
		}
		for i, p := range all {
			line, path := out[4*i+2], out[4*i+3]
			want := line != "" && !strings.HasPrefix(line, "!")
			got, by := set.Match(path, strings.HasSuffix(p, "/"))
			checked++
			if got {
				left++
			}
			if got != want {
				t.Errorf("%q: left out is %v by %v, git says %v by %q of %s; all: %q", p, got, by, want, line, out[4*i], texts)
			}
		}
		if t.Failed() {
			return
		}
	}
	if left*20 < checked || left*20 > checked*19 {
		t.Errorf("%d of %d are left out: that proves little", left, checked)
	}
	t.Logf("%d paths, %d left out", checked, left)
}

func TestSet_Includes(t *testing.T) {
	files := map[string]string{"common": "*.tmp\n!keep.tmp\n", "loop": "#include loop\n"}
	get := func(name string) (string, error) {
		text, ok := files[name]
		if !ok {
			return "", os.ErrNotExist
		}
		return text, nil
	}
	var s ignore.Set
	if err := s.Add("", ignore.Name, "#include common\n(?i)THUMBS.db\n# a comment\n", get); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"a.tmp": "common:1: *.tmp", "d/keep.tmp": "", "x/thumbs.DB": ".sheafignore:2: (?i)THUMBS.db", "a.txt": "", "# a comment": ""} {
		out, by := s.Match(path, false)
		got := ""
		if out {
			got = by.String()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	if err := s.Add("", "f", "#include loop\n", get); !errors.Is(err, ignore.ErrInclude) {
		t.Errorf("got %v, want ErrInclude", err)
	}
	if err := s.Add("", "f", "#include nothing\n", get); !errors.Is(err, ignore.ErrInclude) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want ErrInclude", err)
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("a/**/b*[!x]\n", "a/b/c")
	f.Fuzz(func(_ *testing.T, text, path string) {
		var s ignore.Set
		if s.Add("", "f", text, nil) == nil {
			s.Match(path, false)
		}
		if text, _, err := ignore.FromSyncthing("f", text, nil); err == nil {
			if err := s.Add("", "f", text, nil); err != nil {
				panic(err)
			}
			s.Match(path, true)
		}
	})
}

func ExampleSet_Match() {
	var s ignore.Set
	_ = s.Add("", ignore.Name, "*.o\n!keep.o\nbuild/\n", nil)
	for _, p := range []string{"main.o", "keep.o", "build/log"} {
		out, by := s.Match(p, false)
		fmt.Println(p, out, by)
	}
	// Output:
	// main.o true .sheafignore:1: *.o
	// keep.o false .sheafignore:2: !keep.o
	// build/log true .sheafignore:3: build/
}
