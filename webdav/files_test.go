package webdav_test

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/memfs"
	"github.com/sheaf-drive/sheaf/webdav"
)

func TestGet_RangesAreThoseOfTheFile(t *testing.T) {
	s := inMemory(t)
	data := string(testkit.Random(testkit.Rand(testkit.Seed(t)), 3<<20))
	s.want(201, "PUT", "/f.bin", data)
	for _, c := range []struct {
		head string
		code int
		want string
	}{
		{"bytes=0-0", 206, data[:1]},
		{"bytes=5-9", 206, data[5:10]},
		{"bytes=1000000-2500000", 206, data[1000000:2500001]},
		{"bytes=-7", 206, data[len(data)-7:]},
		{"bytes=3000000-", 206, data[3000000:]},
		{"bytes=3000000-99999999", 206, data[3000000:]},
		{"lines=1-2", 416, ""},
		{"bytes=9-5", 416, ""},
		{fmt.Sprintf("bytes=%d-", len(data)), 416, ""},
	} {
		got := s.do("GET", "/f.bin", "", "Range", c.head)
		if got.code != c.code || c.code == 206 && got.body != c.want {
			t.Errorf("%s: got %d and %d bytes, want %d and %d", c.head, got.code, len(got.body), c.code, len(c.want))
		}
	}
	got := s.want(206, "GET", "/f.bin", "", "Range", "bytes=0-1,100-104,-3")
	_, p, err := mime.ParseMediaType(got.head.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	parts := multipart.NewReader(strings.NewReader(got.body), p["boundary"])
	for _, want := range []string{data[:2], data[100:105], data[len(data)-3:]} {
		part, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(part); err != nil || string(b) != want {
			t.Errorf("part %s: %v", part.Header.Get("Content-Range"), err)
		}
	}
	if got := s.want(200, "HEAD", "/f.bin", ""); got.head.Get("Content-Length") != fmt.Sprint(len(data)) || got.head.Get("Accept-Ranges") != "bytes" {
		t.Errorf("HEAD: %v", got.head)
	}
}

func TestGet_ConditionsAreThoseOfRFC9110(t *testing.T) {
	s := inMemory(t)
	s.want(201, "PUT", "/f", "one")
	one := s.want(200, "GET", "/f", "").head
	tag, mod := one.Get("Etag"), one.Get("Last-Modified")
	if strings.HasPrefix(tag, "W/") || tag == "" {
		t.Fatalf("ETag %q is not strong", tag)
	}
	past, future := time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat), time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	for _, c := range []struct {
		code   int
		method string
		head   []string
	}{
		{304, "GET", []string{"If-None-Match", tag}},
		{304, "HEAD", []string{"If-None-Match", `"x", ` + tag}},
		{304, "GET", []string{"If-None-Match", "*"}},
		{200, "GET", []string{"If-None-Match", `"x"`}},
		{200, "GET", []string{"If-Match", tag}},
		{412, "GET", []string{"If-Match", `"x"`}},
		{412, "GET", []string{"If-Match", "W/" + tag}},
		{304, "GET", []string{"If-Modified-Since", mod}},
		{200, "GET", []string{"If-Modified-Since", past}},
		{412, "GET", []string{"If-Unmodified-Since", past}},
		{206, "GET", []string{"Range", "bytes=0-0", "If-Range", tag}},
		{200, "GET", []string{"Range", "bytes=0-0", "If-Range", `"x"`}},
		{200, "GET", []string{"Range", "bytes=0-0", "If-Range", "W/" + tag}},
		{412, "PUT", []string{"If-None-Match", "*"}},
		{412, "PUT", []string{"If-Match", `"x"`}},
		{412, "PUT", []string{"If-Unmodified-Since", past}},
		{412, "DELETE", []string{"If-Match", `"x"`}},
		{412, "MOVE", []string{"If-Match", `"x"`, "Destination", "/g"}},
		{412, "PROPPATCH", []string{"If-Match", `"x"`}},
		{204, "PUT", []string{"If-Unmodified-Since", future}},
	} {
		body := ""
		switch c.method {
		case "PROPPATCH":
			body = patchBody
		case "PUT":
			body = "one"
		}
		if got := s.do(c.method, "/f", body, c.head...); got.code != c.code {
			t.Errorf("%s %q: got %d, want %d", c.method, c.head, got.code, c.code)
		}
	}
	s.want(412, "PUT", "/new", "x", "If-Match", "*")
	s.want(201, "PUT", "/new", "x", "If-None-Match", "*")
	if got := s.content("/f"); got != "one" {
		t.Errorf("the file has %q", got)
	}
}

const patchBody = `<propertyupdate xmlns="DAV:"><set><prop><p xmlns="urn:x">v</p></prop></set></propertyupdate>`

// A change of the same length, within one tick of the clock, and with its time set back: each has another ETag.
func TestETag_ChangesWheneverTheContentDoes(t *testing.T) {
	s := inMemory(t)
	s.want(201, "PUT", "/f", "0000")
	seen := map[string]string{}
	note := func(content string) {
		t.Helper()
		for _, tag := range []string{s.want(200, "HEAD", "/f", "").head.Get("Etag"), between(s.want(207, "PROPFIND", "/f", "", "Depth", "0").body, "<D:getetag>", "</D:getetag>")} {
			tag = strings.ReplaceAll(tag, "&quot;", `"`)
			if was, ok := seen[tag]; ok && was != content {
				t.Fatalf("%s is the tag of %q and of %q", tag, was, content)
			}
			if strings.HasPrefix(tag, "W/") || tag == "" {
				t.Fatalf("tag %q is not strong", tag)
			}
			seen[tag] = content
		}
	}
	n, err := vfs.Walk(t.Context(), s.fsys, "/f")
	if err != nil {
		t.Fatal(err)
	}
	a, err := n.Attr(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	note("0000")
	for i := 1; i < 40; i++ {
		content := fmt.Sprintf("%04d", i)
		if i%2 == 0 {
			s.want(204, "PUT", "/f", content)
		} else { // by another door, in place
			if err := vfs.WriteFile(t.Context(), s.fsys, "/f", []byte(content), vfs.New{}); err != nil {
				t.Fatal(err)
			}
			n, err := vfs.Walk(t.Context(), s.fsys, "/f")
			if err == nil {
				_, err = n.SetAttr(t.Context(), vfs.AttrChange{Set: vfs.SetMTime, MTime: a.MTime})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		note(content)
	}
	if len(seen) != 40 {
		t.Errorf("%d tags for 40 contents", len(seen))
	}
	before := s.want(200, "HEAD", "/f", "").head.Get("Etag")
	s.want(207, "PROPPATCH", "/f", patchBody)
	if after := s.want(200, "HEAD", "/f", "").head.Get("Etag"); after != before {
		t.Errorf("a property changed the tag from %s to %s", before, after)
	}
}

func between(s, from, to string) string {
	_, s, _ = strings.Cut(s, from)
	s, _, _ = strings.Cut(s, to)
	return s
}

func TestPut_CutOffLeavesTheOldFile(t *testing.T) {
	s := inMemory(t)
	s.want(201, "PUT", "/f", "old")
	for _, head := range []string{"Content-Length: 5000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n2625a0\r\n"} {
		for _, path := range []string{"/f", "/new"} {
			c, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(c, "PUT %s HTTP/1.1\r\nHost: x\r\n%s", path, head)
			if _, err := c.Write(bytes.Repeat([]byte("new"), 800_000)); err != nil {
				t.Fatal(err)
			}
			if got := s.content("/f"); got != "old" {
				t.Errorf("in the midst of a PUT the file has %d bytes", len(got))
			}
			if err := c.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if b, _ := io.ReadAll(c); strings.HasPrefix(string(b), "HTTP/1.1 2") {
				t.Errorf("it was answered with %q", b)
			}
			c.Close()
		}
	}
	if got := s.content("/f"); got != "old" {
		t.Errorf("the file has %d bytes", len(got))
	}
	s.want(404, "GET", "/new", "")
	for e, err := range vfs.Tree(t.Context(), rootOf(t, s.fsys)) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Attr.Kind == vfs.KindFile && e.Path != "f" {
			t.Errorf("%s was left", e.Path)
		}
	}
}

func rootOf(t testing.TB, fsys vfs.FS) vfs.Dir {
	t.Helper()
	root, err := fsys.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestPut_KeepsWhatIsTheFilesOwn(t *testing.T) {
	s := inMemory(t)
	s.want(201, "PUT", "/f", "one")
	n, err := vfs.Walk(t.Context(), s.fsys, "/f")
	if err == nil {
		_, err = n.SetAttr(t.Context(), vfs.AttrChange{Set: vfs.SetMode | vfs.SetUID, Mode: 0o750, UID: 7})
	}
	if err == nil {
		err = n.SetXattr(t.Context(), "user.tag", []byte("blue"), vfs.XattrAny)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.want(207, "PROPPATCH", "/f", patchBody)
	s.want(204, "PUT", "/f", "two", "X-OC-Mtime", "1000000000")
	n, err = vfs.Walk(t.Context(), s.fsys, "/f")
	if err != nil {
		t.Fatal(err)
	}
	a, err := n.Attr(t.Context())
	if err != nil || a.Mode != 0o750 || a.UID != 7 || a.MTime.Unix() != 1000000000 {
		t.Errorf("got %+v, %v", a, err)
	}
	if v, err := n.Xattr(t.Context(), "user.tag"); err != nil || string(v) != "blue" {
		t.Errorf("its attribute: %q, %v", v, err)
	}
	if got := s.want(207, "PROPFIND", "/f", "", "Depth", "0"); !strings.Contains(got.body, `<N:p xmlns:N="urn:x">v</N:p>`) {
		t.Errorf("its property: %s", got.body)
	}
	s.want(400, "PUT", "/f", "x", "Content-Range", "bytes 0-0/3")
	s.want(400, "PUT", "/f", "x", "X-OC-Mtime", "yesterday")
	if got := s.content("/f"); got != "two" {
		t.Errorf("the file has %q", got)
	}
}

func TestPut_AFullTreeAnswers507AndKeepsTheOldFile(t *testing.T) {
	s := serve(t, memfs.New(memfs.Options{Limit: 1 << 20}), webdav.Options{}, webdav.View{})
	s.want(201, "PUT", "/f", "old")
	if got := s.want(507, "PUT", "/f", strings.Repeat("x", 3<<20)); !strings.Contains(got.body, "<D:error") {
		t.Errorf("got %q", got.body)
	}
	if got := s.content("/f"); got != "old" {
		t.Errorf("the file has %d bytes", len(got))
	}
	s.want(201, "PUT", "/g", strings.Repeat("x", 500<<10)) // what was left of the upload has made room
}

// Names are what they are: any UTF-8, in either form, blanks and what URLs and XML give a meaning to; and bytes that are no text.
func TestNames_AreKeptByteForByte(t *testing.T) {
	s := inMemory(t)
	for _, name := range []string{
		"a b", "a+b", "100%", "a%20b", "a&b<c>\"'", "#1?x=y;z", "é", "e\u0301", "日本語", "🦊", "a:b", "a\\b", "~x", "*", "tab\tx", "nl\nx", "\xff\xfe", "]]>", "C:",
		strings.Repeat("ä", 120),
	} {
		path := "/" + escape(name)
		s.want(201, "PUT", path, name)
		if got := s.content("/" + name); got != name {
			t.Errorf("%q has %q", name, got)
		}
		s.want(200, "GET", path, "")
		if got := s.want(207, "PROPFIND", path, "", "Depth", "0"); !strings.Contains(got.body, "<D:href>"+path+"</D:href>") {
			t.Errorf("%q: no %s in %s", name, path, got.body)
		}
		s.want(201, "MOVE", path, "", "Destination", s.URL+path+".moved")
		s.want(204, "DELETE", path+".moved", "")
	}
	s.want(400, "GET", "/a%2Fb", "")
	s.want(400, "GET", "/a%00b", "")
	s.want(400, "PUT", "/"+strings.Repeat("n", 256), "")
}

func escape(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_.~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func TestLinks_LeadNowhere(t *testing.T) {
	s := inMemory(t)
	s.want(201, "MKCOL", "/d", "")
	s.want(201, "PUT", "/d/f", "x")
	root := rootOf(t, s.fsys)
	for name, target := range map[string]string{"out": "/etc/passwd", "up": "../..", "in": "d", "file": "d/f"} {
		if _, err := root.Make(t.Context(), name, vfs.New{Kind: vfs.KindLink, Target: target}); err != nil {
			t.Fatal(err)
		}
		s.want(404, "GET", "/"+name, "")
		s.want(404, "GET", "/"+name+"/f", "")
		s.want(403, "PUT", "/"+name, "x")
		s.want(409, "PUT", "/"+name+"/f", "x")
		s.want(403, "LOCK", "/"+name, lockBody("exclusive"))
		s.want(405, "MKCOL", "/"+name, "")
		s.want(403, "COPY", "/d/f", "", "Destination", s.URL+"/"+name)
		s.want(404, "DELETE", "/"+name, "")
	}
	if got := s.want(207, "PROPFIND", "/", "", "Depth", "infinity"); strings.Count(got.body, "<D:response>") != 3 {
		t.Errorf("links are shown: %s", got.body)
	}
}

func TestTree_ClearsWhatACrashLeft(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	s := serve(t, fsys, webdav.Options{Name: "here"}, webdav.View{})
	for _, path := range []string{".sheaf-dav-here", ".sheaf-dav-there"} {
		if _, err := vfs.MkdirAll(t.Context(), fsys, path, vfs.New{Mode: 0o700}); err != nil {
			t.Fatal(err)
		}
		if err := vfs.WriteFile(t.Context(), fsys, path+"/half", []byte("half"), vfs.New{}); err != nil {
			t.Fatal(err)
		}
	}
	s.want(403, "GET", "/.sheaf-dav-here/half", "")
	if got := s.want(207, "PROPFIND", "/", ""); strings.Contains(got.body, "sheaf-dav") {
		t.Errorf("it is shown: %s", got.body)
	}
	serve(t, fsys, webdav.Options{Name: "here"}, webdav.View{})
	if _, err := vfs.Walk(t.Context(), fsys, ".sheaf-dav-here"); err == nil {
		t.Error("what this device left is still there")
	}
	if _, err := vfs.Walk(t.Context(), fsys, ".sheaf-dav-there/half"); err != nil {
		t.Errorf("what another device is at was removed: %v", err)
	}
}
