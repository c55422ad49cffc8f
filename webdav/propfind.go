package webdav

import (
	"errors"
	"io/fs"
	"net/http"
	"slices"
)

// A wish is what a PROPFIND asks for.
type wish struct {
	names    []xmlName // of prop, or of include
	all      bool      // allprop
	onlyName bool      // propname
}

// maxNames is how many properties can be asked for by name.
const maxNames = 200

// parseWish reads the body of a PROPFIND; none is allprop.
func parseWish(e *element) (wish, error) {
	bad := refuse(http.StatusBadRequest, "this is no propfind")
	if e == nil {
		return wish{all: true}, nil
	}
	if e.name != dav("propfind") {
		return wish{}, bad
	}
	var w wish
	kinds := 0
	prop := e.child(dav("prop"))
	if e.child(dav("allprop")) != nil {
		kinds++
		w.all = true
	}
	if e.child(dav("propname")) != nil {
		kinds++
		w.onlyName = true
	}
	if prop != nil {
		kinds++
	}
	if kinds != 1 {
		return wish{}, bad
	}
	if prop == nil && w.all {
		prop = e.child(dav("include"))
	}
	if prop != nil {
		for _, c := range prop.children {
			if !slices.Contains(w.names, c.name) && (!w.all || !slices.Contains(allProps, c.name)) {
				w.names = append(w.names, c.name)
			}
		}
	}
	if len(w.names) > maxNames {
		return wish{}, refuse(http.StatusBadRequest, "too many properties at a time")
	}
	return w, nil
}

// needsDead reports whether dead properties have to be read.
func (w wish) needsDead() bool {
	return w.all || w.onlyName || slices.ContainsFunc(w.names, func(n xmlName) bool { return liveProps[n] == nil })
}

// depth reads a Depth header: 0, 1 or -1 for infinity.
func depth(r *http.Request, missing int) (int, error) {
	switch r.Header.Get("Depth") {
	case "":
		return missing, nil
	case "0":
		return 0, nil
	case "1":
		return 1, nil
	case "infinity", "Infinity":
		return -1, nil
	}
	return 0, refuse(http.StatusBadRequest, "Depth is 0, 1 or infinity")
}

// propfind tells the properties of what is there, and, as deep as is asked, of what lies below. The answer is sent as the tree is read.
func (x *request) propfind() error {
	deep, err := depth(x.r, -1)
	if err != nil {
		return err
	}
	e, err := readBody(x.w, x.r)
	if err != nil {
		return err
	}
	w, err := parseWish(e)
	if err != nil {
		return err
	}
	s, err := x.find(x.ctx, x.path)
	if errors.Is(err, errNoParent) || err == nil && s.node == nil {
		return fs.ErrNotExist
	}
	if err == nil {
		err = x.ifHolds(s)
	}
	if err != nil {
		return err
	}
	h := x.w.Header()
	h.Set("Content-Type", xmlType)
	h.Set("Cache-Control", "no-store")
	h.Set("Dav", "1, 2, 3")
	x.w.WriteHeader(http.StatusMultiStatus)
	out := &xmlWriter{to: x.w}
	out.raw(xmlHead + `<D:multistatus xmlns:D="DAV:">` + "\n")
	err = x.tell(out, s, w, deep)
	if err == nil {
		err = out.raw("</D:multistatus>\n").flush()
	}
	if err != nil {
		return x.broken(err)
	}
	return nil
}

// tell writes what is asked for of s and, as deep as is said, of what lies below it.
func (x *request) tell(out *xmlWriter, s spot, w wish, deep int) error {
	if err := x.response(out, s, w); err != nil {
		return err
	}
	if deep == 0 || !s.isDir() {
		return nil
	}
	return x.children(s, func(c spot) error {
		if deep < 0 {
			return x.tell(out, c, w, deep)
		}
		return x.response(out, c, w)
	})
}

// response writes what is asked for of s.
func (x *request) response(out *xmlWriter, s spot, w wish) error {
	var dead []deadProp
	if w.needsDead() {
		var err error
		if dead, err = deadProps(x.ctx, s.node); err != nil {
			return err
		}
	}
	out.raw(`<D:response><D:href>`).text(x.href(s.path, s.isDir())).raw(`</D:href>`)
	if w.onlyName {
		return x.propNames(out, s, dead)
	}
	begin := len(out.buf)
	out.raw(`<D:propstat><D:prop>`)
	var missing []xmlName
	found := 0
	one := func(n xmlName, must bool) error {
		has, err := x.writeProp(out, s, n, dead)
		switch {
		case has:
			found++
		case must:
			missing = append(missing, n)
		}
		return err
	}
	if w.all {
		for _, n := range allProps {
			if err := one(n, false); err != nil {
				return err
			}
		}
		for _, p := range dead {
			if liveProps[p.name()] == nil {
				p.write(out)
			}
		}
	}
	for _, n := range w.names {
		if err := one(n, true); err != nil {
			return err
		}
	}
	out.raw(`</D:prop>`).statusLine(http.StatusOK).raw(`</D:propstat>`)
	if found == 0 && len(missing) > 0 {
		out.buf = out.buf[:begin]
	}
	if len(missing) > 0 {
		out.raw(`<D:propstat><D:prop>`)
		for _, n := range missing {
			out.open(n).raw(`/>`)
		}
		out.raw(`</D:prop>`).statusLine(http.StatusNotFound).raw(`</D:propstat>`)
	}
	out.raw("</D:response>\n")
	return out.send()
}

// propNames writes the names of all properties that s has.
func (x *request) propNames(out *xmlWriter, s spot, dead []deadProp) error {
	out.raw(`<D:propstat><D:prop>`)
	var scrap xmlWriter
	names := append(slices.Clone(allProps), dav("quota-available-bytes"), dav("quota-used-bytes"), win32MTime)
	for _, n := range names {
		has, err := x.writeProp(&scrap, s, n, nil)
		if err != nil {
			return err
		}
		if has {
			out.open(n).raw(`/>`)
		}
	}
	for _, p := range dead {
		out.open(p.name()).raw(`/>`)
	}
	out.raw(`</D:prop>`).statusLine(http.StatusOK).raw("</D:propstat></D:response>\n")
	return out.send()
}
