package webdav_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/memfs"
	"github.com/sheaf-drive/sheaf/webdav"
)

// long reports whether there is time for the long form of a test.
func long() bool { return os.Getenv("SHEAF_LONG") != "" }

// need ends a test if a program is not there.
func need(t testing.TB, program string) string {
	t.Helper()
	return testkit.Program(t, program, "webdav")
}

// A site is a tree and a server of it.
type site struct {
	t    testing.TB
	fsys vfs.FS
	tree *webdav.Tree
	*httptest.Server
}

// serve returns a server of a tree. Both end with the test.
func serve(t testing.TB, fsys vfs.FS, o webdav.Options, v webdav.View) *site {
	t.Helper()
	tree, err := webdav.Open(t.Context(), fsys, o)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t, fsys, tree, httptest.NewServer(tree.Handler(v))}
	t.Cleanup(func() {
		s.Server.Close()
		if err := tree.Close(context.Background()); err != nil {
			t.Errorf("close tree: %v", err)
		}
	})
	return s
}

// inMemory returns a server of an empty tree.
func inMemory(t testing.TB) *site {
	return serve(t, memfs.New(memfs.Options{}), webdav.Options{}, webdav.View{})
}

// A reply is what came back.
type reply struct {
	code int
	head http.Header
	body string
}

// do makes a request. head is name and value, in turns.
func (s *site) do(method, path, body string, head ...string) reply {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(head); i += 2 {
		if head[i] == "Host" {
			r.Host = head[i+1]
		}
		r.Header.Set(head[i], head[i+1])
	}
	resp, err := s.Client().Transport.RoundTrip(r)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return reply{resp.StatusCode, resp.Header, string(b)}
}

// want makes a request that has to be answered with code.
func (s *site) want(code int, method, path, body string, head ...string) reply {
	s.t.Helper()
	got := s.do(method, path, body, head...)
	if got.code != code {
		s.t.Fatalf("%s %s %q: got status %d, want %d: %s", method, path, head, got.code, code, got.body)
	}
	return got
}

// content returns what the tree has at path, not by HTTP.
func (s *site) content(path string) string {
	s.t.Helper()
	b, err := vfs.ReadFile(s.t.Context(), s.fsys, path, 1<<30)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

// memory is a LockStore that outlives a Tree.
type memory struct {
	mu    sync.Mutex
	locks []byte
	err   error
}

func (m *memory) Load(context.Context) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.locks, m.err
}

func (m *memory) Save(_ context.Context, b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.locks = b
	}
	return m.err
}
