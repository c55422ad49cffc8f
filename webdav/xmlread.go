package webdav

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// davSpace is the namespace of WebDAV itself.
const davSpace = "DAV:"

// xmlSpace is the namespace of the attributes that XML itself knows.
const xmlSpace = "http://www.w3.org/XML/1998/namespace"

// The bounds of XML that is taken in.
const (
	maxXML   = 64 << 10 // bytes of a body
	maxDepth = 64       // elements in each other
)

// xmlName is the name of an element: its namespace, and its name in that.
type xmlName struct{ Space, Local string }

func dav(local string) xmlName { return xmlName{davSpace, local} }

// An element is one of a body that was read, with all that is in it.
type element struct {
	name     xmlName
	lang     string // xml:lang, its own or that of what it lies in
	children []*element
	inner    string // what is in it, as XML that stands for itself
	text     string // the character data that lies directly in it
}

// child returns the first child of that name, or nil.
func (e *element) child(n xmlName) *element {
	for _, c := range e.children {
		if c.name == n {
			return c
		}
	}
	return nil
}

// readBody reads the XML of a request: nil if there is none. What is no XML, or not all of it, is 400.
func readBody(w http.ResponseWriter, r *http.Request) (*element, error) {
	body := &bounded{r: http.MaxBytesReader(w, r.Body, maxXML)}
	e, err := parseXML(body)
	var big *http.MaxBytesError
	switch {
	case err == nil:
		return e, nil
	case errors.As(body.err, &big):
		return nil, refuse(http.StatusRequestEntityTooLarge, "there is too much XML in the request")
	case body.n > 0 || body.err != io.EOF: //nolint:errorlint // a reader returns io.EOF itself
		return nil, refuse(http.StatusBadRequest, "the XML of the request is not well-formed")
	}
	return nil, nil
}

// bounded remembers how a reader ended, which the parser of XML hides.
type bounded struct {
	r   io.Reader
	n   int64
	err error
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.n += int64(n)
	if err != nil {
		b.err = err
	}
	return n, err
}

var errXML = errors.New("not the XML that is wanted")

// scope is the prefixes that an element declares, over those of its parent.
type scope struct {
	up     *scope
	spaces map[string]string
}

func (s *scope) find(prefix string) (string, bool) {
	for ; s != nil; s = s.up {
		if space, ok := s.spaces[prefix]; ok {
			return space, true
		}
	}
	switch prefix {
	case "":
		return "", true
	case "xml":
		return xmlSpace, true
	}
	return "", false
}

// xmlParser resolves prefixes itself, since [xml.Decoder] takes one that nobody declared for a namespace.
type xmlParser struct {
	d     *xml.Decoder
	depth int
}

// parseXML reads one document. There are no entities but the five of XML, and no DTD.
func parseXML(r io.Reader) (*element, error) {
	p := &xmlParser{d: xml.NewDecoder(r)}
	var root *element
	for {
		t, err := p.d.RawToken()
		if err == io.EOF && root != nil { //nolint:errorlint // RawToken returns io.EOF itself
			return root, nil
		}
		if err != nil {
			return nil, err
		}
		switch t := t.(type) {
		case xml.Directive:
			return nil, fmt.Errorf("a DTD: %w", errXML)
		case xml.CharData:
			if strings.TrimSpace(string(t)) != "" {
				return nil, fmt.Errorf("text beside the root: %w", errXML)
			}
		case xml.EndElement:
			return nil, fmt.Errorf("an end without a beginning: %w", errXML)
		case xml.StartElement:
			if root != nil {
				return nil, fmt.Errorf("two roots: %w", errXML)
			}
			if root, _, err = p.element(t, nil, ""); err != nil {
				return nil, err
			}
		}
	}
}

// element reads the rest of an element, and returns it with itself as XML that stands for itself.
func (p *xmlParser) element(start xml.StartElement, up *scope, lang string) (*element, string, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, "", fmt.Errorf("too deep: %w", errXML)
	}
	defer func() { p.depth-- }()
	sc := &scope{up, map[string]string{}}
	for _, a := range start.Attr {
		switch {
		case a.Name.Space == "xmlns":
			if a.Value == "" {
				return nil, "", fmt.Errorf("a prefix for nothing: %w", errXML)
			}
			sc.spaces[a.Name.Local] = a.Value
		case a.Name.Space == "" && a.Name.Local == "xmlns":
			sc.spaces[""] = a.Value
		}
	}
	e := &element{lang: lang}
	var err error
	if e.name, err = resolve(sc, start.Name); err != nil {
		return nil, "", err
	}
	var x, inner xmlWriter
	if e.name.Space == "" {
		x.raw(`<` + e.name.Local + ` xmlns=""`)
	} else {
		x.raw(`<N:` + e.name.Local + ` xmlns:N="`).text(e.name.Space).raw(`"`)
	}
	for i, a := range start.Attr {
		if a.Name.Space == "xmlns" || a.Name.Space == "" && a.Name.Local == "xmlns" {
			continue
		}
		switch a.Name.Space {
		case "":
			x.raw(` ` + a.Name.Local + `="`)
		case "xml":
			if a.Name.Local == "lang" {
				e.lang = a.Value
			}
			x.raw(` xml:` + a.Name.Local + `="`)
		default:
			n, err := resolve(sc, a.Name)
			if err != nil {
				return nil, "", err
			}
			prefix := "A" + strconv.Itoa(i) // two attributes of one element may have one name in two namespaces
			x.raw(` xmlns:` + prefix + `="`).text(n.Space).raw(`" ` + prefix + `:` + n.Local + `="`)
		}
		x.text(a.Value).raw(`"`)
	}
	for {
		t, err := p.d.RawToken()
		if err != nil {
			return nil, "", err
		}
		switch t := t.(type) {
		case xml.Directive:
			return nil, "", fmt.Errorf("a DTD: %w", errXML)
		case xml.CharData:
			e.text += string(t)
			inner.text(string(t))
		case xml.StartElement:
			c, self, err := p.element(t, sc, e.lang)
			if err != nil {
				return nil, "", err
			}
			e.children = append(e.children, c)
			inner.raw(self)
		case xml.EndElement:
			if t.Name != start.Name {
				return nil, "", fmt.Errorf("another end: %w", errXML)
			}
			e.inner = string(inner.buf)
			if e.inner == "" {
				return e, string(x.raw(`/>`).buf), nil
			}
			prefix := "N:"
			if e.name.Space == "" {
				prefix = ""
			}
			return e, string(x.raw(`>` + e.inner + `</` + prefix + e.name.Local + `>`).buf), nil
		}
	}
}

// resolve returns a name with its namespace in place of its prefix.
func resolve(sc *scope, n xml.Name) (xmlName, error) {
	space, ok := sc.find(n.Space)
	if !ok || n.Local == "" || strings.Contains(n.Local, ":") {
		return xmlName{}, fmt.Errorf("a prefix that nobody declared: %w", errXML)
	}
	return xmlName{space, n.Local}, nil
}
