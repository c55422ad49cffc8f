package rest

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/api/access"
	"github.com/sheaf-drive/sheaf/api/apitest"
	"github.com/sheaf-drive/sheaf/api/gate"
	"github.com/sheaf-drive/sheaf/api/service"
)

// fixture is a drive behind the gate, on a real port.
type fixture struct {
	*apitest.Daemon
	url, secret string
}

func start(t *testing.T, change func(o *service.Options)) *fixture {
	t.Helper()
	f := &fixture{Daemon: apitest.Start(t, change)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g, err := gate.New(gate.Options{Addr: l.Addr().String(), Tokens: f.Tokens, Log: f.Log.Logger(), Next: New(Options{RPC: f.Calls()})})
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: g, ReadHeaderTimeout: time.Minute}}
	srv.Start()
	t.Cleanup(srv.Close)
	f.url, f.secret = srv.URL, f.Token(t, access.Token{})
	return f
}

// answer is what a request was answered with.
type answered struct {
	*http.Response
	body []byte
}

// do makes a request. headers are names and values by turns.
func (f *fixture) do(t *testing.T, method, path string, body io.Reader, headers ...string) answered {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, f.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+f.secret)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
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
	return answered{resp, b}
}

// want fails unless the status is that one.
func (a answered) want(t *testing.T, status int) answered {
	t.Helper()
	if a.StatusCode != status {
		t.Errorf("%s %s: got %d, want %d: %s", a.Request.Method, a.Request.URL.Path, a.StatusCode, status, a.body)
	}
	return a
}

// problem fails unless it is an error of that status and kind.
func (a answered) problem(t *testing.T, status int, code string) gate.Problem {
	t.Helper()
	var p gate.Problem
	if err := json.Unmarshal(a.want(t, status).body, &p); err != nil || p.Code != code || p.Error == "" {
		t.Errorf("%s %s: got %s, want %s (%v)", a.Request.Method, a.Request.URL.Path, a.body, code, err)
	}
	return p
}

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

func TestFiles_AreReadInRangesAndUnderConditions(t *testing.T) {
	f := start(t, nil)
	want := random(3<<20 + 17)
	put := f.do(t, "PUT", "/v1/files/caf%C3%A9%20%25.bin", bytes.NewReader(want)).want(t, 200)
	got := f.do(t, "GET", "/v1/files/caf%C3%A9%20%25.bin", nil).want(t, 200)
	if !bytes.Equal(got.body, want) {
		t.Error("other bytes came back")
	}
	tag := got.Header.Get("ETag")
	if tag == "" || put.Header.Get("ETag") != tag {
		t.Errorf("the ETag is %q, and was %q", tag, put.Header.Get("ETag"))
	}
	if got.Header.Get("Content-Disposition") != "attachment" || got.Header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("a browser would show it: %v", got.Header)
	}
	path := "/v1/files/caf%C3%A9%20%25.bin"
	for span, w := range map[string][]byte{
		"bytes=0-0": want[:1], "bytes=1000000-2000000": want[1000000:2000001], "bytes=-5": want[len(want)-5:], "bytes=3145728-": want[3<<20:],
	} {
		a := f.do(t, "GET", path, nil, "Range", span).want(t, 206)
		if !bytes.Equal(a.body, w) {
			t.Errorf("%s: got %d bytes, want %d", span, len(a.body), len(w))
		}
	}
	f.do(t, "GET", path, nil, "Range", "bytes=99999999-").want(t, 416)
	f.do(t, "GET", path, nil, "If-None-Match", tag).want(t, 304)
	f.do(t, "GET", path, nil, "If-Match", `"x"`).want(t, 412)
	if a := f.do(t, "HEAD", path, nil).want(t, 200); a.ContentLength != int64(len(want)) || len(a.body) != 0 {
		t.Errorf("HEAD: %d bytes", a.ContentLength)
	}
	f.do(t, "PUT", path, strings.NewReader("x"), "If-None-Match", "*").problem(t, 409, "exists")
	f.do(t, "PUT", path, strings.NewReader("x"), "If-Match", `"x"`).problem(t, 412, "decision")
	f.do(t, "PUT", "/v1/files/none", strings.NewReader("x"), "If-Match", "*").problem(t, 412, "decision")
	f.do(t, "PUT", path, strings.NewReader("second"), "If-Match", tag).want(t, 200)
	if a := f.do(t, "GET", path, nil); string(a.body) != "second" || a.Header.Get("ETag") == tag {
		t.Errorf("got %q with %s", a.body, a.Header.Get("ETag"))
	}
	f.do(t, "DELETE", path, nil, "If-Match", tag).problem(t, 412, "decision")
	f.do(t, "DELETE", path, nil).want(t, 200)
	f.do(t, "GET", path, nil).problem(t, 404, "not_found")
	f.do(t, "DELETE", "/v1/files/", nil, "X", "").problem(t, 400, "usage")
}

func TestFiles_WithAnotherDigestAreNotThere(t *testing.T) {
	f := start(t, nil)
	sum := sha256.Sum256([]byte("hello"))
	digest := "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
	f.do(t, "PUT", "/v1/files/a", strings.NewReader("hullo"), "Repr-Digest", digest).problem(t, 422, "integrity")
	f.do(t, "GET", "/v1/files/a", nil).problem(t, 404, "not_found")
	if a := f.do(t, "GET", "/v1/list/", nil).want(t, 200); len(a.body) != 0 {
		t.Errorf("something was left: %s", a.body)
	}
	f.do(t, "PUT", "/v1/files/a", strings.NewReader("hello"), "Repr-Digest", digest).want(t, 200)
}

func TestUploads_GoOnWhereTheyWereCutOff(t *testing.T) {
	now := time.Now()
	f := start(t, func(o *service.Options) { o.Now = func() time.Time { return now } })
	want := random(2<<20 + 5)
	sum := sha256.Sum256(want)
	q := fmt.Sprintf("?path=dir/big&length=%d&sha256=%s", len(want), hex.EncodeToString(sum[:]))
	f.do(t, "POST", "/v1/uploads"+q, nil).problem(t, 404, "not_found")
	f.do(t, "POST", "/v1/folders", strings.NewReader(`{"path":"dir"}`)).want(t, 200)
	at := f.do(t, "POST", "/v1/uploads"+q, nil).want(t, 201).Header.Get("Location")
	if a := f.do(t, "HEAD", at, nil).want(t, 200); a.Header.Get("Upload-Offset") != "0" {
		t.Errorf("got %v", a.Header)
	}
	// The connection breaks in the midst of a body that says to be longer.
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = fmt.Fprintf(conn, "PATCH %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nUpload-Offset: 0\r\nContent-Length: %d\r\n\r\n",
		at, strings.TrimPrefix(f.url, "http://"), f.secret, len(want))
	_, _ = conn.Write(want[:1<<20])
	_ = conn.Close()
	off := 0
	for end := time.Now().Add(10 * time.Second); off == 0 && time.Now().Before(end); {
		_, _ = fmt.Sscan(f.do(t, "HEAD", at, nil).want(t, 200).Header.Get("Upload-Offset"), &off)
	}
	if off == 0 || off > 1<<20 {
		t.Fatalf("it has %d bytes", off)
	}
	f.do(t, "GET", "/v1/files/dir/big", nil).problem(t, 404, "not_found")
	// The one that broke off may still be at it: who is too early hears that it may be tried again.
	var a answered
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		_, _ = fmt.Sscan(f.do(t, "HEAD", at, nil).want(t, 200).Header.Get("Upload-Offset"), &off)
		a = f.do(t, "PATCH", at, bytes.NewReader(want[off:off+100]), "Upload-Offset", fmt.Sprint(off))
		if a.StatusCode == 200 {
			break
		}
	}
	a.want(t, 200)
	f.do(t, "PATCH", at, strings.NewReader("x"), "Upload-Offset", "7").problem(t, 409, "exists")
	f.do(t, "PATCH", at, bytes.NewReader(append(want[off+100:], 'x')), "Upload-Offset", fmt.Sprint(off+100)).problem(t, 400, "usage")
	f.do(t, "PATCH", at, bytes.NewReader(want[off+100:]), "Upload-Offset", fmt.Sprint(off+100)).want(t, 200)
	if got := f.do(t, "GET", "/v1/files/dir/big", nil).want(t, 200); !bytes.Equal(got.body, want) {
		t.Error("other bytes came back")
	}
	f.do(t, "HEAD", at, nil).want(t, 404)

	// One that nobody goes on with is gone, and with the next one what it left, too.
	at = f.do(t, "POST", "/v1/uploads?path=dir/old&length=10", strings.NewReader("four")).want(t, 201).Header.Get("Location")
	now = now.Add(6 * 24 * time.Hour)
	f.do(t, "GET", at, nil).want(t, 200)
	now = now.Add(25 * time.Hour)
	f.do(t, "GET", at, nil).problem(t, 404, "not_found")
	f.do(t, "PATCH", at, strings.NewReader("x"), "Upload-Offset", "4").problem(t, 404, "not_found")
	f.do(t, "PUT", "/v1/files/dir/new", strings.NewReader("x")).want(t, 200)
	if a := f.do(t, "GET", "/v1/list/dir", nil).want(t, 200); strings.Contains(string(a.body), "partial") {
		t.Errorf("something was left: %s", a.body)
	}
}

func TestUploads_WithAnotherDigestAreNotDone(t *testing.T) {
	f := start(t, nil)
	sum := sha256.Sum256([]byte("hello"))
	a := f.do(t, "POST", "/v1/uploads?path=a&length=5&sha256="+hex.EncodeToString(sum[:]), strings.NewReader("hul")).want(t, 201)
	f.do(t, "PATCH", a.Header.Get("Location"), strings.NewReader("lo"), "Upload-Offset", "3").problem(t, 422, "integrity")
	f.do(t, "GET", "/v1/files/a", nil).problem(t, 404, "not_found")
}

func TestRoutes_SayWhatIsWrong(t *testing.T) {
	f := start(t, nil)
	for _, c := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"GET", "/v1/none", "", 404, "not_found"},
		{"GET", "/v1", "", 404, "not_found"},
		{"POST", "/v1/status", "", 405, "usage"},
		{"OPTIONS", "/v1/status", "", 405, "usage"},
		{"GET", "/v1/status?x=1", "", 400, "usage"},
		{"GET", "/v1/list/?recursive=maybe", "", 400, "usage"},
		{"GET", "/v1/diff?from=a&from=b", "", 400, "usage"},
		{"GET", "/v1/nodes/a%2Fb", "", 400, "usage"},
		{"GET", "/v1/nodes/..", "", 400, "usage"},
		{"GET", "/v1/nodes/a//b", "", 400, "usage"},
		{"GET", "/v1/nodes/%00zz", "", 400, "usage"},
		{"GET", "/v1/nodes/%FF", "", 400, "usage"},
		{"POST", "/v1/folders", "{", 400, "usage"},
		{"POST", "/v1/folders", `{"pfad":"a"}`, 400, "usage"},
		{"POST", "/v1/folders", `{"path":7}`, 400, "usage"},
		{"POST", "/v1/folders", `{"path":"` + strings.Repeat("x", maxBody) + `"}`, 413, "limit"},
		{"GET", "/v1/files/", "", 409, "wrong_kind"},
		{"GET", "/v1/jobs/7", "", 404, "not_found"},
		{"POST", "/v1/keys/recovery", "{}", 403, "forbidden"},
		{"GET", "/v1/tokens", "", 403, "forbidden"},
	} {
		f.do(t, c.method, c.path, strings.NewReader(c.body)).problem(t, c.status, c.code)
	}
	if a := f.do(t, "PUT", "/v1/status", nil); a.Header.Get("Allow") != "GET" {
		t.Errorf("got %v", a.Header)
	}
}

func TestRoutes_StreamOneObjectALine(t *testing.T) {
	f := start(t, nil)
	for i := range 300 {
		f.do(t, "PUT", fmt.Sprintf("/v1/files/f%03d", i), nil).want(t, 200)
	}
	a := f.do(t, "GET", "/v1/list/", nil).want(t, 200)
	n := 0
	for line := range bytes.Lines(a.body) {
		var m struct{ Nodes []struct{ Path string } }
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatal(err)
		}
		for _, x := range m.Nodes {
			if want := fmt.Sprintf("f%03d", n); x.Path != want {
				t.Errorf("got %s, want %s", x.Path, want)
			}
			n++
		}
	}
	if n != 300 || a.Header.Get("Content-Type") != "application/jsonl" {
		t.Errorf("got %d, %v", n, a.Header)
	}
}

// A19: what a token is not for is refused on every route, and is in the log, and what it does not see is as if it were not there.
func TestTokens_AreHeldToWhatTheyAreFor(t *testing.T) {
	f := start(t, nil)
	f.do(t, "POST", "/v1/folders", strings.NewReader(`{"path":"mine"}`)).want(t, 200)
	f.do(t, "PUT", "/v1/files/mine/a", strings.NewReader("a")).want(t, 200)
	f.do(t, "PUT", "/v1/files/secret-name", strings.NewReader("b")).want(t, 200)
	all := f.secret

	f.secret = f.Token(t, access.Token{ReadOnly: true})
	f.do(t, "GET", "/v1/files/mine/a", nil).want(t, 200)
	for _, r := range Routes() {
		if need := access.Needs[r.Procedure]; !need.Writes {
			continue
		}
		path := strings.NewReplacer("{path=**}", "mine/a", "{name}", "n", "{id}", "1", "{upload}", "u").Replace(r.Path)
		if strings.Contains(r.Path, "/uploads") {
			path += "?path=x&length=1"
		}
		p := f.do(t, r.Method, path, strings.NewReader(""), "Upload-Offset", "0")
		if p.StatusCode != 403 && !(r.Method == "PATCH" && p.StatusCode == 404) { // no such upload, which it may know
			t.Errorf("%s %s by a token that reads: %d", r.Method, path, p.StatusCode)
		}
	}
	log := f.Log.String()
	if !strings.Contains(log, "call=/sheaf.v1.Files/Mkdir") || !strings.Contains(log, "CODE_FORBIDDEN") {
		t.Errorf("the refusals are not in the log: %s", log)
	}

	f.secret = f.Token(t, access.Token{Folder: "mine"})
	f.do(t, "GET", "/v1/files/mine/a", nil).want(t, 200)
	there, not := f.do(t, "GET", "/v1/files/secret-name", nil), f.do(t, "GET", "/v1/files/no-such-name", nil)
	there.problem(t, 404, "not_found")
	if !bytes.Equal(there.body, not.body) {
		t.Errorf("what is there is told from what is not: %s, %s", there.body, not.body)
	}
	for _, path := range []string{"/v1/list/", "/v1/nodes/", "/v1/usage/", "/v1/where/", "/v1/nodes/mine%00", "/v1/list/mine/..", "/v1/snapshots", "/v1/diff", "/v1/jobs", "/v1/status", "/v1/conflicts", "/v1/history/mine/a"} {
		if a := f.do(t, "GET", path, nil); a.StatusCode < 400 || strings.Contains(string(a.body), "secret-name") {
			t.Errorf("%s: %d %s", path, a.StatusCode, a.body)
		}
	}
	f.do(t, "POST", "/v1/move", strings.NewReader(`{"from":"mine/a","to":"out"}`)).problem(t, 404, "not_found")
	f.do(t, "POST", "/v1/move", strings.NewReader(`{"from":"secret-name","to":"mine/b"}`)).problem(t, 404, "not_found")
	f.do(t, "DELETE", "/v1/files/mine?recursive=true", nil).problem(t, 404, "not_found")
	f.do(t, "PUT", "/v1/files/out", strings.NewReader("x")).problem(t, 404, "not_found")
	f.do(t, "PUT", "/v1/files/mine/b", strings.NewReader("x")).want(t, 200)
	if log := f.Log.String(); strings.Contains(log, "secret-name") || strings.Contains(log, f.secret) || strings.Contains(log, all) {
		t.Errorf("the log has names or secrets: %s", log)
	}
}

// T-A26 and T-REBIND: no route answers without a token, or to another page or host.
func TestRoutes_NeedATokenEach(t *testing.T) {
	f := start(t, nil)
	paths := []string{"GET /openapi.json", "POST /grpc.health.v1.Health/Check", "POST /grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "GET /", "GET /debug/pprof/"}
	for _, r := range Routes() {
		paths = append(paths, r.Method+" "+strings.NewReplacer("{", "", "}", "", "=**", "").Replace(r.Path), "POST "+r.Procedure, "GET "+r.Procedure)
	}
	for _, p := range paths {
		method, path, _ := strings.Cut(p, " ")
		f.do(t, method, path, nil, "Authorization", "").want(t, 401)
		f.do(t, method, path, nil, "Authorization", "Bearer sheaf_guess").want(t, 401)
		f.do(t, method, path, nil, "Origin", "http://evil.com").want(t, 403)
	}
}
