package lookup_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/trust/lookup"
	"github.com/sheaf-drive/sheaf/sync/trust/pgp"
)

// to returns a Finder for which all hosts are one server of this machine.
func to(s *httptest.Server) lookup.Finder {
	c := s.Client()
	t := c.Transport.(*http.Transport).Clone()
	t.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
	}
	t.TLSClientConfig.ServerName = "example.com" // the certificate of the test is good for it
	c.Transport = t
	return lookup.Finder{Client: c}
}

func key(t *testing.T, name, address string) *pgp.Certificate {
	t.Helper()
	s, err := pgp.Generate(name, address, time.Unix(1_700_000_000, 0))
	if err != nil {
		t.Fatal(err)
	}
	return s.Certificate()
}

// The name of the file is the one that GnuPG computes.
func TestURLs_AreThoseOfGnuPG(t *testing.T) {
	gpg := testkit.Program(t, "gpg", "")
	home := filepath.Join(t.TempDir(), "h")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := pgp.Armor(&b, key(t, "Joe", "Joe.Doe+x@Example.ORG")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(home, "key.asc")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		return testkit.Run(t, home, []string{"LC_ALL=C"}, gpg, append([]string{"--homedir", home, "--batch", "--no-tty", "--quiet", "--no-autostart"}, args...)...)
	}
	run("--import", file)
	said := run("--with-wkd-hash", "--list-keys")
	urls, err := lookup.URLs("Joe.Doe+x@Example.ORG")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(urls[1], "/hu/")
	hash, local, _ := strings.Cut(rest, "?l=")
	if !strings.Contains(said, hash+"@") || len(hash) != 32 || local != "Joe.Doe%2Bx" {
		t.Errorf("%s is not what GnuPG says: %s", urls[1], said)
	}
	if !strings.HasPrefix(urls[0], "https://openpgpkey.example.org/.well-known/openpgpkey/example.org/hu/"+hash) {
		t.Errorf("the first to be asked: %s", urls[0])
	}
	for _, bad := range []string{"", "joe", "@a", "joe@", "joe@a/b", "joe@a b", "joe@[1.2.3.4]", "joe@a:80", "joe@.a"} {
		if u, err := lookup.URLs(bad); !errors.Is(err, lookup.ErrAddress) {
			t.Errorf("%q: %v, %v", bad, u, err)
		}
	}
}

func TestWKD_OnlyKeysOfTheAddressCount(t *testing.T) {
	joe, other := key(t, "Joe", "joe@example.org"), key(t, "Other", "other@example.org")
	var asked []string
	answer := func(w http.ResponseWriter, all ...*pgp.Certificate) {
		for _, c := range all {
			if err := c.Write(w); err != nil {
				t.Error(err)
			}
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("openpgpkey.example.org/", func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Host+r.URL.Path)
		http.NotFound(w, r)
	})
	mux.HandleFunc("example.org/.well-known/openpgpkey/hu/", func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Host+r.URL.Path)
		answer(w, joe, other)
	})
	mux.HandleFunc("wrong.example/", func(w http.ResponseWriter, _ *http.Request) { answer(w, other) })
	mux.HandleFunc("away.example/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://example.org"+r.URL.RequestURI(), http.StatusFound)
	})
	mux.HandleFunc("keys.example/pks/lookup", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("search") != "0x"+pgp.Hex(joe.Fingerprint()) {
			http.NotFound(w, r)
			return
		}
		if err := pgp.Armor(w, other, joe); err != nil {
			t.Error(err)
		}
	})
	s := httptest.NewTLSServer(mux)
	defer s.Close()
	f := to(s)
	got, err := f.WKD(t.Context(), "joe@example.org")
	if err != nil || len(got.Keys) != 1 || got.Keys[0].Fingerprint() != joe.Fingerprint() || len(asked) != 2 {
		t.Fatalf("%v, %v; asked %v", got, err, asked)
	}
	for _, bad := range []string{"joe@wrong.example", "joe@away.example", "joe@none.example"} {
		if got, err := f.WKD(t.Context(), bad); !errors.Is(err, lookup.ErrNone) {
			t.Errorf("%s: %v, %v", bad, got, err)
		}
	}
	got, err = f.Keyserver(t.Context(), "https://keys.example", pgp.Compare(joe.Fingerprint()))
	if err != nil || len(got.Keys) != 1 || got.Keys[0].Fingerprint() != joe.Fingerprint() {
		t.Errorf("by fingerprint: %v, %v", got, err)
	}
	for _, bad := range []string{"http://keys.example", "keys.example", "https://u:p@keys.example", "https://keys.example/path"} {
		if _, err := f.Keyserver(t.Context(), bad, "joe@example.org"); !errors.Is(err, lookup.ErrServer) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
