package davbench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// raw is a server that puts what it gets into a file, as it comes, and gives it back as the library does: what HTTP costs by itself.
func raw(t *testing.T) *server {
	t.Helper()
	dir := t.TempDir()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := filepath.Join(dir, filepath.Base(r.URL.Path))
		if r.Method != http.MethodPut {
			http.ServeFile(w, r, name)
			return
		}
		err := func() error {
			f, err := os.Create(name)
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			if _, err := io.Copy(f, r.Body); err != nil {
				return err
			}
			return f.Sync() // what is answered is to be kept, here too
		}()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}))
	t.Cleanup(srv.Close)
	return &server{name: "raw", url: srv.URL + "/", token: "none"}
}

// api is the network door of a daemon.
func api(t *testing.T) *server {
	t.Helper()
	command, run := drive(t)
	cmd := command(context.WithoutCancel(t.Context()), "daemon", "--api", "127.0.0.1:0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var ready struct{ API string }
	if err := json.Unmarshal(line, &ready); err != nil || ready.API == "" {
		t.Fatalf("got %s, %v", line, err)
	}
	run(t.Context(), "ls", "/") // opens the drive
	return &server{name: "sheaf", url: ready.API + "/v1/files/", token: strings.TrimSpace(run(t.Context(), "token", "create", "--quiet"))}
}

// What a file takes up and down by the API, and by HTTP alone.
func TestAPIBench(t *testing.T) {
	if os.Getenv("SHEAF_DAV_BENCH") == "" {
		t.Skip("it takes minutes: SHEAF_DAV_BENCH=1, or make davbench")
	}
	mb := number(t, "SHEAF_DAV_MB", 1024)
	size := int64(mb) << 20
	compare(t, number(t, "SHEAF_DAV_ROUNDS", 3), []row{
		{fmt.Sprintf("upload of %d MiB", mb), func(t *testing.T, s *server, round int) {
			s.do(t, "PUT", fmt.Sprintf("big%d", round), testkit.RandomReader(int64(round), size), size)
		}},
		{fmt.Sprintf("download of %d MiB", mb), func(t *testing.T, s *server, round int) {
			if n := s.do(t, "GET", fmt.Sprintf("big%d", round), nil, 0); n != size {
				t.Fatalf("%s: %d bytes", s.name, n)
			}
		}},
	}, []*server{api(t), raw(t)})
}
