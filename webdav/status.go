package webdav

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"strconv"

	"github.com/sheaf-drive/sheaf/vfs"
)

// A status is an error with the answer that it gets.
type status struct {
	code  int
	cond  string   // the element of the DAV: namespace that says what was violated, or ""
	hrefs []string // of the resources that it is about
	why   string   // for a person; names nothing
}

// Error implements error.
func (s *status) Error() string {
	if s.why != "" {
		return s.why
	}
	return http.StatusText(s.code)
}

func refuse(code int, why string) error { return &status{code: code, why: why} }

// violated is refuse with the condition of RFC 4918, section 16, that does not hold.
func violated(code int, cond string, hrefs ...string) error {
	return &status{code: code, cond: cond, hrefs: hrefs}
}

// statuses is the one table from the errors of a tree to what HTTP calls them. The first that fits counts.
var statuses = []struct {
	err  error
	code int
	cond string
}{
	{errNoParent, http.StatusConflict, ""},
	{vfs.ErrName, http.StatusBadRequest, ""},
	{vfs.ErrNameLen, http.StatusBadRequest, ""},
	{vfs.ErrReadOnly, http.StatusForbidden, ""},
	{vfs.ErrNotDir, http.StatusConflict, ""},
	{vfs.ErrIsDir, http.StatusMethodNotAllowed, ""},
	{vfs.ErrNotEmpty, http.StatusConflict, ""},
	{vfs.ErrTooBig, http.StatusRequestEntityTooLarge, ""},
	{vfs.ErrRange, http.StatusInsufficientStorage, ""},
	{vfs.ErrNoSpace, http.StatusInsufficientStorage, "sufficient-disk-space"},
	{vfs.ErrQuota, http.StatusInsufficientStorage, "quota-not-exceeded"},
	{vfs.ErrStale, http.StatusPreconditionFailed, ""},
	{fs.ErrNotExist, http.StatusNotFound, ""},
	{fs.ErrExist, http.StatusMethodNotAllowed, ""},
	{fs.ErrPermission, http.StatusForbidden, ""},
	{fs.ErrInvalid, http.StatusBadRequest, ""},
	{fs.ErrClosed, http.StatusServiceUnavailable, ""},
	{context.Canceled, http.StatusServiceUnavailable, ""},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, ""},
}

// explain returns err as a status. What is in no table is the server's fault.
func explain(err error) *status {
	var s *status
	if errors.As(err, &s) {
		return s
	}
	for _, e := range statuses {
		if errors.Is(err, e.err) {
			return &status{code: e.code, cond: e.cond, why: e.err.Error()}
		}
	}
	return &status{code: http.StatusInternalServerError}
}

// fail answers with an error. A condition that was violated is told in the body as RFC 4918 says, all else as a line of text.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	s := explain(err)
	h := w.Header()
	h.Del("Etag")
	h.Del("Last-Modified")
	h.Set("Cache-Control", "no-store")
	var body []byte
	if s.cond == "" {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		body = []byte(s.Error() + "\n")
	} else {
		h.Set("Content-Type", xmlType)
		x := &xmlWriter{}
		x.raw(xmlHead + `<D:error xmlns:D="DAV:"><D:` + s.cond)
		if len(s.hrefs) == 0 {
			x.raw(`/>`)
		} else {
			x.raw(`>`)
			for _, ref := range s.hrefs {
				x.raw(`<D:href>`).text(ref).raw(`</D:href>`)
			}
			x.raw(`</D:` + s.cond + `>`)
		}
		x.raw("</D:error>\n")
		body = x.buf
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(s.code)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // who went away is not told
	}
}
