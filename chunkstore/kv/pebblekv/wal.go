package pebblekv

import (
	"bufio"
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A log is its header, and then frames, one or more for each write:
//
//	4 bytes  frameMagic
//	4 bytes  length of the plain text, in the highest bit 1 if the log ends here
//	8 bytes  offset of its first byte in the plain text of the log
//	8 bytes  how much plain text was durable when the frame was written
//	         the sealed text: plain text and 16 bytes; opened by offset, bound to the 24 bytes before it
//
// All integers are big endian. After a crash the last frames may be missing, cut off or garbage, in any order, if they were
// not durable. So where a frame does not open, the log ends; but if a later frame says that this place was durable, it is
// damage. What cannot be told from a crash is damage of the last durable frame of a log that was not
// closed, and a log whose end was taken off as a whole.
const (
	frameMagic  = 0x5ea7f4a3
	frameHeader = 24
	frameEnd    = 1 << 31
	maxFrame    = 64 << 10 // bytes of plain text
)

// A logWriter appends to a log. One goroutine at a time uses it.
type logWriter struct {
	noFile
	fs          *sealedFS
	file        vfs.File
	aead        cipher.AEAD
	end         *walEnd // nil for other logs than those of Updates
	off, synced uint64
	buf         []byte
	nonce       [12]byte
}

func (w *logWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		k := min(len(p), maxFrame)
		w.lose(w.frame(p[:k], nonceFrame))
		p = p[k:]
	}
	if w.end != nil {
		w.end.written.Store(w.off)
	}
	return n, nil
}

// lose notes that something did not reach the disk.
func (w *logWriter) lose(ok bool) {
	if !ok && w.end != nil {
		w.fs.lost.Store(true)
	}
}

func (w *logWriter) frame(p []byte, what byte) bool {
	n := uint32(len(p))
	if what == nonceEnd {
		n |= frameEnd
	}
	b := binary.BigEndian.AppendUint32(w.buf[:0], frameMagic)
	b = binary.BigEndian.AppendUint32(b, n)
	b = binary.BigEndian.AppendUint64(b, w.off)
	b = binary.BigEndian.AppendUint64(b, w.synced)
	w.buf = w.aead.Seal(b, nonce(&w.nonce, what, w.off), p, b)
	ok := w.fs.change(func() error {
		_, err := w.file.Write(w.buf)
		return err
	})
	w.off += uint64(len(p))
	return ok
}

func (w *logWriter) Sync() error { return w.SyncData() }

func (w *logWriter) SyncData() error {
	ok := w.fs.change(w.file.SyncData)
	if ok {
		w.synced = w.off
	}
	w.lose(ok)
	return nil
}

// SyncTo syncs all of it.
func (w *logWriter) SyncTo(int64) (bool, error) { return true, w.SyncData() }

// Close leaves what is not synced to the system. The last frame makes damage of the one before it known.
func (w *logWriter) Close() error {
	w.frame(nil, nonceEnd)
	if err := w.file.Close(); err != nil {
		w.fs.fail(err)
	}
	return nil
}

// Stat is asked for the size of a log that takes the place of an old one.
func (w *logWriter) Stat() (vfs.FileInfo, error) { return w.file.Stat() }

// A logReader reads a log from its beginning to its end. One goroutine uses it.
type logReader struct {
	noFile
	fs    *sealedFS
	file  vfs.File
	aead  cipher.AEAD
	base  string
	in    *bufio.Reader
	pos   int64  // on disk, of the next frame
	off   uint64 // in the plain text, of the next frame
	buf   []byte
	plain []byte // what is not read yet
	limit uint64 // where it ends for the reader, whatever follows
	ended bool
	err   error
}

func newLogReader(s *sealedFS, f vfs.File, aead cipher.AEAD, base string) *logReader {
	r := &logReader{fs: s, file: f, aead: aead, base: base, pos: headerSize, limit: s.ends.limit(base)}
	r.in = bufio.NewReaderSize(io.NewSectionReader(f, headerSize, 1<<62), 64<<10)
	return r
}

func (r *logReader) Read(p []byte) (int, error) {
	for len(r.plain) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		if r.ended {
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			r.err = err
		}
	}
	n := copy(p, r.plain)
	r.plain = r.plain[n:]
	return n, nil
}

// next reads one frame.
func (r *logReader) next() error {
	if r.off >= r.limit {
		r.ended = true
		return nil
	}
	var h [frameHeader]byte
	_, err := io.ReadFull(r.in, h[:])
	if err == nil {
		_, n, off, _, ok := parseFrame(h[:])
		if !ok || off != r.off {
			return r.broken()
		}
		if cap(r.buf) < n+tagSize {
			r.buf = make([]byte, maxFrame+tagSize)
		}
		if _, err = io.ReadFull(r.in, r.buf[:n+tagSize]); err == nil {
			plain, end, ok := r.open(h[:], r.buf[:n+tagSize])
			if !ok {
				return r.broken()
			}
			r.plain, r.ended = plain, end
			r.off += uint64(n)
			r.pos += int64(frameHeader + n + tagSize)
			return nil
		}
	}
	if !isEOF(err) {
		return err
	}
	return r.broken()
}

func parseFrame(h []byte) (what byte, n int, off, synced uint64, ok bool) {
	size := binary.BigEndian.Uint32(h[4:])
	what = nonceFrame
	if size&frameEnd != 0 {
		what = nonceEnd
	}
	size &^= frameEnd
	return what, int(size), binary.BigEndian.Uint64(h[8:]), binary.BigEndian.Uint64(h[16:]),
		binary.BigEndian.Uint32(h) == frameMagic && size <= maxFrame && (size == 0) == (what == nonceEnd)
}

// open opens a frame in place.
func (r *logReader) open(h, sealed []byte) (plain []byte, end, ok bool) {
	what, _, off, _, _ := parseFrame(h)
	var nb [12]byte
	plain, err := r.aead.Open(sealed[:0], nonce(&nb, what, off), sealed, h)
	return plain, what == nonceEnd, err == nil
}

// broken is called where a frame does not open, and tells the end of a log from damage.
func (r *logReader) broken() error {
	r.ended = true
	const step = 1 << 20
	buf := make([]byte, step+frameHeader)
	want := binary.BigEndian.AppendUint32(nil, frameMagic)
	for pos := r.pos; ; pos += step {
		n, err := r.file.ReadAt(buf, pos)
		if err != nil && !isEOF(err) {
			return err
		}
		for i := 0; ; i++ {
			k := bytes.Index(buf[i:n], want)
			if k < 0 || i+k+frameHeader > n {
				break
			}
			i += k
			if r.durableAt(buf[i:i+frameHeader], pos+int64(i)) {
				return r.fs.damaged("%s is not what was written, from byte %d on", r.base, r.pos)
			}
		}
		if n < len(buf) {
			return nil
		}
	}
}

// durableAt reports whether a frame at a place on disk is real and says that the one that is looked for was durable.
func (r *logReader) durableAt(h []byte, pos int64) bool {
	_, n, _, synced, ok := parseFrame(h)
	if !ok || synced <= r.off {
		return false
	}
	sealed := make([]byte, n+tagSize)
	if k, _ := r.file.ReadAt(sealed, pos+frameHeader); k < len(sealed) {
		return false
	}
	_, _, ok = r.open(h, sealed)
	return ok
}

func (r *logReader) Stat() (vfs.FileInfo, error) { return r.file.Stat() }
func (r *logReader) Close() error                { return r.file.Close() }
