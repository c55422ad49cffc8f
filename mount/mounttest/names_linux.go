package mounttest

import (
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

var nameTests = []test{
	{"odd and long names are kept byte for byte", func(s *suite) {
		names := []string{
			" ", "a", "A", ".a", "...", "ä", "a\u0308", "\xff\xfe", "a\nb", `a\b:*?"<>|`, "-rf", "~",
			strings.Repeat("n", 255), strings.Repeat("\xf0", 255),
		}
		for _, name := range names {
			s.ok(os.WriteFile(s.dir+"/"+name, []byte(name), 0o644))
		}
		s.sameNames("", names...)
		for _, name := range names {
			got, err := os.ReadFile(s.dir + "/" + name)
			s.ok(err)
			s.sameBytes("content", got, []byte(name))
		}
		_, err := os.Create(s.path(strings.Repeat("n", 256)))
		s.fails("a name of 256 bytes", err, unix.ENAMETOOLONG)
		s.fails("mkdir of 256 bytes", os.Mkdir(s.path(strings.Repeat("n", 256)), 0o755), unix.ENAMETOOLONG)
		_, err = os.Lstat(s.path(strings.Repeat("n", 256)))
		s.fails("lstat of 256 bytes", err, unix.ENAMETOOLONG)
	}},
	{"a path can be deeper than any one call can say", func(s *suite) {
		const depth = 150
		name := strings.Repeat("d", 50) // 7,650 bytes in all
		fd, err := unix.Open(s.dir, unix.O_DIRECTORY, 0)
		s.ok(err)
		for range depth {
			s.ok(unix.Mkdirat(fd, name, 0o755))
			next, err := unix.Openat(fd, name, unix.O_DIRECTORY, 0)
			s.ok(err)
			s.ok(unix.Close(fd))
			fd = next
		}
		f, err := unix.Openat(fd, "f", unix.O_CREAT|unix.O_RDWR, 0o644)
		s.ok(err)
		_, err = unix.Write(f, []byte("deep"))
		s.ok(err)
		s.ok(unix.Close(f))
		up := 0
		for ; up < depth; up++ { // and back by ".."
			next, err := unix.Openat(fd, "..", unix.O_DIRECTORY, 0)
			s.ok(err)
			s.ok(unix.Close(fd))
			fd = next
		}
		var a, b unix.Stat_t
		s.ok(unix.Fstat(fd, &a))
		s.ok(unix.Close(fd))
		b = s.stat("")
		same(s, "the top again", a.Ino, b.Ino)
	}},
	{"rename replaces files, and directories only if they are empty", func(s *suite) {
		s.write("a", []byte("a"))
		s.write("b", []byte("b"))
		s.ok(os.Rename(s.path("a"), s.path("b")))
		s.holds("b", []byte("a"))
		s.missing("a")
		s.ok(os.MkdirAll(s.path("d", "in"), 0o755))
		s.ok(os.Mkdir(s.path("e"), 0o755))
		rename := func(from, to string) error { return unix.Rename(s.path(from), s.path(to)) }
		s.fails("onto a full directory", rename("e", "d"), unix.ENOTEMPTY, unix.EEXIST)
		s.fails("a file onto a directory", rename("b", "e"), unix.EISDIR)
		s.fails("a directory onto a file", rename("e", "b"), unix.ENOTDIR)
		s.fails("below itself", rename("d", "d/in/x"), unix.EINVAL)
		s.fails("onto what it is in", rename("d/in", "d"), unix.ENOTEMPTY, unix.EEXIST)
		s.fails("nothing", rename("x", "y"), unix.ENOENT)
		s.ok(rename("d", "e"))
		s.sameNames("", "b", "e")
		s.sameNames("e", "in")
	}},
	{"renameat2 exchanges, or replaces nothing", func(s *suite) {
		s.write("f", []byte("f"))
		s.ok(os.MkdirAll(s.path("d", "in"), 0o755))
		rename := func(from, to string, flag uint) error {
			return unix.Renameat2(unix.AT_FDCWD, s.path(from), unix.AT_FDCWD, s.path(to), flag)
		}
		if s.lacks(RenameFlags) {
			for _, flag := range []uint{unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE} {
				s.fails("with a flag", rename("f", "d", flag), unix.EINVAL, unix.EEXIST)
				s.fails("with a flag", rename("f", "g", flag), unix.EINVAL, unix.ENOENT)
			}
			s.holds("f", []byte("f"))
			s.sameNames("", "d", "f")
			return
		}
		s.fails("replace nothing", rename("f", "d", unix.RENAME_NOREPLACE), unix.EEXIST)
		s.ok(rename("f", "g", unix.RENAME_NOREPLACE))
		s.fails("exchange with nothing", rename("g", "x", unix.RENAME_EXCHANGE), unix.ENOENT)
		s.ok(rename("g", "d", unix.RENAME_EXCHANGE))
		s.holds("d", []byte("f"))
		s.sameNames("g", "in")
		s.ok(rename("d", "g/in", unix.RENAME_EXCHANGE))
		s.holds("g/in", []byte("f"))
		s.sameNames("d")
		s.fails("both flags", rename("d", "g", unix.RENAME_EXCHANGE|unix.RENAME_NOREPLACE), unix.EINVAL)
	}},
	{"hard links are one file", func(s *suite) {
		s.write("a", []byte("data"))
		s.ok(os.Mkdir(s.path("d"), 0o755))
		s.ok(os.Link(s.path("a"), s.path("b")))
		s.ok(os.Link(s.path("b"), s.path("d", "c")))
		a, c := s.stat("a"), s.stat("d/c")
		same(s, "inode", c.Ino, a.Ino)
		same(s, "links", int(c.Nlink), 3)
		s.writeAt(s.open(s.path("b"), os.O_WRONLY), []byte("DATA"), 0)
		s.holds("d/c", []byte("DATA"))
		s.ok(os.Chmod(s.path("d", "c"), 0o600))
		same(s, "mode", s.stat("a").Mode&0o777, 0o600)
		s.fails("link over a name", os.Link(s.path("a"), s.path("b")), unix.EEXIST)
		s.fails("link of a directory", os.Link(s.path("d"), s.path("e")), unix.EPERM)
		s.ok(os.Rename(s.path("a"), s.path("b"))) // one file: nothing happens
		s.sameNames("", "a", "b", "d")
		s.ok(os.Remove(s.path("a")))
		s.ok(os.Remove(s.path("b")))
		same(s, "links", int(s.stat("d/c").Nlink), 1)
		s.holds("d/c", []byte("DATA"))
	}},
	{"symbolic links say what they were told, and lead there", func(s *suite) {
		s.write("f", []byte("data"))
		s.ok(os.Symlink("f", s.path("l")))
		s.holds("l", []byte("data"))
		for i, target := range []string{"../no/where", "/", "\xff", "a//b/.", strings.Repeat("x/", 2047) + "x"} {
			name := fmt.Sprint(i)
			s.ok(os.Symlink(target, s.path(name)))
			got, err := os.Readlink(s.path(name))
			s.ok(err)
			same(s, "target", got, target)
			same(s, "size", s.stat(name).Size, int64(len(target)))
		}
		s.ok(os.Symlink("loop", s.path("loop")))
		_, err := os.Open(s.path("loop"))
		s.fails("a link to itself", err, unix.ELOOP)
		s.ok(os.Link(s.path("l"), s.path("l2")))
		same(s, "links of a link", int(s.stat("l").Nlink), 2)
		s.ok(os.Remove(s.path("f")))
		_, err = os.Stat(s.path("l"))
		s.fails("a link to nothing", err, unix.ENOENT)
		s.ok(os.WriteFile(s.path("l"), []byte("new"), 0o644)) // makes the file that it leads to
		s.holds("f", []byte("new"))
	}},
	{"a FIFO carries bytes", func(s *suite) {
		s.ok(unix.Mkfifo(s.path("p"), 0o644))
		same(s, "type", s.stat("p").Mode&unix.S_IFMT, unix.S_IFIFO)
		s.together(2, func(i int) error {
			if i == 0 {
				return os.WriteFile(s.path("p"), []byte("through"), 0)
			}
			got, err := os.ReadFile(s.path("p"))
			if string(got) != "through" && err == nil {
				err = fmt.Errorf("got %q", got)
			}
			return err
		})
	}},
	{"a socket listens", func(s *suite) {
		d := s.open(s.dir, os.O_RDONLY) // the path of a socket is short
		path := fmt.Sprintf("/proc/self/fd/%d/s", d.Fd())
		l, err := net.Listen("unix", path)
		s.ok(err)
		same(s, "type", s.stat("s").Mode&unix.S_IFMT, unix.S_IFSOCK)
		s.together(2, func(i int) error {
			if i == 0 {
				c, err := net.Dial("unix", path)
				if err != nil {
					return err
				}
				_, err = c.Write([]byte("hello"))
				c.Close()
				return err
			}
			c, err := l.Accept()
			if err != nil {
				return err
			}
			defer c.Close()
			got, err := io.ReadAll(c)
			if string(got) != "hello" && err == nil {
				err = fmt.Errorf("got %q", got)
			}
			return err
		})
		s.ok(l.Close()) // removes it
		s.missing("s")
	}},
	{"device nodes are what they were made", func(s *suite) {
		s.root()
		for name, dev := range map[string][2]uint32{"null": {1, 3}, "big": {259, 70_000}} {
			for kind, mode := range map[string]uint32{"c": unix.S_IFCHR, "b": unix.S_IFBLK} {
				want := unix.Mkdev(dev[0], dev[1])
				s.ok(unix.Mknod(s.path(name+kind), mode|0o600, int(want)))
				st := s.stat(name + kind)
				same(s, "type", st.Mode&unix.S_IFMT, mode)
				same(s, "device", st.Rdev, want)
			}
		}
		s.ok(unix.Mknod(s.path("f"), unix.S_IFREG|0o600, 0))
		s.write("f", []byte("a file"))
		s.holds("f", []byte("a file"))
	}},
}

var dirTests = []test{
	{"a list may be read while its files are removed", func(s *suite) {
		const n = 2000
		s.ok(os.Mkdir(s.path("d"), 0o755))
		for i := range n {
			s.write(fmt.Sprintf("d/%04d", i), nil)
		}
		d := s.open(s.path("d"), os.O_RDONLY)
		removed := 0
		for {
			names, err := d.Readdirnames(17)
			for _, name := range names {
				s.ok(os.Remove(s.path("d", name)))
				removed++
			}
			if err == io.EOF {
				break
			}
			s.ok(err)
		}
		same(s, "removed", removed, n)
		s.ok(os.Remove(s.path("d")))
	}},
	{"a list can be started again", func(s *suite) {
		var want []string
		for i := range 3000 {
			name := fmt.Sprintf("%s-%d", strings.Repeat("x", 40), i)
			s.write(name, nil)
			want = append(want, name)
		}
		slices.Sort(want)
		d := s.open(s.dir, os.O_RDONLY)
		for _, first := range []int{0, 1, 1500} {
			_, err := d.Readdirnames(first)
			if first > 0 {
				s.ok(err)
			}
			_, err = d.Seek(0, io.SeekStart)
			s.ok(err)
			got, err := d.Readdirnames(-1)
			s.ok(err)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				s.Errorf("got %d names, want %d", len(got), len(want))
			}
			_, err = d.Seek(0, io.SeekStart)
			s.ok(err)
		}
		s.write("later", nil)
		got, err := d.Readdirnames(-1)
		s.ok(err)
		same(s, "names with a later one", len(got), len(want)+1)
	}},
	{"a list says kinds and inodes as lstat does", func(s *suite) {
		s.ok(os.Mkdir(s.path("d"), 0o755))
		s.write("f", nil)
		s.ok(os.Symlink("f", s.path("l")))
		s.ok(unix.Mkfifo(s.path("p"), 0o644))
		entries, err := os.ReadDir(s.dir)
		s.ok(err)
		for _, e := range entries {
			info, err := os.Lstat(s.path(e.Name()))
			s.ok(err)
			same(s, "type of "+e.Name(), e.Type(), info.Mode().Type())
		}
		buf := make([]byte, 10_000)
		n, err := unix.Getdents(int(s.open(s.dir, os.O_RDONLY).Fd()), buf)
		s.ok(err)
		dots := 0
		for b := buf[:n]; len(b) > 0; { // struct linux_dirent64
			ino := *(*uint64)(ptr(b))
			size := int(b[16]) | int(b[17])<<8
			name, _, _ := strings.Cut(string(b[19:size]), "\x00")
			if name != ".." { // which may lie on another file system
				same(s, "inode of "+name, ino, s.stat(name).Ino)
			}
			if name == "." || name == ".." {
				dots++
			}
			b = b[size:]
		}
		same(s, "dots", dots, 2)
	}},
	{"directories nest, move and go", func(s *suite) {
		s.ok(os.MkdirAll(s.path("a", "b", "c"), 0o755))
		s.write("a/b/c/f", []byte("data"))
		f := s.open(s.path("a", "b", "c", "f"), os.O_RDWR)
		s.ok(os.Mkdir(s.path("z"), 0o755))
		s.ok(os.Rename(s.path("a", "b"), s.path("z", "b")))
		s.missing("a/b")
		s.holds("z/b/c/f", []byte("data"))
		s.writeAt(f, []byte("more"), 4)
		s.holds("z/b/c/f", []byte("datamore"))
		up, err := filepath.EvalSymlinks(s.path("z", "b"))
		s.ok(err)
		d := s.open(up, os.O_RDONLY)
		var a, b unix.Stat_t
		s.ok(unix.Fstatat(int(d.Fd()), "..", &a, 0))
		b = s.stat("z")
		same(s, "parent", a.Ino, b.Ino)
		s.fails("rmdir of a full one", unix.Rmdir(s.path("z")), unix.ENOTEMPTY)
		s.fails("rmdir of a file", unix.Rmdir(s.path("z", "b", "c", "f")), unix.ENOTDIR)
		s.fails("unlink of a directory", unix.Unlink(s.path("z")), unix.EISDIR)
		s.fails("mkdir over a name", os.Mkdir(s.path("z"), 0o755), fs.ErrExist)
		s.ok(os.RemoveAll(s.path("z")))
		s.sameNames("", "a")
	}},
	{"nothing can be made in a removed directory that is open", func(s *suite) {
		s.ok(os.Mkdir(s.path("d"), 0o755))
		d := s.open(s.path("d"), os.O_RDONLY)
		s.ok(os.Remove(s.path("d")))
		_, err := unix.Openat(int(d.Fd()), "f", unix.O_CREAT|unix.O_RDWR, 0o644)
		s.fails("open", err, unix.ENOENT)
		s.fails("mkdir", unix.Mkdirat(int(d.Fd()), "e", 0o755), unix.ENOENT)
		names, err := d.Readdirnames(-1)
		if err != nil {
			s.fails("list", err, unix.ENOENT) // as the kernel has it today
		}
		same(s, "names", len(names), 0)
	}},
	{"statfs tells a size", func(s *suite) {
		var st unix.Statfs_t
		s.ok(unix.Statfs(s.dir, &st))
		if st.Bsize <= 0 || st.Blocks == 0 || st.Bfree > st.Blocks || st.Bavail > st.Bfree || st.Namelen < 255 {
			s.Errorf("got %+v", st)
		}
	}},
}
