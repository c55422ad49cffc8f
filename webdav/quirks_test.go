package webdav_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/memfs"
	"github.com/sheaf-drive/sheaf/webdav"
)

// M9: what Explorer sends to save a file, as Microsoft documents it and as packet traces of it show.
func TestWindows_SavesAFileInItsWay(t *testing.T) {
	s := inMemory(t)
	win := []string{"User-Agent", "Microsoft-WebDAV-MiniRedir/10.0.19045", "Translate", "f"}
	got := s.want(200, "OPTIONS", "/", "", win...)
	if got.head.Get("Ms-Author-Via") != "DAV" || got.head.Get("Dav") != "1, 2, 3" || !strings.Contains(got.head.Get("Allow"), "LOCK") {
		t.Errorf("OPTIONS: %v", got.head)
	}
	s.want(207, "PROPFIND", "/", "", append(win, "Depth", "0")...)
	s.want(404, "PROPFIND", "/new.docx", "", append(win, "Depth", "0")...)
	s.want(201, "PUT", "/new.docx", "", win...) // nothing, to see whether it may
	tok := s.want(200, "LOCK", "/new.docx", `<?xml version="1.0" encoding="utf-8" ?><D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype><D:owner><D:href>BOX\ann</D:href></D:owner></D:lockinfo>`,
		append(win, "Timeout", "Second-3600")...).head.Get("Lock-Token")
	win32 := `<?xml version="1.0" encoding="utf-8" ?><D:propertyupdate xmlns:D="DAV:" xmlns:Z="urn:schemas-microsoft-com:"><D:set><D:prop>` +
		`<Z:Win32CreationTime>Tue, 03 Mar 2020 10:00:00 GMT</Z:Win32CreationTime><Z:Win32LastAccessTime>Wed, 04 Mar 2020 10:00:00 GMT</Z:Win32LastAccessTime>` +
		`<Z:Win32LastModifiedTime>Thu, 05 Mar 2020 10:11:12 GMT</Z:Win32LastModifiedTime><Z:Win32FileAttributes>00000020</Z:Win32FileAttributes></D:prop></D:set></D:propertyupdate>`
	locked := append(win, "If", "("+tok+")")
	s.want(207, "PROPPATCH", "/new.docx", win32, locked...)
	s.want(200, "HEAD", "/new.docx", "", win...)
	s.want(204, "PUT", "/new.docx", "the document", locked...)
	if got := s.want(207, "PROPPATCH", "/new.docx", win32, locked...); strings.Count(got.body, "HTTP/1.1 200 OK") != 4 {
		t.Errorf("PROPPATCH: %s", got.body)
	}
	s.want(204, "UNLOCK", "/new.docx", "", append(win, "Lock-Token", tok)...)
	if got := s.content("/new.docx"); got != "the document" {
		t.Errorf("it has %q", got)
	}
	n, err := vfs.Walk(t.Context(), s.fsys, "/new.docx")
	if err != nil {
		t.Fatal(err)
	}
	if a, err := n.Attr(t.Context()); err != nil || !a.MTime.Equal(time.Date(2020, 3, 5, 10, 11, 12, 0, time.UTC)) {
		t.Errorf("its time is %v, %v", a.MTime, err)
	}
	got = s.want(207, "PROPFIND", "/new.docx", `<propfind xmlns="DAV:" xmlns:Z="urn:schemas-microsoft-com:"><prop><getlastmodified/><Z:Win32LastModifiedTime/><Z:Win32CreationTime/><Z:Win32FileAttributes/></prop></propfind>`, "Depth", "0")
	for _, want := range []string{"<D:getlastmodified>Thu, 05 Mar 2020 10:11:12 GMT", "Win32LastModifiedTime xmlns:N=\"urn:schemas-microsoft-com:\">Thu, 05 Mar 2020 10:11:12 GMT", "Tue, 03 Mar 2020 10:00:00 GMT", "00000020"} {
		if !strings.Contains(got.body, want) {
			t.Errorf("no %q in %s", want, got.body)
		}
	}
	s.want(201, "MOVE", "/new.docx", "", append(win, "Destination", s.URL+"/report%20final.docx", "Overwrite", "F")...)
	s.want(204, "PUT", "/report%20final.docx", "x", win...)
}

// M9: what Finder sends to copy a file, with the litter that goes with it.
func TestFinder_CopiesAFileAndItsLitterStaysOut(t *testing.T) {
	s := inMemory(t)
	fi := []string{"User-Agent", "WebDAVFS/3.0.0 (03008000) Darwin/23.1.0"}
	s.want(200, "OPTIONS", "/", "", fi...)
	if got := s.want(207, "PROPFIND", "/", `<?xml version="1.0" encoding="utf-8"?><D:propfind xmlns:D="DAV:"><D:prop><D:quota-available-bytes/><D:quota-used-bytes/><D:quota/><D:quotaused/></D:prop></D:propfind>`, append(fi, "Depth", "0")...); !strings.Contains(got.body, "<D:quota-available-bytes>") {
		t.Errorf("no quota: %s", got.body)
	}
	for _, path := range []string{"/._.", "/.metadata_never_index", "/.Spotlight-V100", "/.DS_Store", "/._photo.jpg", "/photo.jpg"} {
		s.want(404, "PROPFIND", path, "", append(fi, "Depth", "0")...)
	}
	double := "\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + strings.Repeat("\x00", 50)
	for path, body := range map[string]string{"/photo.jpg": "the photo", "/._photo.jpg": double, "/.DS_Store": "\x00\x00\x00\x01Bud1"} {
		s.want(201, "PUT", path, "", fi...)
		tok := s.want(200, "LOCK", path, lockBody("exclusive"), append(fi, "Timeout", "Second-600", "Depth", "0")...).head.Get("Lock-Token")
		s.want(204, "PUT", path, body, append(fi, "If", "("+tok+")", "X-Expected-Entity-Length", fmt.Sprint(len(body)))...)
		s.want(207, "PROPFIND", path, "", append(fi, "Depth", "0")...)
		s.want(207, "PROPPATCH", path, patchBody, append(fi, "If", "("+tok+")")...)
		s.want(204, "UNLOCK", path, "", append(fi, "Lock-Token", tok)...)
		if got := s.want(200, "GET", path, ""); got.body != body {
			t.Errorf("%s has %q", path, got.body)
		}
	}
	if got := s.want(207, "PROPFIND", "/", "", "Depth", "1"); strings.Count(got.body, "<D:response>") != 4 {
		t.Errorf("Finder does not see what it wrote: %s", got.body)
	}
	onlyIn(t, s, "photo.jpg")

	// It goes along with the folder that it is of.
	s.want(201, "MKCOL", "/a", "")
	s.want(201, "PUT", "/a/.DS_Store", "litter")
	s.want(201, "MOVE", "/a", "", "Destination", s.URL+"/b")
	if got := s.want(200, "GET", "/b/.DS_Store", ""); got.body != "litter" {
		t.Errorf("got %q", got.body)
	}
	s.want(201, "MKCOL", "/a", "")
	s.want(404, "GET", "/a/.DS_Store", "")
	s.want(204, "DELETE", "/b", "")
	s.want(201, "MKCOL", "/b", "")
	s.want(404, "GET", "/b/.DS_Store", "")

	// Its own way to save: beside, and then over it.
	s.want(201, "MOVE", "/._photo.jpg", "", "Destination", s.URL+"/._other.jpg")
	s.want(204, "DELETE", "/._other.jpg", "")
	onlyIn(t, s, "a", "b", "photo.jpg")

	// What would be lost stays.
	s.want(403, "MOVE", "/photo.jpg", "", "Destination", s.URL+"/desktop.ini")
	s.want(201, "PUT", "/._mine", "somebody's own file of such a name")
	s.want(201, "PUT", "/Thumbs.db", "kept as a file by a rename")
	s.want(201, "MOVE", "/Thumbs.db", "", "Destination", s.URL+"/thumbs")
	s.want(404, "GET", "/Thumbs.db", "")
	onlyIn(t, s, "._mine", "a", "b", "photo.jpg", "thumbs")
}

// onlyIn fails if the root of the tree has other names than these.
func onlyIn(t *testing.T, s *site, names ...string) {
	t.Helper()
	var got []string
	for e, err := range rootOf(t, s.fsys).List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(e.Name, ".sheaf-dav-") {
			got = append(got, e.Name)
		}
	}
	if strings.Join(got, "|") != strings.Join(names, "|") {
		t.Errorf("the tree has %q, want %q", got, names)
	}
}

func TestLitter_IsBoundedAndCanBeKept(t *testing.T) {
	s := inMemory(t)
	big := strings.Repeat("x", 4<<20)
	for i := range 6 { // 24 MiB in 16
		s.want(201, "MKCOL", fmt.Sprintf("/%d", i), "")
		s.want(201, "PUT", fmt.Sprintf("/%d/.DS_Store", i), big)
	}
	s.want(200, "GET", "/5/.DS_Store", "")
	s.want(404, "GET", "/0/.DS_Store", "")
	s.want(507, "PUT", "/0/.DS_Store", strings.Repeat("x", 17<<20))
	s.want(201, "PUT", "/0/.DS_Store", "")
	if got := s.want(207, "PROPPATCH", "/0/.DS_Store", strings.Replace(patchBody, ">v<", ">"+big[:3000]+"<", 1)); !strings.Contains(got.body, "507") {
		t.Errorf("a big property of litter: %s", got.body)
	}

	kept := serve(t, memfs.New(memfs.Options{}), webdav.Options{}, webdav.View{KeepLitter: true})
	kept.want(201, "PUT", "/.DS_Store", "x")
	onlyIn(t, kept, ".DS_Store")
}

func TestProps_AreKeptWithTheirXML(t *testing.T) {
	s := inMemory(t)
	s.want(201, "PUT", "/f", "")
	s.want(207, "PROPPATCH", "/f", `<?xml version="1.0"?><d:propertyupdate xmlns:d="DAV:" xmlns:x="urn:x" xml:lang="de"><d:set><d:prop>`+
		`<x:author><x:name y:a="1" z:a="2" b="&lt;&quot;" xmlns:y="urn:y" xmlns:z="urn:z">J&#252;rgen &amp; Co</x:name><plain xmlns="">t</plain></x:author><n xmlns="">none</n></d:prop></d:set></d:propertyupdate>`)
	got := s.want(207, "PROPFIND", "/f", `<propfind xmlns="DAV:"><prop><author xmlns="urn:x"/><n xmlns=""/><missing xmlns="urn:x"/></prop></propfind>`, "Depth", "0").body
	for _, want := range []string{`<N:author xmlns:N="urn:x" xml:lang="de">`, `="urn:y"`, `="urn:z"`, `b="&lt;&quot;"`, `>Jürgen &amp; Co<`, `<plain xmlns="">t</plain>`, `<n xmlns="" xml:lang="de">none</n>`, `<N:missing xmlns:N="urn:x"/></D:prop><D:status>HTTP/1.1 404`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
	if all := s.want(207, "PROPFIND", "/f", "", "Depth", "0").body; !strings.Contains(all, "Jürgen") || strings.Contains(all, "quota") {
		t.Errorf("allprop: %s", all)
	}
	if names := s.want(207, "PROPFIND", "/f", `<propfind xmlns="DAV:"><propname/></propfind>`, "Depth", "0").body; !strings.Contains(names, `<N:author xmlns:N="urn:x"/>`) || strings.Contains(names, "Jürgen") {
		t.Errorf("propname: %s", names)
	}
	// All or nothing.
	got = s.want(207, "PROPPATCH", "/f", `<propertyupdate xmlns="DAV:"><set><prop><a xmlns="urn:x">1</a><getetag>mine</getetag></prop></set></propertyupdate>`).body
	if !strings.Contains(got, "HTTP/1.1 424") || !strings.Contains(got, "HTTP/1.1 403") || !strings.Contains(got, "cannot-modify-protected-property") {
		t.Errorf("got %s", got)
	}
	s.want(207, "PROPPATCH", "/f", `<propertyupdate xmlns="DAV:"><remove><prop><author xmlns="urn:x"/><a xmlns="urn:x"/></prop></remove></propertyupdate>`)
	if all := s.want(207, "PROPFIND", "/f", "", "Depth", "0").body; strings.Contains(all, "Jürgen") || strings.Contains(all, ">1<") {
		t.Errorf("after all: %s", all)
	}
	if got := s.want(207, "PROPPATCH", "/f", strings.Replace(patchBody, ">v<", ">"+strings.Repeat("v", 40<<10)+"<", 1)).body; !strings.Contains(got, "HTTP/1.1 507") {
		t.Errorf("too big: %.300s", got)
	}
	s.want(207, "PROPPATCH", "/f", patchBody)
	s.want(201, "COPY", "/f", "", "Destination", s.URL+"/g")
	s.want(201, "MOVE", "/g", "", "Destination", s.URL+"/h")
	if got := s.want(207, "PROPFIND", "/h", "", "Depth", "0").body; !strings.Contains(got, `<N:p xmlns:N="urn:x">v</N:p>`) {
		t.Errorf("a copy that was moved: %s", got)
	}
}

func TestXML_WhatIsNotWellFormedIs400(t *testing.T) {
	s := inMemory(t)
	for _, body := range []string{
		"<", "nonsense", "<propfind xmlns='DAV:'>", "<propfind/>", "<propfind xmlns='DAV:'/>", "<a:propfind/>", "<a:propfind xmlns:a=''/>",
		"<propfind xmlns='DAV:'><prop/></propfind><x/>", "<propfind xmlns='DAV:'><prop><b:x/></prop></propfind>",
		"<propfind xmlns='DAV:'><prop/><allprop/></propfind>", "<propfind xmlns='DAV:'><prop></propfind></prop>",
		`<!DOCTYPE x [<!ENTITY a "b">]><propfind xmlns="DAV:"><prop/></propfind>`,
		`<propfind xmlns="DAV:"><prop>&a;</prop></propfind>`,
		strings.Repeat("<a>", 100) + strings.Repeat("</a>", 100),
	} {
		if got := s.do("PROPFIND", "/", body, "Depth", "0"); got.code != 400 {
			t.Errorf("%.80q: got %d", body, got.code)
		}
	}
	s.want(413, "PROPFIND", "/", "<propfind xmlns='DAV:'>"+strings.Repeat(" ", 70<<10)+"<allprop/></propfind>")
	s.want(400, "PROPFIND", "/", "", "Depth", "2")
	s.want(405, "POST", "/", "x")
	s.want(405, "TRACE", "/", "")
	s.want(415, "MKCOL", "/d", "<x/>")
	s.want(502, "MOVE", "/x", "", "Destination", "http://elsewhere.example/y")
	s.want(400, "MOVE", "/x", "")
	s.want(400, "COPY", "/x", "", "Destination", "/y", "Overwrite", "X")
}

func TestMove_FoldersTakeEachOthersPlaceWhole(t *testing.T) {
	s := inMemory(t)
	for _, d := range []string{"/a", "/a/sub", "/b", "/b/old"} {
		s.want(201, "MKCOL", d, "")
	}
	s.want(201, "PUT", "/a/sub/f", "new")
	s.want(201, "PUT", "/b/old/f", "old")
	s.want(412, "MOVE", "/a", "", "Destination", s.URL+"/b", "Overwrite", "F")
	s.want(403, "MOVE", "/a", "", "Destination", s.URL+"/a/sub/a")
	s.want(403, "MOVE", "/a/sub", "", "Destination", s.URL+"/a")
	s.want(403, "COPY", "/a", "", "Destination", s.URL+"/a")
	s.want(403, "MOVE", "/", "", "Destination", s.URL+"/c")
	s.want(403, "DELETE", "/", "")
	s.want(409, "MOVE", "/a", "", "Destination", s.URL+"/no/where")
	s.want(400, "MOVE", "/a", "", "Destination", s.URL+"/c", "Depth", "0")
	s.want(204, "COPY", "/a", "", "Destination", s.URL+"/b", "Depth", "infinity")
	s.want(404, "GET", "/b/old/f", "")
	if got := s.content("/b/sub/f") + s.content("/a/sub/f"); got != "newnew" {
		t.Errorf("got %q", got)
	}
	s.want(201, "COPY", "/a", "", "Destination", s.URL+"/c", "Depth", "0")
	s.want(404, "GET", "/c/sub", "")
	s.want(204, "MOVE", "/a", "", "Destination", s.URL+"/b")
	s.want(404, "GET", "/a/", "")
	s.want(204, "MOVE", "/b/sub/f", "", "Destination", s.URL+"/c") // a file in the place of a folder
	s.want(200, "GET", "/c", "")
	s.want(204, "DELETE", "/b", "")
	onlyIn(t, s, "c")
}

func TestPages_AreForReadingOnly(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	rw := serve(t, fsys, webdav.Options{}, webdav.View{})
	rw.want(201, "MKCOL", "/d", "")
	rw.want(201, "PUT", "/d/%3Cscript%3E%20&%22", "x")
	s := serve(t, fsys, webdav.Options{Name: "pages"}, webdav.View{Root: "/d", Pages: true})
	got := s.want(200, "GET", "/", "")
	if !strings.Contains(got.body, `<a href="./%3Cscript%3E%20%26%22">&lt;script&gt; &amp;&#34;</a>`) {
		t.Errorf("got %s", got.body)
	}
	s.want(200, "GET", "/%3Cscript%3E%20&%22", "")
	for _, method := range []string{"PUT", "DELETE", "PROPFIND", "LOCK", "MKCOL", "POST"} {
		if got := s.want(405, method, "/", ""); got.head.Get("Allow") != "OPTIONS, GET, HEAD" {
			t.Errorf("%s: Allow is %q", method, got.head.Get("Allow"))
		}
	}
	if got := rw.want(301, "GET", "/d", ""); got.head.Get("Location") != "/d/" {
		t.Errorf("a folder without a slash leads to %q", got.head.Get("Location"))
	}
}

// Many clients at a time, on few names: each answer is one that the protocol allows, and in the end each file is one of those that were put, whole.
func TestTree_ManyClientsAtOnce(t *testing.T) {
	s := inMemory(t)
	clients, rounds := 16, 30
	if long() {
		rounds = 1000
	}
	bodies := map[string]bool{}
	for i := range clients {
		bodies[strings.Repeat(string(rune('a'+i)), 10_000+i)] = true
	}
	s.want(201, "MKCOL", "/d", "")
	allowed := map[int]bool{200: true, 201: true, 204: true, 207: true, 403: true, 404: true, 405: true, 409: true, 412: true, 423: true}
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			body := strings.Repeat(string(rune('a'+i)), 10_000+i)
			for j := range rounds {
				path := fmt.Sprintf("/d/%d", (i+j)%5)
				steps := [][]string{
					{"PUT", path, body},
					{"GET", path, ""},
					{"PROPFIND", "/d/", "", "Depth", "1"},
					{"PROPPATCH", path, patchBody},
					{"MOVE", path, "", "Destination", s.URL + fmt.Sprintf("/d/%d", (i+j+1)%5)},
					{"COPY", path, "", "Destination", s.URL + fmt.Sprintf("/d/%d", (i+j+2)%5)},
					{"DELETE", path, ""},
					{"MKCOL", "/e", ""},
					{"COPY", "/d", "", "Destination", s.URL + "/e"},
					{"DELETE", "/e", ""},
				}
				c := steps[(i*7+j)%len(steps)]
				if got := s.do(c[0], c[1], c[2], c[3:]...); !allowed[got.code] {
					t.Errorf("%s %s: got %d: %s", c[0], c[1], got.code, got.body)
				} else if c[0] == "GET" && got.code == 200 && got.body != "" && !bodies[got.body] { // a lock makes an empty file
					t.Errorf("GET %s: a body of %d bytes that nobody put", c[1], len(got.body))
				}
				if j%6 == 0 {
					if tok := s.do("LOCK", path, lockBody("exclusive"), "Timeout", "Second-60"); tok.code < 300 {
						mine := tok.head.Get("Lock-Token")
						if got := s.do("PUT", path, body, "If", "("+mine+")"); got.code != 204 {
							t.Errorf("PUT under a lock: got %d: %s", got.code, got.body)
						}
						if got := s.do("GET", path, ""); got.body != body {
							t.Errorf("somebody wrote to what is locked")
						}
						s.do("UNLOCK", path, "", "Lock-Token", mine)
					}
				}
			}
		})
	}
	all.Wait()
	for i := range 5 {
		if got := s.do("GET", fmt.Sprintf("/d/%d", i), ""); got.code == 200 && got.body != "" && !bodies[got.body] {
			t.Errorf("file %d has %d bytes that nobody put", i, len(got.body))
		}
	}
}

// Of two that save what they have read, the second learns that he was too late.
func TestPut_OnlyOneOfManyWinsWithOneETag(t *testing.T) {
	s := inMemory(t)
	s.want(201, "PUT", "/f", "0")
	for round := range 10 {
		tag := s.want(200, "HEAD", "/f", "").head.Get("Etag")
		won, all := make(chan string, 8), sync.WaitGroup{}
		for i := range 8 {
			all.Go(func() {
				body := fmt.Sprintf("%d-%d", round, i)
				if got := s.do("PUT", "/f", body, "If-Match", tag); got.code == 204 {
					won <- body
				} else if got.code != 412 {
					t.Errorf("got %d", got.code)
				}
			})
		}
		all.Wait()
		close(won)
		var winners []string
		for w := range won {
			winners = append(winners, w)
		}
		if len(winners) != 1 || s.content("/f") != winners[0] {
			t.Fatalf("winners %q, the file has %q", winners, s.content("/f"))
		}
	}
}

// M15: a folder of 50,000 is listed as it is read, and never in memory as a whole.
func TestPropfind_ABigFolderIsStreamed(t *testing.T) {
	const n = 50_000
	fsys := memfs.New(memfs.Options{})
	root := rootOf(t, fsys)
	for i := range n {
		if _, err := root.Make(t.Context(), fmt.Sprintf("file-%05d", i), vfs.New{Kind: vfs.KindFile, Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
	}
	s := serve(t, fsys, webdav.Options{}, webdav.View{})
	begin := time.Now()
	r, err := http.NewRequestWithContext(t.Context(), "PROPFIND", s.URL+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Depth", "1")
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, 64<<10)
	var first time.Duration
	responses, tail := 0, ""
	for {
		m, err := resp.Body.Read(buf)
		if first == 0 {
			first = time.Since(begin)
		}
		text := tail + string(buf[:m])
		responses += strings.Count(text, "</D:response>")
		tail = text[max(0, len(text)-12):]
		if err != nil {
			break
		}
	}
	t.Logf("%d entries in %v, the first after %v", responses, time.Since(begin), first)
	if responses != n+1 {
		t.Errorf("got %d entries", responses)
	}
	if resp.ContentLength >= 0 {
		t.Errorf("it was gathered before it was sent: %d bytes", resp.ContentLength)
	}
}
