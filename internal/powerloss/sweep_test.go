//go:build linux

package powerloss

import (
	"os"
	"strconv"
	"testing"

	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// number reads a figure from the environment.
func number(t testing.TB, name string, def int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return def
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
	return n
}

func long() bool { return os.Getenv("SHEAF_LONG") != "" }

// G4, G5: at each moment of each workload the process dies, or the power goes. What was acknowledged is there,
// nothing is torn, Verify finds nothing, and the drive is writable. SHEAF_LONG tries every moment; else a sample
// of SHEAF_CUTS for each workload, or of a few workloads.
func TestDrive_SurvivesACutAtEachMoment(t *testing.T) {
	seed := testkit.Seed(t)
	per := number(t, "SHEAF_CUTS", 2) // per workload
	if long() {
		per = number(t, "SHEAF_CUTS", 1<<30)
	}
	some := map[int]bool{}
	for _, i := range testkit.Rand(seed).Perm(len(workloads))[:5] {
		some[i] = true
	}
	cuts, moments := 0, 0
	for i, l := range workloads {
		if !some[i] && i > 0 && os.Getenv("SHEAF_CUTS") == "" && !long() {
			continue
		}
		t.Run(l.name, func(t *testing.T) {
			w := start(t, l, seed+int64(i), long())
			r := testkit.Rand(seed ^ int64(i)<<32)
			all := w.disk.Pos()
			if len(w.saves) < 2 {
				t.Fatal("nothing was synced: the round proves nothing")
			}
			moments += all
			tried, failed := 0, 0
			try := func(c Cut) {
				tried++
				if err := w.check(c, tried%10 == 1); err != nil {
					t.Errorf("%v", err)
					failed++
				}
			}
			if per >= all {
				for at := 0; at <= all && failed < 5; at++ {
					for m := Killed; m <= Posix; m++ {
						try(Cut{At: at, Model: m, Seed: r.Uint64N(1000)})
					}
				}
			} else {
				for k := 0; k < per && failed < 5; k++ {
					try(Cut{At: r.IntN(all + 1), Model: Model(r.IntN(int(Posix) + 1)), Seed: r.Uint64N(1000)})
				}
			}
			cuts += tried
			t.Logf("%d moments, %d saves, %d cuts", all, len(w.saves), tried)
		})
	}
	t.Logf("%d moments, %d cuts", moments, cuts)
}
