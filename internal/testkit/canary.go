package testkit

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// A Canary is a piece of text that no chance puts anywhere: a test writes it into names, bodies
// and secrets, and looks for it where none of them may be (SECURITY.md, canary scan).
type Canary struct {
	text  string
	forms []form
}

type form struct {
	name string
	text []byte
}

// NewCanary returns a new canary of 32 letters, legal in the name of a file.
func NewCanary(r *rand.Rand) Canary {
	const letters = "abcdefghijklmnopqrstuvwxyz"
	text := []byte("canary")
	for len(text) < 32 {
		text = append(text, letters[r.IntN(len(letters))])
	}
	return CanaryOf(string(text))
}

// CanaryOf makes a canary of a secret that the caller has: 12 bytes at least, or chance
// would find it.
func CanaryOf(secret string) Canary {
	if len(secret) < 12 {
		panic("testkit: a canary of less than 12 bytes")
	}
	c := Canary{text: secret}
	add := func(name, text string) { c.forms = append(c.forms, form{name, []byte(text)}) }
	add("plain text", secret)
	add("reversed text", reversed(secret))
	add("hexadecimal", hex.EncodeToString([]byte(secret)))
	add("hexadecimal", strings.ToUpper(hex.EncodeToString([]byte(secret))))
	var percent, wide strings.Builder
	for _, b := range []byte(secret) {
		percent.WriteString("%" + strings.ToUpper(hex.EncodeToString([]byte{b})))
		wide.WriteString(string([]byte{b, 0}))
	}
	add("percent escapes", percent.String())
	add("percent escapes", strings.ToLower(percent.String()))
	add("UTF-16", wide.String())
	// Where the text begins in a group of three bytes, its base64 is one of three.
	for skip := range 3 {
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			p := enc.EncodeToString([]byte(strings.Repeat("\x00", skip) + secret))
			add("base64", p[(skip*8+5)/6:len(p)-1])
		}
	}
	return c
}

func reversed(s string) string {
	p := []byte(s)
	for i := range len(p) / 2 {
		p[i], p[len(p)-1-i] = p[len(p)-1-i], p[i]
	}
	return string(p)
}

// Text returns the canary as it is to be written.
func (c Canary) Text() string { return c.text }

// Find looks for the canary in p: as it is, in hexadecimal, base64, percent escapes or
// UTF-16, and in whatever zstd frames p contains. It returns the name of the form in which it
// is there, or "".
func (c Canary) Find(p []byte) string {
	if name := c.find(p); name != "" {
		return name
	}
	magic := []byte{0x28, 0xb5, 0x2f, 0xfd}
	for i := bytes.Index(p, magic); i >= 0; {
		if name := c.find(unzstd(p[i:])); name != "" {
			return name + " inside zstd"
		}
		j := bytes.Index(p[i+1:], magic)
		if j < 0 {
			break
		}
		i += 1 + j
	}
	return ""
}

func (c Canary) find(p []byte) string {
	for _, f := range c.forms {
		if bytes.Contains(p, f.text) {
			return f.name
		}
	}
	return ""
}

// unzstd returns what can be decompressed of p, at most 64 MiB.
func unzstd(p []byte) []byte {
	d, err := zstd.NewReader(bytes.NewReader(p), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(128<<20))
	if err != nil {
		return nil
	}
	defer d.Close()
	out, _ := io.ReadAll(io.LimitReader(d, 64<<20)) // an error only ends what is to be searched
	return out
}
