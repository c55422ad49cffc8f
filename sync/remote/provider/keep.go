package provider

import (
	"context"
	"errors"
	"net/http"

	"github.com/rclone/rclone/fs/fshttp"
)

// The backend for WebDAV removes a file that it could not put, also when it was to replace one that is still there, whole. It
// cannot be told not to. So such a Put carries a mark in its context, and requests to remove that carry it are not sent. The
// hook by which they are seen is rclone's for all requests of the process; all others it lets pass.
func init() { fshttp.SetFaultInjector(veto) }

type keepKey struct{}

// keeping returns ctx with the mark.
func keeping(ctx context.Context) context.Context { return context.WithValue(ctx, keepKey{}, true) }

var errKept = errors.New("what was there before is kept")

func veto(req *http.Request) (int, error) {
	if req.Method == http.MethodDelete && req.Context().Value(keepKey{}) != nil {
		return 0, errKept
	}
	return 0, nil
}
