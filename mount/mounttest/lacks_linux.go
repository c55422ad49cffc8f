package mounttest

import (
	"golang.org/x/sys/unix"
)

// A Lack is something that a way to mount cannot do, because of an interface that is not its own. What the suite would ask for is then
// not asked for; it is checked that it is refused, or what happens instead. All else is asked for as always.
type Lack string

// The things that a way to mount may lack.
const (
	// Allocate: fallocate(2) of any mode is EOPNOTSUPP, but for what the kernel refuses by itself.
	Allocate Lack = "fallocate"
	// FindHoles: lseek(2) takes all of a file for data.
	FindHoles Lack = "SEEK_HOLE and SEEK_DATA"
	// RenameFlags: renameat2(2) with any flag is EINVAL.
	RenameFlags Lack = "flags of renameat2"
	// OneTime: who sets only one of the two times of a file, or sets one to the time that it is, changes nothing, and is told that he did.
	OneTime Lack = "setting one time alone"
	// OpenReplaced: who opens a file just when another takes its place may be told ENOENT, though there is a file at all times.
	OpenReplaced Lack = "opening what is being replaced"
)

// lacks reports whether the folder under test cannot do that.
func (s *suite) lacks(what Lack) bool { return s.without[what] }

// noAllocate checks that nothing can be allocated.
func (s *suite) noAllocate() {
	s.Helper()
	f := s.create("allocated")
	want := noise(1, 10_000)
	s.writeAt(f, want, 0)
	for _, mode := range []uint32{
		0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE,
		unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE,
	} {
		s.fails("allocate", unix.Fallocate(int(f.Fd()), mode, 100, 20_000), unix.EOPNOTSUPP)
	}
	s.reads(f, want)
}
