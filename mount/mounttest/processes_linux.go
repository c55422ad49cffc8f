package mounttest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

var processTests = []test{
	{"flock keeps another process out until it is given back", func(s *suite) {
		f := s.create("f")
		s.ok(unix.Flock(int(f.Fd()), unix.LOCK_EX))
		c := s.child("", "flock", s.path("f"))
		same(s, "while it is held", c.line(), "busy")
		s.ok(unix.Flock(int(f.Fd()), unix.LOCK_UN))
		same(s, "once it is free", c.ask(), "locked")
		s.fails("now the child has it", unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EAGAIN)
		c.kill()
		s.ok(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB))
		other := s.open(s.path("f"), os.O_RDONLY)
		s.ok(unix.Flock(int(other.Fd()), unix.LOCK_SH|unix.LOCK_NB))
		s.fails("two share it", unix.Flock(int(other.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EAGAIN)
	}},
	{"fcntl locks ranges between processes", func(s *suite) {
		f := s.create("f")
		lock := unix.Flock_t{Type: unix.F_WRLCK, Start: 0, Len: 10}
		s.ok(unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock))
		in := s.child("", "fcntl", s.path("f"), "5", "1")
		out := s.child("", "fcntl", s.path("f"), "10", "10")
		same(s, "in the range", in.line(), "busy")
		same(s, "beside it", out.line(), "locked")
		asked := unix.Flock_t{Type: unix.F_WRLCK, Start: 15, Len: 100}
		s.ok(unix.FcntlFlock(f.Fd(), unix.F_GETLK, &asked))
		same(s, "who has it", int(asked.Pid), out.cmd.Process.Pid)
		same(s, "from where", asked.Start, 10)
		lock.Type = unix.F_UNLCK
		s.ok(unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock))
		same(s, "once it is free", in.ask(), "locked")
		out.kill()
		again := unix.Flock_t{Type: unix.F_WRLCK, Start: 10, Len: 10}
		s.ok(unix.FcntlFlock(f.Fd(), unix.F_SETLK, &again))
		in.end()
	}},
	{"a lock is waited for", func(s *suite) {
		f := s.create("f")
		c := s.child("", "flock", s.path("f"))
		same(s, "child", c.line(), "locked")
		got := make(chan error, 1)
		go func() { got <- unix.FcntlFlock(f.Fd(), unix.F_SETLKW, &unix.Flock_t{Type: unix.F_WRLCK}) }()
		s.ok(<-got) // flock and fcntl do not see each other
		go func() { got <- unix.Flock(int(f.Fd()), unix.LOCK_EX) }()
		c.end()
		s.ok(<-got)
	}},
	{"getcwd follows a renamed directory", func(s *suite) {
		s.ok(os.MkdirAll(s.path("a", "in"), 0o755))
		real, err := filepath.EvalSymlinks(s.dir)
		s.ok(err)
		c := s.childIn(s.path("a", "in"), "", "getcwd")
		same(s, "before", c.line(), real+"/a/in")
		s.ok(os.Rename(s.path("a"), s.path("b")))
		same(s, "after", c.ask(), real+"/b/in")
		c.end()
	}},
	{"processes that append do not tear each other's lines", func(s *suite) {
		const processes, lines = 4, 300
		s.write("f", nil)
		var children []*child
		for i := range processes {
			children = append(children, s.child("", "append", s.path("f"), string(rune('a'+i)), fmt.Sprint(lines)))
		}
		for _, c := range children {
			same(s, "child", c.line(), "done")
			c.end()
		}
		got, err := os.ReadFile(s.path("f"))
		s.ok(err)
		same(s, "size", len(got), processes*lines*100)
		for i := 0; i < len(got); i += 100 {
			if want := append(bytes.Repeat(got[i:i+1], 99), '\n'); !bytes.Equal(got[i:i+100], want) {
				s.Fatalf("line %d is torn: %q", i/100, got[i:i+100])
			}
		}
	}},
	{"sqlite keeps a database with a write-ahead log", testSQLite},
}

// testSQLite has several sqlite3 programs write to one database in WAL mode, which
// needs a shared memory map, locks between processes and syncs.
func testSQLite(s *suite) {
	program, err := exec.LookPath("sqlite3")
	if err != nil {
		s.Skip("sqlite3 is not installed")
	}
	sqlite := func(sql string) (string, error) {
		out, err := exec.CommandContext(s.Context(), program, "-batch", "-cmd", ".timeout 60000", s.path("db"), sql).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("sqlite3: %w: %s", err, out)
		}
		return strings.TrimSpace(string(out)), err
	}
	got, err := sqlite("PRAGMA journal_mode=WAL; CREATE TABLE t(w INTEGER, i INTEGER, b BLOB);")
	s.ok(err)
	same(s, "journal mode", got, "wal")
	const writers, rows = 4, 50
	s.together(writers, func(w int) error {
		var sql strings.Builder
		for i := range rows {
			fmt.Fprintf(&sql, "INSERT INTO t VALUES(%d, %d, randomblob(3000));\n", w, i)
		}
		_, err := sqlite(sql.String())
		return err
	})
	got, err = sqlite("PRAGMA integrity_check; SELECT count(*), count(DISTINCT w*1000+i), sum(length(b)) FROM t;")
	s.ok(err)
	same(s, "answer", got, fmt.Sprintf("ok\n%d|%d|%d", writers*rows, writers*rows, writers*rows*3000))
	_, err = sqlite("PRAGMA wal_checkpoint(TRUNCATE); UPDATE t SET b = zeroblob(10) WHERE i % 2; VACUUM;")
	s.ok(err)
	got, err = sqlite("PRAGMA integrity_check;")
	s.ok(err)
	same(s, "after a vacuum", got, "ok")
}

var parallelTests = []test{
	{"twenty writers of twenty files do not disturb each other", func(s *suite) {
		const size = 1 << 20
		s.together(20, func(i int) error {
			want := noise(uint64(i), size)
			f, err := os.Create(s.path(fmt.Sprint(i)))
			if err != nil {
				return err
			}
			defer f.Close()
			for off := 0; off < size; off += 10_001 {
				if _, err := f.WriteAt(want[off:min(off+10_001, size)], int64(off)); err != nil {
					return err
				}
			}
			if err := f.Sync(); err != nil {
				return err
			}
			got, err := os.ReadFile(s.path(fmt.Sprint(i)))
			if err == nil && !bytes.Equal(got, want) {
				err = errors.New("other bytes than were written")
			}
			return err
		})
		same(s, "files", len(s.names("")), 20)
	}},
	{"twenty writers of one file do not disturb each other", func(s *suite) {
		const writers, piece, size = 20, 3001, 4 << 20
		want := noise(1, size)
		f := s.create("f")
		s.together(writers, func(i int) error {
			own, err := os.OpenFile(s.path("f"), os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			for off := i * piece; off < size; off += writers * piece {
				if _, err := own.WriteAt(want[off:min(off+piece, size)], int64(off)); err != nil {
					return err
				}
			}
			return own.Close()
		})
		s.reads(f, want)
		s.ok(f.Sync())
		s.holds("f", want)
	}},
	{"many make and remove names in one directory", func(s *suite) {
		const workers, rounds = 10, 100
		s.together(workers, func(w int) error {
			for i := range rounds {
				name := s.path(fmt.Sprintf("%d-%d", w, i))
				if err := os.WriteFile(name, []byte(name), 0o644); err != nil {
					return err
				}
				if err := os.Rename(name, name+"x"); err != nil {
					return err
				}
				if i%2 == 0 {
					if err := os.Remove(name + "x"); err != nil {
						return err
					}
				}
			}
			return nil
		})
		same(s, "names", len(s.names("")), workers*rounds/2)
	}},
	{"who reads a file that is replaced over and over sees one state of it", func(s *suite) {
		content := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 20_000) }
		s.write("f", content(0))
		var done atomic.Bool
		s.together(5, func(i int) error {
			if i == 0 {
				defer done.Store(true)
				for round := range 200 {
					if err := os.WriteFile(s.path("tmp"), content(round), 0o644); err != nil {
						return err
					}
					if err := os.Rename(s.path("tmp"), s.path("f")); err != nil {
						return err
					}
				}
				return nil
			}
			for !done.Load() {
				got, err := os.ReadFile(s.path("f"))
				if s.lacks(OpenReplaced) && errors.Is(err, unix.ENOENT) {
					continue
				}
				if err != nil {
					return err
				}
				if len(got) != 20_000 || !bytes.Equal(got, content(int(got[0]))) {
					return fmt.Errorf("%d bytes that are a mixture or not all", len(got))
				}
			}
			return nil
		})
	}},
	{"maps and writes of many on one file end in one state", func(s *suite) {
		const size = 1 << 20
		f := s.create("f")
		s.ok(f.Truncate(size))
		want := noise(1, size)
		m := s.mmap(f, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		s.together(8, func(i int) error {
			const piece = 1000
			for k := i; k*piece < size; k += 8 {
				part := want[k*piece : min((k+1)*piece, size)]
				if i%2 == 0 {
					copy(m[k*piece:], part)
				} else if _, err := f.WriteAt(part, int64(k*piece)); err != nil {
					return err
				}
			}
			return nil
		})
		s.sameBytes("map", m, want)
		s.ok(unix.Msync(m, unix.MS_SYNC))
		s.holds("f", want)
	}},
}
