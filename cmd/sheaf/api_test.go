//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/rest"
	"github.com/sheaf-drive/sheaf/api/rpc"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/remote/remotetest"
)

// apiDaemon is a daemon of its own process with the network door on.
type apiDaemon struct {
	t    *testing.T
	home string
	cmd  *exec.Cmd
	url  string
	pid  int
}

// sheaf runs a command of the home and returns what it printed.
func (d *apiDaemon) sheaf(args ...string) string {
	d.t.Helper()
	cmd := exec.CommandContext(d.t.Context(), "sheaf", args...)
	cmd.Env = append(os.Environ(), "SHEAF_HOME="+d.home, notLong)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		d.t.Fatalf("sheaf %s: %v: %s", strings.Join(args, " "), err, errs.String())
	}
	return strings.TrimSpace(string(out))
}

// start starts the daemon.
func (d *apiDaemon) start() {
	d.t.Helper()
	d.cmd = exec.CommandContext(context.WithoutCancel(d.t.Context()), "sheaf", "daemon", "--api", "127.0.0.1:0")
	d.cmd.Env = append(os.Environ(), "SHEAF_HOME="+d.home)
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		d.t.Fatal(err)
	}
	var r ready
	if err := json.Unmarshal(line, &r); err != nil || r.API == "" {
		d.t.Fatalf("got %s, %v", line, err)
	}
	d.url, d.pid = r.API, r.PID
	d.sheaf("ls", "/") // opens the drive
}

// kill ends it as a crash would.
func (d *apiDaemon) kill() {
	_ = d.cmd.Process.Kill()
	_ = d.cmd.Wait()
}

func startAPI(t *testing.T) (d *apiDaemon, token string) {
	t.Helper()
	d = &apiDaemon{t: t, home: filepath.Join(t.TempDir(), "home")}
	d.sheaf("init")
	d.start()
	t.Cleanup(d.kill)
	return d, d.sheaf("token", "create", "--quiet")
}

// curl runs curl with the token and returns what it printed.
func (d *apiDaemon) curl(token, path string, args ...string) string {
	d.t.Helper()
	args = append([]string{"--silent", "--show-error", "--max-time", "60", "--header", "Authorization: Bearer " + token}, args...)
	cmd := exec.CommandContext(d.t.Context(), "curl", append(args, d.url+path)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		d.t.Fatalf("curl: %v: %s", err, errs.String())
	}
	return string(out)
}

// A15: ranges and an upload that goes on after the daemon was killed, by curl.
func TestAPI_CurlReadsRangesAndGoesOnWithUploads(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		testkit.Lacks(t, "curl is not here")
	}
	d, token := startAPI(t)
	dir := t.TempDir()
	want, err := io.ReadAll(testkit.RandomReader(1, 5<<20))
	if err != nil {
		t.Fatal(err)
	}
	part := func(name string, b []byte) string {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	d.curl(token, "/v1/files/a%20b", "--upload-file", part("all", want), "--fail")
	if got := d.curl(token, "/v1/files/a%20b", "--range", "1000000-2999999"); got != string(want[1000000:3000000]) {
		t.Errorf("got %d other bytes", len(got))
	}
	if got := d.sheaf("cat", "/a b"); len(got) == 0 {
		t.Error("sheaf cat prints nothing")
	}
	sum := sha256.Sum256(want)
	head := d.curl(token, fmt.Sprintf("/v1/uploads?path=big&length=%d&sha256=%s", len(want), hex.EncodeToString(sum[:])), "--request", "POST", "--dump-header", "-", "--output", os.DevNull)
	at := headerOf(head, "Location")
	d.curl(token, at, "--request", "PATCH", "--header", "Upload-Offset: 0", "--data-binary", "@"+part("first", want[:3<<20]), "--fail")
	d.kill()
	d.start()
	off, err := strconv.Atoi(headerOf(d.curl(token, at, "--head"), "Upload-Offset"))
	if err != nil || off != 3<<20 {
		t.Fatalf("after a kill it has %d bytes, %v", off, err)
	}
	d.curl(token, at, "--request", "PATCH", "--header", fmt.Sprint("Upload-Offset: ", off), "--data-binary", "@"+part("rest", want[off:]), "--fail")
	if got := d.curl(token, "/v1/files/big"); got != string(want) {
		t.Errorf("got %d other bytes", len(got))
	}
	// T-REBIND, by a real client and a name that leads here.
	_, port, _ := strings.Cut(strings.TrimPrefix(d.url, "http://"), ":")
	cmd := exec.CommandContext(t.Context(), "curl", "--silent", "--output", os.DevNull, "--write-out", "%{http_code}", "--header", "Authorization: Bearer "+token,
		"--resolve", "127.0.0.1.evil.com:"+port+":127.0.0.1", "http://127.0.0.1.evil.com:"+port+"/v1/status")
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "421" {
		t.Errorf("by a name that was made to lead here: %s, %v", out, err)
	}
	if got := d.curl("sheaf_none", "/v1/status", "--output", os.DevNull, "--write-out", "%{http_code}"); got != "401" {
		t.Errorf("without a token: %s", got)
	}
}

func headerOf(text, name string) string {
	for line := range strings.SplitSeq(text, "\r\n") {
		if k, v, ok := strings.Cut(line, ": "); ok && strings.EqualFold(k, name) {
			return v
		}
	}
	return ""
}

// withToken sends a token with each request.
type withToken struct {
	next  http.RoundTripper
	token string
}

func (w withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+w.token)
	return w.next.RoundTrip(r)
}

// overHTTP2 returns a client as gRPC needs it.
func overHTTP2(token string) *http.Client {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: withToken{&http.Transport{Protocols: p}, token}}
}

// A16, the part of reflection: a program that has nothing but the address learns what there is.
func TestAPI_ReflectsItsServices(t *testing.T) {
	d, token := startAPI(t)
	s := grpcreflect.NewClient(overHTTP2(token), d.url, connect.WithGRPC()).NewStream(t.Context())
	defer func() { _, _ = s.Close() }()
	names, err := s.ListServices()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rest.Routes() {
		service, _, _ := strings.Cut(strings.TrimPrefix(r.Procedure, "/"), "/")
		if !slices.Contains(names, protoreflect.FullName(service)) {
			t.Errorf("%s is not told: %v", service, names)
		}
	}
	if files, err := s.FileContainingSymbol("sheaf.v1.Files"); err != nil || len(files) == 0 {
		t.Errorf("got %d files, %v", len(files), err)
	}
}

// A16: grpcurl, which knows nothing of sheaf, learns all calls by reflection, and reads and writes with them.
func TestAPI_ByGRPCurl(t *testing.T) {
	onlyLong(t)
	grpcurl := remotetest.Built(t, "grpcurl", "api")
	d, token := startAPI(t)
	addr := strings.TrimPrefix(d.url, "http://")
	call := func(in string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), grpcurl, append([]string{"-plaintext", "-H", "authorization: Bearer " + token}, args...)...)
		cmd.Stdin = strings.NewReader(in)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("grpcurl %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	services := call("", addr, "list")
	for _, r := range rest.Routes() {
		if service, _, _ := strings.Cut(strings.TrimPrefix(r.Procedure, "/"), "/"); !strings.Contains(services, service+"\n") {
			t.Errorf("%s is not told:\n%s", service, services)
		}
	}
	for service := range strings.Lines(services) {
		if service = strings.TrimSpace(service); strings.HasPrefix(service, "sheaf.") {
			if out := call("", addr, "describe", service); !strings.Contains(out, "rpc ") {
				t.Errorf("%s is described as\n%s", service, out)
			}
		}
	}
	if out := call("", addr, "grpc.health.v1.Health/Check"); !strings.Contains(out, "SERVING") {
		t.Errorf("the health of it is %s", out)
	}
	call(`{"start":{"path":"hi"}}{"data":"aGVsbG8K"}{"end":{"size":6}}`, "-d", "@", addr, "sheaf.v1.Files/Write")
	if out := call("", "-d", `{"path":"hi"}`, addr, "sheaf.v1.Files/Read"); !strings.Contains(out, `"data": "aGVsbG8K"`) {
		t.Errorf("what it wrote is read as %s", out)
	}
	cmd := exec.CommandContext(t.Context(), grpcurl, "-plaintext", addr, "list")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "Unauthenticated") {
		t.Errorf("without a token: %v\n%s", err, out)
	}
}

// rss returns what a process has of what in memory, in bytes.
func rss(t *testing.T, pid int, what string) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == what+":" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("no %s", what)
	return 0
}

// A16: a long file goes up and down by gRPC, and the daemon grows by less than 50 MiB.
func TestAPI_StreamsByGRPCInLittleMemory(t *testing.T) {
	const most = 50 << 20
	size, warm := int64(64<<20), int64(16<<20)
	if os.Getenv("SHEAF_LONG") != "" {
		size, warm = 1<<30, 512<<20
	}
	d, token := startAPI(t)
	c := rpc.NewClient(overHTTP2(token), d.url, connect.WithGRPC())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	round := func(name string, size int64) {
		up, err := c.Files.Write(ctx)
		if err != nil {
			t.Fatal(err)
		}
		send := func(m *sheafv1.WriteRequest) {
			if err := up.Send(m); err != nil {
				_, err = up.CloseAndReceive()
				t.Fatal(err)
			}
		}
		send(&sheafv1.WriteRequest{Part: &sheafv1.WriteRequest_Start{Start: &sheafv1.WriteStart{Path: name}}})
		src, buf := testkit.RandomReader(2, size), make([]byte, 256<<10)
		sum := sha256.New()
		for n := int64(0); n < size; n += int64(len(buf)) {
			if _, err := io.ReadFull(src, buf); err != nil {
				t.Fatal(err)
			}
			_, _ = sum.Write(buf)
			send(&sheafv1.WriteRequest{Part: &sheafv1.WriteRequest_Data{Data: buf}})
		}
		send(&sheafv1.WriteRequest{Part: &sheafv1.WriteRequest_End{End: &sheafv1.WriteEnd{Size: &size}}})
		if _, err := up.CloseAndReceive(); err != nil {
			t.Fatal(err)
		}
		down, err := c.Files.Read(ctx, &sheafv1.ReadRequest{Path: name})
		if err != nil {
			t.Fatal(err)
		}
		got := sha256.New()
		for down.Receive() {
			_, _ = got.Write(down.Msg().GetData())
		}
		if err := down.Err(); err != nil || !bytes.Equal(got.Sum(nil), sum.Sum(nil)) {
			t.Fatalf("other bytes came back, %v", err)
		}
		_ = down.Close()
	}
	// What the drive itself takes to write, some 150 MiB once, is the same when sheaf cp reads the file from this machine.
	round("warm", warm)
	before := rss(t, d.pid, "VmRSS")
	round("big", size)
	grown := rss(t, d.pid, "VmHWM") - before
	t.Logf("%d MiB up and down: the daemon had %d MiB and grew by %d MiB at most", size>>20, before>>20, grown>>20)
	if grown >= most {
		t.Errorf("the daemon grew by %d MiB", grown>>20)
	}
}
