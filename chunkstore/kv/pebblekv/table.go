package pebblekv

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A table is its header, and then blocks of plainBlock bytes of plain text, each sealed on its own: 16 bytes longer, and
// opened by its number, and by whether it is the last. There is always a last block, which may be shorter, or empty in an
// empty table. So blocks cannot be changed, moved, left out, or cut off at the end, without its being seen.
const (
	tagSize    = 16
	diskBlock  = 4096
	plainBlock = diskBlock - tagSize
)

// plainSize returns how many bytes are sealed in a table of so many bytes on disk.
func plainSize(disk int64) (int64, bool) {
	n := disk - headerSize
	if n < tagSize || n%diskBlock != 0 && n%diskBlock < tagSize || n%diskBlock == tagSize && n > tagSize {
		return 0, false
	}
	blocks := (n + diskBlock - 1) / diskBlock
	return n - blocks*tagSize, true
}

// The first byte of a nonce says what it is for; the last eight say where.
const (
	nonceBlock = 0
	nonceLast  = 1
	nonceFrame = 2
	nonceEnd   = 3
)

func nonce(buf *[12]byte, what byte, where uint64) []byte {
	*buf = [12]byte{what}
	binary.BigEndian.PutUint64(buf[4:], where)
	return buf[:]
}

// A tableWriter writes a table. Nothing of it counts before Close, which makes it durable: pebble names a table in its
// manifest only then. One goroutine uses it.
type tableWriter struct {
	noFile
	fs    *sealedFS
	file  vfs.File
	aead  cipher.AEAD
	plain []byte // of the block that is not full yet, or full and perhaps the last
	out   []byte
	block uint64
	nonce [12]byte
}

// writeBlocks is how many blocks are written to the disk at once.
const writeBlocks = 16

func newTableWriter(s *sealedFS, f vfs.File, aead cipher.AEAD) *tableWriter {
	return &tableWriter{fs: s, file: f, aead: aead, plain: make([]byte, 0, plainBlock), out: make([]byte, 0, writeBlocks*diskBlock)}
}

func (w *tableWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if len(w.plain) == plainBlock {
			w.seal(nonceBlock)
		}
		k := copy(w.plain[len(w.plain):plainBlock], p)
		w.plain, p = w.plain[:len(w.plain)+k], p[k:]
	}
	return n, nil
}

func (w *tableWriter) seal(what byte) {
	w.out = w.aead.Seal(w.out, nonce(&w.nonce, what, w.block), w.plain, nil)
	w.block++
	w.plain = w.plain[:0]
	if len(w.out) >= writeBlocks*diskBlock || what == nonceLast {
		w.fs.change(func() error {
			_, err := w.file.Write(w.out)
			return err
		})
		w.out = w.out[:0]
	}
}

// Sync does nothing: see Close.
func (w *tableWriter) Sync() error { return nil }

// SyncData does nothing: see Close.
func (w *tableWriter) SyncData() error { return nil }

// SyncTo does nothing: see Close.
func (w *tableWriter) SyncTo(int64) (bool, error) { return false, nil }

func (w *tableWriter) Close() error {
	w.seal(nonceLast)
	w.fs.change(w.file.Sync)
	if err := w.file.Close(); err != nil {
		w.fs.fail(err)
	}
	return nil
}

// A tableReader reads a table. It is safe for concurrent use.
type tableReader struct {
	vfs.File // of the sealed bytes
	fs       *sealedFS
	aead     cipher.AEAD
	base     string
	size     int64 // of the plain text
}

var blocks = sync.Pool{New: func() any { return new([writeBlocks * diskBlock]byte) }}

// checkEnd opens the last block, and so knows that the table ends where it ended.
func (r *tableReader) checkEnd() error {
	last := max(r.size-1, 0) / plainBlock
	sealed := make([]byte, r.size-last*plainBlock+tagSize)
	if n, err := r.File.ReadAt(sealed, headerSize+last*diskBlock); n < len(sealed) {
		return err
	}
	var nb [12]byte
	if _, err := r.aead.Open(sealed[:0], nonce(&nb, nonceLast, uint64(last)), sealed, nil); err != nil {
		return r.fs.damaged("%s is cut off, or its end is not what was written", r.base)
	}
	return nil
}

func (r *tableReader) ReadAt(p []byte, off int64) (int, error) {
	if len(p) == 0 {
		return 0, nil // as os.File has it, also behind the end
	}
	if off < 0 || off >= r.size {
		return 0, io.EOF
	}
	want := len(p)
	if rest := r.size - off; int64(want) > rest {
		p = p[:rest]
	}
	buf := blocks.Get().(*[writeBlocks * diskBlock]byte)
	defer blocks.Put(buf)
	done := 0
	for done < len(p) {
		n, err := r.read(buf, p[done:], off+int64(done))
		if err != nil {
			return done, err
		}
		done += n
	}
	if done < want {
		return done, io.EOF
	}
	return done, nil
}

// read opens some blocks from the one that holds off on, and copies what is asked for.
func (r *tableReader) read(buf *[writeBlocks * diskBlock]byte, p []byte, off int64) (int, error) {
	first, skip := off/plainBlock, int(off%plainBlock)
	last := (r.size - 1) / plainBlock // of the table
	n := min((int64(skip+len(p))+plainBlock-1)/plainBlock, writeBlocks)
	sealed := buf[:min(n*diskBlock, r.size-first*plainBlock+tagSize*(last-first+1))]
	if k, err := r.File.ReadAt(sealed, headerSize+first*diskBlock); k < len(sealed) {
		if isEOF(err) {
			return 0, r.fs.damaged("%s is cut off", r.base)
		}
		return 0, err
	}
	done := 0
	var nb [12]byte
	for no := first; len(sealed) > 0 && done < len(p); no++ {
		what := byte(nonceBlock)
		if no == last {
			what = nonceLast
		}
		block := sealed[:min(diskBlock, len(sealed))]
		sealed = sealed[len(block):]
		plain, err := r.aead.Open(block[:0], nonce(&nb, what, uint64(no)), block, nil)
		if err != nil {
			return 0, r.fs.damaged("block %d of %s is not what was written", no, r.base)
		}
		done += copy(p[done:], plain[min(skip, len(plain)):])
		skip = 0
	}
	return done, nil
}

func (r *tableReader) Stat() (vfs.FileInfo, error) {
	st, err := r.File.Stat()
	if err != nil {
		return nil, err
	}
	return sizedInfo{st, r.size}, nil
}

func (r *tableReader) Prefetch(off, n int64) error {
	first, last := off/plainBlock, (off+n+plainBlock-1)/plainBlock
	return r.File.Prefetch(headerSize+first*diskBlock, (last-first)*diskBlock)
}

func (r *tableReader) Read([]byte) (int, error)           { return 0, errNoFile }
func (r *tableReader) Write([]byte) (int, error)          { return 0, errNoFile }
func (r *tableReader) WriteAt([]byte, int64) (int, error) { return 0, errNoFile }

// Fd keeps pebble from what it does to files behind this one's back.
func (r *tableReader) Fd() uintptr { return vfs.InvalidFd }

func isEOF(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
