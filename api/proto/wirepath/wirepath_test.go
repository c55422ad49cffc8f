package wirepath

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestEncode_IsTheTextThatTheContractSays(t *testing.T) {
	for path, want := range map[string]string{
		"":              "",
		"a/ü/日":         "a/ü/日",
		"caf\xe9":       "caf\x00e9",
		"\xff\xfe/\xc3": "\x00ff\x00fe/\x00c3",
		"\ufffd":        "\ufffd",
	} {
		if got := Encode(path); got != want {
			t.Errorf("Encode(%q): got %q, want %q", path, got, want)
		}
	}
}

func TestDecode_RefusesWhatEncodeNeverYields(t *testing.T) {
	for _, text := range []string{"\x00", "\x004", "\x00g0", "\x0041", "\x00C3", "\x00c3\x00bc", "\xff", "\x0000"} {
		if got, err := Decode(text); !errors.Is(err, ErrText) {
			t.Errorf("Decode(%q): got %q, %v", text, got, err)
		}
	}
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"", "a/b", "caf\xe9", "\xed\xa0\x80", "\x00c3", "\xf0\x9f\x98"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if text := Encode(s); strings.IndexByte(s, 0) < 0 {
			if !utf8.ValidString(text) {
				t.Errorf("Encode(%q) is not UTF-8", s)
			}
			if back, err := Decode(text); err != nil || back != s {
				t.Errorf("Decode(Encode(%q)): got %q, %v", s, back, err)
			}
		}
		if path, err := Decode(s); err == nil && Encode(path) != s {
			t.Errorf("Encode(Decode(%q)): got %q", s, Encode(path))
		}
	})
}
