package door_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/webdav/door"
)

func hello(netip.AddrPort) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "hello")
	})
}

func open(t *testing.T, o door.Options) *door.Door {
	t.Helper()
	if o.Handler == nil {
		o.Handler = hello
	}
	d, err := door.Listen(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return d
}

func TestListen_OtherMachinesNeedTLS(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", "[::]:0", "192.0.2.1:0"} {
		if _, err := door.Listen(t.Context(), door.Options{Addr: addr, Handler: hello}); !errors.Is(err, door.ErrPlain) {
			t.Errorf("%s: got %v", addr, err)
		}
	}
	for _, addr := range []string{"", "nowhere", "example.org:80", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:70000"} {
		if d, err := door.Listen(t.Context(), door.Options{Addr: addr, Handler: hello}); err == nil {
			_ = d.Close(t.Context())
			t.Errorf("%q was listened at", addr)
		}
	}
}

func TestDoor_EndsWithAllThatIsItsOwn(t *testing.T) {
	before := testkit.Goroutines(t)
	d, err := door.Listen(t.Context(), door.Options{Addr: "localhost:0", Handler: hello})
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Transport: &http.Transport{}}
	resp, err := c.Get(d.URL())
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "hello" {
		t.Errorf("got %q, %v", b, err)
	}
	resp.Body.Close()
	c.CloseIdleConnections()
	for range 2 {
		if err := d.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	<-d.Done()
	if d.Err() != nil {
		t.Errorf("it ended with %v", d.Err())
	}
	before.Check(t)
}

func TestDoor_SpeaksTLSWithItsOwnCertificate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	cert, err := door.Certificate(dir, []string{"box.home.arpa"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := open(t, door.Options{Addr: "127.0.0.1:0", TLS: cert})
	pem, err := os.ReadFile(filepath.Join(dir, door.CertFile))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	for _, name := range []string{"", "localhost", "box.home.arpa"} {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: name}}
		resp, err := (&http.Client{Transport: tr}).Get(d.URL())
		if err != nil {
			t.Fatalf("as %q: %v", name, err)
		}
		resp.Body.Close()
		tr.CloseIdleConnections()
	}
	if resp, err := (&http.Client{Transport: &http.Transport{}}).Get(d.URL()); err == nil {
		resp.Body.Close()
		t.Error("who does not know the certificate trusts it")
	}
}

func TestCertificate_StaysAsLongAsItFits(t *testing.T) {
	dir := t.TempDir()
	first, err := door.Certificate(dir, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "webdav.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its key: %v, %v", info.Mode(), err)
	}
	again, err := door.Certificate(dir, nil, []netip.Addr{netip.MustParseAddr("127.0.0.1")})
	if err != nil || door.Fingerprint(again) != door.Fingerprint(first) {
		t.Errorf("it was made anew: %v", err)
	}
	other, err := door.Certificate(dir, nil, []netip.Addr{netip.MustParseAddr("192.0.2.7")})
	if err != nil || door.Fingerprint(other) == door.Fingerprint(first) || other.Leaf.VerifyHostname("192.0.2.7") != nil {
		t.Errorf("it is not for a new address: %v", err)
	}
	back, err := door.Certificate(dir, nil, nil)
	if err != nil || door.Fingerprint(back) != door.Fingerprint(other) {
		t.Errorf("who trusts the new one is not served by it: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, door.CertFile), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := door.Certificate(dir, nil, nil); err == nil {
		t.Error("nonsense was replaced in silence")
	}
}

// A client that sends its headers drop by drop does not keep others out for long.
func TestDoor_ManySlowClientsAreCutOff(t *testing.T) {
	if testing.Short() && os.Getenv("SHEAF_LONG") == "" {
		t.Skip("takes twelve seconds")
	}
	d := open(t, door.Options{Addr: "127.0.0.1:0"})
	var conns []net.Conn
	for range 600 { // more than there is room for
		c, err := net.Dial("tcp", d.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: ")
		conns = append(conns, c)
	}
	begin := time.Now()
	c := &http.Client{Transport: &http.Transport{}, Timeout: time.Minute}
	defer c.CloseIdleConnections()
	resp, err := c.Get(d.URL())
	if err != nil {
		t.Fatalf("after %v: %v", time.Since(begin), err)
	}
	resp.Body.Close()
	if _, err := bufio.NewReader(conns[0]).ReadString('\n'); err == nil {
		if b, _ := io.ReadAll(conns[0]); strings.Contains(string(b), "hello") {
			t.Error("half a request was answered")
		}
	}
}
