package testkit

import (
	"os"
	"testing"
)

// Lacks ends a test because this machine lacks what it needs. In CI (the
// environment variable CI is set) the test fails, for there nothing may be left out in
// silence; elsewhere it is skipped. what says what is missing, and what to do.
func Lacks(t testing.TB, what any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("this machine lacks what the test needs (run scripts/deps): %v", what)
	}
	t.Skip(what)
}
