package webdav

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
)

// The namespaces besides that of WebDAV in which properties are known.
const (
	win32Space  = "urn:schemas-microsoft-com:"
	apacheSpace = "http://apache.org/dav/props/"
)

var (
	win32MTime = xmlName{win32Space, "Win32LastModifiedTime"}
	executable = xmlName{apacheSpace, "executable"} // as mod_dav_fs has it, and davfs2 and cadaver use it
	lastMod    = dav("lastmodified")                // what rclone and others set
)

// A liveProp writes the value of a property that the tree itself has, as XML, and reports whether what is at s has it.
type liveProp func(x *request, out *xmlWriter, s spot) (bool, error)

// allProps are the live properties that allprop means, in the order in which they are sent.
var allProps = []xmlName{
	dav("resourcetype"), dav("displayname"), dav("getcontentlength"), dav("getlastmodified"), dav("creationdate"), dav("getetag"),
	dav("getcontenttype"), dav("supportedlock"), dav("lockdiscovery"), executable,
}

// liveProps are all live properties.
var liveProps = map[xmlName]liveProp{
	dav("resourcetype"): func(_ *request, out *xmlWriter, s spot) (bool, error) {
		if s.isDir() {
			out.raw(`<D:collection/>`)
		}
		return true, nil
	},
	dav("displayname"): func(x *request, out *xmlWriter, s spot) (bool, error) {
		if s.path != x.root {
			out.text(s.name)
		}
		return true, nil
	},
	dav("getcontentlength"): func(_ *request, out *xmlWriter, s spot) (bool, error) {
		if !s.isDir() {
			out.buf = strconv.AppendInt(out.buf, s.attr.Size, 10)
		}
		return !s.isDir(), nil
	},
	dav("getcontenttype"): func(_ *request, out *xmlWriter, s spot) (bool, error) {
		if s.isDir() {
			out.raw("httpd/unix-directory") // as Apache calls it, for some clients look for it
		} else {
			out.text(contentType(s.name))
		}
		return true, nil
	},
	dav("getlastmodified"): func(_ *request, out *xmlWriter, s spot) (bool, error) {
		out.raw(httpTime(s.attr.MTime))
		return true, nil
	},
	dav("creationdate"): func(_ *request, out *xmlWriter, s spot) (bool, error) {
		t := s.attr.BTime
		if t.IsZero() {
			t = s.attr.MTime
		}
		out.raw(t.UTC().Format("2006-01-02T15:04:05Z"))
		return true, nil
	},
	dav("getetag"): func(x *request, out *xmlWriter, s spot) (bool, error) {
		if s.isDir() { // what lies in a folder changes it only in part
			return false, nil
		}
		tag, err := x.tag(s)
		out.text(tag)
		return true, err
	},
	dav("supportedlock"): func(_ *request, out *xmlWriter, _ spot) (bool, error) {
		out.raw(`<D:lockentry><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockentry>` +
			`<D:lockentry><D:lockscope><D:shared/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockentry>`)
		return true, nil
	},
	dav("lockdiscovery"): func(x *request, out *xmlWriter, s spot) (bool, error) {
		for _, l := range x.t.locks.on(s.path) {
			x.activeLock(out, l)
		}
		return true, nil
	},
	dav("quota-available-bytes"): func(x *request, out *xmlWriter, s spot) (bool, error) {
		u, err := x.t.fsys.Usage(x.ctx)
		out.raw(strconv.FormatUint(u.BytesFree, 10))
		return s.isDir(), err
	},
	dav("quota-used-bytes"): func(x *request, out *xmlWriter, s spot) (bool, error) {
		u, err := x.t.fsys.Usage(x.ctx)
		out.raw(strconv.FormatUint(u.Bytes-min(u.Bytes, u.BytesFree), 10))
		return s.isDir(), err
	},
	executable: func(_ *request, out *xmlWriter, s spot) (bool, error) {
		if s.attr.Mode&0o100 != 0 {
			out.raw("T")
		} else {
			out.raw("F")
		}
		return !s.isDir(), nil
	},
	win32MTime: func(_ *request, out *xmlWriter, s spot) (bool, error) {
		out.raw(httpTime(s.attr.MTime))
		return true, nil
	},
}

// deadXattr is the extended attribute in which a node has the properties that mean nothing to us.
const deadXattr = "user.dav.props"

// The bounds of those of one node, in bytes.
const (
	maxDead       = 32 << 10
	maxLitterDead = 2 << 10 // in memory
)

// A deadProp is a property that a client keeps here.
type deadProp struct {
	Space string `json:"ns,omitempty"`
	Local string `json:"name"`
	Lang  string `json:"lang,omitempty"`
	XML   string `json:"xml,omitempty"` // what is in it, which stands for itself
}

func (p deadProp) name() xmlName { return xmlName{p.Space, p.Local} }

// write writes the property as an element.
func (p deadProp) write(out *xmlWriter) {
	out.open(p.name())
	if p.Lang != "" {
		out.raw(` xml:lang="`).text(p.Lang).raw(`"`)
	}
	if p.XML == "" {
		out.raw(`/>`)
		return
	}
	out.raw(`>` + p.XML).close(p.name())
}

// deadProps returns the dead properties of a node. What cannot be read, since somebody else wrote it there, is none.
func deadProps(ctx context.Context, n vfs.Node) ([]deadProp, error) {
	b, err := n.Xattr(ctx, deadXattr)
	if errors.Is(err, vfs.ErrNoXattr) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var props []deadProp
	if json.Unmarshal(b, &props) != nil {
		return nil, nil //nolint:nilerr // somebody else wrote it there
	}
	sound := props[:0]
	for _, p := range props {
		// It goes into our XML as it is, and whoever can set the attribute by another door may have set anything.
		if e, err := parseXML(strings.NewReader(`<N:` + p.Local + ` xmlns:N="DAV:">` + p.XML + `</N:` + p.Local + `>`)); err == nil && e.name.Local == p.Local {
			sound = append(sound, p)
		}
	}
	return sound, nil
}

// setDeadProps replaces the dead properties of a node. Its CTime stays, for the ETag of a file is to stay as long as its content does.
func setDeadProps(ctx context.Context, s spot, props []deadProp) error {
	if len(props) == 0 {
		if err := s.node.RemoveXattr(ctx, deadXattr); err != nil && !errors.Is(err, vfs.ErrNoXattr) {
			return err
		}
	} else {
		b, err := json.Marshal(props)
		if err != nil {
			return err
		}
		if len(b) > maxDead || s.litter && len(b) > maxLitterDead {
			return fmt.Errorf("dead properties of %d bytes: %w", len(b), vfs.ErrNoSpace)
		}
		if err := s.node.SetXattr(ctx, deadXattr, b, vfs.XattrAny); err != nil {
			return err
		}
	}
	a, err := s.node.Attr(ctx)
	if err != nil || !a.MTime.Equal(s.attr.MTime) || a.Size != s.attr.Size || s.isDir() { // it was written to meanwhile
		return err
	}
	_, err = s.node.SetAttr(ctx, vfs.AttrChange{Set: vfs.SetCTime, CTime: s.attr.CTime})
	return err
}

// writeProp writes one property of s as an element and reports whether s has it.
func (x *request) writeProp(out *xmlWriter, s spot, n xmlName, dead []deadProp) (bool, error) {
	if live := liveProps[n]; live != nil {
		at := len(out.buf)
		out.open(n).raw(`>`)
		from := len(out.buf)
		has, err := live(x, out, s)
		if !has || err != nil {
			out.buf = out.buf[:at]
			return false, err
		}
		if len(out.buf) == from {
			out.buf = append(out.buf[:from-1], "/>"...)
			return true, nil
		}
		out.close(n)
		return true, nil
	}
	for _, p := range dead {
		if p.name() == n {
			p.write(out)
			return true, nil
		}
	}
	return false, nil
}

// win32Time reads a time as Windows sends it.
func win32Time(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC1123, "Mon, 2 Jan 2006 15:04:05 GMT", time.RFC850, time.ANSIC} {
		if t, err := time.Parse(layout, strings.TrimSpace(s)); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
