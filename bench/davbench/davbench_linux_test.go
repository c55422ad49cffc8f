package davbench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/remote/remotetest"
)

// number reads a size of the bench from the environment.
func number(t *testing.T, name string, missing int) int {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return missing
	}
	n, err := strconv.Atoi(v)
	if err != nil || n <= 0 {
		t.Fatalf("%s: %q is no number", name, v)
	}
	return n
}

// A server is one that is measured. fill puts a folder of this machine there, under a name.
type server struct {
	name, url, user, secret string
	token                   string // in place of user and secret
	fill                    func(t *testing.T, dir, name string)
	c                       *http.Client
}

func (s *server) do(t *testing.T, method, path string, body io.Reader, size int64, head ...string) int64 {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = size
	if s.token != "" {
		r.Header.Set("Authorization", "Bearer "+s.token)
	} else {
		r.SetBasicAuth(s.user, s.secret)
	}
	for i := 0; i < len(head); i += 2 {
		r.Header.Set(head[i], head[i+1])
	}
	resp, err := s.c.Do(r)
	if err != nil {
		t.Fatalf("%s %s %s: %v", s.name, method, path, err)
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s %s: %s, %v", s.name, method, path, resp.Status, err)
	}
	return n
}

// drive builds the command and makes a drive. command is the command in its home; run runs it, and returns what it printed.
func drive(t *testing.T) (command func(ctx context.Context, args ...string) *exec.Cmd, run func(ctx context.Context, args ...string) string) {
	t.Helper()
	bin, home := filepath.Join(t.TempDir(), "sheaf"), filepath.Join(t.TempDir(), "home")
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", "pebblegozstd,noproviders", "-o", bin, "github.com/sheaf-drive/sheaf/cmd/sheaf")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build sheaf: %v: %s", err, out)
	}
	command = func(ctx context.Context, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, bin, args...)
		cmd.Env = append(os.Environ(), "SHEAF_HOME="+home)
		return cmd
	}
	run = func(ctx context.Context, args ...string) string {
		t.Helper()
		out, err := command(ctx, args...).Output()
		if err != nil {
			t.Fatalf("sheaf %q: %v", args, err)
		}
		return string(out)
	}
	run(t.Context(), "init")
	return command, run
}

// ours makes a drive and serves it.
func ours(t *testing.T) *server {
	t.Helper()
	_, run := drive(t)
	t.Cleanup(func() { run(context.Background(), "stop", "--force") })
	var resp struct {
		Serving struct{ URL string }
		Secret  string
	}
	if err := json.Unmarshal([]byte(run(t.Context(), "serve", "webdav", "--addr", "127.0.0.1:0", "--json")), &resp); err != nil {
		t.Fatal(err)
	}
	return &server{name: "sheaf", url: resp.Serving.URL, user: "sheaf", secret: resp.Secret, fill: func(t *testing.T, dir, name string) {
		t.Helper()
		run(t.Context(), "cp", dir, "sheaf:/"+name)
	}}
}

// theirs is a server of other people's over a plain folder.
func theirs(name string, p remotetest.Place) *server {
	return &server{name: name, url: p.Options["url"], user: p.Options["user"], secret: p.Secrets["pass"], fill: func(t *testing.T, dir, name string) {
		t.Helper()
		to := filepath.Join(p.Dir, name)
		if out, err := exec.CommandContext(t.Context(), "cp", "-r", dir, to).CombinedOutput(); err != nil {
			t.Fatalf("cp: %v: %s", err, out)
		}
		if out, err := exec.CommandContext(t.Context(), "chmod", "-R", "a+rwX", to).CombinedOutput(); err != nil {
			t.Fatalf("chmod: %v: %s", err, out)
		}
	}}
}

// rclone starts its server as people do. That of remotetest forgets folders at once, so that a listing of n names reads n folders.
func rclone(t *testing.T) *server {
	t.Helper()
	bin, err := exec.LookPath("rclone")
	if err != nil {
		testkit.Lacks(t, "rclone is not here: run scripts/deps")
	}
	addr := testkit.FreeAddr(t)
	dir := t.TempDir()
	cmd := exec.Command(bin, "serve", "webdav", "--config", "/dev/null", "--addr", addr, "--user", "me", "--pass", "of-this-bench", dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatalf("rclone does not answer: %v", err)
		}
	}
	return theirs("rclone", remotetest.Place{Options: map[string]string{"url": "http://" + addr + "/", "user": "me"}, Secrets: map[string]string{"pass": "of-this-bench"}, Dir: dir})
}

func TestDAVBench(t *testing.T) {
	if os.Getenv("SHEAF_DAV_BENCH") == "" {
		t.Skip("it takes minutes: SHEAF_DAV_BENCH=1, or make davbench")
	}
	mb, puts := number(t, "SHEAF_DAV_MB", 1024), number(t, "SHEAF_DAV_PUTS", 10_000)
	entries, rounds := number(t, "SHEAF_DAV_ENTRIES", 50_000), number(t, "SHEAF_DAV_ROUNDS", 3)
	_, apache := remotetest.WebDAV(t)
	servers := []*server{ours(t), rclone(t), theirs("apache", apache)}
	many := filepath.Join(t.TempDir(), "many")
	if err := os.Mkdir(many, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		if err := os.WriteFile(filepath.Join(many, fmt.Sprintf("file-%06d.txt", i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range servers {
		s.fill(t, many, "many")
	}
	size := int64(mb) << 20
	rows := []row{
		{fmt.Sprintf("PUT of %d MiB", mb), func(t *testing.T, s *server, round int) {
			s.do(t, "PUT", fmt.Sprintf("big%d", round), testkit.RandomReader(int64(round), size), size)
		}},
		{fmt.Sprintf("GET of %d MiB", mb), func(t *testing.T, s *server, round int) {
			if n := s.do(t, "GET", fmt.Sprintf("big%d", round), nil, 0); n != size {
				t.Fatalf("%s: %d bytes", s.name, n)
			}
		}},
		{fmt.Sprintf("PROPFIND of %d", entries), func(t *testing.T, s *server, _ int) {
			s.do(t, "PROPFIND", "many/", nil, 0, "Depth", "1")
		}},
		{fmt.Sprintf("%d PUTs of 1 KiB", puts), func(t *testing.T, s *server, round int) {
			s.do(t, "MKCOL", fmt.Sprintf("small%d/", round), nil, 0)
			body := testkit.Random(testkit.Rand(int64(round)), 1<<10)
			for i := range puts {
				s.do(t, "PUT", fmt.Sprintf("small%d/%d", round, i), bytes.NewReader(body), int64(len(body)))
			}
		}},
		{fmt.Sprintf("%d GETs of 1 KiB", puts), func(t *testing.T, s *server, round int) {
			for i := range puts {
				s.do(t, "GET", fmt.Sprintf("small%d/%d", round, i), nil, 0)
			}
		}},
	}
	compare(t, rounds, rows, servers)
}

// A row is a piece of work that all servers do.
type row struct {
	name string
	do   func(t *testing.T, s *server, round int)
}

// compare has all servers do all rows, in turns, and prints what they took, and what the first took as ratios to each of the others.
func compare(t *testing.T, rounds int, rows []row, servers []*server) {
	t.Helper()
	for _, s := range servers {
		s.c = &http.Client{Transport: &http.Transport{DisableCompression: true, WriteBufferSize: 256 << 10, ReadBufferSize: 256 << 10}}
		t.Cleanup(s.c.CloseIdleConnections)
	}
	// took has the seconds of each row, server and round.
	took := map[string]map[string][]float64{}
	for round := range rounds {
		for i, row := range rows {
			if took[row.name] == nil {
				took[row.name] = map[string][]float64{}
			}
			for j := range servers {
				s := servers[(round+i+j)%len(servers)] // who begins changes
				begin := time.Now()
				row.do(t, s, round)
				sec := time.Since(begin).Seconds()
				took[row.name][s.name] = append(took[row.name][s.name], sec)
				t.Logf("round %d, %s, %s: %.2f s", round, row.name, s.name, sec)
			}
		}
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%-24s", "seconds, median")
	for _, s := range servers {
		fmt.Fprintf(&out, "%10s", s.name)
	}
	for _, other := range servers[1:] {
		fmt.Fprintf(&out, "%16s", "sheaf/"+other.name)
	}
	out.WriteByte('\n')
	for _, row := range rows {
		fmt.Fprintf(&out, "%-24s", row.name)
		for _, s := range servers {
			fmt.Fprintf(&out, "%10.2f", median(took[row.name][s.name]))
		}
		for _, other := range servers[1:] {
			var q []float64
			for i, sec := range took[row.name]["sheaf"] {
				q = append(q, sec/took[row.name][other.name][i]) // of one round, when the machine was in one mood
			}
			fmt.Fprintf(&out, "%16.2f", median(q))
		}
		out.WriteByte('\n')
	}
	t.Logf("\n%s", out.String())
}

func median(all []float64) float64 {
	all = slices.Clone(all)
	slices.Sort(all)
	return all[len(all)/2]
}
