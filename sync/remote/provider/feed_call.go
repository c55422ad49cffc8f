package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/rclone/rclone/fs/fserrors"
	"github.com/rclone/rclone/fs/fshttp"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// A caller asks a place in JSON, with the token of the backend of a tree. A call is tried once.
type caller struct {
	t    *tree
	http *http.Client
}

func newCaller(t *tree) caller { return caller{t: t, http: fshttp.NewClient(t.conf)} }

// option returns an option of the backend, "" if it is not set.
func (c *caller) option(name string) string {
	v, _ := c.t.m.Get(name)
	return v
}

// anySet reports whether one of some options is set, or on.
func (c *caller) anySet(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		v := c.option(name)
		return v != "" && v != "false"
	})
}

// names yields the names of the directories from the top of the place to the root of the tree, as the backend has them.
func (c *caller) names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for name := range strings.SplitSeq(strings.Trim(c.t.f.Root(), "/"), "/") {
			if name != "" && !yield(name) {
				return
			}
		}
	}
}

// An answerError is an answer of a place that is none to what it was asked.
type answerError struct {
	StatusCode int
	Header     http.Header
	Reason     string // as the place calls it; "" if it does not
}

func (e *answerError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("the place answers %d %s", e.StatusCode, e.Reason))
}

// answered reports whether err is an answer with one of some status codes.
func answered(err error, codes ...int) bool {
	var a *answerError
	return errors.As(err, &a) && slices.Contains(codes, a.StatusCode)
}

// soon reports whether it is only that too much was asked. The place calls that a refusal, too.
func (e *answerError) soon() bool {
	return e.Reason == "rateLimitExceeded" || e.Reason == "userRateLimitExceeded"
}

const answerMost = 64 << 20 // bytes, of what a page may be at most

// get asks for a resource and reads the answer into v.
func (c *caller) get(ctx context.Context, where string, q url.Values, v any, header ...string) error {
	if len(q) > 0 {
		where += "?" + q.Encode()
	}
	return c.call(ctx, http.MethodGet, where, nil, v, header...)
}

// call sends what is not nil as JSON, with the header of pairs of names and values, and reads the answer into v.
func (c *caller) call(ctx context.Context, method, where string, send, v any, header ...string) error {
	token, err := bearer(ctx, c.t)
	if err != nil {
		return err
	}
	var body io.Reader
	if send != nil {
		p, err := json.Marshal(send)
		if err != nil {
			return err
		}
		body = bytes.NewReader(p)
	}
	req, err := http.NewRequestWithContext(ctx, method, where, body)
	if err != nil {
		return err
	}
	if send != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // it was read
	got, err := io.ReadAll(io.LimitReader(res.Body, answerMost))
	if err != nil {
		return fmt.Errorf("%w: read what changed: %w", blob.ErrTemporary, err)
	}
	if res.StatusCode != http.StatusOK {
		a := &answerError{StatusCode: res.StatusCode, Header: res.Header, Reason: reason(got)}
		if a.soon() {
			return fserrors.RetryError(a)
		}
		return a
	}
	if err := json.Unmarshal(got, v); err != nil {
		return fmt.Errorf("%w: an answer that is cut off, or none of this place: %w", blob.ErrTemporary, err)
	}
	return nil
}

// reason returns what a place calls an error, "" if it does not, or an answer of a machine in between.
func reason(body []byte) string {
	var google struct {
		Error struct {
			Errors []struct {
				Reason string `json:"reason"`
			} `json:"errors"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &google) == nil && len(google.Error.Errors) > 0 {
		return google.Error.Errors[0].Reason
	}
	var graph struct {
		Error struct {
			Code string `json:"code"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &graph) == nil && graph.Error.Code != "" {
		return graph.Error.Code
	}
	var dropbox struct {
		Summary string `json:"error_summary"`
	}
	_ = json.Unmarshal(body, &dropbox) // it may be anything
	return dropbox.Summary
}

// bearer returns the token by which the backend of a tree is let in. One that has ended is renewed by whoever renews it: the source of tokens, or the backend when it is called.
func bearer(ctx context.Context, t *tree) (string, error) {
	for try := 0; ; try++ {
		v, _ := t.m.Get("token")
		if err := t.m.refused(); err != nil {
			return "", err
		}
		var token struct {
			AccessToken string    `json:"access_token"`
			Expiry      time.Time `json:"expiry"`
		}
		if err := json.Unmarshal([]byte(v), &token); err != nil || token.AccessToken == "" {
			return "", fmt.Errorf("%w: there is no token", blob.ErrUnauthorized)
		}
		if token.Expiry.IsZero() || time.Until(token.Expiry) > 10*time.Second || try > 0 {
			return token.AccessToken, nil
		}
		if _, err := t.f.List(ctx, ""); err != nil {
			return "", err
		}
	}
}
