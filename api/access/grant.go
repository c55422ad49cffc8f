package access

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
)

// ErrForbidden is wrapped by the error for what a Grant does not allow.
var ErrForbidden = errors.New("not allowed")

// A Grant is what a caller may do. It is not changed once it is made.
type Grant struct {
	ID       string   // of its token; "" for Local
	ReadOnly bool     // it changes nothing
	Folder   string   // the only one that it sees, without slashes at its ends, as the drive has it; "": all
	Services []string // the only ones, in lower case; none: all

	local bool
}

type grantKey struct{}

// With returns a context in which g is what the caller may do.
func With(ctx context.Context, g *Grant) context.Context {
	return context.WithValue(ctx, grantKey{}, g)
}

// Of returns the Grant of a context, or nil.
func Of(ctx context.Context) *Grant {
	g, _ := ctx.Value(grantKey{}).(*Grant)
	return g
}

// IsLocal reports whether the caller is this user, or this process itself: nil.
func (g *Grant) IsLocal() bool { return g == nil || g.local }

// Local lets every caller of a handler do everything. It is for listeners that only this user reaches.
func Local(next http.Handler) http.Handler {
	g := &Grant{local: true}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(With(r.Context(), g)))
	})
}

// Check returns nil if the caller of ctx may make a call of that procedure, as "/sheaf.v1.Files/Stat", with that message.
// With a nil message it says what can be said before there is one. Errors wrap ErrForbidden, or fs.ErrNotExist for what
// the caller does not see, whether it is there or not. They name nothing that the caller did not.
func Check(ctx context.Context, procedure string, m proto.Message) error {
	g := Of(ctx)
	if g == nil {
		return fmt.Errorf("no token: %w", ErrForbidden)
	}
	if g.local {
		return nil
	}
	need, known := Needs[procedure]
	switch {
	case !known:
		return fmt.Errorf("an unknown call: %w", ErrForbidden)
	case need.Socket || m != nil && need.SocketIf != nil && need.SocketIf(m):
		return fmt.Errorf("this is served over the unix socket only: %w", ErrForbidden)
	case need.Anyone:
		return nil
	case len(g.Services) > 0 && !slices.Contains(g.Services, serviceOf(procedure)):
		return fmt.Errorf("the token is not for this service: %w", ErrForbidden)
	case need.Writes && g.ReadOnly:
		return fmt.Errorf("the token can only read: %w", ErrForbidden)
	case g.Folder == "":
		return nil
	case need.Paths == nil:
		return fmt.Errorf("the token is for one folder only: %w", ErrForbidden)
	case m == nil:
		return nil
	}
	if past, ok := m.(interface{ GetAt() string }); ok && past.GetAt() != "" {
		return fmt.Errorf("the token is for its folder as it is now: %w", ErrForbidden)
	}
	for _, p := range need.Paths(m) {
		if !g.Sees(p) || need.Below && strings.Trim(p, "/") == wirepath.Encode(g.Folder) {
			return fmt.Errorf("no such path: %w", fs.ErrNotExist)
		}
	}
	return nil
}

// Sees reports whether a path, as the contract has it, is the folder of the grant or lies below it.
func (g *Grant) Sees(path string) bool {
	if g.Folder == "" {
		return true
	}
	p, err := wirepath.Decode(path)
	if err != nil {
		return false
	}
	p = strings.Trim(p, "/")
	rest, ok := strings.CutPrefix(p, g.Folder)
	if !ok || rest != "" && rest[0] != '/' {
		return false
	}
	// No path of a drive has such elements. Whoever looks further than this package refuses them, too.
	return !slices.Contains(strings.Split(p, "/"), "..")
}

// serviceOf returns the service of a procedure, as Grant has it.
func serviceOf(procedure string) string {
	s, _, _ := strings.Cut(strings.TrimPrefix(procedure, "/sheaf.v1."), "/")
	return strings.ToLower(s)
}
