package s3_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/sheaf-drive/sheaf/door/s3"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/memfs"
)

const (
	access = "anns-key"
	secret = "a secret that is long"
)

// site is a tree and a server of it.
type site struct {
	*httptest.Server
	t       testing.TB
	fsys    *tree
	revoked atomic.Bool
}

// tree is an FS that may be out of order.
type tree struct {
	vfs.FS
	down bool
}

func (f *tree) Root(ctx context.Context) (vfs.Dir, error) {
	if f.down {
		return nil, fmt.Errorf("read bkt/secret: %w", errors.Join(&fs.PathError{Op: "read", Path: "secret-pack", Err: errors.New("the disk is out of order")}))
	}
	return f.FS.Root(ctx)
}

// serve opens a door to an empty tree, which ends with the test. change may change how.
func serve(t testing.TB, change func(o *s3.Options, g *s3.Grant)) *site {
	t.Helper()
	s := &site{t: t, fsys: &tree{FS: memfs.New(memfs.Options{})}}
	g := s3.Grant{Secret: secret}
	o := s3.Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Name: "test", UID: 7, GID: 8, Grant: func(key string) (s3.Grant, bool) { return g, key == access && !s.revoked.Load() }}
	if change != nil {
		change(&o, &g)
	}
	s.Server = httptest.NewServer(s3.New(s.fsys, o))
	t.Cleanup(func() {
		s.Close()
		if err := s3.Clear(context.Background(), s.fsys, o.Name); err != nil {
			t.Error(err)
		}
	})
	return s
}

// do makes a signed request. said is the body that the signature is of.
func (s *site) do(method, path, body, said, key string) (int, http.Header, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if key != "" {
		sum := sha256.Sum256([]byte(said))
		r.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
		err := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }).SignHTTP(s.t.Context(),
			aws.Credentials{AccessKeyID: access, SecretAccessKey: key}, r, hex.EncodeToString(sum[:]), "s3", "us-east-1", time.Now())
		if err != nil {
			s.t.Fatal(err)
		}
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

// ok is do for what has to go well.
func (s *site) ok(method, path, body string) (http.Header, string) {
	s.t.Helper()
	code, h, text := s.do(method, path, body, body, secret)
	if code/100 != 2 {
		s.t.Fatalf("%s %s: %d %s", method, path, code, text)
	}
	return h, text
}

// names returns all that is in the tree.
func names(t testing.TB, fsys vfs.FS) (all []string) {
	t.Helper()
	var down func(d vfs.Dir, at string)
	down = func(d vfs.Dir, at string) {
		for e, err := range d.List(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, at+e.Name)
			n, err := d.Lookup(t.Context(), e.Name)
			if err != nil {
				t.Fatal(err)
			}
			if sub, ok := n.(vfs.Dir); ok {
				down(sub, at+e.Name+"/")
			}
		}
	}
	root, err := fsys.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	down(root, "")
	return all
}

func TestDoor_AnObjectIsAFile(t *testing.T) {
	s := serve(t, nil)
	s.ok("PUT", "/docs", "")
	s.ok("PUT", "/docs/deep/er/a.txt", "one")
	if b, err := vfs.ReadFile(t.Context(), s.fsys, "docs/deep/er/a.txt", 100); err != nil || string(b) != "one" {
		t.Fatalf("the file has %q: %v", b, err)
	}
	sum := md5.Sum([]byte("one"))
	h, text := s.ok("GET", "/docs/deep/er/a.txt", "")
	if text != "one" || h.Get("Etag") != `"`+hex.EncodeToString(sum[:])+`"` {
		t.Errorf("got %q %s", text, h.Get("Etag"))
	}

	// Changed in another way, it has another ETag, which is none of content.
	hd, err := vfs.OpenPath(t.Context(), s.fsys, "docs/deep/er/a.txt", vfs.OpenWrite)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hd.WriteAt(t.Context(), []byte("two"), 0); err != nil {
		t.Fatal(err)
	}
	if err := hd.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	h, text = s.ok("GET", "/docs/deep/er/a.txt", "")
	if text != "two" || len(h.Get("Etag")) != 42 {
		t.Errorf("after a change: %q %s", text, h.Get("Etag"))
	}

	// What was made for an object goes with it, and nothing else.
	s.ok("PUT", "/docs/kept/", "")
	s.ok("PUT", "/docs/kept/b", "x")
	s.ok("DELETE", "/docs/deep/er/a.txt", "")
	s.ok("DELETE", "/docs/kept/b", "")
	s.ok("DELETE", "/docs/none", "")
	if got := names(t, s.fsys); strings.Join(got, " ") != ".sheaf-dav-s3-test docs docs/kept" {
		t.Errorf("there is %q", got)
	}
	if _, text := s.ok("GET", "/docs?list-type=2", ""); !strings.Contains(text, "<Key>kept/</Key>") {
		t.Errorf("an empty folder is not told of: %s", text)
	}
	if code, _, _ := s.do("DELETE", "/docs", "", "", secret); code != http.StatusConflict {
		t.Errorf("a bucket with something in it was deleted: %d", code)
	}
}

func TestDoor_KeysArePaths(t *testing.T) {
	s := serve(t, nil)
	s.ok("PUT", "/bkt", "")
	s.ok("PUT", "/bkt/f", "x")
	for _, key := range []string{"/bkt/a//b", "/bkt//a", "/bkt/../x", "/bkt/./a", "/bkt/a/../../x", "/bkt/f/g", "/.sheaf-dav-s3-test/x", "/bkt/" + strings.Repeat("n", 256)} {
		if code, _, _ := s.do("PUT", key, "x", "x", secret); code/100 == 2 {
			t.Errorf("%s was put", key)
		}
	}
	if got := names(t, s.fsys); strings.Join(got, " ") != ".sheaf-dav-s3-test bkt bkt/f" {
		t.Errorf("there is %q", got)
	}
	if _, text := s.ok("GET", "/", ""); strings.Contains(text, "sheaf-dav") {
		t.Error("the folder of uploads is a bucket")
	}
}

// A12, of this door: who has no key, or signed something else, changes nothing.
func TestDoor_KeepsOut(t *testing.T) {
	s := serve(t, nil)
	s.ok("PUT", "/bkt", "")
	s.ok("PUT", "/bkt/f", "old")
	for what, c := range map[string]struct {
		body, said, key string
		code            int
	}{
		"no signature":     {"new", "new", "", http.StatusForbidden},
		"another secret":   {"new", "new", "wrong", http.StatusForbidden},
		"another body":     {"new", "not new", secret, http.StatusBadRequest},
		"a body cut short": {"new", "new and more", secret, http.StatusBadRequest},
		"a body cut off":   {"", "new", secret, http.StatusBadRequest},
	} {
		if code, _, text := s.do("PUT", "/bkt/f", c.body, c.said, c.key); code != c.code {
			t.Errorf("%s: %d %s", what, code, text)
		}
		if _, text := s.ok("GET", "/bkt/f", ""); text != "old" {
			t.Errorf("%s: it has %q now", what, text)
		}
	}
	s.revoked.Store(true)
	if code, _, _ := s.do("GET", "/bkt/f", "", "", secret); code != http.StatusForbidden {
		t.Errorf("a key that was revoked: %d", code)
	}
}

// What goes wrong is told to the log, and no name with it.
func TestDoor_TheLogNamesNothing(t *testing.T) {
	var log bytes.Buffer
	s := serve(t, func(o *s3.Options, _ *s3.Grant) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	s.ok("PUT", "/bkt", "")
	s.ok("PUT", "/bkt/secret-name", "x")
	s.fsys.down = true
	for _, path := range []string{"/bkt/secret-name", "/bkt?list-type=2", "/bkt/secret-name/below"} {
		s.do("GET", path, "", "", secret)
	}
	s.fsys.down = false
	if !strings.Contains(log.String(), "the S3 door") || strings.Contains(log.String(), "bkt") || strings.Contains(log.String(), "secret") {
		t.Errorf("the log says:\n%s", log.String())
	}
}

func TestDoor_ShowsWhatTheKeyIsFor(t *testing.T) {
	s := serve(t, func(o *s3.Options, _ *s3.Grant) { o.Root = "/in" })
	for _, p := range []string{"/out/bkt", "/in/bkt", "/in/deep/bkt"} {
		if _, err := vfs.MkdirAll(t.Context(), s.fsys, p, vfs.New{Mode: 0o755}); err != nil {
			t.Fatal(err)
		}
	}
	if _, text := s.ok("GET", "/", ""); strings.Count(text, "<Bucket>") != 2 || strings.Contains(text, "out") {
		t.Errorf("buckets: %s", text)
	}
	if code, _, _ := s.do("GET", "/out?list-type=2", "", "", secret); code != http.StatusNotFound {
		t.Errorf("what is outside: %d", code)
	}
}

func TestDoor_ReadOnly(t *testing.T) {
	s := serve(t, func(_ *s3.Options, g *s3.Grant) { g.ReadOnly, g.Folder = true, "/in" })
	if _, err := vfs.MkdirAll(t.Context(), s.fsys, "/in/bkt", vfs.New{Mode: 0o755}); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{{"PUT", "/new"}, {"PUT", "/bkt/f"}, {"DELETE", "/bkt"}, {"POST", "/bkt/f?uploads"}, {"POST", "/bkt?delete"}} {
		if code, _, _ := s.do(c[0], c[1], "", "", secret); code != http.StatusForbidden {
			t.Errorf("%v: %d", c, code)
		}
	}
	s.ok("GET", "/bkt?list-type=2", "")
}

// Keys come in the order of their bytes, over pages, folders among them: "a-b" before "a/b" before "a0".
func TestDoor_ListsInOrder(t *testing.T) {
	s := serve(t, nil)
	s.ok("PUT", "/bkt", "")
	want := []string{}
	for _, key := range []string{"a-b", "a/b", "a/c/d", "a0", "b/", "c"} {
		s.ok("PUT", "/bkt/"+key, "")
		want = append(want, key)
	}
	for i := range 25 {
		key := fmt.Sprintf("m/%02d", i)
		s.ok("PUT", "/bkt/"+key, "")
		want = append(want, key)
	}
	list := func(query string) (all []string) {
		token := ""
		for range 100 {
			q := query
			if token != "" {
				q += "&continuation-token=" + token
			}
			_, text := s.ok("GET", "/bkt?"+q, "")
			text = regexp.MustCompile(`>\s+<`).ReplaceAllString(text, "><")
			all = append(all, between(text, "<Key>", "</Key>")...)
			for _, p := range between(text, "<CommonPrefixes><Prefix>", "</Prefix>") {
				all = append(all, "+"+p)
			}
			next := between(text, "<NextContinuationToken>", "</NextContinuationToken>")
			if len(next) == 0 {
				return all
			}
			token = strings.NewReplacer("/", "%2F", "+", "%2B", "=", "%3D").Replace(next[0])
		}
		t.Fatal("there is no end")
		return nil
	}
	if got := list("list-type=2&max-keys=4"); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if got := list("delimiter=%2F&list-type=2&max-keys=2"); strings.Join(got, " ") != "a-b +a/ a0 +b/ c +m/" {
		t.Errorf("with a delimiter: %q", got)
	}
	if got := list("list-type=2&prefix=a%2F"); strings.Join(got, " ") != "a/b a/c/d" {
		t.Errorf("with a prefix: %q", got)
	}
	if got := list("delimiter=%2F&list-type=2&prefix=m%2F0"); len(got) != 10 {
		t.Errorf("with both: %q", got)
	}
	if got := list("list-type=2&prefix=a%2F..%2F"); len(got) != 0 {
		t.Errorf("with a prefix that no key has: %q", got)
	}
}

// between returns what stands between two texts, each time.
func between(text, from, to string) (all []string) {
	for {
		_, rest, ok := strings.Cut(text, from)
		if !ok {
			return all
		}
		one, rest, _ := strings.Cut(rest, to)
		all, text = append(all, one), rest
	}
}

// An object is seen whole or not at all, also when it comes in parts, and what is left of an upload that did not end goes with the next start.
func TestDoor_Parts(t *testing.T) {
	s := serve(t, nil)
	s.ok("PUT", "/bkt", "")
	_, text := s.ok("POST", "/bkt/big?uploads=", "")
	id := between(text, "<UploadId>", "</UploadId>")[0]
	body, want := "", []byte{}
	for i := range 3 {
		part := bytes.Repeat([]byte{byte('a' + i)}, 5<<20)
		h, _ := s.ok("PUT", fmt.Sprintf("/bkt/big?partNumber=%d&uploadId=%s", i+1, id), string(part))
		want = append(want, part...)
		body += fmt.Sprintf("<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", i+1, h.Get("Etag"))
	}
	if _, text := s.ok("GET", "/bkt?list-type=2", ""); strings.Contains(text, "<Key>") {
		t.Error("it is seen before it is whole")
	}
	if code, _, _ := s.do("POST", "/bkt/big?uploadId="+id, strings.Replace("<CompleteMultipartUpload>"+body+"</CompleteMultipartUpload>", "<PartNumber>2", "<PartNumber>7", 1),
		strings.Replace("<CompleteMultipartUpload>"+body+"</CompleteMultipartUpload>", "<PartNumber>2", "<PartNumber>7", 1), secret); code/100 == 2 {
		t.Error("it is whole, and a part is not there")
	}
	s.ok("POST", "/bkt/big?uploadId="+id, "<CompleteMultipartUpload>"+body+"</CompleteMultipartUpload>")
	if _, text := s.ok("GET", "/bkt/big", ""); text != string(want) {
		t.Error("it has other bytes")
	}
	if got := names(t, s.fsys); strings.Join(got, " ") != ".sheaf-dav-s3-test bkt bkt/big" {
		t.Errorf("there is %q", got)
	}
	_, text = s.ok("POST", "/bkt/other?uploads=", "")
	s.ok("PUT", "/bkt/other?partNumber=1&uploadId="+between(text, "<UploadId>", "</UploadId>")[0], "x")
	if err := s3.Clear(t.Context(), s.fsys, "test"); err != nil {
		t.Fatal(err)
	}
	if got := names(t, s.fsys); strings.Join(got, " ") != "bkt bkt/big" {
		t.Errorf("after a start there is %q", got)
	}
}
