package measure

import (
	"runtime"
	"testing"
)

// What a program needed is what it needed itself, and not what the one that measures has.
func TestRun_PeakIsThatOfTheProgram(t *testing.T) {
	mine := make([]byte, 256<<20)
	for i := range mine {
		mine[i] = byte(i)
	}
	small, err := Run(t.Context(), t.TempDir(), nil, "sleep", "0.1")
	if err != nil {
		t.Fatal(err)
	}
	if small.Peak <= 0 || small.Peak > 32 {
		t.Errorf("sleep had %.0f MiB", small.Peak)
	}
	large, err := Run(t.Context(), t.TempDir(), nil, "sh", "-c", "exec dd if=/dev/zero of=/dev/null bs=96M count=5")
	if err != nil {
		t.Fatal(err)
	}
	if large.Peak < 96 || large.Peak > 160 {
		t.Errorf("dd with 96 MiB had %.0f MiB", large.Peak)
	}
	runtime.KeepAlive(mine)
}
