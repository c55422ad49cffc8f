// Package wirepath carries names that are any bytes through the contract, whose
// strings are UTF-8. It says nothing about what a legal name is.
package wirepath

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// ErrText is wrapped by the error for a text that Encode never yields.
var ErrText = errors.New("malformed path text")

const hexDigits = "0123456789abcdef"

// Encode returns path as UTF-8. Each byte that is not part of valid UTF-8 becomes
// U+0000 and its two hexadecimal digits. A path has no zero bytes, so that nothing is
// lost; if it has one, Decode of the outcome fails or gives another path.
func Encode(path string) string {
	if utf8.ValidString(path) {
		return path
	}
	var b strings.Builder
	for i := 0; i < len(path); {
		r, n := utf8.DecodeRuneInString(path[i:])
		if r == utf8.RuneError && n == 1 {
			b.WriteByte(0)
			b.WriteByte(hexDigits[path[i]>>4])
			b.WriteByte(hexDigits[path[i]&15])
		} else {
			b.WriteString(path[i : i+n])
		}
		i += n
	}
	return b.String()
}

// Decode returns the path that Encode made text of. Every path has one text only:
// whatever Encode would have written otherwise is an error.
func Decode(text string) (string, error) {
	if strings.IndexByte(text, 0) < 0 {
		if !utf8.ValidString(text) {
			return "", fmt.Errorf("%w: not UTF-8", ErrText)
		}
		return text, nil
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != 0 {
			b.WriteByte(text[i])
			continue
		}
		if i+2 >= len(text) {
			return "", fmt.Errorf("%w: it ends in the midst of a byte", ErrText)
		}
		hi, lo := strings.IndexByte(hexDigits, text[i+1]), strings.IndexByte(hexDigits, text[i+2])
		if hi < 0 || lo < 0 {
			return "", fmt.Errorf("%w: %q is no byte", ErrText, text[i+1:i+3])
		}
		b.WriteByte(byte(hi<<4 | lo))
		i += 2
	}
	path := b.String()
	if strings.IndexByte(path, 0) >= 0 || Encode(path) != text {
		return "", fmt.Errorf("%w: not as it is written", ErrText)
	}
	return path, nil
}
