package mounttest

import (
	"bytes"
	"errors"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

var fileTests = []test{
	{"what was written is read, by every way to read it", func(s *suite) {
		want := noise(1, 5<<20+321)
		s.write("f", want)
		s.holds("f", want)
		f := s.open(s.path("f"), os.O_RDONLY)
		for _, n := range []int{1, 511, 4096, 65_537, 1 << 20} {
			got := make([]byte, n)
			_, err := f.ReadAt(got, 123_457)
			s.ok(err)
			s.sameBytes("pread", got, want[123_457:123_457+n])
		}
		a, b := make([]byte, 1000), make([]byte, 7000)
		n, err := unix.Preadv(int(f.Fd()), [][]byte{a, b}, 4000)
		s.ok(err)
		same(s, "bytes of preadv", n, 8000)
		s.sameBytes("preadv", append(a, b...), want[4000:12_000])
		n, err = f.ReadAt(a, int64(len(want))-10)
		if n != 10 || !errors.Is(err, io.EOF) {
			s.Errorf("read at the end: got %d, %v", n, err)
		}
	}},
	{"a write is seen at once by others who have the file open", func(s *suite) {
		w := s.create("f")
		r := s.open(s.path("f"), os.O_RDONLY)
		var want []byte
		for i := range 50 {
			p := noise(uint64(i), 3000)
			s.writeAt(w, p, int64(len(want)))
			want = append(want, p...)
			s.reads(r, want)
		}
		st := s.stat("f")
		same(s, "size", st.Size, int64(len(want)))
	}},
	{"O_APPEND writes at the end, wherever the file was read or cut", func(s *suite) {
		s.write("f", []byte("one"))
		f := s.open(s.path("f"), os.O_RDWR|os.O_APPEND)
		_, err := f.Seek(0, io.SeekStart)
		s.ok(err)
		_, err = f.Write([]byte("two"))
		s.ok(err)
		other := s.open(s.path("f"), os.O_RDWR)
		s.writeAt(other, []byte("three"), 6)
		_, err = f.Write([]byte("four"))
		s.ok(err)
		s.holds("f", []byte("onetwothreefour"))
		s.ok(other.Truncate(2))
		_, err = f.Write([]byte("end"))
		s.ok(err)
		s.holds("f", []byte("onend"))
	}},
	{"O_EXCL makes a file once", func(s *suite) {
		s.create("f")
		_, err := os.OpenFile(s.path("f"), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
		s.fails("second", err, unix.EEXIST)
		s.ok(os.Symlink("nowhere", s.path("l")))
		_, err = os.OpenFile(s.path("l"), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
		s.fails("over a link to nothing", err, unix.EEXIST)
		s.missing("nowhere")
	}},
	{"O_TRUNC empties, O_CREATE does not", func(s *suite) {
		s.write("f", noise(1, 100_000))
		r := s.open(s.path("f"), os.O_RDONLY)
		s.ok(s.open(s.path("f"), os.O_CREATE|os.O_RDWR).Close())
		s.reads(r, noise(1, 100_000))
		s.ok(s.open(s.path("f"), os.O_TRUNC|os.O_WRONLY).Close())
		s.reads(r, nil)
	}},
	{"what an open file may not do, it does not", func(s *suite) {
		s.write("f", []byte("data"))
		_, err := s.open(s.path("f"), os.O_RDONLY).Write([]byte("x"))
		s.fails("write to a file open for reading", err, unix.EBADF)
		_, err = s.open(s.path("f"), os.O_WRONLY).Read(make([]byte, 1))
		s.fails("read of a file open for writing", err, unix.EBADF)
		s.ok(os.Mkdir(s.path("d"), 0o755))
		_, err = os.OpenFile(s.path("d"), os.O_WRONLY, 0)
		s.fails("open of a directory for writing", err, unix.EISDIR)
		_, err = os.Open(s.path("f", "x"))
		s.fails("open below a file", err, unix.ENOTDIR)
		_, err = unix.Open(s.path("f"), unix.O_DIRECTORY|unix.O_RDONLY, 0)
		s.fails("open of a file as directory", err, unix.ENOTDIR)
	}},
	{"a write behind a file open for writing only fills no gap with rubbish", func(s *suite) {
		s.write("f", noise(1, 10_000)) // a kernel that caches writes must read the page first
		w := s.open(s.path("f"), os.O_WRONLY)
		s.writeAt(w, []byte("xyz"), 5000)
		s.writeAt(w, []byte("end"), 20_000)
		s.ok(w.Close())
		want := append(noise(1, 10_000), make([]byte, 10_003)...)
		copy(want[5000:], "xyz")
		copy(want[20_000:], "end")
		s.holds("f", want)
	}},
	{"a truncated part does not come back", func(s *suite) {
		f := s.create("f")
		want := noise(1, 3<<20)
		s.writeAt(f, want, 0)
		for _, size := range []int64{2<<20 + 1, 2 << 20, 1<<20 - 1, 4097, 4096, 10, 0} {
			s.ok(f.Truncate(size))
			s.ok(f.Truncate(size + 10_000))
			s.reads(f, append(want[:size:size], make([]byte, 10_000)...))
			s.ok(f.Truncate(size))
		}
		s.fails("truncate of a directory", os.Truncate(s.dir, 0), unix.EISDIR)
		s.fails("truncate to less than nothing", unix.Ftruncate(int(f.Fd()), -1), unix.EINVAL)
	}},
	{"a file of 1 TiB that is mostly a hole takes no room", func(s *suite) {
		f := s.create("f")
		const tib = 1 << 40
		s.ok(f.Truncate(tib))
		s.writeAt(f, []byte("start"), 0)
		s.writeAt(f, []byte("end"), tib-3)
		s.ok(f.Sync())
		st := s.stat("f")
		same(s, "size", st.Size, int64(tib))
		if st.Blocks*512 > 64<<20 {
			s.Errorf("takes %d bytes", st.Blocks*512)
		}
		got := make([]byte, 10_000)
		_, err := f.ReadAt(got, tib/2)
		s.ok(err)
		s.sameBytes("middle", got, make([]byte, 10_000))
		_, err = f.ReadAt(got[:6], tib-6)
		s.ok(err)
		s.sameBytes("end", got[:6], []byte("\x00\x00\x00end"))
	}},
	{"every kind of sync works", func(s *suite) {
		f := s.create("f")
		s.writeAt(f, noise(1, 100_000), 0)
		s.ok(f.Sync())
		s.writeAt(f, noise(2, 100), 50)
		s.ok(unix.Fdatasync(int(f.Fd())))
		d := s.open(s.dir, os.O_RDONLY)
		s.ok(d.Sync())
		s.ok(unix.Fdatasync(int(d.Fd())))
		s.ok(unix.Syncfs(int(f.Fd())))
		r := s.open(s.path("f"), os.O_RDONLY)
		s.ok(r.Sync())
		o := s.open(s.path("f"), os.O_WRONLY|os.O_SYNC)
		s.writeAt(o, []byte("sync"), 0)
	}},
	{"a removed file can be used until it is closed, and leaves no trace", func(s *suite) {
		s.write("f", []byte("data"))
		f := s.open(s.path("f"), os.O_RDWR)
		s.ok(os.Remove(s.path("f")))
		s.sameNames("")
		var st unix.Stat_t
		s.ok(unix.Fstat(int(f.Fd()), &st))
		same(s, "links", int(st.Nlink), 0)
		s.writeAt(f, noise(1, 100_000), 2)
		s.reads(f, append([]byte("da"), noise(1, 100_000)...))
		s.ok(f.Truncate(3))
		s.ok(f.Chmod(0o600))
		s.ok(f.Sync())
		s.write("f", []byte("another"))
		s.ok(f.Truncate(5))
		s.ok(f.Close())
		s.holds("f", []byte("another"))
		s.sameNames("", "f")
	}},
	{"a file that another took the place of can be used on", func(s *suite) {
		s.write("old", []byte("old bytes"))
		f := s.open(s.path("old"), os.O_RDWR)
		s.write("new", []byte("new bytes"))
		s.ok(os.Rename(s.path("new"), s.path("old")))
		s.reads(f, []byte("old bytes"))
		s.writeAt(f, []byte("OLD"), 0)
		s.reads(f, []byte("OLD bytes"))
		s.holds("old", []byte("new bytes"))
		s.sameNames("", "old")
	}},
	{"O_DIRECT is refused or works", func(s *suite) {
		fd, err := unix.Open(s.path("f"), unix.O_CREAT|unix.O_RDWR|unix.O_DIRECT, 0o644)
		if errors.Is(err, unix.EINVAL) {
			s.Skip("refused")
		}
		s.ok(err)
		defer func() { s.ok(unix.Close(fd)) }()
		const size = 1 << 20
		mem := make([]byte, 2*size+4096)
		skip := int(-uintptr(unsafe.Pointer(&mem[0])) & 4095)
		out, in := mem[skip:skip+size], mem[skip+size:skip+2*size]
		copy(out, noise(1, size))
		n, err := unix.Pwrite(fd, out, 4096)
		s.ok(err)
		same(s, "written", n, size)
		n, err = unix.Pread(fd, in, 4096)
		s.ok(err)
		same(s, "read", n, size)
		s.sameBytes("direct", in, out)
		s.holds("f", append(make([]byte, 4096), out...)) // and through the cache
		cached := s.open(s.path("f"), os.O_RDWR)
		s.writeAt(cached, bytes.Repeat([]byte("c"), 4096), 4096)
		_, err = unix.Pread(fd, in[:4096], 4096)
		s.ok(err)
		s.sameBytes("direct after a cached write", in[:4096], bytes.Repeat([]byte("c"), 4096))
	}},
	{"a program in the folder runs", func(s *suite) {
		var st unix.Statfs_t
		s.ok(unix.Statfs(s.dir, &st))
		if st.Flags&unix.ST_NOEXEC != 0 {
			s.Skip("mounted noexec")
		}
		p, err := os.ReadFile("/proc/self/exe")
		s.ok(err)
		s.ok(os.WriteFile(s.path("program"), p, 0o755))
		c := s.child(s.path("program"), "echo", "it runs")
		same(s, "answer", c.line(), "it runs")
		c.end()
	}},
}
