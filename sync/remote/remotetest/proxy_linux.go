package remotetest

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// A Proxy stands before a server that speaks HTTP, and lets a test spoil what goes through. It is safe for concurrent use.
type Proxy struct {
	Addr string

	mu     sync.Mutex
	before func(http.ResponseWriter, *http.Request) bool
	after  func(*http.Response) error
}

// Front starts a Proxy before a server, and returns the place as it is seen through it.
func Front(t testing.TB, s *Server, p Place) (*Proxy, Place) {
	t.Helper()
	target := &url.URL{Scheme: "http", Host: s.Addr}
	x := &Proxy{}
	transport := &http.Transport{}
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // signatures and destinations are of the name that the client knows
		},
		ModifyResponse: func(r *http.Response) error {
			x.mu.Lock()
			after := x.after
			x.mu.Unlock()
			if after != nil {
				return after(r)
			}
			return nil
		},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x.mu.Lock()
		before := x.before
		x.mu.Unlock()
		if before != nil && before(w, r) {
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	srv.Config.ErrorLog = proxy.ErrorLog
	srv.Start()
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
		transport.CloseIdleConnections()
	})
	x.Addr = srv.Listener.Addr().String()
	p.Options = maps.Clone(p.Options)
	for k, v := range p.Options {
		p.Options[k] = strings.ReplaceAll(v, s.Addr, x.Addr)
	}
	return x, p
}

// Before says what happens before a request reaches the server: if f returns true, it has answered in the server's place. nil: nothing.
func (p *Proxy) Before(f func(http.ResponseWriter, *http.Request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.before = f
}

// After says what happens to an answer on its way back. nil: nothing.
func (p *Proxy) After(f func(*http.Response) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.after = f
}

// Answer answers with a status, and with headers, as "Retry-After: 1".
func Answer(w http.ResponseWriter, status int, headers ...string) bool {
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		w.Header().Set(k, v)
	}
	w.WriteHeader(status)
	_, _ = fmt.Fprintln(w, "<html><body>Not now.</body></html>") // the client may be gone
	return true
}
