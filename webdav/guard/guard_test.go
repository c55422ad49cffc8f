package guard_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs/memfs"
	"github.com/sheaf-drive/sheaf/webdav"
	"github.com/sheaf-drive/sheaf/webdav/guard"
)

// shelf is a guard.Store that outlives Passwords.
type shelf struct {
	mu  sync.Mutex
	b   []byte
	err error
}

func (s *shelf) Load(context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b, s.err
}

func (s *shelf) Save(_ context.Context, b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.b = b
	}
	return s.err
}

func passwords(t *testing.T, s *shelf) *guard.Passwords {
	t.Helper()
	p, err := guard.OpenPasswords(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// T-REBIND, in requests: a name of an attacker's that leads to this machine is none of ours.
func TestHosts_OnlyOwnNamesAreAllowed(t *testing.T) {
	local := guard.Hosts{Addr: netip.MustParseAddrPort("127.0.0.1:7433"), Names: []string{"box.home.arpa"}}
	six := guard.Hosts{Addr: netip.MustParseAddrPort("[::1]:7433")}
	every := guard.Hosts{Addr: netip.MustParseAddrPort("0.0.0.0:443"), TLS: true}
	for _, c := range []struct {
		h    guard.Hosts
		host string
		want bool
	}{
		{local, "127.0.0.1:7433", true},
		{local, "localhost:7433", true},
		{local, "LOCALHOST:7433", true},
		{local, "box.home.arpa:7433", true},
		{local, "Box.Home.Arpa:7433", true},
		{local, "[::ffff:127.0.0.1]:7433", true},
		{local, "127.0.0.1.evil.com:7433", false},
		{local, "127.0.0.1.evil.com", false},
		{local, "evil.com:7433", false},
		{local, "127.0.0.1", false},
		{local, "127.0.0.1:7434", false},
		{local, "127.0.0.1:07433", false},
		{local, "127.0.0.2:7433", false},
		{local, "127.1:7433", false},
		{local, "2130706433:7433", false},
		{local, "0x7f000001:7433", false},
		{local, "localhost.:7433", false},
		{local, "localhost.evil.com:7433", false},
		{local, "evil-localhost:7433", false},
		{local, "box.home.arpa.evil.com:7433", false},
		{local, "0.0.0.0:7433", false},
		{local, "[::1]:7433", false},
		{local, "[::1%lo]:7433", false},
		{local, "user@127.0.0.1:7433", false},
		{local, "", false},
		{local, ":7433", false},
		{six, "[::1]:7433", true},
		{six, "[0:0::1]:7433", true},
		{six, "::1", false},
		{six, "127.0.0.1:7433", false},
		{every, "192.168.1.5", true},
		{every, "192.168.1.5:443", true},
		{every, "[fe80::1]", true},
		{every, "evil.com", false},
		{every, "192.168.1.5.evil.com", false},
	} {
		if got := c.h.Allow(c.host); got != c.want {
			t.Errorf("Allow(%q) at %s: got %v, want %v", c.host, c.h.Addr, got, c.want)
		}
	}
}

// gated is a tree behind a guard, at 127.0.0.1:80.
type gated struct {
	http.Handler
	p   *guard.Passwords
	log *bytes.Buffer
}

func newGated(t *testing.T) gated {
	t.Helper()
	tree, err := webdav.Open(t.Context(), memfs.New(memfs.Options{}), webdav.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := passwords(t, &shelf{})
	var log bytes.Buffer
	h := guard.New(tree.Handler(webdav.View{}), guard.Options{
		Hosts: guard.Hosts{Addr: netip.MustParseAddrPort("127.0.0.1:80")}, Keeper: guard.NewKeeper(p), Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	return gated{h, p, &log}
}

// ask makes a request. head is name and value, in turns.
func (g gated) ask(method, path, user, secret string, head ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://127.0.0.1"+path, strings.NewReader(""))
	r.RemoteAddr = "127.0.0.1:999"
	if user != "" {
		r.SetBasicAuth(user, secret)
	}
	for i := 0; i < len(head); i += 2 {
		switch head[i] {
		case "Host":
			r.Host = head[i+1]
		case "From":
			r.RemoteAddr = head[i+1]
		default:
			r.Header.Add(head[i], head[i+1])
		}
	}
	w := httptest.NewRecorder()
	g.ServeHTTP(w, r)
	return w
}

// M10: no page of somebody else's gets anywhere, with whatever method, also if the browser knows the password.
func TestGuard_PagesOfOthersAreRefused(t *testing.T) {
	g := newGated(t)
	_, secret, err := g.p.Create(t.Context(), guard.Password{User: "ann"}, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "PROPFIND", "PUT", "DELETE", "MKCOL", "MOVE", "COPY", "LOCK", "UNLOCK", "PROPPATCH", "POST"} {
		for _, c := range []struct {
			code int
			head []string
		}{
			{421, []string{"Host", "127.0.0.1.evil.com"}},
			{421, []string{"Host", "rebound.evil.com"}},
			{421, []string{"Host", "rebound.evil.com:80", "Origin", "http://rebound.evil.com:80"}},
			{403, []string{"Origin", "http://evil.com"}},
			{403, []string{"Origin", "null"}},
			{403, []string{"Origin", "http://127.0.0.1:81"}},
			{403, []string{"Origin", "https://127.0.0.1"}},
			{403, []string{"Origin", "http://127.0.0.1.evil.com"}},
			{403, []string{"Origin", "http://127.0.0.1", "Origin", "http://evil.com"}},
			{403, []string{"Sec-Fetch-Site", "cross-site"}},
			{403, []string{"Sec-Fetch-Site", "same-site"}},
			{403, []string{"Sec-Fetch-Site", "new-word"}},
		} {
			if w := g.ask(method, "/x", "ann", secret, c.head...); w.Code != c.code || w.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s with %q: got %d, want %d", method, c.head, w.Code, c.code)
			}
		}
	}
	if w := g.ask("PROPFIND", "/", "ann", secret, "Origin", "http://127.0.0.1", "Sec-Fetch-Site", "same-origin"); w.Code != 207 {
		t.Errorf("a page of its own: got %d", w.Code)
	}
	if w := g.ask("PROPFIND", "/", "ann", secret); w.Code != 207 {
		t.Errorf("no browser: got %d", w.Code)
	}
}

func TestGuard_HeadersKeepStoredPagesQuiet(t *testing.T) {
	g := newGated(t)
	_, secret, err := g.p.Create(t.Context(), guard.Password{User: "ann"}, "")
	if err != nil {
		t.Fatal(err)
	}
	if w := g.ask("PUT", "/evil.html", "ann", secret); w.Code != 201 {
		t.Fatalf("PUT: %d", w.Code)
	}
	h := g.ask("GET", "/evil.html", "ann", secret).Header()
	if csp := h.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "sandbox; default-src 'none'") {
		t.Errorf("policy of a stored page: %q", csp)
	}
	if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cross-Origin-Resource-Policy") != "same-origin" {
		t.Errorf("headers: %v", h)
	}
	if csp := g.ask("GET", "/", "ann", secret).Header().Get("Content-Security-Policy"); strings.Contains(csp, "sandbox") || !strings.Contains(csp, "default-src 'none'") {
		t.Errorf("policy of a folder's page, whose links are to work: %q", csp)
	}
}

func TestPasswords_LetInWhomTheyAreOf(t *testing.T) {
	s := &shelf{}
	p := passwords(t, s)
	ann, secret, err := p.Create(t.Context(), guard.Password{User: "ann", Name: "tablet", Folder: "in/", ReadOnly: true}, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Create(t.Context(), guard.Password{User: "bob"}, "correct horse"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time by another process
		if got, ok := p.Check(t.Context(), "ann", secret); !ok || got.ID != ann.ID || got.Folder != "/in" || !got.ReadOnly || got.Used.IsZero() {
			t.Errorf("ann: got %+v, %v", got, ok)
		}
		if _, ok := p.Check(t.Context(), "bob", "correct horse"); !ok {
			t.Error("bob is refused")
		}
		for _, c := range [][2]string{
			{"bob", secret},
			{"ann", "correct horse"},
			{"ann", secret + "x"},
			{"ann", secret[:len(secret)-1]},
			{"", secret},
			{"ann", ""},
			{"carl", "correct horse"},
			{"ann", ann.ID + "-"},
			{"ann", strings.Repeat("x", 5000)},
		} {
			if _, ok := p.Check(t.Context(), c[0], c[1]); ok {
				t.Errorf("%q with %q is let in", c[0], c[1])
			}
		}
		p = passwords(t, s)
	}
	for _, c := range []string{secret, "correct horse"} {
		if where := testkit.CanaryOf(c).Find(s.b); where != "" {
			t.Errorf("the store has a secret, as %s", where)
		}
	}
}

func TestPasswords_WhatIsRevokedIsRefusedAtOnce(t *testing.T) {
	g := newGated(t)
	one, secret, err := g.p.Create(t.Context(), guard.Password{User: "ann"}, "")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // also when it is remembered
		if w := g.ask("GET", "/", "ann", secret); w.Code != 200 {
			t.Fatalf("before: %d", w.Code)
		}
	}
	if err := g.p.Revoke(t.Context(), one.ID); err != nil {
		t.Fatal(err)
	}
	if w := g.ask("GET", "/", "ann", secret); w.Code != 401 || w.Header().Get("Www-Authenticate") == "" {
		t.Errorf("after: %d", w.Code)
	}
	if err := g.p.Revoke(t.Context(), one.ID); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("once more: %v", err)
	}
}

func TestPasswords_AreRefusedIfTheyAreWeakOrCannotBeKept(t *testing.T) {
	s := &shelf{}
	p := passwords(t, s)
	if _, _, err := p.Create(t.Context(), guard.Password{User: "ann"}, "short"); !errors.Is(err, guard.ErrWeak) {
		t.Errorf("short: %v", err)
	}
	if _, _, err := p.Create(t.Context(), guard.Password{User: "a:b"}, ""); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a colon: %v", err)
	}
	one, _, err := p.Create(t.Context(), guard.Password{User: "ann"}, "a long password")
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.err = errors.New("full")
	s.mu.Unlock()
	if _, _, err := p.Create(t.Context(), guard.Password{User: "ann"}, "another password"); err == nil {
		t.Error("it was made, and not kept")
	}
	if all := p.List(); len(all) != 1 || all[0].ID != one.ID {
		t.Errorf("got %+v", all)
	}
	if _, ok := p.Check(t.Context(), "ann", "a long password"); !ok {
		t.Error("the old one is refused")
	}
}

func TestGuard_WhoGuessesHasToWaitAndOthersDoNot(t *testing.T) {
	g := newGated(t)
	_, secret, err := g.p.Create(t.Context(), guard.Password{User: "ann"}, "")
	if err != nil {
		t.Fatal(err)
	}
	if w := g.ask("GET", "/", "ann", secret); w.Code != 200 {
		t.Fatalf("ann: %d", w.Code)
	}
	codes := map[int]int{}
	for range 8 {
		w := g.ask("GET", "/", "ann", "a guess and a guess")
		codes[w.Code]++
		if w.Code == 429 && w.Header().Get("Retry-After") == "" {
			t.Error("429 without Retry-After")
		}
	}
	if codes[401] != 5 || codes[429] != 3 {
		t.Errorf("got %v, want five guesses, and then none", codes)
	}
	if w := g.ask("GET", "/", "ann", secret); w.Code != 200 {
		t.Errorf("who is known is shut out by another on this machine: %d", w.Code)
	}
	if w := g.ask("GET", "/", "ann", "a guess", "From", "[2001:db8::1]:5"); w.Code != 401 {
		t.Errorf("from elsewhere: %d", w.Code)
	}
	log := g.log.String()
	if !strings.Contains(log, "reason=guessing") || !strings.Contains(log, "reason=password") {
		t.Errorf("log: %s", log)
	}
	for _, bad := range []string{secret, "a guess", "ann"} {
		if strings.Contains(log, bad) {
			t.Errorf("the log has %q: %s", bad, log)
		}
	}
}

func TestGuard_ScopeIsAllThatIsSeen(t *testing.T) {
	g := newGated(t)
	_, all, err := g.p.Create(t.Context(), guard.Password{User: "ann"}, "")
	if err != nil {
		t.Fatal(err)
	}
	_, in, err := g.p.Create(t.Context(), guard.Password{User: "ann", Folder: "/in"}, "")
	if err != nil {
		t.Fatal(err)
	}
	_, read, err := g.p.Create(t.Context(), guard.Password{User: "ann", ReadOnly: true}, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		code                 int
		method, path, secret string
		head                 []string
	}{
		{201, "MKCOL", "/in", all, nil},
		{201, "PUT", "/secret", all, nil},
		{201, "PUT", "/mine", in, nil},
		{200, "GET", "/in/mine", all, nil},
		{404, "GET", "/secret", in, nil},
		{400, "GET", "/../secret", in, nil},
		{400, "GET", "/%2e%2e/secret", in, nil},
		{400, "GET", "/%2e%2e%2fsecret", in, nil},
		{400, "MOVE", "/mine", in, []string{"Destination", "http://127.0.0.1/../out"}},
		{201, "COPY", "/mine", in, []string{"Destination", "http://127.0.0.1/secret"}}, // in its own root
		{200, "GET", "/in/secret", all, nil},
		{200, "GET", "/secret", read, nil},
		{403, "PUT", "/secret", read, nil},
		{403, "DELETE", "/secret", read, nil},
		{403, "LOCK", "/secret", read, nil},
		{403, "MOVE", "/secret", read, []string{"Destination", "http://127.0.0.1/x"}},
	} {
		if w := g.ask(c.method, c.path, "ann", c.secret, c.head...); w.Code != c.code {
			t.Errorf("%s %s: got %d, want %d", c.method, c.path, w.Code, c.code)
		}
	}
	if body := g.ask("PROPFIND", "/", "ann", in, "Depth", "infinity").Body.String(); strings.Contains(body, "/in/") || !strings.Contains(body, "<D:href>/mine</D:href>") {
		t.Errorf("the root of a folder's password: %s", body)
	}
}
