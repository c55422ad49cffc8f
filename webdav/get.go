package webdav

import (
	"context"
	"errors"
	"html"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
)

// get answers GET and HEAD: a file with its ranges and conditions, a folder as a page.
func (x *request) get() error {
	s, err := x.find(x.ctx, x.path)
	if errors.Is(err, errNoParent) || err == nil && s.node == nil {
		return fs.ErrNotExist
	}
	if err != nil {
		return err
	}
	if err := x.ifHolds(s); err != nil {
		return err
	}
	if s.isDir() {
		return x.page(s)
	}
	f, ok := s.node.(vfs.File)
	if !ok {
		return fs.ErrNotExist
	}
	a, strong, err := x.settled(s.node, s.attr)
	if err != nil {
		return err
	}
	h, err := f.Open(x.ctx, vfs.OpenRead)
	if err != nil {
		return err
	}
	c := &content{ctx: x.ctx, h: h, size: a.Size}
	defer c.close()
	head := x.w.Header()
	head.Set("Etag", etag(a, strong))
	head.Set("Content-Type", contentType(s.name))
	head.Set("Cache-Control", "private, no-cache") // kept if asked each time whether it is still so
	http.ServeContent(x.w, x.r, "", a.MTime, c)
	if c.err != nil {
		x.t.o.Log.Error("a file could not be read", "error", c.err)
	}
	return nil
}

// contentType returns the media type that the end of a name stands for. Nothing is guessed from what is in a file.
func contentType(name string) string {
	if t := mime.TypeByExtension(path.Ext(name)); t != "" {
		return t
	}
	return "application/octet-stream"
}

// A content is a file that is read from one place on, the next piece already on its way.
type content struct {
	ctx  context.Context
	h    vfs.Handle
	size int64
	off  int64
	err  error // other than io.EOF

	piece int    // bytes of the next one
	buf   []byte // what was read,
	base  int64  // from there
	next  chan fetched
	spare []byte
}

// fetched is a piece that was read ahead.
type fetched struct {
	buf  []byte
	base int64
	err  error
}

// The bytes of the first piece and of the longest: who asks for little gets little read.
const (
	firstPiece = 64 << 10
	longPiece  = 1 << 20
)

// Seek implements io.Seeker.
func (c *content) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += c.off
	case io.SeekEnd:
		off += c.size
	}
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	c.off = off
	return off, nil
}

// Read implements io.Reader.
func (c *content) Read(p []byte) (int, error) {
	if c.off >= c.size {
		return 0, io.EOF
	}
	if c.off < c.base || c.off >= c.base+int64(len(c.buf)) {
		if err := c.fill(); err != nil {
			if !errors.Is(err, io.EOF) {
				c.err = err
			}
			return 0, err
		}
	}
	n := copy(p, c.buf[c.off-c.base:])
	c.off += int64(n)
	return n, nil
}

// fill reads the piece at c.off, and begins to read the one after it.
func (c *content) fill() error {
	got := fetched{base: -1}
	if c.next != nil {
		got = <-c.next
		c.next = nil
	}
	inOrder := got.base >= 0
	if got.base != c.off || got.err != nil {
		if got.buf != nil {
			c.spare = got.buf
		}
		got = c.fetch(c.off, c.grown())
	}
	c.spare, c.buf, c.base = c.buf[:0], got.buf, got.base
	if got.err != nil {
		return got.err
	}
	if end := c.base + int64(len(c.buf)); end < c.size && (inOrder || c.piece > firstPiece) {
		n := c.grown()
		next := make(chan fetched, 1)
		c.next = next
		go func() { next <- c.fetch(end, n) }()
	}
	return nil
}

// grown returns the length of the next piece.
func (c *content) grown() int {
	c.piece = min(max(firstPiece, 4*c.piece), longPiece)
	return c.piece
}

func (c *content) fetch(off int64, n int) fetched {
	n = int(min(int64(n), c.size-off))
	buf := c.spare
	c.spare = nil
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	n, err := c.h.ReadAt(c.ctx, buf[:n], off)
	if n > 0 {
		err = nil
	}
	return fetched{buf[:n], off, err}
}

// close gives the file back when nothing is being read any more.
func (c *content) close() {
	if c.next != nil {
		<-c.next
	}
	_ = c.h.Close(context.WithoutCancel(c.ctx)) // it was only read
}

// page shows a folder to a person.
func (x *request) page(s spot) error {
	if !strings.HasSuffix(x.r.URL.Path, "/") { // or what it links to would be sought beside it
		x.w.Header().Set("Location", x.href(x.path, true))
		x.w.WriteHeader(http.StatusMovedPermanently)
		return nil
	}
	h := x.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	// It is a page of ours, whose links are to work; what is stored gets the policy of the guard.
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("Cache-Control", "no-store")
	if x.r.Method == http.MethodHead {
		return nil
	}
	title := html.EscapeString(strings.ToValidUTF8("/"+strings.TrimPrefix(strings.TrimPrefix(x.path, x.root), "/"), "\uFFFD"))
	out := &xmlWriter{to: x.w}
	out.raw("<!doctype html>\n<html><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>" + title +
		"</title>\n<style>body{font-family:sans-serif;margin:2em}td{padding:.1em 1em .1em 0}td+td{text-align:right}</style></head>\n<body><h1>" + title + "</h1>\n<table>\n")
	if x.path != x.root {
		out.raw("<tr><td><a href=\"../\">../</a></td></tr>\n")
	}
	err := x.children(s, func(c spot) error {
		name := c.name
		size := strconv.FormatInt(c.attr.Size, 10)
		if c.isDir() {
			name, size = name+"/", ""
		}
		ref := escapePath(name)
		out.raw(`<tr><td><a href="./` + ref + `">` + html.EscapeString(strings.ToValidUTF8(name, "\uFFFD")) + `</a></td><td>` + size +
			`</td><td>` + c.attr.MTime.UTC().Format("2006-01-02 15:04:05") + "</td></tr>\n")
		return out.send()
	})
	if err == nil {
		err = out.raw("</table></body></html>\n").flush()
	}
	if err != nil {
		return x.broken(err)
	}
	return nil
}

// broken ends an answer that has begun and cannot be finished: the client must see that it is not whole.
func (x *request) broken(err error) error {
	if x.ctx.Err() == nil {
		x.t.o.Log.Error("an answer was broken off", "method", x.r.Method, "error", err)
	}
	panic(http.ErrAbortHandler)
}

// children calls f for what lies in the folder s and is shown, until it returns an error.
func (x *request) children(s spot, f func(spot) error) error {
	d := s.node.(vfs.Dir)
	shown := func(d vfs.Dir, e vfs.Entry, litter bool) error {
		if e.Kind != vfs.KindDir && e.Kind != vfs.KindFile || s.path == "/" && !litter && strings.HasPrefix(e.Name, vfs.ScratchPrefix) {
			return nil
		}
		n, err := d.Lookup(x.ctx, e.Name)
		if errors.Is(err, fs.ErrNotExist) { // gone since
			return nil
		}
		if err != nil {
			return err
		}
		a, err := n.Attr(x.ctx)
		if err != nil {
			return err
		}
		return f(spot{path: path.Join(s.path, e.Name), dir: d, name: e.Name, node: n, attr: a, litter: litter})
	}
	for e, err := range d.List(x.ctx, "") {
		if err != nil {
			return err
		}
		if err := shown(d, e, s.litter); err != nil {
			return err
		}
	}
	if s.litter {
		return nil
	}
	var err error
	lerr := x.litter.each(x.ctx, s.path, func(d vfs.Dir, e vfs.Entry) bool {
		err = shown(d, e, true)
		return err == nil
	})
	return errors.Join(err, lerr)
}

// httpTime writes a time as HTTP has it.
func httpTime(t time.Time) string { return t.UTC().Format(http.TimeFormat) }
