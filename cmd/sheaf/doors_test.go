//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/api/gate"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/rpc"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// An op is one operation, in a folder of its own for each door.
type op struct{ what, path, to, body string }

// A tongue does an op below a folder, and returns the kind of its error, "" for none, and what was read.
type tongue func(ctx context.Context, folder string, o op) (kind, read string)

func kindOf(err error) string {
	if err == nil {
		return ""
	}
	return codeName(rpc.FromWire(err).Code)
}

// byGRPC does it by gRPC.
func byGRPC(c *rpc.Client) tongue {
	return func(ctx context.Context, folder string, o op) (string, string) {
		path := folder + "/" + o.path
		switch o.what {
		case "mkdir":
			_, err := c.Files.Mkdir(ctx, &sheafv1.MkdirRequest{Path: path})
			return kindOf(err), ""
		case "move":
			_, err := c.Files.Move(ctx, &sheafv1.MoveRequest{From: path, To: folder + "/" + o.to})
			return kindOf(err), ""
		case "remove", "remove all":
			_, err := c.Files.Remove(ctx, &sheafv1.RemoveRequest{Paths: []string{path}, Recursive: o.what == "remove all"})
			return kindOf(err), ""
		case "write":
			st, err := c.Files.Write(ctx)
			if err != nil {
				return kindOf(err), ""
			}
			for _, m := range []*sheafv1.WriteRequest{
				{Part: &sheafv1.WriteRequest_Start{Start: &sheafv1.WriteStart{Path: path}}},
				{Part: &sheafv1.WriteRequest_Data{Data: []byte(o.body)}},
				{Part: &sheafv1.WriteRequest_End{End: &sheafv1.WriteEnd{}}},
			} {
				if err := st.Send(m); err != nil {
					break // why, it says at the end
				}
			}
			_, err = st.CloseAndReceive()
			return kindOf(err), ""
		}
		st, err := c.Files.Read(ctx, &sheafv1.ReadRequest{Path: path})
		if err != nil {
			return kindOf(err), ""
		}
		defer func() { _ = st.Close() }()
		var b strings.Builder
		for st.Receive() {
			_, _ = b.Write(st.Msg().GetData())
		}
		return kindOf(st.Err()), b.String()
	}
}

func escaped(path string) string {
	parts := strings.Split(path, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}

// asRequest returns an op as a request of REST.
func asRequest(folder string, o op) (method, path, body string) {
	at := "/v1/files/" + escaped(folder+"/"+o.path)
	switch o.what {
	case "mkdir":
		b, _ := json.Marshal(map[string]string{"path": folder + "/" + o.path})
		return "POST", "/v1/folders", string(b)
	case "move":
		b, _ := json.Marshal(map[string]string{"from": folder + "/" + o.path, "to": folder + "/" + o.to})
		return "POST", "/v1/move", string(b)
	case "remove":
		return "DELETE", at, ""
	case "remove all":
		return "DELETE", at + "?recursive=true", ""
	case "write":
		return "PUT", at, o.body
	}
	return "GET", at, ""
}

// byREST does it by REST.
func byREST(t *testing.T, h *http.Client, base string) tongue {
	return func(ctx context.Context, folder string, o op) (string, string) {
		method, path, body := asRequest(folder, o)
		r, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := h.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode >= 400 {
			var p gate.Problem
			if err := json.Unmarshal(b, &p); err != nil {
				t.Fatalf("%s: %v", b, err)
			}
			return p.Code, ""
		}
		if o.what != "read" {
			return "", ""
		}
		return "", string(b)
	}
}

// byCommand does it by the command: by its verbs, and what no verb does in just that way by sheaf api.
func byCommand(d *apiDaemon) tongue {
	return func(ctx context.Context, folder string, o op) (string, string) {
		path := "sheaf:/" + folder + "/" + o.path
		var args []string
		switch o.what {
		case "mkdir":
			args = []string{"mkdir", path}
		case "remove":
			args = []string{"rm", path}
		case "remove all":
			args = []string{"rm", "-r", path}
		case "read":
			args = []string{"cat", path}
		default:
			method, at, body := asRequest(folder, o)
			args = []string{"api", method, at, "--data", body}
		}
		cmd := exec.CommandContext(ctx, "sheaf", append(args, "--json")...)
		cmd.Env = append(cmd.Environ(), "SHEAF_HOME="+d.home)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if e := (*exec.ExitError)(nil); errors.As(err, &e) {
			var p struct{ Code string }
			if err := json.Unmarshal(errs.Bytes(), &p); err != nil {
				d.t.Fatalf("sheaf %v: %s", args, errs.String())
			}
			return p.Code, ""
		} else if err != nil {
			d.t.Fatal(err)
		}
		if o.what != "read" {
			return "", ""
		}
		return "", string(out)
	}
}

// A17: by whichever door the same is done, the same comes of it, and what fails fails with the same kind of error.
func TestDoors_AreOneBehaviour(t *testing.T) {
	d, token := startAPI(t)
	h := overHTTP2(token)
	c := rpc.NewClient(h, d.url, connect.WithGRPC())
	tongues := []struct {
		name string
		do   tongue
	}{{"grpc", byGRPC(c)}, {"rest", byREST(t, h, d.url)}, {"command", byCommand(d)}}
	ctx := t.Context()
	for _, x := range tongues {
		if _, err := c.Files.Mkdir(ctx, &sheafv1.MkdirRequest{Path: x.name}); err != nil {
			t.Fatal(err)
		}
	}
	steps := 60
	if os.Getenv("SHEAF_LONG") != "" {
		steps = 1000
	}
	seed := testkit.Seed(t)
	r := rand.New(rand.NewPCG(uint64(seed), 17))
	names := []string{"a", "b", "caf\u00e9 x", "dir", "dir/a", "dir/b", "dir/sub", "dir/sub/a", "dir/sub/%2F", strings.Repeat("n", 256)}
	whats := []string{"mkdir", "write", "write", "write", "read", "move", "remove", "remove all", "mkdir"}
	kinds := map[string]int{}
	for i := range steps {
		o := op{what: whats[r.IntN(len(whats))], path: names[r.IntN(len(names))], to: names[r.IntN(len(names))], body: fmt.Sprint("step ", i)}
		var kind, read string
		for n, x := range tongues {
			k, b := x.do(ctx, x.name, o)
			if n > 0 && (k != kind || b != read) {
				t.Fatalf("step %d, %+v: by %s %q, %q, by %s %q, %q", i, o, tongues[0].name, kind, read, x.name, k, b)
			}
			kind, read = k, b
		}
		kinds[kind]++
	}
	var first []string
	for n, x := range tongues {
		st, err := c.Files.List(ctx, &sheafv1.ListRequest{Path: x.name, Recursive: true})
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for st.Receive() {
			for _, m := range st.Msg().GetNodes() {
				all = append(all, fmt.Sprint(strings.TrimPrefix(m.GetPath(), x.name), " ", m.GetType(), " ", m.GetMode(), " ", m.GetSize()))
			}
		}
		if err := st.Err(); err != nil {
			t.Fatal(err)
		}
		_ = st.Close()
		if n == 0 {
			first = all
		} else if diff := cmp.Diff(first, all); diff != "" {
			t.Errorf("by %s and by %s: %s", tongues[0].name, x.name, diff)
		}
	}
	t.Logf("%d steps, by kind of error: %v", steps, kinds)
	if kinds[""] == 0 || len(kinds) < 4 {
		t.Errorf("too little went well, or failed: %v", kinds)
	}
}
