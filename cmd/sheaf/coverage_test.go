package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A11: each call of the contract has a verb, and the code of the command makes it.
func TestAPICoverage_MissesNothing(t *testing.T) {
	a := &app{in: strings.NewReader(""), out: io.Discard, err: io.Discard, getenv: func(string) string { return "" }}
	missing, all := uncovered(a.root())
	if len(missing) > 0 || all < 60 {
		t.Errorf("of %d calls these have no verb: %v", all, missing)
	}
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = source.Write(b)
	}
	for call := range verbs {
		if code := "s." + strings.ReplaceAll(call, "/", ".") + "("; !strings.Contains(source.String(), code) {
			t.Errorf("%s is said to have a verb, and nothing calls %s", call, code)
		}
	}
	for call := range forPrograms {
		if verbs[call] != "" {
			t.Errorf("%s has a verb", call)
		}
	}
	// The control: a call whose verb goes away is missed.
	root := a.root()
	token, _, err := root.Find([]string{"token"})
	if err != nil {
		t.Fatal(err)
	}
	root.RemoveCommand(token)
	if missing, _ := uncovered(root); len(missing) != 3 {
		t.Errorf("without sheaf token: %v", missing)
	}
}
