package s3

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"net/http"

	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/signature"

	"github.com/sheaf-drive/sheaf/vfs"
)

// A Grant is what a key lets its holder do.
type Grant struct {
	Secret   string // the key that signs
	Folder   string // all that he may see, absolute in the tree; "" is everything
	ReadOnly bool
}

// Options are what a handler needs. Name and Grant are.
type Options struct {
	// Name is part of the name of the folder in which uploads grow: another for each device, of letters and digits.
	Name string
	// Grant returns what an access key is for, and whether there is such a key. Calls overlap.
	Grant func(accessKey string) (Grant, bool)
	// Root is the folder whose folders are the buckets, absolute in the tree; "" is everything.
	Root     string
	ReadOnly bool
	// UID and GID own what clients make.
	UID, GID uint32
	// Log takes who was refused; nil discards it. It gets no name and no key.
	Log *slog.Logger
}

// A Handler is the door. It is safe for concurrent use.
type Handler struct {
	o       Options
	fsys    vfs.FS
	scratch string // the name of the folder in which uploads grow, at the root
	next    http.Handler
}

// New returns the door of a tree.
func New(fsys vfs.FS, o Options) *Handler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	h := &Handler{o: o, fsys: fsys, scratch: scratchName(o.Name)}
	h.next = gofakes3.New(&backend{h: h, uploads: map[gofakes3.UploadID]*upload{}}, gofakes3.WithoutVersioning(), gofakes3.WithUploadOwner(owner)).Server()
	return h
}

// scratchName returns the name of the folder in which uploads of doors of a name grow.
func scratchName(name string) string { return vfs.ScratchPrefix + "s3-" + name }

// Clear removes what uploads to doors of that name have left in a tree: before the first of them is made, and when none of them has a request under way.
func Clear(ctx context.Context, fsys vfs.FS, name string) error {
	if err := vfs.RemoveAll(ctx, fsys, scratchName(name)); err != nil && !errors.Is(err, vfs.ErrReadOnly) {
		return fmt.Errorf("remove what uploads left: %w", err)
	}
	return nil
}

type scopeKey struct{}

// scope is what a request may see.
type scope struct {
	key  string
	root string // absolute in the tree, clean; "" is everything
}

func scopeOf(ctx context.Context) scope {
	s, ok := ctx.Value(scopeKey{}).(scope)
	if !ok {
		panic("s3: a request that nobody has let in")
	}
	return s
}

func owner(ctx context.Context) string { return scopeOf(ctx).key }

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var key string
	var g Grant
	code := signature.V4SignVerifyWithLookup(r, func(access string) (string, bool) {
		var ok bool
		key = access
		g, ok = h.o.Grant(access)
		return g.Secret, ok
	})
	if code != signature.ErrNone {
		h.o.Log.Warn("refused at the S3 door", "from", r.RemoteAddr, "why", "signature")
		e := signature.GetAPIError(code)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(e.HTTPStatusCode)
		_, _ = w.Write(signature.EncodeAPIErrorToResponse(e)) // whoever asked may be gone
		return
	}
	root, ok := vfs.Inner(h.o.Root, g.Folder)
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	if !ok || (h.o.ReadOnly || g.ReadOnly) && !reads {
		refuse(w, http.StatusForbidden, "AccessDenied", "this key is only for reading, or not for here")
		return
	}
	// The signature covers the hash that the client says the body has. That it has it is seen at its end, before anything is put in its place; of one that has no bytes
	// nobody reads the end.
	if sum, err := hex.DecodeString(r.Header.Get("X-Amz-Content-Sha256")); err == nil && len(sum) == sha256.Size {
		if r.ContentLength == 0 && [sha256.Size]byte(sum) != sha256.Sum256(nil) {
			refuse(w, http.StatusBadRequest, string(gofakes3.ErrBadDigest), "the body is not the one that was signed")
			return
		}
		r.Body = &summed{ReadCloser: r.Body, sum: sha256.New(), want: string(sum), left: r.ContentLength}
	}
	h.next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), scopeKey{}, scope{key, root})))
}

// refuse answers with an error of the protocol.
func refuse(w http.ResponseWriter, status int, code, text string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?>`+"\n<Error><Code>%s</Code><Message>%s</Message></Error>", code, text) // whoever asked may be gone
}

// summed is a body whose hash, and whose length if it is not negative, was said before. Its last bytes are handed on only if the hash is right: who knows the
// length does not read on to learn of an error.
type summed struct {
	io.ReadCloser
	sum  hash.Hash
	want string
	left int64
}

func (b *summed) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.sum.Write(p[:n])
	known := b.left >= 0
	b.left -= int64(n)
	if (errors.Is(err, io.EOF) || known && b.left <= 0) && string(b.sum.Sum(nil)) != b.want {
		return 0, gofakes3.ErrBadDigest
	}
	return n, err
}
