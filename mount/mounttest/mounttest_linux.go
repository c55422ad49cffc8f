package mounttest

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// A test is one thing that a program may expect of a folder.
type test struct {
	name string
	run  func(s *suite)
}

// Run checks the folder dir, which must be empty and writable and is empty again
// afterwards if nothing failed. Each subtest works in a folder of its own. What the folder
// cannot do is named.
func Run(t *testing.T, dir string, lacks ...Lack) {
	t.Helper()
	without := map[Lack]bool{}
	for _, what := range lacks {
		without[what] = true
	}
	for _, group := range []struct {
		name  string
		tests []test
	}{
		{"files", fileTests},
		{"memory maps", mapTests},
		{"ranges", rangeTests},
		{"names", nameTests},
		{"directories", dirTests},
		{"attributes", attrTests},
		{"other users", userTests},
		{"extended attributes", xattrTests},
		{"locks and processes", processTests},
		{"at the same time", parallelTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, x := range group.tests {
				t.Run(x.name, func(t *testing.T) {
					own, err := os.MkdirTemp(dir, "t")
					if err != nil {
						t.Fatal(err)
					}
					if err := os.Chmod(own, 0o755); err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() {
						if err := os.RemoveAll(own); err != nil {
							t.Errorf("clean up: %v", err)
						}
					})
					x.run(&suite{t, own, without})
				})
			}
		})
	}
}

// suite is one folder under test.
type suite struct {
	*testing.T
	dir     string
	without map[Lack]bool
}

// path returns the path of a name in the folder.
func (s *suite) path(name ...string) string {
	return filepath.Join(append([]string{s.dir}, name...)...)
}

// ok stops the test on an error.
func (s *suite) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("unexpected error: %v", err)
	}
}

// fails wants an error that is one of want.
func (s *suite) fails(what string, err error, want ...error) {
	s.Helper()
	if !slices.ContainsFunc(want, func(w error) bool { return errors.Is(err, w) }) {
		s.Errorf("%s: got error %v, want one that is %v", what, err, want)
	}
}

// same wants two comparable values to be equal.
func same[T comparable](s *suite, what string, got, want T) {
	s.Helper()
	if got != want {
		s.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// sameBytes says where two slices differ, not how they look.
func (s *suite) sameBytes(what string, got, want []byte) {
	s.Helper()
	if bytes.Equal(got, want) {
		return
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	s.Errorf("%s: got %d bytes, want %d; they differ from byte %d on: got %.16x, want %.16x",
		what, len(got), len(want), i, got[i:], want[i:])
}

// open opens a file and closes it at the end of the test, if the test did not.
func (s *suite) open(path string, flag int) *os.File {
	s.Helper()
	f, err := os.OpenFile(path, flag, 0o644)
	s.ok(err)
	s.Cleanup(func() {
		if err := f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			s.Errorf("close: %v", err)
		}
	})
	return f
}

// create makes a file and opens it for reading and writing.
func (s *suite) create(name string) *os.File {
	s.Helper()
	return s.open(s.path(name), os.O_CREATE|os.O_EXCL|os.O_RDWR)
}

// write makes a file that holds data.
func (s *suite) write(name string, data []byte) {
	s.Helper()
	s.ok(os.WriteFile(s.path(name), data, 0o644))
}

// writeAt writes all of p.
func (s *suite) writeAt(f *os.File, p []byte, off int64) {
	s.Helper()
	n, err := f.WriteAt(p, off)
	if n != len(p) || err != nil {
		s.Fatalf("write %d bytes at %d: got %d, %v", len(p), off, n, err)
	}
}

// holds wants that the file at name is want and nothing else.
func (s *suite) holds(name string, want []byte) {
	s.Helper()
	got, err := os.ReadFile(s.path(name))
	s.ok(err)
	s.sameBytes(name, got, want)
}

// reads wants that an open file is want and nothing else.
func (s *suite) reads(f *os.File, want []byte) {
	s.Helper()
	got, err := io.ReadAll(io.NewSectionReader(f, 0, int64(len(want))+1))
	s.ok(err)
	s.sameBytes("open file", got, want)
}

// stat returns what lstat(2) says.
func (s *suite) stat(name string) unix.Stat_t {
	s.Helper()
	var st unix.Stat_t
	s.ok(unix.Lstat(s.path(name), &st))
	return st
}

// missing wants that name is not there.
func (s *suite) missing(name string) {
	s.Helper()
	_, err := os.Lstat(s.path(name))
	s.fails("lstat of "+name, err, unix.ENOENT)
}

// names lists a directory.
func (s *suite) names(name string) []string {
	s.Helper()
	entries, err := os.ReadDir(s.path(name))
	s.ok(err)
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// sameNames wants a directory to have just these names, in any order on the way.
func (s *suite) sameNames(name string, want ...string) {
	s.Helper()
	slices.Sort(want)
	if got := s.names(name); !slices.Equal(got, want) {
		s.Errorf("names in %q: got %q, want %q", name, got, want)
	}
}

// root skips the test if it does not run as root.
func (s *suite) root() {
	s.Helper()
	if os.Geteuid() != 0 {
		s.Skip("needs root")
	}
}

// together runs do(0) to do(n-1) at the same time and waits for all of them.
func (s *suite) together(n int, do func(i int) error) {
	s.Helper()
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = do(i) })
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			s.Errorf("goroutine %d: %v", i, err)
		}
	}
}

// asUser runs do on a thread of its own whose file system user and group are id,
// without the capabilities of root. It needs root.
func (s *suite) asUser(id int, do func() error) error {
	s.Helper()
	s.root()
	result := make(chan error)
	go func() {
		// The thread is not given back: it ends with this goroutine.
		runtime.LockOSThread()
		unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0)
		unix.RawSyscall(unix.SYS_SETFSGID, uintptr(id), 0, 0)
		unix.RawSyscall(unix.SYS_SETFSUID, uintptr(id), 0, 0)
		result <- do()
	}()
	return <-result
}

// noise returns n bytes, none of them zero, that follow from seed.
func noise(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 0x5ea1))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32()) | 1
	}
	return p
}
