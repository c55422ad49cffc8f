package mounttest

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ptr returns where b starts.
func ptr(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }

// longAgo is a time that no clock tells now.
var longAgo = time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)

// when returns a time as Go has it.
func when(t unix.Timespec) time.Time { return time.Unix(t.Unix()) }

// age sets atime and mtime to longAgo.
func (s *suite) age(name string) {
	s.Helper()
	s.ok(os.Chtimes(s.path(name), longAgo, longAgo))
}

// mtime returns the time of the last change of content.
func (s *suite) mtime(name string) time.Time {
	s.Helper()
	return when(s.stat(name).Mtim)
}

var attrTests = []test{
	{"what happens later has no earlier time", func(s *suite) {
		for i := range 100 {
			d, f, e := fmt.Sprint("d", i), fmt.Sprint("f", i), fmt.Sprint("e", i)
			s.ok(os.Mkdir(s.path(d), 0o755)) // stamped by the file system
			s.write(f, []byte("data"))       // and by the kernel, which gathers writes
			s.ok(os.Mkdir(s.path(e), 0o755))
			var born unix.Statx_t
			s.ok(unix.Statx(unix.AT_FDCWD, s.path(f), 0, unix.STATX_BTIME, &born))
			times := []time.Time{s.mtime(d), time.Unix(born.Btime.Sec, int64(born.Btime.Nsec)), s.mtime(f), s.mtime(e)}
			if born.Mask&unix.STATX_BTIME == 0 {
				times = slices.Delete(times, 1, 2)
			}
			if !slices.IsSortedFunc(times, time.Time.Compare) {
				s.Fatalf("a directory, a file, a write, a directory: at %v", times)
			}
		}
	}},
	{"all bits of a mode are kept, and umask is heeded", func(s *suite) {
		s.write("f", nil)
		for _, mode := range []uint32{0, 0o777, 0o4711, 0o2755, 0o1777, 0o7777, 0o644} {
			s.ok(unix.Chmod(s.path("f"), mode))
			same(s, "mode", s.stat("f").Mode&0o7777, mode)
		}
		c := s.child("", "umask", "027", s.path("u"))
		same(s, "answer", c.line(), "done")
		c.end()
		same(s, "mode of a file", s.stat("u").Mode&0o7777, 0o640)
		same(s, "mode of a directory", s.stat("u.d").Mode&0o7777, 0o750)
	}},
	{"owners are kept, and given away only without setuid", func(s *suite) {
		s.root()
		s.write("f", nil)
		s.ok(os.Symlink("f", s.path("l")))
		for _, owner := range [][2]int{{1, 2}, {65_534, 65_534}, {1<<31 + 5, 1<<32 - 3}, {0, 0}} {
			s.ok(unix.Lchown(s.path("l"), owner[0], owner[1]))
			s.ok(unix.Chown(s.path("f"), owner[0], owner[1]))
			for _, name := range []string{"f", "l"} {
				st := s.stat(name)
				same(s, "user", int(st.Uid), owner[0])
				same(s, "group", int(st.Gid), owner[1])
			}
		}
		s.ok(unix.Chown(s.path("f"), -1, 7))
		same(s, "user stays", s.stat("f").Uid, 0)
		same(s, "group", s.stat("f").Gid, 7)
		s.ok(unix.Chmod(s.path("f"), 0o6755))
		s.ok(unix.Chown(s.path("f"), 5, 5))
		same(s, "mode", s.stat("f").Mode&0o7777, 0o755)
	}},
	{"times are set to the nanosecond, together or one of them", func(s *suite) {
		s.write("f", nil)
		s.ok(os.Symlink("f", s.path("l")))
		set := func(name string, a, m unix.Timespec) {
			s.Helper()
			s.ok(unix.UtimesNanoAt(unix.AT_FDCWD, s.path(name), []unix.Timespec{a, m}, unix.AT_SYMLINK_NOFOLLOW))
		}
		for _, name := range []string{"f", "l", ""} {
			for _, sec := range []int64{0, 1, -5, 1 << 31, 4_000_000_000} {
				a, m := unix.Timespec{Sec: sec, Nsec: 1}, unix.Timespec{Sec: sec + 1, Nsec: 999_999_999}
				set(name, a, m)
				st := s.stat(name)
				same(s, "atime", st.Atim, a)
				same(s, "mtime", st.Mtim, m)
			}
			m := unix.Timespec{Sec: 5, Nsec: 6}
			if s.lacks(OneTime) {
				before := s.stat(name)
				set(name, unix.Timespec{Nsec: unix.UTIME_OMIT}, m)
				same(s, "mtime", s.stat(name).Mtim, before.Mtim)
				continue
			}
			set(name, unix.Timespec{Nsec: unix.UTIME_OMIT}, m)
			st := s.stat(name)
			same(s, "atime stays", st.Atim, unix.Timespec{Sec: 4_000_000_000, Nsec: 1})
			same(s, "mtime", st.Mtim, m)
			set(name, unix.Timespec{Nsec: unix.UTIME_NOW}, unix.Timespec{Nsec: unix.UTIME_OMIT})
			st = s.stat(name)
			same(s, "mtime stays", st.Mtim, m)
			if d := time.Since(when(st.Atim)); d < -time.Minute || d > time.Hour {
				s.Errorf("atime now: got %v", when(st.Atim))
			}
		}
	}},
	{"what changes a file or a directory sets its mtime", func(s *suite) {
		f := s.create("f")
		s.ok(os.Mkdir(s.path("d"), 0o755))
		step := func(what, name string, want bool, do func() error) {
			s.Helper()
			s.age("f")
			s.age("d")
			before := when(s.stat(name).Ctim)
			s.ok(do())
			at := s.mtime(name)
			if changed := !at.Equal(longAgo); changed != want {
				s.Errorf("%s: mtime of %s is %v; want it to change: %t", what, name, at, want)
			} else if d := time.Since(at); changed && (d < -time.Minute || d > time.Hour) {
				s.Errorf("%s: mtime of %s is %v, want about now", what, name, at)
			}
			if when(s.stat(name).Ctim).Before(before) {
				s.Errorf("%s: ctime of %s went back", what, name)
			}
		}
		step("write", "f", true, func() error { _, err := f.WriteAt([]byte("x"), 0); return err })
		step("read", "f", false, func() error { _, err := f.ReadAt(make([]byte, 1), 0); return err })
		step("truncate", "f", true, func() error { return f.Truncate(100) })
		step("write and close", "f", true, func() error { return os.WriteFile(s.path("f"), []byte("y"), 0) })
		step("chmod", "f", false, func() error { return f.Chmod(0o600) })
		step("create", "d", true, func() error { return os.WriteFile(s.path("d", "a"), nil, 0o644) })
		step("write in it", "d", false, func() error { return os.WriteFile(s.path("d", "a"), []byte("x"), 0o644) })
		step("rename in it", "d", true, func() error { return os.Rename(s.path("d", "a"), s.path("d", "b")) })
		step("rename out of it", "d", true, func() error { return os.Rename(s.path("d", "b"), s.path("b")) })
		step("rename into it", "d", true, func() error { return os.Rename(s.path("b"), s.path("d", "b")) })
		step("link", "d", true, func() error { return os.Link(s.path("f"), s.path("d", "f")) })
		step("unlink", "d", true, func() error { return os.Remove(s.path("d", "f")) })
		step("mkdir", "d", true, func() error { return os.Mkdir(s.path("d", "e"), 0o755) })
		step("rmdir", "d", true, func() error { return os.Remove(s.path("d", "e")) })
	}},
	{"times that were set outlive writes before them, and a close", func(s *suite) {
		// As cp -p does: write, set times, close. A kernel that holds writes back must not
		// set the time of the flush.
		f := s.create("f")
		s.writeAt(f, noise(1, 1<<20), 0)
		s.ok(unix.Futimes(int(f.Fd()), []unix.Timeval{{Sec: 5, Usec: 6}, {Sec: 7, Usec: 8}}))
		s.ok(f.Close())
		unix.Sync()
		same(s, "mtime", s.stat("f").Mtim, unix.Timespec{Sec: 7, Nsec: 8000})
	}},
	{"a chmod, a link and a write are told by ctime", func(s *suite) {
		f := s.create("f")
		for what, do := range map[string]func() error{
			"chmod": func() error { return f.Chmod(0o600) },
			"link":  func() error { return os.Link(s.path("f"), s.path("g")) },
			"write": func() error { _, err := f.WriteAt([]byte("x"), 0); return err },
		} {
			before := when(s.stat("f").Ctim)
			// The clock of a file system may be coarse: wait until it moved.
			for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
				s.write("clock", []byte{1})
				if when(s.stat("clock").Ctim).After(before) {
					break
				}
				if time.Now().After(deadline) {
					s.Fatal("the clock of the file system stands still")
				}
			}
			s.ok(do())
			if !when(s.stat("f").Ctim).After(before) {
				s.Errorf("%s: ctime did not move on from %v", what, before)
			}
		}
	}},
	{"a setgid directory hands down its group", func(s *suite) {
		s.root()
		s.ok(os.Mkdir(s.path("d"), 0o755))
		s.ok(unix.Chown(s.path("d"), 0, 50))
		s.ok(unix.Chmod(s.path("d"), 0o2755))
		s.write("d/f", nil)
		s.ok(os.Mkdir(s.path("d", "e"), 0o755))
		s.ok(os.Symlink("x", s.path("d", "l")))
		for name, bit := range map[string]bool{"d/f": false, "d/e": true, "d/l": false} {
			st := s.stat(name)
			same(s, "group of "+name, st.Gid, 50)
			same(s, "setgid of "+name, st.Mode&unix.S_ISGID != 0, bit)
		}
	}},
}

var userTests = []test{
	{"modes are checked", func(s *suite) {
		s.root()
		s.ok(os.WriteFile(s.path("secret"), []byte("x"), 0o600))
		s.ok(os.WriteFile(s.path("open"), []byte("x"), 0o644))
		s.ok(os.Mkdir(s.path("shut"), 0o700))
		s.write("shut/f", nil)
		d := int(s.open(s.dir, os.O_RDONLY).Fd())
		tell := func(name string, flag int) error {
			return s.asUser(1000, func() error {
				fd, err := unix.Openat(d, name, flag, 0)
				if err == nil {
					err = unix.Close(fd)
				}
				return err
			})
		}
		if err := tell("open", unix.O_RDONLY); err == unix.EACCES {
			s.Skip("this mount is for its owner only")
		}
		s.ok(tell("open", unix.O_RDONLY))
		s.fails("read", tell("secret", unix.O_RDONLY), unix.EACCES)
		s.fails("write", tell("open", unix.O_WRONLY), unix.EACCES)
		s.fails("search", tell("shut/f", unix.O_RDONLY), unix.EACCES)
		s.fails("create", tell("new", unix.O_CREAT|unix.O_WRONLY), unix.EACCES)
		s.fails("chmod", s.asUser(1000, func() error { return unix.Fchmodat(d, "open", 0o777, 0) }), unix.EPERM)
		s.fails("unlink", s.asUser(1000, func() error { return unix.Unlinkat(d, "open", 0) }), unix.EACCES)
		s.ok(unix.Chmod(s.dir, 0o1777))
		s.fails("unlink in a sticky directory", s.asUser(1000, func() error { return unix.Unlinkat(d, "open", 0) }), unix.EPERM, unix.EACCES)
		s.ok(tell("new", unix.O_CREAT|unix.O_WRONLY))
		st := s.stat("new")
		same(s, "owner of a new file", [2]uint32{st.Uid, st.Gid}, [2]uint32{1000, 1000})
		s.ok(s.asUser(1000, func() error { return unix.Unlinkat(d, "new", 0) }))
	}},
	{"setuid goes when another writes or cuts the file, and stays when root does", func(s *suite) {
		s.root()
		s.write("from", []byte("more"))
		from := s.open(s.path("from"), os.O_RDONLY)
		d := int(s.open(s.dir, os.O_RDONLY).Fd())
		for what, do := range map[string]func(fd int) error{
			"write":    func(fd int) error { _, err := unix.Write(fd, []byte("x")); return err },
			"truncate": func(fd int) error { return unix.Ftruncate(fd, 1) },
			"append":   func(fd int) error { _, err := unix.Pwrite(fd, []byte("x"), 10); return err },
			"allocate": func(fd int) error { return unix.Fallocate(fd, 0, 0, 100) },
			"punch": func(fd int) error {
				return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 2)
			},
			"copy": func(fd int) error {
				_, err := unix.CopyFileRange(int(from.Fd()), nil, fd, nil, 4, 0)
				return err
			},
		} {
			if s.lacks(Allocate) && (what == "allocate" || what == "punch") {
				continue
			}
			s.write(what, []byte("data"))
			s.ok(unix.Chmod(s.path(what), 0o6777))
			s.ok(do(int(s.open(s.path(what), os.O_RDWR).Fd())))
			same(s, "mode after "+what+" by root", s.stat(what).Mode&0o7777, 0o6777)
			_, err := from.Seek(0, 0)
			s.ok(err)
			err = s.asUser(1000, func() error {
				fd, err := unix.Openat(d, what, unix.O_WRONLY, 0)
				if err != nil {
					return err
				}
				defer unix.Close(fd)
				return do(fd)
			})
			if err == unix.EACCES {
				s.Skip("this mount is for its owner only")
			}
			s.ok(err)
			same(s, "mode after "+what, s.stat(what).Mode&0o7777, 0o777)
		}
	}},
}

var xattrTests = []test{
	{"values are kept on files and directories", func(s *suite) {
		s.write("f", nil)
		s.ok(os.Mkdir(s.path("d"), 0o755))
		big := string(noise(1, 2000))
		for _, name := range []string{"f", "d"} {
			want := map[string]string{"user.empty": "", "user.a": "value", "user.bytes": "\x00\xff\x00", "user.big": big}
			for x, v := range want {
				s.ok(unix.Setxattr(s.path(name), x, []byte(v), 0))
			}
			buf := make([]byte, 10_000)
			n, err := unix.Listxattr(s.path(name), buf)
			s.ok(err)
			names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
			for x, v := range want {
				same(s, "listed: "+x, slices.Contains(names, x), true)
				n, err := unix.Getxattr(s.path(name), x, buf)
				s.ok(err)
				s.sameBytes(x, buf[:n], []byte(v))
			}
			s.ok(unix.Removexattr(s.path(name), "user.a"))
			_, err = unix.Getxattr(s.path(name), "user.a", buf)
			s.fails("removed", err, unix.ENODATA)
			s.fails("remove again", unix.Removexattr(s.path(name), "user.a"), unix.ENODATA)
		}
	}},
	{"sizes are asked for, and small buffers refused", func(s *suite) {
		s.write("f", nil)
		s.ok(unix.Setxattr(s.path("f"), "user.a", []byte("12345"), 0))
		n, err := unix.Getxattr(s.path("f"), "user.a", nil)
		s.ok(err)
		same(s, "size", n, 5)
		_, err = unix.Getxattr(s.path("f"), "user.a", make([]byte, 4))
		s.fails("small buffer", err, unix.ERANGE)
		n, err = unix.Listxattr(s.path("f"), nil)
		s.ok(err)
		if n < len("user.a")+1 {
			s.Errorf("size of list: got %d", n)
		}
		_, err = unix.Listxattr(s.path("f"), make([]byte, 2))
		s.fails("small buffer for the list", err, unix.ERANGE)
		_, err = unix.Getxattr(s.path("none"), "user.a", nil)
		s.fails("of no file", err, unix.ENOENT)
	}},
	{"flags tell making from replacing", func(s *suite) {
		s.write("f", nil)
		s.fails("replace", unix.Setxattr(s.path("f"), "user.a", []byte("1"), unix.XATTR_REPLACE), unix.ENODATA)
		s.ok(unix.Setxattr(s.path("f"), "user.a", []byte("1"), unix.XATTR_CREATE))
		s.fails("create", unix.Setxattr(s.path("f"), "user.a", []byte("2"), unix.XATTR_CREATE), unix.EEXIST)
		s.ok(unix.Setxattr(s.path("f"), "user.a", []byte("3"), unix.XATTR_REPLACE))
		buf := make([]byte, 10)
		n, err := unix.Getxattr(s.path("f"), "user.a", buf)
		s.ok(err)
		same(s, "value", string(buf[:n]), "3")
	}},
	{"attributes of root are root's", func(s *suite) {
		s.root()
		s.write("f", nil)
		s.ok(os.Symlink("f", s.path("l")))
		for _, name := range []string{"f", "l"} {
			for i, x := range []string{"trusted.a", "security.b"} {
				v := fmt.Sprint("value", i)
				s.ok(unix.Lsetxattr(s.path(name), x, []byte(v), 0))
				buf := make([]byte, 100)
				n, err := unix.Lgetxattr(s.path(name), x, buf)
				s.ok(err)
				same(s, x, string(buf[:n]), v)
			}
		}
	}},
	{"an attribute stays with its file over rename and links", func(s *suite) {
		s.write("f", nil)
		s.ok(unix.Setxattr(s.path("f"), "user.a", []byte("v"), 0))
		s.ok(os.Link(s.path("f"), s.path("g")))
		s.ok(os.Rename(s.path("f"), s.path("h")))
		for _, name := range []string{"g", "h"} {
			buf := make([]byte, 10)
			n, err := unix.Getxattr(s.path(name), "user.a", buf)
			s.ok(err)
			same(s, "value", string(buf[:n]), "v")
		}
	}},
}
