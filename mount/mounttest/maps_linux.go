package mounttest

import (
	"bytes"
	"fmt"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// mmap maps n bytes of f from off on until the test ends.
func (s *suite) mmap(f *os.File, off int64, n, prot, flags int) []byte {
	s.Helper()
	m, err := unix.Mmap(int(f.Fd()), off, n, prot, flags)
	s.ok(err)
	s.Cleanup(func() {
		if err := unix.Munmap(m); err != nil {
			s.Errorf("munmap: %v", err)
		}
	})
	return m
}

// faults reports whether do touches memory that is not there.
func faults(do func()) (fault bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(interface{ Addr() uintptr }); !ok {
				panic(r)
			}
			fault = true
		}
	}()
	do()
	return false
}

var mapTests = []test{
	{"a map reads what the file holds", func(s *suite) {
		want := noise(1, 3<<20+100)
		s.write("f", want)
		f := s.open(s.path("f"), os.O_RDONLY)
		m := s.mmap(f, 0, len(want), unix.PROT_READ, unix.MAP_SHARED)
		s.sameBytes("map", m, want)
		part := s.mmap(f, 1<<20, 5000, unix.PROT_READ, unix.MAP_PRIVATE)
		s.sameBytes("part", part, want[1<<20:1<<20+5000])
	}},
	{"a write through a shared map is read, and a write is seen in the map", func(s *suite) {
		f := s.create("f")
		want := noise(1, 1<<20)
		s.writeAt(f, want, 0)
		m := s.mmap(f, 0, len(want), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		copy(m[5000:], "through the map")
		copy(want[5000:], "through the map")
		s.reads(f, want)
		s.ok(unix.Msync(m, unix.MS_SYNC))
		s.holds("f", want)
		s.writeAt(f, []byte("through write"), 9000)
		copy(want[9000:], "through write")
		s.sameBytes("map", m, want)
		s.ok(unix.Msync(m, unix.MS_ASYNC))
		s.ok(f.Sync())
		s.holds("f", want)
	}},
	{"a write through a map outlives it without msync", func(s *suite) {
		s.write("f", make([]byte, 1<<20))
		want := noise(2, 1<<20)
		f := s.open(s.path("f"), os.O_RDWR)
		m, err := unix.Mmap(int(f.Fd()), 0, len(want), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		s.ok(err)
		s.ok(f.Close()) // a map needs no open file
		copy(m, want)
		s.ok(unix.Munmap(m))
		s.holds("f", want)
	}},
	{"two maps of one file are one", func(s *suite) {
		s.write("f", make([]byte, 10_000))
		a := s.mmap(s.open(s.path("f"), os.O_RDWR), 0, 10_000, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		b := s.mmap(s.open(s.path("f"), os.O_RDONLY), 4096, 4096, unix.PROT_READ, unix.MAP_SHARED)
		copy(a[4096:], "here")
		s.sameBytes("other map", b[:4], []byte("here"))
	}},
	{"a private map changes nothing", func(s *suite) {
		s.write("f", []byte("data"))
		m := s.mmap(s.open(s.path("f"), os.O_RDONLY), 0, 4, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
		copy(m, "mine")
		s.holds("f", []byte("data"))
	}},
	{"a file open for reading cannot be mapped for writing", func(s *suite) {
		s.write("f", []byte("data"))
		_, err := unix.Mmap(int(s.open(s.path("f"), os.O_RDONLY).Fd()), 0, 4, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		s.fails("mmap", err, unix.EACCES)
	}},
	{"a map ends where the file was cut, and goes on where it grew", func(s *suite) {
		f := s.create("f")
		s.writeAt(f, bytes.Repeat([]byte{'x'}, 3*4096), 0)
		m := s.mmap(f, 0, 3*4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		same(s, "fault in the file", faults(func() { m[2*4096] = 'y' }), false)
		s.ok(f.Truncate(4096 + 10))
		same(s, "fault behind the end", faults(func() { m[2*4096] = 'y' }), true)
		same(s, "fault in the last page", faults(func() { m[4096] = 'y' }), false)
		s.sameBytes("the rest of the last page", m[4096+10:2*4096], make([]byte, 4096-10))
		s.ok(f.Truncate(3 * 4096))
		same(s, "fault after it grew", faults(func() { m[2*4096+1] = 'z' }), false)
		want := bytes.Repeat([]byte{'x'}, 4096+10)
		want[4096] = 'y'
		want = append(want, make([]byte, 2*4096-10)...)
		want[2*4096+1] = 'z'
		s.reads(f, want)
		s.sameBytes("map", m, want)
	}},
	{"what a map wrote behind the end is not part of the file", func(s *suite) {
		f := s.create("f")
		s.writeAt(f, []byte("0123456789"), 0)
		m := s.mmap(f, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		copy(m[10:], "rubbish")
		s.ok(unix.Msync(m, unix.MS_SYNC))
		same(s, "size", s.stat("f").Size, 10)
		s.ok(f.Truncate(20))
		s.reads(f, append([]byte("0123456789"), make([]byte, 10)...))
	}},
	{"a map of a hole reads zeros and takes writes", func(s *suite) {
		f := s.create("f")
		s.ok(f.Truncate(8 << 20))
		m := s.mmap(f, 0, 8<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		s.sameBytes("hole", m[1<<20:2<<20], make([]byte, 1<<20))
		copy(m[5<<20:], "data")
		s.ok(unix.Msync(m, unix.MS_SYNC))
		want := make([]byte, 8<<20)
		copy(want[5<<20:], "data")
		s.holds("f", want)
	}},
	{"a punched range reads as zeros in the map", func(s *suite) {
		if s.lacks(Allocate) {
			s.Skip("nothing can be punched")
		}
		f := s.create("f")
		want := noise(1, 1<<20)
		s.writeAt(f, want, 0)
		m := s.mmap(f, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		m[20_000] = 'x' // a dirty page in the range
		s.ok(unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 10_001, 50_000))
		clear(want[10_001:60_001])
		s.sameBytes("map", m, want)
		s.holds("f", want)
	}},
	{"a map of a removed file lives on", func(s *suite) {
		f := s.create("f")
		s.writeAt(f, noise(1, 100_000), 0)
		m := s.mmap(f, 0, 100_000, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		s.ok(os.Remove(s.path("f")))
		s.ok(f.Close())
		s.ok(unix.Madvise(m, unix.MADV_DONTNEED)) // read the pages again
		s.sameBytes("map", m, noise(1, 100_000))
		copy(m[50_000:], "more")
		s.ok(unix.Msync(m, unix.MS_SYNC))
	}},
	{"a write can take its bytes from a map of the same file", func(s *suite) {
		f := s.create("f")
		want := noise(1, 1<<20)
		s.writeAt(f, want, 0)
		s.ok(f.Sync())
		s.ok(unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)) // so that the write itself has to read the page
		m := s.mmap(f, 0, 1<<20, unix.PROT_READ, unix.MAP_SHARED)
		for i, r := range [][3]int64{{0, 1 << 19, 200_000}, {300_000, 300_000, 5000}} {
			s.writeAt(f, m[r[0]:r[0]+r[2]], r[1])
			copy(want[r[1]:], bytes.Clone(want[r[0]:r[0]+r[2]]))
			s.sameBytes(fmt.Sprint("map after write ", i), m, want)
		}
		s.holds("f", want)
	}},
}
