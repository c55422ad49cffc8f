package webdav

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
)

// The modes of what is made.
const (
	fileMode = 0o644
	dirMode  = 0o755
)

// put replaces a file, or makes one. The body grows beside it, and takes its place in one step when all of it is there.
func (x *request) put() error {
	if x.r.Header.Get("Content-Range") != "" {
		return refuse(http.StatusBadRequest, "a part of a file cannot be put: send all of it, without Content-Range")
	}
	s, err := x.find(x.ctx, x.path)
	if err != nil {
		return err
	}
	if err := x.mayPut(s); err != nil {
		return err
	}
	body := io.Reader(x.r.Body)
	if s.litter && strings.HasPrefix(s.name, "._") {
		head := make([]byte, len(appleDouble))
		n, err := io.ReadFull(body, head)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return cut(err)
		}
		body = io.MultiReader(bytes.NewReader(head[:n]), body)
		if n == len(head) && string(head) != appleDouble { // it only looks like litter
			if s, err = x.t.look(x.ctx, x.path, nil); err != nil {
				return err
			}
			if err := x.mayPut(s); err != nil {
				return err
			}
		}
	}
	return x.putBody(s, body)
}

// mayPut returns why no file can be put at s.
func (x *request) mayPut(s spot) error {
	switch {
	case s.odd:
		return refuse(http.StatusForbidden, "a link or a device is there, which is not touched")
	case s.isDir() || s.dir == nil || strings.HasSuffix(x.r.URL.Path, "/"):
		return refuse(http.StatusMethodNotAllowed, "a folder is no place for a body")
	}
	return x.allowed(s, x.touched(s)...)
}

// touched returns what the making or replacing of s changes.
func (x *request) touched(s spot) []touch {
	if s.node == nil {
		return []touch{{path: s.path}, {path: parentOf(s.path)}}
	}
	return []touch{{path: s.path}}
}

// cut is the error of a body of which the end did not come.
func cut(err error) error {
	var big *http.MaxBytesError
	if errors.As(err, &big) {
		return refuse(http.StatusRequestEntityTooLarge, "the body is too big")
	}
	return refuse(http.StatusBadRequest, "the body was cut off")
}

func (x *request) putBody(s spot, body io.Reader) error {
	if s.litter {
		x.t.litter.room(x.ctx)
	}
	after := context.WithoutCancel(x.ctx) // tidying up goes on when the client is gone
	shop, name, done, err := x.t.workshop(x.ctx, s)
	if err != nil {
		return err
	}
	defer done()
	f, h, err := shop.Create(x.ctx, name, x.t.owned(vfs.KindFile, fileMode), vfs.OpenWrite)
	if err != nil {
		return err
	}
	placed := false
	defer func() {
		if !placed {
			if err := shop.Remove(after, name, false); err != nil && !errors.Is(err, fs.ErrNotExist) {
				x.t.o.Log.Warn("what was left of an upload stays until the next start", "error", err)
			}
		}
	}()
	n, err := receive(x.ctx, h, body)
	if err == nil && x.r.ContentLength >= 0 && n != x.r.ContentLength {
		err = cut(io.ErrUnexpectedEOF)
	}
	if e := h.Close(after); err == nil {
		err = e
	}
	if err == nil {
		err = x.dress(f, s)
	}
	if err != nil {
		return err
	}
	made, err := x.putStep(s, shop, name)
	if err != nil {
		return err
	}
	placed = true
	if err := f.Sync(after); err != nil {
		return err
	}
	// Another change of this moment would bear the same time: a tag is given only if that is over.
	if a, err := f.Attr(after); err == nil && vfs.Now().After(a.CTime) {
		x.w.Header().Set("Etag", etag(a, true))
	}
	x.done(made)
	return nil
}

// putStep gives an upload its place, if all that was allowed when it began still is.
func (x *request) putStep(s spot, shop vfs.Dir, name string) (made bool, err error) {
	end, err := x.t.stepping(x.ctx)
	if err != nil {
		return false, err
	}
	defer end()
	l := x.litter
	if !s.litter { // also if it only looked like it
		l = nil
	}
	now, err := x.t.look(x.ctx, x.path, l)
	if err != nil {
		return false, err
	}
	if err := x.mayPut(now); err != nil {
		return false, err
	}
	return now.node == nil, shop.Rename(x.ctx, name, now.dir, now.name, vfs.RenameReplace)
}

// done answers that something was made, or replaced.
func (x *request) done(made bool) {
	if made {
		x.w.Header().Set("Content-Length", "0")
		x.w.WriteHeader(http.StatusCreated)
		return
	}
	x.w.WriteHeader(http.StatusNoContent)
}

// owned says what a new node is to be.
func (t *Tree) owned(kind vfs.Kind, mode vfs.Mode) vfs.New {
	return vfs.New{Kind: kind, Mode: mode, UID: t.o.UID, GID: t.o.GID}
}

// dress gives a new file what the one had whose place it takes, and the time that the client says.
func (x *request) dress(f vfs.Node, old spot) error {
	if old.node != nil {
		if err := copyAttrs(x.ctx, f, old.node); err != nil {
			return err
		}
	} else if d, err := old.dir.Attr(x.ctx); err != nil {
		return err
	} else if d.Mode&0o2000 != 0 { // it was made elsewhere, so the group of its folder has to be carried over
		if _, err := f.SetAttr(x.ctx, vfs.AttrChange{Set: vfs.SetGID, GID: d.GID}); err != nil {
			return err
		}
	}
	for _, name := range []string{"X-Oc-Mtime", "X-Sheaf-Mtime"} {
		v := x.r.Header.Get(name)
		if v == "" {
			continue
		}
		sec, err := strconv.ParseFloat(v, 64)
		if err != nil || sec < -1<<40 || sec > 1<<40 {
			return refuse(http.StatusBadRequest, name+" is no time")
		}
		t := time.UnixMicro(int64(sec * 1e6))
		if whole, err := strconv.ParseInt(v, 10, 64); err == nil {
			t = time.Unix(whole, 0)
		}
		if _, err := f.SetAttr(x.ctx, vfs.AttrChange{Set: vfs.SetMTime, MTime: t}); err != nil {
			return err
		}
		x.w.Header().Set(name, "accepted")
	}
	return nil
}

// copyAttrs gives a node the mode, the owner and the extended attributes of another.
func copyAttrs(ctx context.Context, to, from vfs.Node) error {
	a, err := from.Attr(ctx)
	if err != nil {
		return err
	}
	if err := vfs.CopyXattrs(ctx, from, to); err != nil {
		return err
	}
	_, err = to.SetAttr(ctx, vfs.AttrChange{Set: vfs.SetMode | vfs.SetUID | vfs.SetGID, Mode: a.Mode, UID: a.UID, GID: a.GID})
	return err
}

// bodyPiece is how many bytes of a body are handed on at a time. Two such pieces are in memory.
const bodyPiece = 1 << 20

var pieces = sync.Pool{New: func() any { return new([bodyPiece]byte) }}

// receive writes a body into a file: the next piece comes in while one is written. An error of the body is one of cut.
func receive(ctx context.Context, h vfs.Handle, body io.Reader) (int64, error) {
	p := pieces.Get().(*[bodyPiece]byte)
	n, err := fillPiece(body, p[:])
	if err != nil && !errors.Is(err, io.EOF) {
		pieces.Put(p)
		return 0, cut(err)
	}
	if err != nil { // all of it
		defer pieces.Put(p)
		if n > 0 {
			if _, err := h.WriteAt(ctx, p[:n], 0); err != nil {
				return 0, err
			}
		}
		return int64(n), nil
	}
	type piece struct {
		p   *[bodyPiece]byte
		n   int
		err error
	}
	in := make(chan piece)
	stop := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			p := pieces.Get().(*[bodyPiece]byte)
			n, err := fillPiece(body, p[:])
			select {
			case in <- piece{p, n, err}:
			case <-stop:
				pieces.Put(p)
				return
			}
			if err != nil {
				return
			}
		}
	})
	// The body belongs to the handler, which must not return before nobody reads it.
	defer reading.Wait()
	defer close(stop)
	var off int64
	for got := (piece{p, n, nil}); ; got = <-in {
		if got.err != nil && !errors.Is(got.err, io.EOF) {
			pieces.Put(got.p)
			return off, cut(got.err)
		}
		var err error
		if got.n > 0 {
			_, err = h.WriteAt(ctx, got.p[:got.n], off)
		}
		pieces.Put(got.p)
		if err != nil {
			return off, err
		}
		off += int64(got.n)
		if got.err != nil {
			return off, nil
		}
	}
}

// fillPiece fills p, or returns what came before the body ended and how it ended: io.EOF if it was all.
func fillPiece(body io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = body.Read(p[n:])
		n += m
	}
	return n, err
}
