package webdav_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/vfs/memfs"
	"github.com/sheaf-drive/sheaf/webdav"
)

func lockBody(scope string) string {
	return `<?xml version="1.0"?><D:lockinfo xmlns:D="DAV:"><D:lockscope><D:` + scope + `/></D:lockscope><D:locktype><D:write/></D:locktype>` +
		`<D:owner><D:href>mailto:ann@example.org</D:href></D:owner></D:lockinfo>`
}

// token locks and returns the token with its brackets.
func (s *site) token(code int, path, scope string, head ...string) string {
	s.t.Helper()
	return s.want(code, "LOCK", path, lockBody(scope), head...).head.Get("Lock-Token")
}

func TestLocks_TwoClientsDoNotOverwriteEachOther(t *testing.T) {
	s := inMemory(t)
	s.want(201, "PUT", "/f", "one")
	mine := s.token(200, "/f", "exclusive", "Timeout", "Second-600")
	if got := s.want(423, "PUT", "/f", "two"); !strings.Contains(got.body, "<D:lock-token-submitted><D:href>/f</D:href>") {
		t.Errorf("got %q", got.body)
	}
	for _, method := range []string{"DELETE", "PROPPATCH", "MOVE", "LOCK"} {
		body := map[string]string{"PROPPATCH": patchBody, "LOCK": lockBody("shared")}[method]
		s.want(423, method, "/f", body, "Destination", s.URL+"/g")
	}
	s.want(201, "COPY", "/f", "", "Destination", s.URL+"/g")
	s.want(423, "COPY", "/g", "", "Destination", s.URL+"/f")
	s.want(200, "GET", "/f", "")
	s.want(204, "PUT", "/f", "three", "If", "("+mine+")")
	s.want(423, "PUT", "/f", "no", "If", "(Not <DAV:no-lock>)")
	s.want(412, "PUT", "/f", "no", "If", "(<opaquelocktoken:other>)")
	s.want(409, "UNLOCK", "/f", "", "Lock-Token", "<opaquelocktoken:other>")
	s.want(204, "UNLOCK", "/f", "", "Lock-Token", mine)
	s.want(204, "PUT", "/f", "two")
}

func TestLocks_SharedOnesShare(t *testing.T) {
	s := inMemory(t)
	s.want(201, "PUT", "/f", "")
	a, b := s.token(200, "/f", "shared"), s.token(200, "/f", "shared")
	s.want(423, "LOCK", "/f", lockBody("exclusive"))
	s.want(423, "PUT", "/f", "x")
	s.want(204, "PUT", "/f", "x", "If", "("+a+")")
	s.want(204, "PUT", "/f", "y", "If", "("+b+")")
	if got := s.want(207, "PROPFIND", "/f", "", "Depth", "0"); strings.Count(got.body, "<D:activelock>") != 2 {
		t.Errorf("got %s", got.body)
	}
	s.want(204, "UNLOCK", "/f", "", "Lock-Token", a)
	s.want(204, "UNLOCK", "/f", "", "Lock-Token", b)
	s.token(200, "/f", "exclusive")
}

func TestLocks_DepthCoversWhatLiesBelow(t *testing.T) {
	s := inMemory(t)
	s.want(201, "MKCOL", "/d", "")
	s.want(201, "PUT", "/d/f", "")
	deep := s.token(200, "/d", "exclusive", "Depth", "infinity")
	s.want(423, "PUT", "/d/f", "x")
	s.want(423, "PUT", "/d/new", "x")
	s.want(423, "MKCOL", "/d/sub", "")
	s.want(423, "LOCK", "/d/f", lockBody("exclusive"))
	s.want(423, "LOCK", "/d/new", lockBody("exclusive"))
	s.want(201, "PUT", "/d/new", "x", "If", "<"+s.URL+"/d> ("+deep+")")
	s.want(200, "LOCK", "/d/f", "", "If", "("+deep+")", "Timeout", "Second-30") // refreshed by what lies in it
	s.want(204, "UNLOCK", "/d/f", "", "Lock-Token", deep)

	flat := s.token(200, "/d", "exclusive", "Depth", "0")
	s.want(204, "PUT", "/d/f", "content is not the folder's")
	s.want(423, "PUT", "/d/more", "but its names are")
	s.want(423, "DELETE", "/d/f", "")
	s.want(423, "MOVE", "/d/f", "", "Destination", s.URL+"/f")
	s.want(204, "UNLOCK", "/d", "", "Lock-Token", flat)

	inner := s.token(200, "/d/f", "exclusive")
	if got := s.want(423, "LOCK", "/d", lockBody("exclusive")); !strings.Contains(got.body, "/d/f") {
		t.Errorf("it does not say where: %q", got.body)
	}
	s.want(423, "DELETE", "/d", "")
	s.want(423, "MOVE", "/d", "", "Destination", s.URL+"/e")
	s.want(201, "MOVE", "/d", "", "Destination", s.URL+"/e", "If", "<"+s.URL+"/d/f> ("+inner+")")
	s.want(204, "PUT", "/e/f", "a lock stays behind when its file goes")
	s.want(201, "MKCOL", "/d", "")
	s.want(201, "PUT", "/d/f", "and ends")
}

func TestLocks_WhatIsLockedBeforeItIsThereIsAnEmptyFile(t *testing.T) {
	s := inMemory(t)
	tok := s.token(201, "/new", "exclusive")
	if got := s.content("/new"); got != "" {
		t.Errorf("got %q", got)
	}
	s.want(423, "PUT", "/new", "x")
	s.want(204, "PUT", "/new", "x", "If", "("+tok+")")
	s.want(204, "UNLOCK", "/new", "", "Lock-Token", tok)
	s.want(409, "LOCK", "/no/parent", lockBody("exclusive"))
}

func TestLocks_SurviveARestart(t *testing.T) {
	fsys, store := memfs.New(memfs.Options{}), &memory{}
	s := serve(t, fsys, webdav.Options{Locks: store}, webdav.View{})
	s.want(201, "PUT", "/f", "one")
	mine := s.token(200, "/f", "exclusive", "Timeout", "Second-600")
	gone := s.token(201, "/g", "exclusive", "Timeout", "Second-600")
	s.want(204, "UNLOCK", "/g", "", "Lock-Token", gone)
	again := serve(t, fsys, webdav.Options{Locks: store}, webdav.View{})
	again.want(423, "PUT", "/f", "two")
	again.want(204, "PUT", "/f", "two", "If", "("+mine+")")
	again.want(204, "PUT", "/g", "two")

	store.mu.Lock()
	store.err = errors.New("no disk")
	store.mu.Unlock()
	again.want(500, "LOCK", "/g", lockBody("exclusive"))
	again.want(204, "PUT", "/g", "a lock that is not kept is none")
}

func TestIf_IsEvaluatedAsRFC4918Says(t *testing.T) {
	s := inMemory(t)
	s.want(201, "PUT", "/f", "x")
	s.want(201, "PUT", "/other", "x")
	tok := s.token(200, "/f", "exclusive")
	tag := s.want(200, "HEAD", "/f", "").head.Get("Etag")
	no := "<opaquelocktoken:00000000-0000-4000-8000-000000000000>"
	for _, c := range []struct {
		code int
		head string
	}{
		{207, "(" + tok + ")"},
		{207, "(" + tok + " [" + tag + "])"},
		{412, "(" + tok + ` ["no"])`},
		{207, "(" + tok + ` ["no"]) (` + tok + " [" + tag + "])"},
		{207, "(" + no + ") (" + tok + ")"},
		{207, "(Not " + no + " " + tok + ")"},
		{412, "(Not " + tok + ")"},
		{207, "(Not " + tok + ") (Not <DAV:no-lock>)"},
		{423, "([" + tag + "])"},
		{412, "([W/" + tag + "])"},
		{207, "<" + s.URL + "/f> (" + tok + ")"},
		{207, "</f> (" + tok + ")"},
		{412, "<" + s.URL + "/other> (" + tok + ")"},
		{207, "<" + s.URL + "/other> (" + tok + ") <" + s.URL + "/f> (" + tok + ")"},
		{412, "<http://elsewhere.example/f> (" + tok + ")"},
		{400, tok},
		{400, "()"},
		{400, "(" + tok},
		{400, "(" + tok + ") <" + s.URL + "/f> (" + tok + ")"},
		{400, "<" + s.URL + "/f>"},
		{400, "(Not)"},
		{400, "([no-quotes])"},
		{400, "(" + strings.Repeat(no, 1001) + ")"},
	} {
		if got := s.do("PROPPATCH", "/f", patchBody, "If", c.head); got.code != c.code {
			t.Errorf("%.200s: got %d, want %d", c.head, got.code, c.code)
		}
	}
}

func TestLocks_TheirNumberIsBounded(t *testing.T) {
	s := inMemory(t)
	s.want(201, "MKCOL", "/d", "")
	last := 0
	for i := range 1100 {
		if last = s.do("LOCK", fmt.Sprintf("/d/%d", i), lockBody("exclusive")).code; last != 201 {
			break
		}
	}
	if last != 507 {
		t.Errorf("the last was answered with %d", last)
	}
	s.want(413, "LOCK", "/x", strings.Repeat(" ", 70<<10)+lockBody("exclusive"))
	s.want(400, "LOCK", "/x", strings.Replace(lockBody("exclusive"), "mailto", strings.Repeat("m", 5000), 1))
}
