package webdav

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
)

// lock locks what is there, or will be, or refreshes a lock.
func (x *request) lock() error {
	e, err := readBody(x.w, x.r)
	if err != nil {
		return err
	}
	span := parseTimeout(x.r.Header.Get("Timeout"))
	if e == nil {
		return x.refresh(span)
	}
	l, err := parseLock(e)
	if err != nil {
		return err
	}
	deep, err := depth(x.r, -1)
	if err != nil || deep == 1 {
		return refuse(http.StatusBadRequest, "the Depth of a lock is 0 or infinity")
	}
	l.Deep, l.Span, l.User, l.Path = deep < 0, span, x.user, x.path
	made, err := x.lockStep(l)
	if err != nil {
		return err
	}
	after := context.WithoutCancel(x.ctx)
	if err := x.t.locks.save(after); err != nil {
		x.t.locks.remove(l.Token, l.Path)
		return err
	}
	if made != nil {
		if err := made.Sync(after); err != nil {
			return err
		}
	}
	x.w.Header().Set("Lock-Token", "<"+l.Token+">")
	code := http.StatusOK
	if made != nil {
		code = http.StatusCreated
	}
	x.tellLock(*l, code)
	return nil
}

// lockStep makes the lock and, if nothing is there, an empty file to be locked.
func (x *request) lockStep(l *lock) (made vfs.Node, err error) {
	end, err := x.t.stepping(x.ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	s, err := x.find(x.ctx, x.path)
	if err != nil {
		return nil, err
	}
	if s.odd {
		return nil, refuse(http.StatusForbidden, "a link or a device is there, which is not touched")
	}
	if err := x.conditions(s); err != nil {
		return nil, err
	}
	if err := x.ifHolds(s); err != nil {
		return nil, err
	}
	if s.node == nil {
		if strings.HasSuffix(x.r.URL.Path, "/") {
			return nil, fs.ErrNotExist
		}
		if err := x.unlocked(touch{path: parentOf(s.path)}); err != nil {
			return nil, err
		}
	}
	err = x.t.locks.add(x.ctx, l)
	var in *errLocked
	switch {
	case errors.As(err, &in):
		var hrefs []string
		for _, p := range in.paths {
			hrefs = append(hrefs, x.href(p, false))
		}
		return nil, violated(http.StatusLocked, "no-conflicting-lock", hrefs...)
	case errors.Is(err, errTooManyLocks):
		return nil, refuse(http.StatusInsufficientStorage, err.Error())
	case err != nil:
		return nil, err
	}
	if s.node != nil {
		return nil, nil
	}
	if s.litter {
		x.t.litter.room(x.ctx)
	}
	if made, err = s.dir.Make(x.ctx, s.name, x.t.owned(vfs.KindFile, fileMode)); err != nil {
		x.t.locks.remove(l.Token, l.Path)
		return nil, err
	}
	return made, nil
}

// parseLock reads the body of a LOCK.
func parseLock(e *element) (*lock, error) {
	bad := refuse(http.StatusBadRequest, "this is no lockinfo")
	if e.name != dav("lockinfo") {
		return nil, bad
	}
	sc, typ := e.child(dav("lockscope")), e.child(dav("locktype"))
	if sc == nil || typ == nil {
		return nil, bad
	}
	l := &lock{}
	switch {
	case typ.child(dav("write")) == nil:
		return nil, refuse(http.StatusUnprocessableEntity, "there are write locks only")
	case sc.child(dav("shared")) != nil:
		l.Shared = true
	case sc.child(dav("exclusive")) == nil:
		return nil, bad
	}
	if o := e.child(dav("owner")); o != nil {
		l.Owner = o.inner
	}
	if len(l.Owner) > maxOwner {
		return nil, refuse(http.StatusBadRequest, "the owner is too long")
	}
	return l, nil
}

// refresh lets a lock live on: the one of which the If header has the token.
func (x *request) refresh(span time.Duration) error {
	if len(x.tokens) == 0 {
		return refuse(http.StatusBadRequest, "a LOCK without a body refreshes the lock that the If header names")
	}
	for token := range x.tokens {
		l, ok := x.t.locks.refresh(token, x.path, x.user, span)
		if !ok {
			continue
		}
		if err := x.t.locks.save(context.WithoutCancel(x.ctx)); err != nil {
			return err
		}
		x.tellLock(l, http.StatusOK)
		return nil
	}
	return violated(http.StatusPreconditionFailed, "lock-token-matches-request-uri")
}

// unlock takes a lock away.
func (x *request) unlock() error {
	token := strings.TrimSpace(x.r.Header.Get("Lock-Token"))
	if len(token) < 3 || token[0] != '<' || token[len(token)-1] != '>' {
		return refuse(http.StatusBadRequest, "Lock-Token is missing, or is no URL in < and >")
	}
	token = token[1 : len(token)-1]
	for _, l := range x.t.locks.on(x.path) {
		if l.Token == token && l.User != x.user {
			return refuse(http.StatusForbidden, "it is the lock of somebody else")
		}
	}
	if _, ok := x.t.locks.remove(token, x.path); !ok {
		return violated(http.StatusConflict, "lock-token-matches-request-uri")
	}
	if err := x.t.locks.save(context.WithoutCancel(x.ctx)); err != nil {
		return err
	}
	x.done(false)
	return nil
}

// tellLock answers with a lock.
func (x *request) tellLock(l lock, code int) {
	out := &xmlWriter{}
	out.raw(xmlHead + `<D:prop xmlns:D="DAV:"><D:lockdiscovery>`)
	x.activeLock(out, l)
	out.raw("</D:lockdiscovery></D:prop>\n")
	x.w.Header().Set("Content-Type", xmlType)
	x.w.Header().Set("Content-Length", strconv.Itoa(len(out.buf)))
	x.w.WriteHeader(code)
	_, _ = x.w.Write(out.buf) // who went away is not told
}

// activeLock writes a lock as lockdiscovery has it. Its token is shown to its user only.
func (x *request) activeLock(out *xmlWriter, l lock) {
	out.raw(`<D:activelock><D:locktype><D:write/></D:locktype><D:lockscope>`)
	if l.Shared {
		out.raw(`<D:shared/>`)
	} else {
		out.raw(`<D:exclusive/>`)
	}
	out.raw(`</D:lockscope><D:depth>`)
	if l.Deep {
		out.raw(`infinity`)
	} else {
		out.raw(`0`)
	}
	out.raw(`</D:depth>`)
	if l.Owner != "" {
		out.raw(`<D:owner>` + l.Owner + `</D:owner>`)
	}
	left := max(int64(time.Until(l.Expires).Round(time.Second)/time.Second), 1)
	out.raw(`<D:timeout>Second-` + strconv.FormatInt(left, 10) + `</D:timeout>`)
	if l.User == x.user {
		out.raw(`<D:locktoken><D:href>`).text(l.Token).raw(`</D:href></D:locktoken>`)
	}
	out.raw(`<D:lockroot><D:href>`).text(x.href(l.Path, false)).raw(`</D:href></D:lockroot></D:activelock>`)
}
