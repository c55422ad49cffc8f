package lines_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs/lines"
)

func TestMerge_Cases(t *testing.T) {
	for name, c := range map[string]struct {
		base, a, b, want string
		clash            bool
	}{
		"nothing":                {"a\nb\n", "a\nb\n", "a\nb\n", "a\nb\n", false},
		"one side":               {"a\nb\n", "a\nc\n", "a\nb\n", "a\nc\n", false},
		"both, apart":            {"a\nb\nc\nd\n", "A\nb\nc\nd\n", "a\nb\nc\nD\n", "A\nb\nc\nD\n", false},
		"the same":               {"a\nb\n", "a\nx\nb\n", "a\nx\nb\n", "a\nx\nb\n", false},
		"the same line":          {"a\nb\nc\n", "a\nx\nc\n", "a\ny\nc\n", "", true},
		"next to each other":     {"a\nb\nc\nd\n", "a\nx\nc\nd\n", "a\nb\ny\nd\n", "", true},
		"one deletes, one edits": {"a\nb\nc\n", "a\nc\n", "a\nB\nc\n", "", true},
		"both add at the end":    {"a\n", "a\nx\n", "a\ny\n", "", true},
		"no line end":            {"a\nb\nc", "A\nb\nc", "a\nb\nC", "A\nb\nC", false},
		"from nothing":           {"", "x\n", "", "x\n", false},
		"one takes all away":     {"a\nb\n", "", "a\nb\n", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := lines.Merge(c.base, c.a, c.b)
			if c.clash != errors.Is(err, lines.ErrClash) || !c.clash && err != nil || got != c.want {
				t.Errorf("got %q, %v", got, err)
			}
			again, err := lines.Merge(c.base, c.b, c.a)
			if c.clash != (err != nil) || again != got {
				t.Errorf("the other way round: got %q, %v", again, err)
			}
		})
	}
}

// What it makes of random texts is what diff3 of GNU makes of them, wherever it makes anything.
func TestMerge_AgreesWithDiff3(t *testing.T) {
	if _, err := exec.LookPath("diff3"); err != nil {
		t.Fatal("diff3 is needed: apt-get install diffutils")
	}
	rng := testkit.Rand(testkit.Seed(t))
	dir, merged := t.TempDir(), 0
	for range 300 {
		base := text(rng)
		a, b := edited(rng, base), edited(rng, base)
		got, err := lines.Merge(join(base), join(a), join(b))
		if err != nil {
			if !errors.Is(err, lines.ErrClash) {
				t.Fatal(err)
			}
			continue
		}
		merged++
		var args []string
		for name, ls := range map[string][]string{"a": a, "base": base, "b": b} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(join(ls)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		args = append(args, "-m", "-E", filepath.Join(dir, "a"), filepath.Join(dir, "base"), filepath.Join(dir, "b"))
		out, err := exec.CommandContext(t.Context(), "diff3", args...).Output()
		if err != nil || string(out) != got {
			t.Fatalf("of %q, %q and %q: got %q, diff3 %q, %v", base, a, b, got, out, err)
		}
	}
	if merged < 50 {
		t.Errorf("only %d of 300 were made one: that proves little", merged)
	}
}

func join(ls []string) string { return strings.Join(append(ls, ""), "\n") }

// text is some lines that all differ: where they do not, there are several ways to tell what was changed.
func text(rng *rand.Rand) (ls []string) {
	for range 10 + rng.IntN(40) {
		ls = append(ls, string(rune('a'+rng.IntN(26)))+strings.Repeat("x", rng.IntN(5))+string(rune('0'+len(ls)%10))+string(rune('a'+len(ls)/10)))
	}
	return ls
}

func edited(rng *rand.Rand, base []string) []string {
	ls := slices.Clone(base)
	for range 1 + rng.IntN(3) {
		i := rng.IntN(len(ls))
		switch rng.IntN(3) {
		case 0:
			ls[i] = "edited " + string(rune('a'+rng.IntN(26)))
		case 1:
			ls = slices.Insert(ls, i, "added "+string(rune('a'+rng.IntN(26))))
		default:
			ls = slices.Delete(ls, i, i+1)
		}
		if len(ls) == 0 {
			break
		}
	}
	return ls
}
