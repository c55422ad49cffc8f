package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// restProgram lets the system have the pages of the program's own file back. They are the file's, so nothing is lost, and each comes again from the system's
// cache when it is next needed; most were needed for the start only. It does nothing where the system does not say what is mapped.
func restProgram() {
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	for _, m := range clean(string(smaps), path) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m[0], m[1]-m[0], unix.MADV_DONTNEED) // it is advice
	}
}

// clean returns what of the file at path is mapped, from and up to which address, as smaps has it, and has nothing but what is in the file. Of a program
// that may be loaded anywhere, also what cannot be written to was changed when it was loaded.
func clean(smaps, path string) (all [][2]uintptr) {
	var now [2]uintptr // of the mapping that the line belongs to; zero: another's
	for line := range strings.Lines(smaps) {
		line = strings.TrimSuffix(line, "\n")
		// 00400000-02c3f000 r-xp 00000000 fe:00 12345   /usr/bin/sheaf
		// Anonymous:             0 kB
		var from, to uintptr
		var may string
		if n, _ := fmt.Sscanf(line, "%x-%x %s ", &from, &to, &may); n == 3 {
			now = [2]uintptr{}
			if strings.HasSuffix(line, " "+path) && !strings.Contains(may, "w") {
				now = [2]uintptr{from, to}
			}
			continue
		}
		if f := strings.Fields(line); now[1] != 0 && len(f) == 3 && f[0] == "Anonymous:" && f[1] == "0" {
			all = append(all, now)
		}
	}
	return all
}
