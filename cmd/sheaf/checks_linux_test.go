package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

// Faults of the machine, which a test cannot plant for all that runs on it: each is found, and what mends it is said.
func TestChecks_FindWhatIsWrongWithTheMachine(t *testing.T) {
	dir := t.TempDir()
	none := filepath.Join(dir, "none")
	few := filepath.Join(dir, "watches")
	for path, text := range map[string]string{few: "8192\n", filepath.Join(dir, "many"): "524288\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	there := func(string) (string, error) { return "/usr/bin/fusermount3", nil }
	lacking := func(string) (string, error) { return "", errors.New("not found") }
	for _, c := range []struct {
		what  string
		check *sheafv1.Check
		well  bool
	}{
		{"no FUSE", checkFuse(none), false},
		{"FUSE that opens", checkFuse(few), true},
		{"FUSE that is a folder", checkFuse(dir), false},
		{"no helper", checkHelper(lacking), false},
		{"a helper", checkHelper(there), true},
		{"few watches", checkWatches(few), false},
		{"many watches", checkWatches(filepath.Join(dir, "many")), true},
		{"a clock that was never set", checkClock(time.Unix(0, 0)), false},
		{"a clock far ahead", checkClock(time.Date(2199, 1, 1, 0, 0, 0, 0, time.UTC)), false},
		{"a clock", checkClock(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)), true},
	} {
		if is := c.check.GetState() == sheafv1.Check_STATE_OK; is != c.well || !is && c.check.GetFix() == "" {
			t.Errorf("%s: got %v", c.what, c.check)
		}
	}
}
