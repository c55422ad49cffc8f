package signin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/book"
	"github.com/sheaf-drive/sheaf/sync/remote/signin"
	"github.com/sheaf-drive/sheaf/sync/remote/signin/signintest"
)

// world is a provider, and a book with a remote at it.
type world struct {
	*signintest.Provider
	kind remote.Kind
	dir  string
	book *book.Book
}

func newWorld(t *testing.T, s signintest.Settings) *world {
	t.Helper()
	w := &world{Provider: signintest.New(t, s), dir: filepath.Join(t.TempDir(), "data")}
	w.kind = remote.Kind{Name: "cloud", OAuth: w.OAuth(), Options: []remote.Option{
		{Name: "client_id"}, {Name: "client_secret", Secret: true}, {Name: "token", Secret: true}, {Name: "service_account_file"},
	}}
	w.reopen()
	err := w.book.Add(book.Remote{
		Name: "mine", Kind: "cloud", Options: map[string]string{"client_id": signintest.ClientID},
		Secrets: book.Secrets{"client_secret": signintest.ClientSecret},
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// reopen is what a new process does.
func (w *world) reopen() {
	w.book = book.Open(book.Options{Dir: w.dir, Guarded: func() (bool, error) { return false, nil }})
}

func (w *world) config(t *testing.T) remote.Config {
	t.Helper()
	_, c, err := w.book.Config("mine", "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (w *world) begin(t *testing.T, way signin.Way, o signin.Options) *signin.Flow {
	t.Helper()
	f, err := signin.Begin(t.Context(), way, &w.kind, w.config(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// signIn signs in with a browser.
func (w *world) signIn(t *testing.T) {
	t.Helper()
	f := w.begin(t, signin.Browser, signin.Options{})
	signintest.Visit(t, f.URL())
	if err := f.Finish(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
}

// access returns the access token of the text that a Source gives.
func access(t *testing.T, text string, err error) string {
	t.Helper()
	var tok struct {
		Access  string    `json:"access_token"`
		Type    string    `json:"token_type"`
		Refresh string    `json:"refresh_token"`
		Expiry  time.Time `json:"expiry"`
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &tok)
	}
	if err != nil {
		t.Fatal(err)
	}
	if tok.Access == "" || tok.Refresh == "" || tok.Type == "" || time.Until(tok.Expiry) < 0 {
		t.Fatalf("the token lacks something: %+v", tok)
	}
	return tok.Access
}

func (w *world) token(t *testing.T) string {
	t.Helper()
	text, err := signin.NewSource(&w.kind, w.config(t), signin.Options{}).Token(t.Context())
	return access(t, text, err)
}

func TestFlow_ABrowserOnThisMachine(t *testing.T) {
	for _, redirect := range []string{"", "http://localhost:0/back"} {
		w := newWorld(t, signintest.Settings{Basic: redirect != ""})
		if need, err := signin.Needed(t.Context(), &w.kind, w.config(t)); !need || err != nil {
			t.Errorf("before: needed %v, %v", need, err)
		}
		_, err := signin.NewSource(&w.kind, w.config(t), signin.Options{}).Token(t.Context())
		if !errors.Is(err, remote.ErrSignIn) {
			t.Errorf("before: got %v, want ErrSignIn", err)
		}
		before := testkit.Goroutines(t)
		f := w.begin(t, signin.Browser, signin.Options{Redirect: redirect})
		signintest.Visit(t, f.URL())
		if err := f.Finish(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		http.DefaultClient.CloseIdleConnections()
		before.Check(t)
		w.reopen()
		if need, err := signin.Needed(t.Context(), &w.kind, w.config(t)); need || err != nil {
			t.Errorf("after: needed %v, %v", need, err)
		}
		if !w.Good(w.token(t)) {
			t.Error("the token is not one of the provider's")
		}
		if n := w.Count("refresh_token"); n != 0 {
			t.Errorf("a token that is good was renewed %d times", n)
		}
	}
}

func TestFlow_BelievesOnlyTheAnswerToItself(t *testing.T) {
	w := newWorld(t, signintest.Settings{})
	f := w.begin(t, signin.Browser, signin.Options{})
	page, err := url.Parse(f.URL())
	if err != nil {
		t.Fatal(err)
	}
	back, state := page.Query().Get("redirect_uri"), page.Query().Get("state")
	ask := func(method, address, host string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			r.Host = host
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	for _, bad := range []struct{ method, query, host string }{
		{"GET", "?code=stolen&state=guessed", ""},
		{"GET", "?code=stolen", ""},
		{"GET", "?error=access_denied", ""},
		{"GET", "?state=" + state, ""},
		{"POST", "?code=c&state=" + state, ""},
		{"GET", "x?code=c&state=" + state, ""},
		{"GET", "?code=c&state=" + state, "evil.example:80"},
	} {
		if status, _ := ask(bad.method, back+bad.query, bad.host); status != http.StatusBadRequest {
			t.Errorf("%+v: status %d", bad, status)
		}
	}
	if _, body := ask("GET", back+"?code=%3Cscript%3E&state=x", ""); strings.Contains(body, "script") {
		t.Errorf("the page says what it was sent: %s", body)
	}
	// All of that changed nothing.
	signintest.Visit(t, f.URL())
	if err := f.Finish(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	for _, redirect := range []string{"http://example.org:80/", "https://127.0.0.1:1/", "http://127.0.0.1/", "http://127.0.0.1:1/?x=y", "::"} {
		if _, err := signin.Begin(t.Context(), signin.Browser, &w.kind, w.config(t), signin.Options{Redirect: redirect}); !errors.Is(err, remote.ErrOption) {
			t.Errorf("redirect %s: got %v, want ErrOption", redirect, err)
		}
	}
}

func TestFlow_ACarriedAnswer(t *testing.T) {
	for _, whole := range []bool{true, false} {
		w := newWorld(t, signintest.Settings{})
		f := w.begin(t, signin.Paste, signin.Options{})
		came := signintest.Visit(t, f.URL())
		u, err := url.Parse(came)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"", "two words", "http://127.0.0.1:1/?code=x&state=wrong", "http://127.0.0.1:1/"} {
			if err := f.Finish(t.Context(), bad); !errors.Is(err, remote.ErrSyntax) {
				t.Errorf("%q: got %v, want ErrSyntax", bad, err)
			}
		}
		text := came + "\n"
		if !whole {
			text = u.Query().Get("code")
		}
		if err := f.Finish(t.Context(), text); err != nil {
			t.Fatal(err)
		}
		if !w.Good(w.token(t)) {
			t.Error("no good token")
		}
		// A code is good once, and only for who began.
		g := w.begin(t, signin.Paste, signin.Options{})
		if err := g.Finish(t.Context(), u.Query().Get("code")); !errors.Is(err, remote.ErrSignIn) {
			t.Errorf("a code of another sign-in: got %v", err)
		}
	}
}

func TestFlow_ADeviceCode(t *testing.T) {
	w := newWorld(t, signintest.Settings{Pending: 1})
	f := w.begin(t, signin.Device, signin.Options{})
	if f.Code() != "ABCD-EFGH" || f.URL() != w.URL+"/enter" || f.Expires().IsZero() {
		t.Errorf("got %q at %q until %v", f.Code(), f.URL(), f.Expires())
	}
	if err := f.Finish(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if !w.Good(w.token(t)) || w.Count("device_code") != 1 {
		t.Error("no good token")
	}
	w.kind.OAuth.DeviceURL = ""
	if _, err := signin.Begin(t.Context(), signin.Device, &w.kind, w.config(t), signin.Options{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a kind without device codes: got %v", err)
	}
}

func TestFlow_WhatIsNotGranted(t *testing.T) {
	w := newWorld(t, signintest.Settings{Deny: true})
	for _, way := range []signin.Way{signin.Browser, signin.Paste, signin.Device} {
		f := w.begin(t, way, signin.Options{})
		pasted := ""
		if way != signin.Device {
			came := signintest.Visit(t, f.URL())
			if way == signin.Paste {
				pasted = came
			}
		}
		if err := f.Finish(t.Context(), pasted); !errors.Is(err, signin.ErrDenied) {
			t.Errorf("way %d: got %v, want ErrDenied", way, err)
		}
	}
	f := w.begin(t, signin.Browser, signin.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Finish(ctx, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: got %v", err)
	}
	if need, _ := signin.Needed(t.Context(), &w.kind, w.config(t)); !need {
		t.Error("there is a token")
	}
}

func TestBegin_NeedsAClientAndAddressesThatNobodyReads(t *testing.T) {
	w := newWorld(t, signintest.Settings{})
	for _, c := range []struct {
		options map[string]string
		want    error
	}{
		{nil, remote.ErrMissing},
		{map[string]string{"client_id": "x", "token_url": "http://example.org/token"}, remote.ErrOption},
		{map[string]string{"client_id": "x", "auth_url": "ftp://127.0.0.1/"}, remote.ErrOption},
	} {
		config := remote.Config{Options: c.options, Secrets: remote.NewPassing(nil)}
		if _, err := signin.Begin(t.Context(), signin.Browser, &w.kind, config, signin.Options{}); !errors.Is(err, c.want) {
			t.Errorf("%v: got %v, want %v", c.options, err, c.want)
		}
	}
	if need, err := signin.Needed(t.Context(), &w.kind, remote.Config{
		Options: map[string]string{"service_account_file": "f"}, Secrets: remote.NewPassing(nil),
	}); need || err != nil {
		t.Errorf("with an account of another sort: needed %v, %v", need, err)
	}
}

func TestSource_RenewsOnceForAll(t *testing.T) {
	// A refresh token that comes twice ends all: so nobody may renew beside anybody.
	w := newWorld(t, signintest.Settings{Lasts: 30 * time.Second, Delay: 50 * time.Millisecond})
	w.signIn(t)
	w.Set(signintest.Settings{Delay: 50 * time.Millisecond})
	var wg sync.WaitGroup
	got := make([]string, 16)
	for i := range got {
		wg.Go(func() {
			text, err := signin.NewSource(&w.kind, w.config(t), signin.Options{}).Token(t.Context())
			if err != nil {
				t.Errorf("token: %v", err)
			}
			got[i] = text
		})
	}
	wg.Wait()
	for _, text := range got {
		if text != got[0] {
			t.Error("not all have the same token")
			break
		}
	}
	if n := w.Count("refresh_token"); n != 1 {
		t.Errorf("renewed %d times, want once", n)
	}
	if !w.Good(access(t, got[0], nil)) {
		t.Error("the token is not good")
	}
}

func TestSource_GoesOnInTheNextProcess(t *testing.T) {
	w := newWorld(t, signintest.Settings{Lasts: time.Second})
	w.signIn(t)
	for i := range 5 {
		w.reopen()
		if !w.Good(w.token(t)) {
			t.Fatalf("process %d has no good token", i)
		}
	}
	if n := w.Count("refresh_token"); n != 5 {
		t.Errorf("renewed %d times, want 5", n)
	}
}

func TestSource_RevokedMeansSignInAgain(t *testing.T) {
	w := newWorld(t, signintest.Settings{Lasts: time.Second})
	w.signIn(t)
	w.Revoke()
	s := signin.NewSource(&w.kind, w.config(t), signin.Options{})
	for range 2 {
		_, err := s.Token(t.Context())
		if !errors.Is(err, remote.ErrSignIn) || !errors.Is(err, blob.ErrUnauthorized) || !strings.Contains(err.Error(), "mine") {
			t.Errorf("got %v, want ErrSignIn for mine", err)
		}
	}
	w.Set(signintest.Settings{})
	w.signIn(t)
	text, err := s.Token(t.Context())
	if !w.Good(access(t, text, err)) {
		t.Error("the Source that was there goes not on with the new sign-in")
	}
}

func TestSource_WhatPassesIsNoReasonToSignIn(t *testing.T) {
	w := newWorld(t, signintest.Settings{Lasts: time.Second})
	w.signIn(t)
	s := signin.NewSource(&w.kind, w.config(t), signin.Options{})
	for _, c := range []struct {
		status int
		after  string
		want   time.Duration
	}{{503, "7", 7 * time.Second}, {429, "", 0}, {500, "", 0}} {
		w.Fail(1, c.status, c.after)
		_, err := s.Token(t.Context())
		if !errors.Is(err, blob.ErrTemporary) || errors.Is(err, remote.ErrSignIn) || blob.After(err) != c.want {
			t.Errorf("%d: got %v, after %v", c.status, err, blob.After(err))
		}
	}
	gone := *w.kind.OAuth
	gone.TokenURL = "http://127.0.0.1:1/token"
	k := w.kind
	k.OAuth = &gone
	if _, err := signin.NewSource(&k, w.config(t), signin.Options{}).Token(t.Context()); !errors.Is(err, blob.ErrTemporary) {
		t.Errorf("nobody there: got %v", err)
	}
	if text, err := s.Token(t.Context()); !w.Good(access(t, text, err)) {
		t.Error("no good token after all of it")
	}
}

func TestSource_AWrongClientIsSaid(t *testing.T) {
	w := newWorld(t, signintest.Settings{Lasts: time.Second})
	w.signIn(t)
	if err := w.book.Edit("mine", func(r book.Remote) (book.Remote, error) {
		r.Secrets["client_secret"] = "wrong"
		return r, nil
	}); err != nil {
		t.Fatal(err)
	}
	_, err := signin.NewSource(&w.kind, w.config(t), signin.Options{}).Token(t.Context())
	if !errors.Is(err, blob.ErrUnauthorized) || errors.Is(err, remote.ErrSignIn) || !strings.Contains(err.Error(), "client_secret") {
		t.Errorf("got %v", err)
	}
}

// keeper are secrets that keep nothing new while they are full.
type keeper struct {
	remote.Secrets
	full bool
}

func (k *keeper) Set(ctx context.Context, name, value string) error {
	if k.full {
		return blob.ErrNoSpace
	}
	return k.Secrets.Set(ctx, name, value)
}

func TestSource_UsesNoTokenThatIsNotKept(t *testing.T) {
	w := newWorld(t, signintest.Settings{Lasts: time.Second})
	w.signIn(t)
	w.Set(signintest.Settings{})
	c := w.config(t)
	k := &keeper{Secrets: c.Secrets, full: true}
	c.Secrets = k
	s := signin.NewSource(&w.kind, c, signin.Options{})
	for range 3 {
		if text, err := s.Token(t.Context()); !errors.Is(err, blob.ErrNoSpace) || text != "" {
			t.Errorf("got %q, %v, want ErrNoSpace", text, err)
		}
	}
	if n := w.Count("refresh_token"); n != 1 {
		t.Errorf("renewed %d times, want once: the token is owed", n)
	}
	k.full = false
	if text, err := s.Token(t.Context()); !w.Good(access(t, text, err)) {
		t.Error("no good token when there is room again")
	}
	w.reopen()
	if !w.Good(w.token(t)) || w.Count("refresh_token") != 1 {
		t.Error("what was owed was not kept")
	}
}

func TestSource_ACrashBetweenRenewingAndKeeping(t *testing.T) {
	for _, lenient := range []bool{true, false} {
		t.Run(fmt.Sprintf("lenient=%v", lenient), func(t *testing.T) {
			w := newWorld(t, signintest.Settings{Lasts: time.Second, Lenient: lenient})
			w.signIn(t)
			c := w.config(t)
			c.Secrets = &keeper{Secrets: c.Secrets, full: true}
			// The provider gave a new token, and it was never kept: that process is gone.
			if _, err := signin.NewSource(&w.kind, c, signin.Options{}).Token(t.Context()); err == nil {
				t.Fatal("no error")
			}
			w.reopen()
			w.Set(signintest.Settings{Lenient: lenient})
			text, err := signin.NewSource(&w.kind, w.config(t), signin.Options{}).Token(t.Context())
			if lenient {
				if !w.Good(access(t, text, err)) {
					t.Error("no good token")
				}
				return
			}
			if !errors.Is(err, remote.ErrSignIn) {
				t.Errorf("got %v, want ErrSignIn", err)
			}
			w.signIn(t)
			if !w.Good(w.token(t)) {
				t.Error("no good token after a new sign-in")
			}
		})
	}
}

func TestSource_LeavesATokenOfAForeignClientAlone(t *testing.T) {
	w := newWorld(t, signintest.Settings{})
	const old = `{"access_token":"a","refresh_token":"r","expiry":"2020-01-01T00:00:00Z"}`
	c := remote.Config{Secrets: remote.NewPassing(map[string]string{"token": old})}
	if text, err := signin.NewSource(&w.kind, c, signin.Options{}).Token(t.Context()); text != old || err != nil {
		t.Errorf("got %q, %v", text, err)
	}
	c.Secrets = remote.NewPassing(map[string]string{"token": "secret words"})
	if _, err := signin.NewSource(&w.kind, c, signin.Options{}).Token(t.Context()); !errors.Is(err, remote.ErrOption) || strings.Contains(err.Error(), "words") {
		t.Errorf("got %v", err)
	}
}
