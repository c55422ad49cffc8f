package webdav

import (
	"io"
	"net/http"
	"strconv"
	"unicode/utf8"
)

const (
	xmlType = "application/xml; charset=utf-8"
	xmlHead = `<?xml version="1.0" encoding="utf-8"?>` + "\n"
)

// An xmlWriter gathers XML and sends it in big pieces. Its first error stays.
type xmlWriter struct {
	buf []byte
	to  io.Writer // nil: all stays in buf
	err error
}

// xmlPiece is how many bytes are gathered before they are sent.
const xmlPiece = 32 << 10

// raw writes s as it is.
func (x *xmlWriter) raw(s string) *xmlWriter {
	x.buf = append(x.buf, s...)
	return x
}

// text writes s as character data. What XML has no way to say becomes U+FFFD.
func (x *xmlWriter) text(s string) *xmlWriter {
	for i := 0; i < len(s); {
		r, n := rune(s[i]), 1
		if r >= utf8.RuneSelf {
			r, n = utf8.DecodeRuneInString(s[i:])
		}
		switch {
		case r == '<':
			x.buf = append(x.buf, "&lt;"...)
		case r == '>':
			x.buf = append(x.buf, "&gt;"...)
		case r == '&':
			x.buf = append(x.buf, "&amp;"...)
		case r == '"':
			x.buf = append(x.buf, "&quot;"...)
		case r == '\r', r == '\n', r == '\t': // or they would be folded to blanks in attributes
			x.buf = append(x.buf, "&#"...)
			x.buf = strconv.AppendInt(x.buf, int64(r), 10)
			x.buf = append(x.buf, ';')
		case !xmlChar(r) || r == utf8.RuneError && n == 1:
			x.buf = append(x.buf, "\uFFFD"...)
		default:
			x.buf = append(x.buf, s[i:i+n]...)
		}
		i += n
	}
	return x
}

// xmlChar reports whether XML 1.0 knows r.
func xmlChar(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' || r >= 0x20 && r <= 0xD7FF || r >= 0xE000 && r <= 0xFFFD || r >= 0x10000 && r <= 0x10FFFF
}

// send sends what was gathered, if it is much.
func (x *xmlWriter) send() error {
	if len(x.buf) < xmlPiece || x.to == nil {
		return x.err
	}
	return x.flush()
}

func (x *xmlWriter) flush() error {
	if x.err == nil && x.to != nil {
		_, x.err = x.to.Write(x.buf)
		x.buf = x.buf[:0]
	}
	return x.err
}

// open writes the beginning of an element of any namespace, in a prefix of its own.
func (x *xmlWriter) open(n xmlName) *xmlWriter {
	switch n.Space {
	case davSpace:
		return x.raw(`<D:` + n.Local)
	case "":
		return x.raw(`<` + n.Local + ` xmlns=""`)
	}
	return x.raw(`<N:` + n.Local + ` xmlns:N="`).text(n.Space).raw(`"`)
}

// close writes the end of what open began.
func (x *xmlWriter) close(n xmlName) *xmlWriter {
	switch n.Space {
	case davSpace:
		return x.raw(`</D:` + n.Local + `>`)
	case "":
		return x.raw(`</` + n.Local + `>`)
	}
	return x.raw(`</N:` + n.Local + `>`)
}

// statusLine writes a status as it stands in a multistatus.
func (x *xmlWriter) statusLine(code int) *xmlWriter {
	return x.raw(`<D:status>HTTP/1.1 ` + strconv.Itoa(code) + ` ` + http.StatusText(code) + `</D:status>`)
}
