package webdav

import (
	"errors"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
)

// A patch is one property that a PROPPATCH sets or removes.
type patch struct {
	remove bool
	prop   deadProp
	text   string // of the value
	code   int    // what came of it; 0: nothing yet
	cond   string
}

// parsePatches reads the body of a PROPPATCH, in its order.
func parsePatches(e *element) ([]*patch, error) {
	bad := refuse(http.StatusBadRequest, "this is no propertyupdate")
	if e == nil || e.name != dav("propertyupdate") {
		return nil, bad
	}
	var all []*patch
	for _, c := range e.children {
		if c.name != dav("set") && c.name != dav("remove") {
			continue // what is not known is passed over
		}
		prop := c.child(dav("prop"))
		if prop == nil {
			return nil, bad
		}
		for _, p := range prop.children {
			one := deadProp{Space: p.name.Space, Local: p.name.Local, Lang: p.lang, XML: p.inner}
			all = append(all, &patch{remove: c.name.Local == "remove", prop: one, text: p.text})
		}
	}
	if len(all) == 0 || len(all) > maxNames {
		return nil, bad
	}
	return all, nil
}

// proppatch sets and removes properties: all that it was asked for, or nothing.
func (x *request) proppatch() error {
	e, err := readBody(x.w, x.r)
	if err != nil {
		return err
	}
	all, err := parsePatches(e)
	if err != nil {
		return err
	}
	end, err := x.t.stepping(x.ctx)
	if err != nil {
		return err
	}
	defer end()
	s, err := x.find(x.ctx, x.path)
	if errors.Is(err, errNoParent) || err == nil && s.node == nil {
		return fs.ErrNotExist
	}
	if err == nil {
		err = x.allowed(s, touch{path: s.path})
	}
	if err != nil {
		return err
	}
	if err := x.patch(s, all); err != nil {
		return err
	}
	out := &xmlWriter{}
	out.raw(xmlHead + `<D:multistatus xmlns:D="DAV:"><D:response><D:href>`).text(x.href(s.path, s.isDir())).raw(`</D:href>`)
	for _, p := range all {
		n := p.prop.name()
		out.raw(`<D:propstat><D:prop>`).open(n).raw(`/></D:prop>`).statusLine(p.code)
		if p.cond != "" {
			out.raw(`<D:error><D:` + p.cond + `/></D:error>`)
		}
		out.raw(`</D:propstat>`)
	}
	out.raw("</D:response></D:multistatus>\n")
	x.w.Header().Set("Content-Type", xmlType)
	x.w.Header().Set("Content-Length", strconv.Itoa(len(out.buf)))
	x.w.WriteHeader(http.StatusMultiStatus)
	_, _ = x.w.Write(out.buf) // who went away is not told
	return nil
}

// patch does what a PROPPATCH asks for and notes in each patch what came of it.
func (x *request) patch(s spot, all []*patch) error {
	dead, err := deadProps(x.ctx, s.node)
	if err != nil {
		return err
	}
	var c vfs.AttrChange
	changed, refused := false, false
	for _, p := range all {
		n := p.prop.name()
		switch {
		case !p.remove && (n == win32MTime || n == lastMod):
			t, ok := win32Time(p.text)
			if sec, err := strconv.ParseInt(strings.TrimSpace(p.text), 10, 64); n == lastMod && err == nil && sec > -1<<40 && sec < 1<<40 {
				t, ok = time.Unix(sec, 0), true
			}
			if !ok {
				p.code, refused = http.StatusConflict, true
				continue
			}
			c.Set |= vfs.SetMTime
			c.MTime = t
		case n == executable && !p.remove && !s.isDir():
			c.Set |= vfs.SetMode
			c.Mode = s.attr.Mode &^ 0o111
			if strings.TrimSpace(p.text) == "T" {
				c.Mode |= s.attr.Mode & 0o444 >> 2 // whoever may read it
			}
		case liveProps[n] != nil:
			p.code, p.cond, refused = http.StatusForbidden, "cannot-modify-protected-property", true
		default:
			dead = without(dead, n)
			if !p.remove {
				dead = append(dead, p.prop)
			}
			changed = true
		}
	}
	if !refused && changed {
		if err := setDeadProps(x.ctx, s, dead); errors.Is(err, vfs.ErrNoSpace) || errors.Is(err, vfs.ErrRange) {
			refused = true
			for _, p := range all {
				if liveProps[p.prop.name()] == nil && !p.remove {
					p.code = http.StatusInsufficientStorage
				}
			}
		} else if err != nil {
			return err
		}
	}
	if !refused && c.Set != 0 {
		if _, err := s.node.SetAttr(x.ctx, c); err != nil {
			return err
		}
	}
	for _, p := range all {
		switch {
		case p.code != 0:
		case refused:
			p.code = http.StatusFailedDependency
		default:
			p.code = http.StatusOK
		}
	}
	return nil
}

// without returns props without the one of that name.
func without(props []deadProp, n xmlName) []deadProp {
	var left []deadProp
	for _, p := range props {
		if p.name() != n {
			left = append(left, p)
		}
	}
	return left
}
