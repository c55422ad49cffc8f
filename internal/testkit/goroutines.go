package testkit

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

// A GoroutineSet is the goroutines that ran at one moment.
type GoroutineSet map[string]bool

// Goroutines returns the goroutines that run now, for a later Check.
func Goroutines(t testing.TB) GoroutineSet {
	t.Helper()
	set := GoroutineSet{}
	for id := range stacks() {
		set[id] = true
	}
	return set
}

// Check fails the test if goroutines run that are not in the set, and prints where they
// are. It gives those that are about to end some seconds to do so.
func (s GoroutineSet) Check(t testing.TB) {
	t.Helper()
	const patience = 5 * time.Second
	for end := time.Now().Add(patience); ; {
		left := stacks()
		for id, stack := range left {
			if s[id] || idle(stack) {
				delete(left, id)
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			for _, stack := range left {
				t.Errorf("a goroutine was left behind:\n%s", stack)
			}
			return
		}
		time.Sleep(5 * time.Millisecond) // only polls: the outcome does not depend on its length
	}
}

// idle reports whether a stack is of the testing package itself, or of a library that starts one
// goroutine for the whole process.
func idle(stack string) bool {
	for _, s := range []string{
		"testing.(*T).Run", "testing.Main", "testing.runFuzz", "testing.tRunner.func", "runtime.goexit0", "os/signal.loop",
		"github.com/golang/glog.", "go.opencensus.io/", "testing.(*M).startAlarm",
	} {
		if strings.Contains(stack, s) && !strings.Contains(stack, "testing.tRunner(") {
			return true
		}
	}
	return false
}

// stacks returns the stacks of all goroutines but this one, by their numbers.
func stacks() map[string]string {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	all := map[string]string{}
	for i, s := range strings.Split(string(buf), "\n\n") {
		if i == 0 { // the caller
			continue
		}
		id, _, _ := strings.Cut(strings.TrimPrefix(s, "goroutine "), " ")
		all[id] = s
	}
	return all
}
