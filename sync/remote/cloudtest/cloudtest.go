// Package cloudtest emulates providers of files on this machine, written from the public documents of their APIs, so that real clients of them run in tests without an
// account. What is measured on it is said to be emulated: it says nothing about how the providers do what the documents leave open, nor how fast they are.
package cloudtest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Token is the token that all that is emulated takes.
const Token = "good"

// A Fault is an answer that a server gives instead of doing what it is asked.
type Fault struct {
	Status int
	Reason string        // as the provider calls it
	After  time.Duration // in whole seconds, to be said in Retry-After; 0: nothing is said
	Cut    bool          // the answer ends half-way, and all is well with what it says until there; Status is not looked at
}

// A Front is the way to a server that has the names of a provider: a proxy on loopback to which nothing is known but those names, and the certificate by which it is
// believed. Its methods are safe for concurrent use.
type Front struct {
	// Proxy is the URL of the proxy, and CA the path of a file with the certificate, in PEM.
	Proxy, CA string

	mu    sync.Mutex
	calls []string
	fault func(*http.Request) *Fault
}

// Calls returns what was asked since the last call: the method and the path of each request, in their order.
func (f *Front) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.calls
	f.calls = nil
	return all
}

// SetFault has each request be shown to fault, and answered by what that returns, if it is not nil. fault nil ends it.
func (f *Front) SetFault(fault func(*http.Request) *Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

func (f *Front) note(r *http.Request) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, r.Method+" "+r.URL.Path)
	if f.fault == nil {
		return nil
	}
	return f.fault(r)
}

// newFront starts a server for the names. It ends with the test.
func newFront(t testing.TB, h http.Handler, fail func(http.ResponseWriter, *Fault), names ...string) *Front {
	t.Helper()
	f := &Front{}
	cert, ca := certificate(t, names)
	f.CA = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(f.CA, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fault := f.note(r)
		switch {
		case fault == nil:
			h.ServeHTTP(w, r)
		case fault.Cut:
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			w.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
			w.WriteHeader(rec.Code)
			_, _ = w.Write(rec.Body.Bytes()[:rec.Body.Len()/2]) // who asked may be gone
		default:
			if fault.After > 0 {
				w.Header().Set("Retry-After", fmt.Sprint(int(fault.After/time.Second)))
			}
			fail(w, fault)
		}
	}))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	proxy := httptest.NewServer(tunnel(srv.Listener.Addr().String(), names))
	t.Cleanup(proxy.Close)
	f.Proxy = proxy.URL
	return f
}

// tunnel is a proxy that leads to one server, whatever of the names it is asked for, and nowhere else.
func tunnel(to string, names []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil || r.Method != http.MethodConnect || !slices.Contains(names, host) {
			http.Error(w, "nothing but the emulated provider is reached from here", http.StatusForbidden)
			return
		}
		var d net.Dialer
		far, err := d.DialContext(context.WithoutCancel(r.Context()), "tcp", to)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		near, rest, err := http.NewResponseController(w).Hijack()
		if err != nil {
			_ = far.Close()
			return
		}
		_, _ = io.WriteString(near, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() {
			_, _ = io.Copy(far, rest)
			_ = far.(*net.TCPConn).CloseWrite()
		}()
		_, _ = io.Copy(near, far)
		_, _ = near.Close(), far.Close()
	})
}

func certificate(t testing.TB, names []string) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "emulated"}, DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// say answers with v in JSON.
func say(w http.ResponseWriter, status int, v any) {
	var b bytes.Buffer
	_ = json.NewEncoder(&b).Encode(v) // values of this package
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // who asked may be gone
}

// locked has one request at a time be served. What is sent is read before: a client may stop half-way for as long as it likes, and of what it did not send whole nothing is
// done; cut answers that.
func locked(mu *sync.Mutex, serve http.HandlerFunc, cut func(http.ResponseWriter)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			cut(w)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		mu.Lock()
		defer mu.Unlock()
		serve(w, r)
	})
}

// parts are what has come of an upload in several requests.
type parts struct{ data []byte }

// add takes the part that a request has by its Content-Range, which begins where the last one ended, and reports whether it was the last one. ok is false for any other.
func (p *parts) add(r *http.Request) (whole, ok bool) {
	data, _ := io.ReadAll(r.Body) // of memory
	span, all, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Content-Range"), "bytes "), "/")
	from, to, _ := strings.Cut(span, "-")
	off, err1 := strconv.Atoi(from)
	last, err2 := strconv.Atoi(to)
	if err1 != nil || err2 != nil || off != len(p.data) || last-off+1 != len(data) {
		return false, false
	}
	p.data = append(p.data, data...)
	size, err := strconv.Atoi(all)
	return err == nil && len(p.data) >= size, true
}
