package sim

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// A result is what came of one schedule.
type result struct {
	err   error
	count map[string]int
	said  []string
}

// runSeed runs the schedule of one seed. Chance, time and the keys of the drive follow from it.
func runSeed(t *testing.T, seed uint64, dir string, notes func(string, ...any)) (r result) {
	t.Helper()
	dir = filepath.Join(dir, fmt.Sprint(seed))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cryptotest.SetGlobalRandom(t, seed)
	// A bubble has a clock of its own, and tells when all goroutines in it wait.
	synctest.Test(t, func(*testing.T) {
		w := newWorld(context.Background(), seed, dir)
		w.notes = notes
		steps := 30 + w.rng.IntN(90)
		r.err = w.run(steps)
		w.count["steps"] = steps
		r.count, r.said = w.count, w.said
	})
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	return r
}

// alone lets one goroutine run at a time, so that a schedule goes the same way whenever it can, and collects garbage of Go between schedules.
func alone(t *testing.T) {
	t.Helper()
	procs, percent := runtime.GOMAXPROCS(1), debug.SetGCPercent(400)
	t.Cleanup(func() { runtime.GOMAXPROCS(procs); debug.SetGCPercent(percent) })
}

// G2, and G8 to G10, G14 with it: devices write, meet at places that fail and lie, collect garbage, crash at any write, are wiped,
// set back and revoked, with clocks that are wrong. In the end all show the same tree, in which nothing is that nobody wrote, and all is that
// was synced and that nobody who saw it ended; nothing that was ended comes back; nothing is left to do; all that lies anywhere
// is sound; and each place alone gives the whole drive. Each schedule goes the same way when it is run again.
//
// SHEAF_SCHEDULES is how many there are (else those of the seeds 1 to 30), SHEAF_SEED the first seed, SHEAF_EVERY the distance from one to the next, for several processes.
// SHEAF_TWICE is of how many one is run again, SHEAF_FAILURES after how many that fail there is no next one.
//
// Issue 7, proof 6: in one schedule of four devices reach each other directly, two of three times with no place at all. They are parted, their cables break in the middle of what is brought,
// bytes go wrong, and who serves another one crashes. Devices that were revoked go on calling: who knows it refuses them, and they read nothing that was written by who knew it.
// SHEAF_PEERS=1 makes all schedules such.
func TestSim_AllSchedulesComeToOneTree(t *testing.T) {
	alone(t)
	first, n := testkit.Schedules(t, 30)
	every, again := testkit.Environ(t, "SHEAF_EVERY", 1), testkit.Environ(t, "SHEAF_TWICE", 4)
	most := testkit.Environ(t, "SHEAF_FAILURES", 10)
	dir, sum, began, told := t.TempDir(), map[string]int{}, time.Now(), time.Now()
	bad := uint64(0)
	for i := range n {
		seed := first + i*every
		r := runSeed(t, seed, dir, nil)
		for what, k := range r.count {
			sum[what] += k
		}
		if r.err != nil {
			bad++
			fmt.Fprintf(os.Stderr, "SHEAF_SEED=%d: %v\n", seed, r.err) // also of a run that is stopped before its end
			t.Errorf("SHEAF_SEED=%d: %v\nthe end of it:\n%s", seed, r.err, tail(r.said))
		} else if i%again == i/again%again { // not always of those with one remainder, by which schedules differ
			sum["run twice"]++
			if s := twice(r, runSeed(t, seed, dir, nil)); s != "" {
				t.Errorf("SHEAF_SEED=%d goes another way the second time: %s", seed, s)
			}
		}
		if time.Since(told) > time.Minute {
			told = time.Now()
			fmt.Fprintf(os.Stderr, "%d of %d schedules, %d failed, %.1f ms each\n", i+1, n, bad, time.Since(began).Seconds()*1e3/float64(i+1))
		}
		if bad == most {
			t.Fatalf("given up after %d schedules", i+1)
		}
	}
	t.Logf("%d schedules from %d by %d, %.1f ms each: %s", n, first, every, time.Since(began).Seconds()*1e3/float64(n), sums(sum))
	wanted := []string{"due", "crashes", "ended", "run twice"}
	if n >= 1000 {
		wanted = append(wanted, "conflicts", "freed", "wipes", "set back", "unaware", "revoked", "nights", "ghosts", "refused", "let in", "evicted", "crashes of who serves")
	}
	for _, what := range wanted {
		if n >= 30 && sum[what] == 0 {
			t.Errorf("no schedule had %q: that proves nothing of it", what)
		}
	}
}

// twice tells where two runs of one schedule part, or "".
func twice(a, b result) string {
	if b.err != nil {
		return b.err.Error()
	}
	for i := range min(len(a.said), len(b.said)) {
		if a.said[i] != b.said[i] {
			return fmt.Sprintf("%q, then %q", a.said[i], b.said[i])
		}
	}
	if len(a.said) != len(b.said) {
		return fmt.Sprintf("%d lines, then %d", len(a.said), len(b.said))
	}
	return ""
}

func tail(said []string) string {
	return strings.Join(said[max(0, len(said)-12):], "\n")
}

func sums(sum map[string]int) string {
	var all []string
	for _, what := range slices.Sorted(maps.Keys(sum)) {
		all = append(all, fmt.Sprintf("%s %d", what, sum[what]))
	}
	return strings.Join(all, ", ")
}

// What a schedule does is told in full for one seed: SHEAF_TELL=1 SHEAF_SEED=… go test -v -run Tells, with SHEAF_PEERS as above.
func TestSim_TellsOneSchedule(t *testing.T) {
	alone(t)
	seed := uint64(testkit.Seed(t))
	lines := 0
	notes := func(format string, args ...any) {
		lines++
		if os.Getenv("SHEAF_TELL") != "" {
			fmt.Fprintf(os.Stderr, format+"\n", args...)
		}
	}
	r := runSeed(t, seed, t.TempDir(), notes)
	if r.err != nil {
		t.Errorf("%v", r.err)
	}
	if lines < len(r.said) || len(r.said) == 0 {
		t.Errorf("%d lines of %d were told", lines, len(r.said))
	}
}
