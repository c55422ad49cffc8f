package rest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// A fuzzer makes requests of what the description says, right and wrong ones, and holds the answers against it.
type fuzzer struct {
	f   *fixture
	doc map[string]any
	r   *rand.Rand
}

func (z *fuzzer) resolve(v map[string]any) map[string]any {
	for {
		r, ok := v["$ref"].(string)
		if !ok {
			return v
		}
		var to any = z.doc
		for _, k := range strings.Split(strings.TrimPrefix(r, "#/"), "/") {
			to = to.(map[string]any)[k]
		}
		v = to.(map[string]any)
	}
}

// names are what paths are made of: some are there, some cannot be.
var names = []string{"a", "b", "dir", "c", "..", ".", "", "x y", "caf\u00e9", "\x00ff", "\x00zz", "%", "latest", strings.Repeat("n", 256), "e\u0301", "\U0001f600", "a/b", "\\", "CON"}

func (z *fuzzer) text() string {
	var parts []string
	for range 1 + z.r.IntN(3) {
		parts = append(parts, names[z.r.IntN(len(names))])
	}
	return strings.Join(parts, "/")
}

// value makes one of a schema, or now and then one of none.
func (z *fuzzer) value(s map[string]any, depth int) any {
	if z.r.IntN(25) == 0 {
		return []any{nil, true, 7, -1e30, "x", []any{}, map[string]any{}}[z.r.IntN(7)]
	}
	s = z.resolve(s)
	if list, ok := s["anyOf"].([]any); ok {
		return z.value(list[z.r.IntN(len(list))].(map[string]any), depth)
	}
	if e, ok := s["enum"].([]any); ok {
		return e[z.r.IntN(len(e))]
	}
	switch s["type"] {
	case "boolean":
		return z.r.IntN(2) == 0
	case "integer":
		return []any{0, 1, 0o644, -1, 1 << 31, 5}[z.r.IntN(6)]
	case "null":
		return nil
	case "array":
		l := []any{}
		for range z.r.IntN(3) {
			l = append(l, z.value(s["items"].(map[string]any), depth+1))
		}
		return l
	case "object":
		o := map[string]any{}
		props, _ := s["properties"].(map[string]any)
		for _, k := range slices.Sorted(func(yield func(string) bool) {
			for k := range props {
				if !yield(k) {
					return
				}
			}
		}) {
			if depth < 4 && z.r.IntN(3) > 0 {
				o[k] = z.value(props[k].(map[string]any), depth+1)
			}
		}
		return o
	}
	switch {
	case s["format"] == "int64" || s["format"] == "uint64":
		return []string{"0", "1", "100", "-1", "9223372036854775807", "99999999999999999999"}[z.r.IntN(6)]
	case s["format"] == "date-time":
		return []string{"2026-01-02T03:04:05Z", "now"}[z.r.IntN(2)]
	case s["contentEncoding"] == "base64":
		return base64.StdEncoding.EncodeToString([]byte(z.text()))
	}
	return z.text()
}

// one makes a request of an operation and checks its answer.
func (z *fuzzer) one(t *testing.T, method, path string, op map[string]any) {
	var body io.Reader
	q, headers := url.Values{}, []string{}
	at := path
	params, _ := op["parameters"].([]any)
	for _, p := range params {
		p := p.(map[string]any)
		name, v := p["name"].(string), fmt.Sprint(z.value(p["schema"].(map[string]any), 0))
		switch {
		case p["in"] == "path":
			var parts []string
			for part := range strings.SplitSeq(v, "/") {
				parts = append(parts, url.PathEscape(part))
			}
			at = strings.Replace(at, "{"+name+"}", strings.Join(parts, "/"), 1)
		case p["required"] != true && z.r.IntN(2) == 0:
		case p["in"] == "query":
			q.Set(name, v)
		default:
			headers = append(headers, name, []string{"0", "bytes=0-1", "*", `"x"`, "sha-256=:AAAA:", "bytes=9-1"}[z.r.IntN(6)])
		}
	}
	if rb, ok := op["requestBody"].(map[string]any); ok {
		c := rb["content"].(map[string]any)
		if js, ok := c["application/json"].(map[string]any); ok {
			b, err := json.Marshal(z.value(js["schema"].(map[string]any), 0))
			if err != nil {
				t.Fatal(err)
			}
			if z.r.IntN(20) == 0 {
				b = b[:len(b)/2]
			}
			body = bytes.NewReader(b)
		} else {
			body = strings.NewReader(strings.Repeat("x", z.r.IntN(3)*50))
		}
	}
	if len(q) > 0 {
		at += "?" + q.Encode()
	}
	a := z.f.do(t, strings.ToUpper(method), at, body, headers...)
	said, ok := op["responses"].(map[string]any)[strconv.Itoa(a.StatusCode)].(map[string]any)
	if !ok || a.StatusCode == http.StatusInternalServerError {
		t.Errorf("%s %s: status %d is not described: %.300s", method, at, a.StatusCode, a.body)
		return
	}
	content, _ := z.resolve(said)["content"].(map[string]any)
	kind, _, _ := strings.Cut(a.Header.Get("Content-Type"), ";")
	if method == "head" || len(a.body) == 0 {
		return
	}
	if kind == "application/octet-stream" || kind == "multipart/byteranges" || kind == "text/plain" && a.StatusCode == 416 {
		return
	}
	c, ok := content[kind].(map[string]any)
	if !ok {
		t.Errorf("%s %s: an answer of %d in %q is not described", method, at, a.StatusCode, kind)
		return
	}
	for line := range bytes.Lines(a.body) {
		var v any
		if err := json.Unmarshal(line, &v); err != nil {
			t.Errorf("%s %s: %v: %s", method, at, err, line)
		} else if err := z.fits(c["schema"].(map[string]any), v); err != nil {
			t.Errorf("%s %s: %v: %.300s", method, at, err, line)
		}
	}
}

// fits reports how a value is not as a schema says.
func (z *fuzzer) fits(s map[string]any, v any) error {
	s = z.resolve(s)
	if list, ok := s["anyOf"].([]any); ok {
		var err error
		for _, one := range list {
			if err = z.fits(one.(map[string]any), v); err == nil {
				return nil
			}
		}
		return err
	}
	if e, ok := s["enum"].([]any); ok && !slices.Contains(e, v) {
		return fmt.Errorf("%v is none of %v", v, e)
	}
	bad := fmt.Errorf("%v is no %v", v, s["type"])
	switch s["type"] {
	case "null":
		if v != nil {
			return bad
		}
	case "boolean":
		if _, ok := v.(bool); !ok {
			return bad
		}
	case "integer":
		if _, ok := v.(float64); !ok {
			return bad
		}
	case "string":
		text, ok := v.(string)
		if p, has := s["pattern"].(string); !ok || has && !regexp.MustCompile(p).MatchString(text) {
			return bad
		}
		if s["format"] == "date-time" {
			if _, err := time.Parse(time.RFC3339Nano, text); err != nil {
				return err
			}
		}
	case "array":
		l, ok := v.([]any)
		if !ok {
			return bad
		}
		for _, x := range l {
			if err := z.fits(s["items"].(map[string]any), x); err != nil {
				return err
			}
		}
	case "object":
		o, ok := v.(map[string]any)
		if !ok {
			return bad
		}
		props, _ := s["properties"].(map[string]any)
		for k, x := range o {
			p, ok := props[k].(map[string]any)
			if !ok {
				return fmt.Errorf("field %q is not described", k)
			}
			if err := z.fits(p, x); err != nil {
				return fmt.Errorf("%s: %w", k, err)
			}
		}
		for _, k := range asList(s["required"]) {
			if _, ok := o[k.(string)]; !ok {
				return fmt.Errorf("field %q is missing", k)
			}
		}
	}
	return nil
}

func asList(v any) []any {
	l, _ := v.([]any)
	return l
}

// A15: requests of what the description says are never answered with 500, nor with what it does not say.
func TestDescription_SaysAllThatIsAnswered(t *testing.T) {
	n := 500
	if os.Getenv("SHEAF_LONG") != "" {
		n = 10_000
	}
	z := &fuzzer{f: start(t, nil), doc: description(t), r: rand.New(rand.NewPCG(uint64(testkit.Seed(t)), 0))}
	type operation struct {
		method, path string
		op           map[string]any
	}
	var all []operation
	for path, item := range z.doc["paths"].(map[string]any) {
		for method, op := range item.(map[string]any) {
			// These wait: for a person, for a replica, for what happens, or for the end of a job.
			if path == "/v1/events" || path == "/v1/wait" || path == "/v1/jobs/{id}" && method == "get" {
				continue
			}
			all = append(all, operation{method, path, op.(map[string]any)})
		}
	}
	slices.SortFunc(all, func(a, b operation) int { return strings.Compare(a.path+a.method, b.path+b.method) })
	for i := range n {
		o := all[z.r.IntN(len(all))]
		if i < len(all) {
			o = all[i]
		}
		z.one(t, o.method, o.path, o.op)
	}
}

// The control: what is answered and not described is found.
func TestFits_FindsWhatIsNotSaid(t *testing.T) {
	z := &fuzzer{doc: description(t)}
	schema := ref("Node")
	node := func(change func(m map[string]any)) map[string]any {
		m := map[string]any{"path": "a", "type": "KIND_FILE", "mode": 420.0, "size": "7", "modified": "2026-01-02T03:04:05Z", "changed": nil, "pinned": true}
		change(m)
		return m
	}
	if err := z.fits(schema, node(func(map[string]any) {})); err != nil {
		t.Error(err)
	}
	for k, v := range map[string]any{"new": 1.0, "size": 7.0, "type": "KIND_NEW", "modified": "yesterday", "pinned": "true", "mode": "420", "path": nil} {
		if z.fits(schema, node(func(m map[string]any) { m[k] = v })) == nil {
			t.Errorf("%s: %v was not found", k, v)
		}
	}
	if z.fits(ref("Problem"), map[string]any{"code": "x", "error": "y"}) == nil {
		t.Error("a field that is missing was not found")
	}
}
