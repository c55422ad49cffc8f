// Package signintest is an OAuth provider for tests, on loopback: it holds a client to what the standards ask of
// it (RFC 6749, 7636, 8252 and 8628), hands out refresh tokens that are good once, and can be slow, revoke and fail.
package signintest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

// Client is the client that the provider knows.
const (
	ClientID     = "the-client"
	ClientSecret = "the-secret-of-the-client"
	Scope        = "files.all"
)

// A Provider is a running one. It is safe for concurrent use.
type Provider struct {
	URL string

	mu     sync.Mutex
	set    Settings
	grants map[string]*grant // by code, device code and refresh token
	live   map[string]*grant // by access token
	counts map[string]int
	fails  int
	status int
	after  string
}

// Settings are how it behaves.
type Settings struct {
	Lasts   time.Duration // of access tokens; 0: an hour
	Delay   time.Duration // before a token is given
	Lenient bool          // a refresh token that was used is taken once more, as long as the one that replaced it was not used
	Deny    bool          // who is asked does not grant anything
	Pending int           // how often a device is told to wait
	Basic   bool          // the secret of the client has to come in a header
}

// grant is what a person granted, and the refresh token of it that is good.
type grant struct {
	redirect, challenge string
	used                bool
	wait                int
	denied              bool
	refresh, before     string
	dead                bool
}

// New starts a Provider that ends with the test.
func New(t testing.TB, s Settings) *Provider {
	t.Helper()
	p := &Provider{set: s, grants: map[string]*grant{}, live: map[string]*grant{}, counts: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /auth", p.auth)
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("POST /device", p.device)
	mux.HandleFunc("GET /files", p.files)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	p.URL = srv.URL
	return p
}

// OAuth is how one signs in here.
func (p *Provider) OAuth() *remote.OAuth {
	return &remote.OAuth{
		AuthURL: p.URL + "/auth", TokenURL: p.URL + "/token", DeviceURL: p.URL + "/device", Scopes: []string{Scope},
		Basic: p.set.Basic, Params: map[string]string{"access_type": "offline"}, Instead: []string{"service_account_file"},
	}
}

// Set changes how it behaves.
func (p *Provider) Set(s Settings) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set = s
}

// Revoke ends all that was granted.
func (p *Provider) Revoke() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range p.grants {
		g.dead = true
	}
}

// Fail answers the next n requests for a token with a status, and with Retry-After if that is not "".
func (p *Provider) Fail(n, status int, after string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fails, p.status, p.after = n, status, after
}

// Count returns how often a token was given: for "authorization_code", "refresh_token" or the device code.
func (p *Provider) Count(what string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts[what]
}

// Good reports whether an access token is one that opens something.
func (p *Provider) Good(access string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.live[access]
	return g != nil && !g.dead
}

// auth is the page at which a person signs in. Here it is granted, or not, at once.
func (p *Provider) auth(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	back, err := url.Parse(q.Get("redirect_uri"))
	challenge, err2 := base64.RawURLEncoding.DecodeString(q.Get("code_challenge"))
	switch {
	case err != nil || back.Scheme != "http" || back.Hostname() != "127.0.0.1" && back.Hostname() != "localhost" || back.Port() == "":
		http.Error(w, "redirect_uri", http.StatusBadRequest)
		return
	case q.Get("client_id") != ClientID, q.Get("response_type") != "code", q.Get("scope") != Scope, len(q.Get("state")) < 22,
		q.Get("access_type") != "offline", q.Get("code_challenge_method") != "S256", err2 != nil, len(challenge) != sha256.Size:
		http.Error(w, "a parameter is wrong: "+r.URL.RawQuery, http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	answer := url.Values{"state": {q.Get("state")}}
	if p.set.Deny {
		answer.Set("error", "access_denied")
	} else {
		code := random()
		p.grants[code] = &grant{redirect: q.Get("redirect_uri"), challenge: q.Get("code_challenge")}
		answer.Set("code", code)
	}
	back.RawQuery = answer.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

// device gives a device code. Whether it is granted the settings say.
func (p *Provider) device(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("client_id") != ClientID || r.FormValue("scope") != Scope {
		refuse(w, http.StatusBadRequest, "invalid_client", "")
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	code := random()
	p.grants[code] = &grant{wait: p.set.Pending, denied: p.set.Deny}
	reply(w, map[string]any{"device_code": code, "user_code": "ABCD-EFGH", "verification_uri": p.URL + "/enter", "expires_in": 60, "interval": 1})
}

// deviceGrant is the name of the grant of RFC 8628.
const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	delay := p.set.Delay
	if p.fails > 0 {
		p.fails--
		status, after := p.status, p.after
		p.mu.Unlock()
		if after != "" {
			w.Header().Set("Retry-After", after)
		}
		http.Error(w, "later", status)
		return
	}
	p.mu.Unlock()
	time.Sleep(delay)
	id, secret, basic := r.BasicAuth()
	if !basic {
		id, secret = r.FormValue("client_id"), r.FormValue("client_secret")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	what := r.FormValue("grant_type")
	if id != ClientID || what != deviceGrant && secret != ClientSecret || basic != p.set.Basic {
		refuse(w, http.StatusUnauthorized, "invalid_client", "who are you")
		return
	}
	var g *grant
	var why string
	switch what {
	case "authorization_code":
		g, why = p.byCode(r)
	case "refresh_token":
		g, why = p.byRefresh(r.FormValue("refresh_token"))
	case deviceGrant:
		g, why = p.byDevice(r.FormValue("device_code"))
	default:
		why = "unsupported_grant_type"
	}
	if why != "" {
		refuse(w, http.StatusBadRequest, why, "the grant is no good")
		return
	}
	p.counts[what]++
	p.counts["device_code"] = p.counts[deviceGrant]
	access, lasts := random(), p.set.Lasts
	if lasts == 0 {
		lasts = time.Hour
	}
	g.before, g.refresh = g.refresh, random()
	p.grants[g.refresh], p.live[access] = g, g
	reply(w, map[string]any{"access_token": access, "token_type": "bearer", "refresh_token": g.refresh, "expires_in": strconv.Itoa(int(lasts.Seconds()))})
}

// files is what a token opens: it answers with 200 or 401.
func (p *Provider) files(w http.ResponseWriter, r *http.Request) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || !p.Good(token) {
		w.WriteHeader(http.StatusUnauthorized)
	}
}

func (p *Provider) byCode(r *http.Request) (*grant, string) {
	g := p.grants[r.FormValue("code")]
	sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
	switch {
	case g == nil || g.challenge == "" || g.dead:
		return nil, "invalid_grant"
	case g.used: // RFC 6749, 4.1.2: a code that comes twice was stolen
		g.dead = true
		return nil, "invalid_grant"
	case g.redirect != r.FormValue("redirect_uri"), base64.RawURLEncoding.EncodeToString(sum[:]) != g.challenge, len(r.FormValue("code_verifier")) < 43:
		return nil, "invalid_grant"
	}
	g.used = true
	return g, ""
}

// byRefresh takes the refresh token that is good. One that was used already has been stolen, or so it seems: it
// ends all that came of the grant.
func (p *Provider) byRefresh(token string) (*grant, string) {
	g := p.grants[token]
	switch {
	case g == nil || g.dead:
		return nil, "invalid_grant"
	case token == g.refresh, p.set.Lenient && token == g.before:
		return g, ""
	}
	g.dead = true
	return nil, "invalid_grant"
}

func (p *Provider) byDevice(code string) (*grant, string) {
	g := p.grants[code]
	switch {
	case g == nil || g.dead || g.used:
		return nil, "invalid_grant"
	case g.denied:
		return nil, "access_denied"
	case g.wait > 0:
		g.wait--
		return nil, "authorization_pending"
	}
	g.used = true
	return g, ""
}

func random() string { return rand.Text() }

func reply(w http.ResponseWriter, m map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(m)
}

func refuse(w http.ResponseWriter, status int, code, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": text})
}

// Visit is a browser: it goes to a page, follows it back to this machine, and returns where it came out. An address at which
// nobody listens is returned as well.
func Visit(t testing.TB, page string) string {
	t.Helper()
	last := page
	c := &http.Client{CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		last = r.URL.String()
		return nil
	}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, page, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		if _, refused := err.(*url.Error).Err.(*net.OpError); refused && last != page { //nolint:errorlint // Do documents it
			return last
		}
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", strings.SplitN(last, "?", 2)[0], resp.Status)
	}
	return last
}
