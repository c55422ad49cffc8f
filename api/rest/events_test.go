package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/sheaf-drive/sheaf/api/access"
	"github.com/sheaf-drive/sheaf/api/ws"
	"github.com/sheaf-drive/sheaf/vfs"
)

// event is one of the stream, as a program reads it.
type event struct {
	Cursor, Kind, Path string
	Device             string
}

// listen opens a WebSocket from a cursor on.
func (f *fixture) listen(t *testing.T, ctx context.Context, after string) (*websocket.Conn, error) {
	t.Helper()
	//nolint:bodyclose // a WebSocket has taken it, or it is read already
	c, resp, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(f.url, "http")+"/v1/events?after="+after, &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + f.secret}},
	})
	if err != nil && resp != nil {
		return nil, fmt.Errorf("%d: %w", resp.StatusCode, err)
	}
	return c, err
}

func next(ctx context.Context, c *websocket.Conn) (e event, err error) {
	_, b, err := c.Read(ctx)
	if err == nil {
		err = json.Unmarshal(b, &e)
	}
	return e, err
}

// A18: 10,000 changes while the client is cut three times: each once, and in order.
func TestEvents_ComeOnceAndInOrderThoughTheClientIsCut(t *testing.T) {
	f := start(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	const all, batch = 10_000, 500
	c, err := f.listen(t, ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	first, err := next(ctx, c)
	if err != nil || first.Kind != "EVENT_KIND_BEGIN" {
		t.Fatalf("got %+v, %v", first, err)
	}
	cursor := first.Cursor
	wrote := make(chan error, 1)
	go func() {
		wrote <- func() error {
			for i := 0; i < all; i += batch {
				for k := i; k < i+batch; k++ {
					if err := vfs.WriteFile(ctx, f.Drive.FS(), fmt.Sprintf("f%06d", k), nil, vfs.New{Mode: 0o644}); err != nil {
						return err
					}
				}
				if err := f.Drive.Commit(ctx); err != nil {
					return err
				}
			}
			return nil
		}()
	}()
	cuts := 0
	for n := 0; n < all; {
		if cuts < 3 && n == (cuts+1)*all/4 { // in the midst of what comes
			_ = c.CloseNow()
			cuts++
			if c, err = f.listen(t, ctx, cursor); err != nil {
				t.Fatal(err)
			}
		}
		e, err := next(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("f%06d", n); e.Path != want || e.Kind != "EVENT_KIND_CREATED" || !strings.HasPrefix(e.Device, "SHF-") {
			t.Fatalf("got %+v, want %s", e, want)
		}
		cursor = e.Cursor
		n++
	}
	if err := <-wrote; err != nil || cuts != 3 {
		t.Errorf("%d cuts, %v", cuts, err)
	}
	_ = c.CloseNow()
	// A cursor of another process is told to be none.
	if c, err = f.listen(t, ctx, "other-7"); err != nil {
		t.Fatal(err)
	}
	if e, err := next(ctx, c); err != nil || e.Kind != "EVENT_KIND_RESET" || e.Cursor != cursor {
		t.Errorf("got %+v, %v", e, err)
	}
	_ = c.CloseNow()
}

func TestEvents_TellWhatATokenSeesWithinASecond(t *testing.T) {
	f := start(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	f.do(t, "POST", "/v1/folders", strings.NewReader(`{"path":"mine"}`)).want(t, 200)
	all := f.secret
	f.secret = f.Token(t, access.Token{Folder: "mine", ReadOnly: true})
	c, err := f.listen(t, ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	if _, err := next(ctx, c); err != nil {
		t.Fatal(err)
	}
	f.secret = all
	f.do(t, "PUT", "/v1/files/others", strings.NewReader("x")).want(t, 200)
	f.do(t, "PUT", "/v1/files/mine/a", strings.NewReader("x")).want(t, 200)
	if err := f.Drive.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	e, err := next(ctx, c)
	for err == nil && e.Path == "mine" { // the folder itself, if it was not committed before
		e, err = next(ctx, c)
	}
	if err != nil || e.Path != "mine/a" || e.Kind != "EVENT_KIND_CREATED" {
		t.Errorf("got %+v, %v", e, err)
	}
	if took := time.Since(began); took > 5*time.Second { // a second on a machine that does nothing else
		t.Errorf("it came after %s", took)
	}

	f.secret = f.Token(t, access.Token{Services: []string{"files"}})
	if _, err := f.listen(t, ctx, ""); err == nil || !strings.HasPrefix(err.Error(), "403") {
		t.Errorf("a token for files only: %v", err)
	}
	f.secret = "sheaf_guess"
	if _, err := f.listen(t, ctx, ""); err == nil || !strings.HasPrefix(err.Error(), "401") {
		t.Errorf("no token: %v", err)
	}
}

// A page in a browser can show its token in no header but that of the protocols. The answer must not repeat it.
func TestEvents_APageShowsItsTokenAsAProtocol(t *testing.T) {
	f := start(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dial := func(protocols ...string) (*websocket.Conn, int, error) {
		c, resp, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(f.url, "http")+"/v1/events", &websocket.DialOptions{Subprotocols: protocols}) //nolint:bodyclose // as above
		if resp == nil {
			t.Fatal(err)
		}
		return c, resp.StatusCode, err
	}
	for _, protocols := range [][]string{nil, {ws.Protocol}, {ws.Protocol, ws.TokenPrefix + "wrong"}, {ws.Protocol, f.secret}} {
		if _, code, err := dial(protocols...); err == nil || code != http.StatusUnauthorized {
			t.Errorf("with %d protocols: %d %v", len(protocols), code, err)
		}
	}
	c, _, err := dial(ws.Protocol, ws.TokenPrefix+f.secret)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	if c.Subprotocol() != ws.Protocol {
		t.Errorf("they speak %q", c.Subprotocol())
	}
	if e, err := next(ctx, c); err != nil || e.Kind != "EVENT_KIND_BEGIN" {
		t.Errorf("got %+v, %v", e, err)
	}
	// Only a WebSocket may do so.
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url+"/v1/drive", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Sec-Websocket-Protocol", ws.TokenPrefix+f.secret)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a request with a token as its protocol: %d", resp.StatusCode)
	}
}

func TestMetrics_AreForWhoMayAskForTheStatus(t *testing.T) {
	f := start(t, nil)
	get := func(secret string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.url+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		if secret != "" {
			req.Header.Set("Authorization", "Bearer "+secret)
		}
		resp, err := http.DefaultClient.Do(req)
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
	if code, _ := get(""); code != http.StatusUnauthorized {
		t.Errorf("without a token: %d", code)
	}
	if code, text := get(f.secret); code != http.StatusOK || !strings.Contains(text, "\nsheaf_drive_open 1\n") {
		t.Errorf("got %d:\n%s", code, text)
	}
}
