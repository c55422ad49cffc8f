package devices

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A worker writes through the mount of one device.
type worker struct {
	d   *device
	l   *ledger
	rng *rand.Rand
	ops map[string]int
	n   int

	said  string // what this step does
	begun time.Time
}

// work does what comes to its mind, until ctx is done. What fails while the device goes down is tried no more.
func (w *worker) work(ctx context.Context) {
	for ctx.Err() == nil {
		w.d.mu.RLock()
		w.step()
		w.d.mu.RUnlock()
	}
}

func (w *worker) dirName() string { return fmt.Sprintf("d%d", w.rng.IntN(4)) }

func (w *worker) path() string {
	return filepath.Join(w.d.dir, w.dirName(), fmt.Sprintf("f%d", w.rng.IntN(6)))
}

func (w *worker) step() {
	kind, err := "", error(nil)
	w.said, w.begun = "", time.Now()
	defer func() { w.l.tell(w.begun, "%s %s %s: %v", w.d.name, kind, w.said, err) }()
	switch n := w.rng.IntN(20); {
	case n < 5:
		kind, err = "overwrite", w.overwrite(w.path())
	case n < 9:
		kind, err = "save", w.save(w.path())
	case n < 12:
		kind, err = "append", w.append(w.path())
	case n < 14:
		kind, err = "remove", w.remove(w.path())
	case n < 16:
		kind, err = "rename", w.rename(w.path(), w.path())
	case n < 17:
		from, to := filepath.Join(w.d.dir, w.dirName()), filepath.Join(w.d.dir, w.dirName())
		w.say(from, "to", to)
		kind, err = "rename folder", os.Rename(from, to)
	case n < 19:
		kind, err = "make folder", os.Mkdir(filepath.Join(w.d.dir, w.dirName()), 0o755)
	default:
		w.n++
		kind, err = "own", w.save(filepath.Join(w.d.dir, fmt.Sprintf("own-%s-%d", w.d.name, w.n)))
	}
	if err == nil {
		w.ops[kind]++
	}
}

// hold opens a file for writing and returns its bytes. While it is held nobody else's bytes take their place: what this device
// replaces is what it has read.
func hold(path string, flag int) (*os.File, []byte, error) {
	f, err := os.OpenFile(path, os.O_RDWR|flag, 0o644)
	if err != nil {
		return nil, nil, err
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, b, nil
}

// put makes content all of f, durably.
func put(f *os.File, content []byte) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	if _, err := f.WriteAt(content, 0); err != nil {
		return err
	}
	return f.Sync()
}

func (w *worker) overwrite(path string) (err error) {
	f, old, err := hold(path, os.O_CREATE)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	s := w.l.write(w.d.name)
	w.say(path, "writes", s, "over", old)
	w.l.free(old)
	content := []byte(s)
	if w.rng.IntN(4) == 0 {
		content = append(content, bytes.Repeat([]byte{'x'}, 1+w.rng.IntN(300<<10))...)
	}
	if err := put(f, content); err != nil {
		return err
	}
	w.l.synced(s)
	return nil
}

func (w *worker) append(path string) (err error) {
	f, old, err := hold(path, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	s := w.l.write(w.d.name)
	w.say(path, "appends", s, "to", old)
	if _, err := f.WriteAt([]byte(s), int64(len(old))); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	w.l.synced(s)
	return nil
}

// save is how most programs write: a new file takes the place of the old one.
func (w *worker) save(path string) (err error) {
	w.n++
	tmp := filepath.Join(filepath.Dir(path), fmt.Sprintf(".tmp-%s-%d", w.d.name, w.n))
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	s := w.l.write(w.d.name)
	w.say(path, "saves", s, "by", tmp)
	err = errors.Join(put(f, []byte(s)), f.Close())
	if err != nil {
		return err
	}
	return w.replace(tmp, path, func() { w.l.synced(s) })
}

// replace gives the file at tmp, which is nobody else's name, the name to, and tells when that is durable. What has that name when it is
// replaced is looked at then, not before: another device's file may just have got it.
func (w *worker) replace(tmp, to string, done func()) error {
	err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	replaced := errors.Is(err, os.ErrExist)
	if replaced {
		err = unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE)
	}
	if err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(to)); err != nil {
		return err
	}
	done()
	w.say("to", to)
	if !replaced {
		return nil
	}
	return w.drop(tmp)
}

// drop removes a file under a name that is nobody else's, and notes what was in it.
func (w *worker) drop(tmp string) error {
	f, old, err := hold(tmp, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	w.say("drops", old)
	w.l.free(old)
	return os.Remove(tmp)
}

// take gives the file at path a name that is nobody else's.
func (w *worker) take(path string) (tmp string, err error) {
	w.n++
	tmp = filepath.Join(filepath.Dir(path), fmt.Sprintf(".tmp-%s-%d", w.d.name, w.n))
	return tmp, unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, tmp, unix.RENAME_NOREPLACE)
}

func (w *worker) rename(from, to string) error {
	tmp, err := w.take(from)
	if err != nil {
		return err
	}
	w.say(from, "by", tmp)
	return w.replace(tmp, to, func() {})
}

func (w *worker) remove(path string) error {
	tmp, err := w.take(path)
	if err != nil {
		return err
	}
	w.say(path, "by", tmp)
	return w.drop(tmp)
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// say notes what this step does: of the bytes of files, the texts in them.
func (w *worker) say(words ...any) {
	for _, x := range words {
		switch x := x.(type) {
		case []byte:
			w.said += fmt.Sprint(textForm.FindAllString(string(x), -1), " ")
		case string:
			w.said += strings.TrimPrefix(x, w.d.dir) + " "
		}
	}
}
