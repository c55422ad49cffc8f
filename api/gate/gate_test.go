package gate

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/api/access"
)

// fixture is a gate before a handler that says which token it was called with.
type fixture struct {
	url, addr, secret, id string
	tokens                *access.Store
}

func start(t *testing.T, next http.Handler) *fixture {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{addr: l.Addr().String(), tokens: access.NewStore(filepath.Join(t.TempDir(), "tokens.json"))}
	f.url = "http://" + f.addr
	tok, secret, err := f.tokens.Create(access.Token{Label: "test"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	f.id, f.secret = tok.ID, secret
	if next == nil {
		next = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprint(w, access.Of(r.Context()).ID)
		})
	}
	g, err := New(Options{Addr: f.addr, Tokens: f.tokens, Log: slog.New(slog.DiscardHandler), Next: next})
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: g, ReadHeaderTimeout: time.Minute}}
	srv.Start()
	t.Cleanup(srv.Close)
	return f
}

// ask makes a request with the token, changed by change, and returns the status.
func (f *fixture) ask(t *testing.T, method string, change func(r *http.Request)) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, f.url+"/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+f.secret)
	if change != nil {
		change(r)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	for name, want := range headers {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	for name := range resp.Header {
		if strings.HasPrefix(name, "Access-Control") {
			t.Errorf("a header of CORS: %s", name)
		}
	}
	return resp.StatusCode
}

// T-REBIND, the part of forged hosts.
func TestGate_KnowsItsOwnHostOnly(t *testing.T) {
	f := start(t, nil)
	_, port, _ := net.SplitHostPort(f.addr)
	for host, want := range map[string]int{
		f.addr: 200, "localhost:" + port: 200, "LOCALHOST:" + port: 200, "[::ffff:127.0.0.1]:" + port: 200,
		"127.0.0.1": 421, "localhost": 421, "127.0.0.1:1": 421, "127.0.0.1.evil.com:" + port: 421, "localhost.evil.com:" + port: 421,
		"evil.com:" + port: 421, "evil.com": 421, "127.1:" + port: 421, "2130706433:" + port: 421, "0x7f.0.0.1:" + port: 421, "0.0.0.0:" + port: 421,
		"127.0.0.2:" + port: 421, "[::1]:" + port: 421, "127.0.0.1:" + port + ".evil.com": 421, "127.0.0.1:0" + port: 421, "localhost.:" + port: 421,
	} {
		if got := f.ask(t, "GET", func(r *http.Request) { r.Host = host }); got != want && (want == 200 || got != 400) { // 400 is the server's own
			t.Errorf("%s: got %d, want %d", host, got, want)
		}
	}
}

// T-REBIND, the part of forged origins.
func TestGate_RefusesOtherPages(t *testing.T) {
	f := start(t, nil)
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		for _, c := range []struct {
			header, value string
			want          int
		}{
			{"Origin", f.url, 200},
			{"Sec-Fetch-Site", "same-origin", 200},
			{"Sec-Fetch-Site", "none", 200},
			{"Origin", "http://evil.com", 403},
			{"Origin", "null", 403},
			{"Origin", "https://" + f.addr, 403},
			{"Origin", "http://" + f.addr + ".evil.com", 403},
			{"Origin", "http://127.0.0.1", 403},
			{"Origin", "http://127.0.0.1:1", 403},
			{"Origin", "file://", 403},
			{"Sec-Fetch-Site", "cross-site", 403},
			{"Sec-Fetch-Site", "same-site", 403},
		} {
			if got := f.ask(t, method, func(r *http.Request) { r.Header.Set(c.header, c.value) }); got != c.want {
				t.Errorf("%s with %s %s: got %d, want %d", method, c.header, c.value, got, c.want)
			}
		}
	}
}

func TestGate_LetsInWhoHasAToken(t *testing.T) {
	f := start(t, nil)
	for auth, want := range map[string]int{
		"Bearer " + f.secret: 200, "bearer " + f.secret: 200, "": 401, "Bearer": 401, "Bearer ": 401, f.secret: 401,
		"Basic " + f.secret: 401, "Bearer " + f.secret + "x": 401, "Bearer " + f.id: 401, "Bearer sheaf_": 401,
	} {
		if got := f.ask(t, "GET", func(r *http.Request) { r.Header.Set("Authorization", auth) }); got != want {
			t.Errorf("%q: got %d, want %d", strings.ReplaceAll(auth, f.secret, "SECRET"), got, want)
		}
	}
	// Not in the address, where it would come into logs and histories.
	if got := f.ask(t, "GET", func(r *http.Request) { r.Header.Del("Authorization"); r.URL.RawQuery = "token=" + f.secret }); got != 401 {
		t.Errorf("in the query: got %d", got)
	}
	if err := f.tokens.Revoke(f.id); err != nil {
		t.Fatal(err)
	}
	if got := f.ask(t, "GET", nil); got != 401 {
		t.Errorf("revoked: got %d", got)
	}
}

func TestGate_EndsCallsOfATokenThatIsRevoked(t *testing.T) {
	began, ended := make(chan struct{}), make(chan error, 1)
	f := start(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		select {
		case <-r.Context().Done():
			ended <- context.Cause(r.Context())
		case <-time.After(30 * time.Second):
			ended <- nil
		}
	}))
	done := make(chan int, 1)
	go func() { done <- f.ask(t, "GET", nil) }()
	<-began
	if err := f.tokens.Revoke(f.id); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("the call went on")
	}
	<-done
}
