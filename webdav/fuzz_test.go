package webdav

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
)

func FuzzIf_WhatIsReadHasAMeaning(f *testing.F) {
	for _, s := range []string{"(<urn:a>)", `<http://x/y> (Not <urn:a> ["e"]) (["f"])`, "(", "<a>", "()", "(Not)", `([W/"x"])`, "(<a>)(<b>)", "(Not<a>)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		lists, err := parseIf(s)
		if err != nil {
			return
		}
		if len(lists) == 0 {
			t.Fatalf("%q: no list", s)
		}
		var again strings.Builder
		for _, l := range lists {
			if l.resource != "" {
				again.WriteString("<" + l.resource + "> ")
			}
			again.WriteString("(")
			for _, c := range l.conds {
				if (c.token == "") == (c.etag == "") {
					t.Fatalf("%q: condition %+v", s, c)
				}
				if c.not {
					again.WriteString("Not ")
				}
				if c.token != "" {
					again.WriteString("<" + c.token + ">")
				} else {
					again.WriteString("[" + c.etag + "]")
				}
			}
			again.WriteString(")")
		}
		same, err := parseIf(again.String())
		if err != nil || len(same) != len(lists) {
			t.Fatalf("%q was read, but not %q: %v", s, again.String(), err)
		}
	})
}

func FuzzXML_WhatIsKeptStandsForItself(f *testing.F) {
	for _, s := range []string{
		`<propfind xmlns="DAV:"><allprop/></propfind>`, `<a:b xmlns:a="x" a:c="d"><e xmlns="">&lt;f</e></a:b>`, `<a xml:lang="de">t<b/>u</a>`,
		`<!DOCTYPE a><a/>`, `<a xmlns:x=""/>`, `<a><![CDATA[<b>]]></a>`, "<a b='\n'/>", `<x:a/>`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseXML(bytes.NewReader(b))
		if err != nil {
			return
		}
		_, _ = parseWish(e)
		_, _ = parsePatches(e)
		_, _ = parseLock(e)
		// What is in it may be put into a document of ours, and is the same there.
		var out xmlWriter
		deadProp{Space: e.name.Space, Local: e.name.Local, Lang: e.lang, XML: e.inner}.write(&out)
		again, err := parseXML(strings.NewReader(`<D:x xmlns:D="DAV:">` + string(out.buf) + `</D:x>`))
		if err != nil || len(again.children) != 1 {
			t.Fatalf("%q was read, but not %q: %v", b, out.buf, err)
		}
		if c := again.children[0]; c.name != e.name || c.inner != e.inner || c.text != e.text {
			t.Fatalf("%q became %q: %q and %q", b, out.buf, e.inner, c.inner)
		}
	})
}

func FuzzDestination_StaysInTheRoot(f *testing.F) {
	for _, s := range []string{"http://h/a", "/a/../../b", "http://h/%2e%2e/x", "//h/a", "http://other/a", "a", "http://h/a%2Fb", "http://u@h/a", "http:a", "/%00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := httptest.NewRequest("MOVE", "http://h/f", nil)
		r.Header["Destination"] = []string{s}
		x := &request{handler: &handler{}, r: r, root: "/top/in"}
		p, err := x.destination()
		if err != nil {
			return
		}
		if !vfs.Within("/top/in", p) {
			t.Fatalf("%q leads to %q", s, p)
		}
		names, err := vfs.SplitPath(p)
		if err != nil || "/"+strings.Join(names, "/") != p {
			t.Fatalf("%q leads to %q: %v", s, p, err)
		}
		// What we call it leads back to it.
		u, err := url.Parse(x.href(p, false))
		if err != nil {
			t.Fatal(err)
		}
		if back, err := x.under(u); err != nil || back != p {
			t.Fatalf("%q is called %q, which is %q: %v", p, u, back, err)
		}
	})
}

func FuzzTimeout_IsBounded(f *testing.F) {
	for _, s := range []string{"Infinite", "Second-60", "Second-4100000000", "Second-99999999999999999999999", "Infinite, Second-1", "Second--1", "Extend"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d := parseTimeout(s); d < time.Second || d > lockLongest {
			t.Fatalf("%q is %v", s, d)
		}
	})
}

func FuzzListed_TheTagItselfIsFound(f *testing.F) {
	f.Add(`"a", W/"b"`, "c")
	f.Fuzz(func(t *testing.T, header, tag string) {
		if strings.ContainsAny(tag, "\"\\") {
			return
		}
		_ = listed(header, `"`+tag+`"`, true)
		if !listed(`"`+tag+`"`, `"`+tag+`"`, false) || listed(`W/"`+tag+`"`, `"`+tag+`"`, false) || !listed(`W/"`+tag+`"`, `"`+tag+`"`, true) {
			t.Fatalf("tag %q", tag)
		}
	})
}

func TestParseTimeout_TheFirstThatIsUnderstoodCounts(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"": lockDefault, "Infinite, Second-4100000000": lockLongest, "Second-90": 90 * time.Second, "Extend, Second-5": 5 * time.Second, "Second-0": lockDefault,
	} {
		if got := parseTimeout(s); got != want {
			t.Errorf("%q: got %v, want %v", s, got, want)
		}
	}
}

var _ http.Handler = (*handler)(nil)
