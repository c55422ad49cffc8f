package rest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"connectrpc.com/connect"

	"github.com/sheaf-drive/sheaf/api/gate"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/service"
)

// specials are the routes that carry the bytes of files, by method and path.
var specials = map[string]func(h *handler, w http.ResponseWriter, r *http.Request, fields map[string]string){
	"GET /v1/files/{path=**}":    (*handler).read,
	"HEAD /v1/files/{path=**}":   (*handler).read,
	"PUT /v1/files/{path=**}":    (*handler).put,
	"DELETE /v1/files/{path=**}": (*handler).remove,
	"POST /v1/uploads":           (*handler).beginUpload,
	"PATCH /v1/uploads/{upload}": (*handler).goOn,
	"GET /v1/uploads/{upload}":   (*handler).offset,
	"HEAD /v1/uploads/{upload}":  (*handler).offset,
}

// etag names the state of a file: it changes with every change of its content or its attributes.
func etag(n *sheafv1.Node) string {
	h := sha256.New()
	_, _ = fmt.Fprint(h, n.GetIno(), n.GetSize(), n.GetModified().AsTime().UnixNano(), n.GetChanged().AsTime().UnixNano())
	return `"` + hex.EncodeToString(h.Sum(nil)[:12]) + `"`
}

func usage(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errRequest, fmt.Sprintf(format, args...))
}

// params returns the query, which has none but these names, and each once.
func params(r *http.Request, names ...string) (map[string]string, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, usage("the query is malformed")
	}
	got := map[string]string{}
	for _, name := range names {
		if v := q[name]; len(v) > 1 {
			return nil, usage("parameter %q is given more than once", name)
		} else if len(v) == 1 && !utf8.ValidString(v[0]) {
			return nil, usage("parameter %q is no UTF-8", name)
		} else if len(v) == 1 {
			got[name] = v[0]
		}
		delete(q, name)
	}
	for name := range q {
		return nil, usage("there is no parameter %q", name)
	}
	return got, nil
}

func boolean(text string) (bool, error) {
	if text != "" && text != "true" && text != "false" {
		return false, usage("%q is neither true nor false", text)
	}
	return text == "true", nil
}

// read answers with the bytes of a file, or ranges of them.
func (h *handler) read(w http.ResponseWriter, r *http.Request, fields map[string]string) {
	q, err := params(r, "at")
	if err != nil {
		fail(w, err)
		return
	}
	n, err := h.files.Stat(r.Context(), &sheafv1.StatRequest{Path: fields["path"], At: q["at"]})
	if err == nil && n.GetType() != sheafv1.Kind_KIND_FILE {
		err = &service.Error{Code: sheafv1.Code_CODE_WRONG_KIND, Hint: "GET /v1/list/… has what is in a directory", Err: errors.New("this is no file")}
	}
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("ETag", etag(n))
	// A browser shows nothing of it: a file may be a page that somebody else wrote.
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", "attachment")
	b := &body{ctx: r.Context(), h: h, path: fields["path"], at: q["at"], size: n.GetSize()}
	defer b.close()
	http.ServeContent(w, r, "", n.GetModified().AsTime(), b)
}

// body is the bytes of a file as an io.ReadSeeker.
type body struct {
	ctx      context.Context //nolint:containedctx // of the one request that it is for
	h        *handler
	path, at string
	size     int64
	off      int64
	stream   *connect.ServerStreamForClient[sheafv1.ReadResponse] // from off on; nil: not open
	cancel   context.CancelFunc
	left     []byte // came, and was not read
}

func (b *body) close() {
	if b.stream != nil {
		b.cancel()
		_ = b.stream.Close() // it may be in the midst of a file
		b.stream, b.left = nil, nil
	}
}

func (b *body) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += b.off
	case io.SeekEnd:
		off += b.size
	}
	if off != b.off {
		b.close()
		b.off = off
	}
	return off, nil
}

func (b *body) Read(p []byte) (int, error) {
	if b.off >= b.size {
		return 0, io.EOF
	}
	if b.stream == nil {
		ctx, cancel := context.WithCancel(b.ctx)
		s, err := b.h.files.Read(ctx, &sheafv1.ReadRequest{Path: b.path, At: b.at, Offset: b.off})
		if err != nil {
			cancel()
			return 0, err
		}
		b.stream, b.cancel = s, cancel
	}
	for len(b.left) == 0 {
		if !b.stream.Receive() {
			if err := b.stream.Err(); err != nil {
				return 0, err
			}
			return 0, io.ErrUnexpectedEOF // it was cut meanwhile
		}
		b.left = b.stream.Msg().GetData()
	}
	n := copy(p, b.left)
	b.left = b.left[n:]
	b.off += int64(n)
	return n, nil
}

// precondition holds If-Match and If-None-Match against what is at a path, and reports whether the path must not be taken. With an answer it is
// false, and w has been written to.
func (h *handler) precondition(w http.ResponseWriter, r *http.Request, path string) (exclusive, ok bool) {
	match, none := r.Header.Get("If-Match"), r.Header.Get("If-None-Match")
	if match == "" && none == "" {
		return false, true
	}
	if match == "" && strings.TrimSpace(none) == "*" {
		return true, true // decided in one step with the write itself
	}
	n, err := h.files.Stat(r.Context(), &sheafv1.StatRequest{Path: path})
	have := ""
	if err == nil {
		have = etag(n)
	} else if connect.CodeOf(err) != connect.CodeNotFound {
		fail(w, err)
		return false, false
	}
	if match != "" && !listed(match, have) || none != "" && listed(none, have) {
		gate.Refuse(w, http.StatusPreconditionFailed, "decision", "what is there is not what was expected", "read it again, and decide")
		return false, false
	}
	return false, true
}

// listed reports whether a list of ETags has this one; "*" has all that are there.
func listed(list, tag string) bool {
	if tag == "" {
		return false
	}
	for one := range strings.SplitSeq(list, ",") {
		if one = strings.TrimSpace(one); one == "*" || one == tag {
			return true
		}
	}
	return false
}

// digest returns the SHA-256 that a request says its content has, by Repr-Digest (RFC 9530).
func digest(r *http.Request) ([]byte, error) {
	for part := range strings.SplitSeq(r.Header.Get("Repr-Digest"), ",") {
		text, ok := strings.CutPrefix(strings.TrimSpace(part), "sha-256=:")
		if !ok {
			continue
		}
		b, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(text, ":"))
		if err != nil || len(b) != sha256.Size {
			return nil, usage("the digest is no SHA-256")
		}
		return b, nil
	}
	return nil, nil
}

// put makes or replaces a file.
func (h *handler) put(w http.ResponseWriter, r *http.Request, fields map[string]string) {
	_, err := params(r)
	var sum []byte
	if err == nil {
		sum, err = digest(r)
	}
	if err != nil {
		fail(w, err)
		return
	}
	exclusive, ok := h.precondition(w, r, fields["path"])
	if !ok {
		return
	}
	end := &sheafv1.WriteEnd{Sha256: sum}
	if r.ContentLength >= 0 {
		end.Size = &r.ContentLength
	}
	resp, err := h.send(r, &sheafv1.WriteStart{Path: fields["path"], Exclusive: exclusive}, func(int64) (*sheafv1.WriteEnd, error) { return end, nil })
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("ETag", etag(resp.GetNode()))
	answerWith(w, http.StatusOK, resp)
}

// sendPart is how much of a body goes into one message, in bytes.
const sendPart = 256 << 10

// send sends the body of r, from start on, and the end that end returns of how many bytes came; nil: it is to be gone on with. If the body breaks off
// there is no end, so that what came is kept if the upload has a name.
func (h *handler) send(r *http.Request, start *sheafv1.WriteStart, end func(n int64) (*sheafv1.WriteEnd, error)) (*sheafv1.WriteResponse, error) {
	// Not that of the request: when the caller leaves, what came is still to be kept.
	stream, err := h.files.Write(context.WithoutCancel(r.Context()))
	if err != nil {
		return nil, err
	}
	err = stream.Send(&sheafv1.WriteRequest{Part: &sheafv1.WriteRequest_Start{Start: start}})
	buf := make([]byte, sendPart)
	var n int64
	var cut error
	for err == nil {
		k, rerr := io.ReadFull(r.Body, buf)
		if k > 0 {
			n += int64(k)
			err = stream.Send(&sheafv1.WriteRequest{Part: &sheafv1.WriteRequest_Data{Data: buf[:k]}})
		}
		if r.Context().Err() != nil { // the caller left, or may not do this any more
			cut = context.Cause(r.Context())
			break
		}
		if rerr != nil {
			if !errors.Is(rerr, io.EOF) && !(errors.Is(rerr, io.ErrUnexpectedEOF) && whole(r, n)) {
				cut = rerr
			}
			break
		}
	}
	var last *sheafv1.WriteEnd
	if err == nil && cut == nil {
		if last, cut = end(n); last != nil {
			err = stream.Send(&sheafv1.WriteRequest{Part: &sheafv1.WriteRequest_End{End: last}})
		}
	}
	// An error of Send says only that the other side ended; why, it says here.
	resp, rerr := stream.CloseAndReceive()
	if rerr != nil {
		return nil, rerr
	}
	if err == nil {
		err = cut
	}
	return resp, err
}

// whole reports whether n bytes are all of a body: io.ReadFull says of a last part that is short what a body says that breaks off.
func whole(r *http.Request, n int64) bool {
	if r.ContentLength >= 0 {
		return n == r.ContentLength
	}
	k, err := r.Body.Read(make([]byte, 1))
	return k == 0 && errors.Is(err, io.EOF)
}

// remove removes what is at a path.
func (h *handler) remove(w http.ResponseWriter, r *http.Request, fields map[string]string) {
	q, err := params(r, "recursive", "force")
	req := &sheafv1.RemoveRequest{Paths: []string{fields["path"]}} // so that "" is the root, and not nothing
	if err == nil {
		req.Recursive, err = boolean(q["recursive"])
	}
	if err == nil {
		req.Force, err = boolean(q["force"])
	}
	if err != nil {
		fail(w, err)
		return
	}
	if _, ok := h.precondition(w, r, fields["path"]); !ok {
		return
	}
	resp, err := h.files.Remove(r.Context(), req)
	if err != nil {
		fail(w, err)
		return
	}
	answerWith(w, http.StatusOK, resp)
}

// An upload is what the address of one says.
type upload struct {
	id, path string
	length   int64
	sum      []byte
	create   bool
}

// uploadOf reads the address of an upload. It has all that is to be known of it, so that nothing is lost when the process ends.
func uploadOf(r *http.Request, fields map[string]string) (u upload, err error) {
	q, err := params(r, "path", "length", "sha256", "exclusive")
	if err != nil {
		return u, err
	}
	u.id, u.path = fields["upload"], q["path"]
	if u.length, err = strconv.ParseInt(q["length"], 10, 64); err != nil || u.length < 0 {
		return u, usage("length is not how many bytes the file will have")
	}
	if u.sum, err = hex.DecodeString(q["sha256"]); err != nil || len(u.sum) != 0 && len(u.sum) != sha256.Size {
		return u, usage("sha256 is not 64 hexadecimal digits")
	}
	u.create, err = boolean(q["exclusive"])
	return u, err
}

func (u upload) start(off int64) *sheafv1.WriteStart {
	return &sheafv1.WriteStart{Path: u.path, Upload: u.id, Offset: off, Exclusive: u.create}
}

// end returns the end of an upload that has so many bytes.
func (u upload) end(have int64) (*sheafv1.WriteEnd, error) {
	if have > u.length {
		return nil, usage("%d bytes came, and the upload has %d", have, u.length)
	}
	if have < u.length {
		return nil, nil
	}
	return &sheafv1.WriteEnd{Size: &u.length, Sha256: u.sum}, nil
}

// beginUpload makes an upload and says by Location where it goes on.
func (h *handler) beginUpload(w http.ResponseWriter, r *http.Request, _ map[string]string) {
	u, err := uploadOf(r, nil)
	if err != nil {
		fail(w, err)
		return
	}
	u.id = strings.ToLower(rand.Text())
	h.part(w, r, u, 0, http.StatusCreated)
}

// goOn takes the next bytes of an upload.
func (h *handler) goOn(w http.ResponseWriter, r *http.Request, fields map[string]string) {
	u, err := uploadOf(r, fields)
	var off int64
	if err == nil {
		if off, err = strconv.ParseInt(r.Header.Get("Upload-Offset"), 10, 64); err != nil || off < 0 {
			err = usage("Upload-Offset is not at which byte the body begins")
		}
	}
	if err != nil {
		fail(w, err)
		return
	}
	have, err := h.files.Upload(r.Context(), &sheafv1.UploadRequest{Path: u.path, Upload: u.id})
	if err == nil && !have.GetExists() {
		err = noUpload()
	}
	if err != nil {
		fail(w, err)
		return
	}
	if have.GetOffset() != off {
		w.Header().Set("Upload-Offset", strconv.FormatInt(have.GetOffset(), 10))
		gate.Refuse(w, http.StatusConflict, "exists", "the upload goes on at another byte", "HEAD says at which: "+strconv.FormatInt(have.GetOffset(), 10))
		return
	}
	h.part(w, r, u, off, http.StatusOK)
}

// part takes bytes of an upload from off on. With the last of them the file is there.
func (h *handler) part(w http.ResponseWriter, r *http.Request, u upload, off int64, status int) {
	if r.ContentLength > u.length-off {
		fail(w, usage("%d bytes from %d are more than the %d of the upload", r.ContentLength, off, u.length))
		return
	}
	resp, err := h.send(r, u.start(off), func(n int64) (*sheafv1.WriteEnd, error) { return u.end(off + n) })
	if err != nil {
		fail(w, err)
		return
	}
	q := url.Values{"path": {u.path}, "length": {strconv.FormatInt(u.length, 10)}}
	if len(u.sum) > 0 {
		q.Set("sha256", hex.EncodeToString(u.sum))
	}
	if u.create {
		q.Set("exclusive", "true")
	}
	w.Header().Set("Location", "/v1/uploads/"+u.id+"?"+q.Encode())
	w.Header().Set("Upload-Offset", strconv.FormatInt(resp.GetOffset(), 10))
	if resp.GetNode() != nil {
		w.Header().Set("ETag", etag(resp.GetNode()))
	}
	answerWith(w, status, resp)
}

func noUpload() error {
	return &service.Error{Code: sheafv1.Code_CODE_NOT_FOUND, Hint: "POST /v1/uploads begins one", Err: errors.New("no such upload: it is done, or was not gone on with in time")}
}

// offset says how far an upload came.
func (h *handler) offset(w http.ResponseWriter, r *http.Request, fields map[string]string) {
	q, err := params(r, "path", "length", "sha256", "exclusive")
	if err != nil {
		fail(w, err)
		return
	}
	resp, err := h.files.Upload(r.Context(), &sheafv1.UploadRequest{Path: q["path"], Upload: fields["upload"]})
	if err == nil && !resp.GetExists() {
		err = noUpload()
	}
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Upload-Offset", strconv.FormatInt(resp.GetOffset(), 10))
	answerWith(w, http.StatusOK, resp)
}
