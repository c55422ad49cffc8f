package churn

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// A file is what a file must be.
type file struct {
	dir  int
	name string
	body []byte
	slot int // in worker.files
}

// A worker changes a tree of its own, and knows what must be in it.
type worker struct {
	name  string // of its folder, below the mount
	top   string // of its folder, anywhere
	rng   *rand.Rand
	want  int // files
	files []*file
	dirs  []map[string]*file
	made  int // names

	mu  sync.RWMutex // held for reading while something is done, and for writing by who wants all to stand still
	ops int          // guarded by mu
}

const perDir = 400 // files

func newWorker(dir, name string, want int, rng *rand.Rand) (*worker, error) {
	w := &worker{name: name, top: filepath.Join(dir, name), rng: rng, want: want}
	for i := range (want + perDir - 1) / perDir {
		w.dirs = append(w.dirs, map[string]*file{})
		if err := os.MkdirAll(w.dirPath(i), 0o755); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *worker) dirPath(i int) string     { return filepath.Join(w.top, fmt.Sprintf("d%04d", i)) }
func (w *worker) path(f *file) string      { return filepath.Join(w.dirPath(f.dir), f.name) }
func (w *worker) pick() *file              { return w.files[w.rng.IntN(len(w.files))] }
func (w *worker) noise(n int) []byte       { return testkit.Random(w.rng, n) }
func (w *worker) within(f *file) (off int) { return w.rng.IntN(len(f.body) + 1) }
func (w *worker) inDrive(f *file) string {
	return filepath.Join(w.name, filepath.Base(w.dirPath(f.dir)), f.name)
}
func (w *worker) temporary(of *file) string { return w.path(of) + ".new" }
func (w *worker) opened(f *file, flag int) (*os.File, error) {
	return os.OpenFile(w.path(f), flag, 0o644)
}

// size draws the size of a file. All sizes come from here, so their mean stays.
func (w *worker) size() int {
	switch k := w.rng.IntN(300); {
	case k == 0:
		return w.rng.IntN(300_000)
	case k < 20:
		return w.rng.IntN(20_000)
	}
	return w.rng.IntN(2000)
}

// put notes that f is there; what had its name is not any more.
func (w *worker) put(f *file) {
	if old := w.dirs[f.dir][f.name]; old != nil {
		w.drop(old)
	}
	w.dirs[f.dir][f.name] = f
	f.slot = len(w.files)
	w.files = append(w.files, f)
}

// drop notes that f is gone.
func (w *worker) drop(f *file) {
	delete(w.dirs[f.dir], f.name)
	last := len(w.files) - 1
	w.files[f.slot] = w.files[last]
	w.files[f.slot].slot = f.slot
	w.files = w.files[:last]
}

func (w *worker) fill() error {
	for len(w.files) < w.want {
		if err := w.create(); err != nil {
			return err
		}
	}
	return nil
}

// work does one thing after the other until told to stop, rate of them a second if that is not 0.
func (w *worker) work(stop <-chan struct{}, rate int) error {
	pace := func() <-chan time.Time { return nil }
	if rate > 0 {
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		pace = func() <-chan time.Time { return tick.C }
	}
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		w.mu.RLock()
		err := w.step()
		w.mu.RUnlock()
		if err != nil {
			return fmt.Errorf("after %d steps of %s: %w", w.ops, w.name, err)
		}
		w.ops++
		if c := pace(); c != nil {
			select {
			case <-stop:
				return nil
			case <-c:
			}
		}
	}
}

func (w *worker) step() error {
	switch k := w.rng.IntN(100); {
	case k < 25:
		if len(w.files) < w.want {
			return w.create()
		}
		return w.remove(w.pick())
	case k < 40:
		return w.overwrite(w.pick())
	case k < 55:
		return w.resize(w.pick())
	case k < 65:
		return w.rename(w.pick())
	case k < 73:
		return w.mapped(w.pick())
	case k < 82:
		return w.read(w.pick())
	case k < 84:
		return w.list(w.rng.IntN(len(w.dirs)))
	case k < 88:
		return w.save(w.pick())
	case k < 91:
		return w.linked(w.pick())
	case k < 94:
		return w.orphan()
	case k < 97:
		return w.folder()
	}
	return w.attribute(w.pick())
}

func (w *worker) create() error {
	w.made++
	f := &file{dir: w.rng.IntN(len(w.dirs)), name: fmt.Sprintf("f%07d", w.made), body: w.noise(w.size())}
	if err := os.WriteFile(w.path(f), f.body, 0o644); err != nil {
		return err
	}
	w.put(f)
	return nil
}

func (w *worker) remove(f *file) error {
	if err := os.Remove(w.path(f)); err != nil {
		return err
	}
	w.drop(f)
	return nil
}

func (w *worker) overwrite(f *file) error {
	h, err := w.opened(f, os.O_RDWR)
	if err != nil {
		return err
	}
	off := w.within(f)
	part := w.noise(min(w.rng.IntN(4096), len(f.body)-off))
	_, err = h.WriteAt(part, int64(off))
	if err == nil && w.rng.IntN(10) == 0 {
		err = h.Sync()
	}
	if err = errors.Join(err, h.Close()); err != nil {
		return err
	}
	copy(f.body[off:], part)
	return nil
}

// resize appends, or truncates, to another size.
func (w *worker) resize(f *file) error {
	size := w.size()
	if size < len(f.body) {
		if err := os.Truncate(w.path(f), int64(size)); err != nil {
			return err
		}
		f.body = slices.Clone(f.body[:size])
		return nil
	}
	h, err := w.opened(f, os.O_WRONLY|os.O_APPEND)
	if err != nil {
		return err
	}
	more := w.noise(size - len(f.body))
	_, err = h.Write(more)
	if err = errors.Join(err, h.Close()); err != nil {
		return err
	}
	f.body = slices.Concat(f.body, more)
	return nil
}

// rename moves f to another folder, now and then over what is there.
func (w *worker) rename(f *file) error {
	old := w.path(f)
	to := &file{dir: w.rng.IntN(len(w.dirs)), body: f.body}
	w.made++
	to.name = fmt.Sprintf("f%07d", w.made)
	if other := w.pick(); w.rng.IntN(5) == 0 && other != f {
		to.dir, to.name = other.dir, other.name
	}
	if err := os.Rename(old, w.path(to)); err != nil {
		return err
	}
	w.drop(f)
	w.put(to)
	return nil
}

// mapped changes f through a map.
func (w *worker) mapped(f *file) error {
	if len(f.body) == 0 {
		return nil
	}
	h, err := w.opened(f, os.O_RDWR)
	if err != nil {
		return err
	}
	m, err := unix.Mmap(int(h.Fd()), 0, len(f.body), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return errors.Join(err, h.Close())
	}
	if !bytes.Equal(m, f.body) {
		err = fmt.Errorf("map of %s has other bytes", w.path(f))
	}
	off := w.within(f)
	copy(f.body[off:], w.noise(min(w.rng.IntN(5000), len(f.body)-off)))
	copy(m[off:], f.body[off:])
	if w.rng.IntN(4) == 0 {
		err = errors.Join(err, unix.Msync(m, unix.MS_SYNC))
	}
	return errors.Join(err, unix.Munmap(m), h.Close())
}

func (w *worker) read(f *file) error {
	got, err := os.ReadFile(w.path(f))
	if err == nil && !bytes.Equal(got, f.body) {
		err = fmt.Errorf("%s has %d bytes that are not the %d written", w.path(f), len(got), len(f.body))
	}
	return err
}

// list holds what a folder lists against what must be in it.
func (w *worker) list(i int) error {
	entries, err := os.ReadDir(w.dirPath(i))
	if err != nil {
		return err
	}
	for _, e := range entries {
		f := w.dirs[i][e.Name()]
		if f == nil {
			return fmt.Errorf("%s is in %s, and should not be", e.Name(), w.dirPath(i))
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if info.Size() != int64(len(f.body)) {
			return fmt.Errorf("%s has %d bytes, want %d", w.path(f), info.Size(), len(f.body))
		}
	}
	if len(entries) != len(w.dirs[i]) {
		return fmt.Errorf("%s lists %d files, want %d", w.dirPath(i), len(entries), len(w.dirs[i]))
	}
	return nil
}

// save is what an editor does.
func (w *worker) save(f *file) error {
	body := w.noise(w.size())
	h, err := os.OpenFile(w.temporary(f), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = h.Write(body)
	if err = errors.Join(err, h.Sync(), h.Close()); err != nil {
		return err
	}
	if err := os.Rename(w.temporary(f), w.path(f)); err != nil {
		return err
	}
	f.body = body
	return nil
}

// linked gives f a second name for a while, and writes through that.
func (w *worker) linked(f *file) error {
	if err := os.Link(w.path(f), w.temporary(f)); err != nil {
		return err
	}
	body := w.noise(w.size())
	err := os.WriteFile(w.temporary(f), body, 0o644)
	if err = errors.Join(err, os.Remove(w.temporary(f))); err != nil {
		return err
	}
	f.body = body
	return nil
}

// orphan writes a file that has no name any more.
func (w *worker) orphan() error {
	name := filepath.Join(w.top, "orphan")
	h, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = h.Write(w.noise(w.size()))
	err = errors.Join(err, os.Remove(name))
	_, werr := h.WriteAt(w.noise(w.rng.IntN(3000)), 500)
	return errors.Join(err, werr, h.Close())
}

// folder makes a folder with something in it, and takes it away.
func (w *worker) folder() error {
	one, two := filepath.Join(w.top, "one"), filepath.Join(w.top, "two")
	if err := os.Mkdir(one, 0o755); err != nil {
		return err
	}
	err := os.WriteFile(filepath.Join(one, "f"), w.noise(w.size()), 0o644)
	err = errors.Join(err, os.Symlink("f", filepath.Join(one, "l")), os.Rename(one, two))
	return errors.Join(err, os.RemoveAll(two))
}

func (w *worker) attribute(f *file) error {
	path, want := w.path(f), w.noise(1+w.rng.IntN(40))
	if err := unix.Setxattr(path, "user.churn", want, 0); err != nil {
		return err
	}
	got := make([]byte, 100)
	n, err := unix.Getxattr(path, "user.churn", got)
	if err == nil && !bytes.Equal(got[:n], want) {
		err = fmt.Errorf("attribute of %s is %x, want %x", path, got[:n], want)
	}
	at := time.Unix(1_500_000_000+w.rng.Int64N(1e8), 0)
	return errors.Join(err, unix.Removexattr(path, "user.churn"), os.Chtimes(path, at, at))
}

// check holds all that is there against all that must be.
func (w *worker) check() error {
	entries, err := os.ReadDir(w.top)
	if err != nil {
		return err
	}
	if len(entries) != len(w.dirs) {
		return fmt.Errorf("%s has %d folders, want %d", w.top, len(entries), len(w.dirs))
	}
	for i := range w.dirs {
		if err := w.list(i); err != nil {
			return err
		}
	}
	for _, f := range w.files {
		if err := w.read(f); err != nil {
			return err
		}
	}
	return nil
}
