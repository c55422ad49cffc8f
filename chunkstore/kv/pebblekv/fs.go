package pebblekv

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
)

// A sealedFS is what pebble takes for its disk: the files of one folder of another file system, each encrypted and
// authenticated. It does three things besides.
//
// Names: a name that was made is durable before Create or Rename returns, so a name never outlives a power cut
// that one made before it does not survive, and nothing is removed before what takes its place is there. Pebble
// alone makes the marker that names a manifest, and removes the one before it, in one sync of the folder; a disk that
// keeps half of that leaves a database that cannot be opened, or worse, an empty one.
//
// Failure: the first change that the disk refuses is the last one that it sees. From then on nothing reaches
// it, as if the power had been cut at that moment, and pebble, which would end the process, is told that all
// is well. It is for the engine above to look at failed before it believes in an answer. What was in a log beyond what was acknowledged is
// not read again: see walEnds.
//
// Damage: bytes that are not what was written here are an error that is kv.ErrDamaged, and are told to onDamage.
type sealedFS struct {
	vfs.FS
	dir      vfs.File // the folder
	key      []byte
	onDamage func(error)

	failure atomic.Pointer[error]
	lost    atomic.Bool  // something that was written to a log of Updates after the failure
	flight  sync.RWMutex // read-locked while a change is made
	ends    *walEnds
}

// kind says how a file is stored.
type kind byte

const (
	kindLog   kind = iota // written at its end, and read from its beginning to its end
	kindTable             // written once, and read anywhere
	kindName              // holds nothing: its name is what it says
)

// headerSize is the length of what each file but one of kindName begins with: magic, salt, authenticator.
const (
	headerSize = 64
	saltSize   = 32
)

const magic = "sheafkv1"

// kindOf returns the kind of a file by its name, and the label that its header is bound to.
func kindOf(base string) (kind, string) {
	switch {
	case strings.HasPrefix(base, "marker."), base == "LOCK":
		return kindName, ""
	case strings.HasSuffix(base, ".sst"), strings.HasSuffix(base, ".blob"):
		return kindTable, base
	case strings.HasSuffix(base, ".dbtmp"), strings.HasPrefix(base, "OPTIONS-"):
		return kindLog, "options" // the one sort of file that is renamed
	default:
		return kindLog, base
	}
}

func newSealedFS(base vfs.FS, dir string, key []byte, ends *walEnds, onDamage func(error)) (*sealedFS, error) {
	d, err := base.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	return &sealedFS{FS: base, dir: d, key: append([]byte(nil), key...), onDamage: onDamage, ends: ends}, nil
}

// close gives back the folder.
func (s *sealedFS) close() error { return s.dir.Close() }

// failed returns the error of the first change that the disk refused, or nil.
func (s *sealedFS) failed() error {
	if p := s.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// fail ends all changes.
func (s *sealedFS) fail(err error) { s.failure.CompareAndSwap(nil, &err) }

// end fails with err, unless it has failed before, and returns when no change is under way any more.
func (s *sealedFS) end(err error) {
	s.fail(err)
	s.flight.Lock()
	defer s.flight.Unlock()
}

// change makes a change, unless one has failed before, and reports whether it has reached the disk.
func (s *sealedFS) change(fn func() error) bool {
	s.flight.RLock()
	defer s.flight.RUnlock()
	if s.failed() != nil {
		return false
	}
	if err := fn(); err != nil {
		s.fail(err)
		return false
	}
	return true
}

// A damage is an error of stored bytes, to this package's callers and to pebble.
type damage struct{ text string }

func (d *damage) Error() string { return kv.ErrDamaged.Error() + ": " + d.text }

// Is is called by errors.Is.
func (d *damage) Is(target error) bool {
	return target == kv.ErrDamaged || target == pebble.ErrCorruption
}

// damaged makes damage known and returns it as an error. After a failure it is no wonder that the files are not what pebble thinks.
func (s *sealedFS) damaged(format string, args ...any) error {
	err := &damage{fmt.Sprintf(format, args...)}
	if failure := s.failed(); failure != nil {
		return fmt.Errorf("%s: %w", err.text, refused(failure))
	}
	s.onDamage(err)
	return err
}

// newHeader returns the header of a new file, and what seals the rest of it.
func (s *sealedFS) newHeader(label string) ([]byte, cipher.AEAD, error) {
	h := make([]byte, len(magic)+saltSize, headerSize)
	copy(h, magic)
	if _, err := rand.Read(h[len(magic):]); err != nil {
		return nil, nil, err
	}
	key, mac := s.keys(h, label)
	aead, err := newAEAD(key)
	return append(h, mac...), aead, err
}

// keys returns the key of a file, and the last bytes of its header, which begins with h.
func (s *sealedFS) keys(h []byte, label string) (key, authenticator []byte) {
	var out [64]byte
	kdf.Derive(kdf.LocalFile, out[:], s.key, h[len(magic):len(magic)+saltSize])
	mac := kdf.Keyed((*[32]byte)(out[32:]), h[:len(magic)+saltSize], []byte(label))
	return out[:32], mac[:headerSize-len(magic)-saltSize]
}

// aead checks a header and returns what opens the rest of the file. The key is of this file alone.
func (s *sealedFS) aead(header []byte, label string) (cipher.AEAD, bool) {
	if len(header) != headerSize || string(header[:len(magic)]) != magic {
		return nil, false
	}
	key, mac := s.keys(header, label)
	if subtle.ConstantTimeCompare(mac, header[len(magic)+saltSize:]) != 1 {
		return nil, false
	}
	aead, err := newAEAD(key)
	return aead, err == nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Create implements vfs.FS.
func (s *sealedFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	var file vfs.File
	k, label := kindOf(s.PathBase(name))
	ok := s.change(func() error {
		f, err := s.FS.Create(name, category)
		if err != nil {
			return err
		}
		file, err = s.begin(f, k, label, s.PathBase(name))
		if err == nil {
			err = s.dir.Sync()
		}
		if err != nil {
			return errors.Join(err, f.Close())
		}
		return nil
	})
	if !ok {
		return deadFile{fs: s, wal: isWAL(s.PathBase(name))}, nil
	}
	return file, nil
}

// begin writes what a new file begins with.
func (s *sealedFS) begin(f vfs.File, k kind, label, base string) (vfs.File, error) {
	if k == kindName {
		return f, nil
	}
	header, aead, err := s.newHeader(label)
	if err == nil {
		_, err = f.Write(header)
	}
	if err != nil {
		return nil, err
	}
	if k == kindTable {
		return newTableWriter(s, f, aead), nil
	}
	// A log that does not open is damaged, and not cut off by a crash, because its header is
	// durable before anything follows.
	if err := f.Sync(); err != nil {
		return nil, err
	}
	w := &logWriter{fs: s, file: f, aead: aead}
	if isWAL(base) {
		w.end = s.ends.add(base, s)
	}
	return w, nil
}

// Open implements vfs.FS.
func (s *sealedFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	base := s.PathBase(name)
	k, label := kindOf(base)
	if k == kindName {
		return s.FS.Open(name, opts...)
	}
	f, err := s.FS.Open(name, opts...)
	if err != nil && errors.Is(err, fs.ErrNotExist) {
		// Pebble would end the process. It only opens what it knows to be there.
		return nil, s.damaged("%s is missing", base)
	}
	if err != nil {
		return nil, err
	}
	r, err := s.reader(f, k, base, label)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return r, nil
}

func (s *sealedFS) reader(f vfs.File, k kind, base, label string) (vfs.File, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	header := make([]byte, headerSize)
	n, err := f.ReadAt(header, 0)
	if n < headerSize && err != nil && st.Size() >= headerSize {
		return nil, err
	}
	aead, ok := s.aead(header[:n], label)
	if !ok && k == kindLog {
		if empty, err := allZero(f); err != nil || empty {
			return &logReader{fs: s, file: f, base: base, ended: true}, err
		}
	}
	switch {
	case !ok:
		return nil, s.damaged("the header of %s is not of this database", base)
	case k == kindLog:
		return newLogReader(s, f, aead, base), nil
	}
	size, ok := plainSize(st.Size())
	if !ok {
		return nil, s.damaged("%s has an impossible size of %d bytes", base, st.Size())
	}
	t := &tableReader{File: f, fs: s, aead: aead, base: base, size: size}
	return t, t.checkEnd()
}

// allZero reports whether a file holds no byte that was written, as after a crash in the middle of Create.
func allZero(f vfs.File) (bool, error) {
	buf := make([]byte, 64<<10)
	for off := int64(0); ; {
		n, err := f.ReadAt(buf, off)
		for _, b := range buf[:n] {
			if b != 0 {
				return false, nil
			}
		}
		off += int64(n)
		if isEOF(err) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// Remove implements vfs.FS.
func (s *sealedFS) Remove(name string) error {
	var missing error
	s.change(func() error {
		err := s.FS.Remove(name)
		if errors.Is(err, fs.ErrNotExist) {
			missing, err = err, nil
		}
		if err == nil {
			s.ends.remove(s.PathBase(name))
		}
		return err
	})
	return missing
}

// Rename implements vfs.FS. Only what is bound to one label can be renamed.
func (s *sealedFS) Rename(from, to string) error {
	_, a := kindOf(s.PathBase(from))
	_, b := kindOf(s.PathBase(to))
	if a != b {
		return fmt.Errorf("rename %s: %w", s.PathBase(from), errors.ErrUnsupported)
	}
	s.change(func() error {
		if err := s.FS.Rename(from, to); err != nil {
			return err
		}
		return s.dir.Sync()
	})
	return nil
}

// Stat implements vfs.FS.
func (s *sealedFS) Stat(name string) (vfs.FileInfo, error) {
	st, err := s.FS.Stat(name)
	if k, _ := kindOf(s.PathBase(name)); err != nil || k != kindTable {
		return st, err
	}
	size, _ := plainSize(st.Size())
	return sizedInfo{st, size}, nil
}

// OpenDir implements vfs.FS.
func (s *sealedFS) OpenDir(name string) (vfs.File, error) {
	d, err := s.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return dirFile{d, s}, nil
}

// What pebble does not do with the options that are set here.

// Link implements vfs.FS.
func (s *sealedFS) Link(string, string) error { return errors.ErrUnsupported }

// OpenReadWrite implements vfs.FS.
func (s *sealedFS) OpenReadWrite(string, vfs.DiskWriteCategory, ...vfs.OpenOption) (vfs.File, error) {
	return nil, errors.ErrUnsupported
}

// RemoveAll implements vfs.FS.
func (s *sealedFS) RemoveAll(string) error { return errors.ErrUnsupported }

// ReuseForWrite implements vfs.FS: an old log is never written over, since its bytes could be taken for new ones.
func (s *sealedFS) ReuseForWrite(from, to string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.Create(to, category)
	if err != nil {
		return nil, err
	}
	return f, s.Remove(from)
}

// Lock implements vfs.FS: the DB has it.
func (s *sealedFS) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// Unwrap implements vfs.FS.
func (s *sealedFS) Unwrap() vfs.FS { return s.FS }

// dirFile is an open folder.
type dirFile struct {
	vfs.File
	fs *sealedFS
}

func (d dirFile) Sync() error {
	d.fs.change(d.File.Sync)
	return nil
}

// sizedInfo is a FileInfo with the size of what is sealed.
type sizedInfo struct {
	vfs.FileInfo
	size int64
}

func (i sizedInfo) Size() int64 { return i.size }

// deadFile takes what is written after a failure, and forgets it.
type deadFile struct {
	noFile
	fs  *sealedFS
	wal bool
}

func (f deadFile) Write(p []byte) (int, error) {
	if f.wal {
		f.fs.lost.Store(true)
	}
	return len(p), nil
}
func (deadFile) Sync() error                 { return nil }
func (deadFile) SyncData() error             { return nil }
func (deadFile) SyncTo(int64) (bool, error)  { return false, nil }
func (deadFile) Close() error                { return nil }
func (deadFile) Stat() (vfs.FileInfo, error) { return deadInfo{}, nil }

// deadInfo is of a deadFile.
type deadInfo struct{ vfs.FileInfo }

func (deadInfo) Size() int64 { return 0 }

// noFile is what no file here can do.
type noFile struct{}

var errNoFile = fmt.Errorf("file of the key-value database: %w", errors.ErrUnsupported)

func (noFile) Read([]byte) (int, error)           { return 0, errNoFile }
func (noFile) ReadAt([]byte, int64) (int, error)  { return 0, errNoFile }
func (noFile) Write([]byte) (int, error)          { return 0, errNoFile }
func (noFile) WriteAt([]byte, int64) (int, error) { return 0, errNoFile }
func (noFile) Preallocate(int64, int64) error     { return nil }
func (noFile) Stat() (vfs.FileInfo, error)        { return nil, errNoFile }
func (noFile) Sync() error                        { return errNoFile }
func (noFile) SyncData() error                    { return errNoFile }
func (noFile) SyncTo(int64) (bool, error)         { return false, errNoFile }
func (noFile) Prefetch(int64, int64) error        { return nil }
func (noFile) Fd() uintptr                        { return vfs.InvalidFd }
