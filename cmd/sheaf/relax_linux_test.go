package main

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestRestProgram_LetsPagesGoAndRunsOn(t *testing.T) {
	resident := func() int {
		b, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(b), "RssFile:")
		n, err := strconv.Atoi(strings.Fields(rest)[0])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := resident()
	restProgram()
	if after := resident(); after > before*3/4 {
		t.Errorf("%d kB of files were resident, and are %d", before, after)
	}
}

// What was changed since it was mapped would be gone.
func TestClean_LeavesWhatWasChanged(t *testing.T) {
	const smaps = `00400000-00500000 r-xp 00000000 fe:00 12                         /usr/bin/sheaf
Rss:                1024 kB
Anonymous:             0 kB
00500000-00600000 r--p 00100000 fe:00 12                         /usr/bin/sheaf
Rss:                1024 kB
Anonymous:             4 kB
00600000-00700000 rw-p 00200000 fe:00 12                         /usr/bin/sheaf
Anonymous:             0 kB
00700000-00800000 r--p 00300000 fe:00 13                         /usr/lib/libc.so.6
Anonymous:             0 kB
00800000-00900000 r--p 00300000 fe:00 12                         /usr/bin/sheaf
Anonymous:             0 kB
00900000-00a00000 r--p 00000000 00:00 0 
Anonymous:             0 kB
`
	if got, want := clean(smaps, "/usr/bin/sheaf"), [][2]uintptr{{0x400000, 0x500000}, {0x800000, 0x900000}}; !slices.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}
