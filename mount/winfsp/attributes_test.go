package winfsp

import (
	"testing"
	"time"
)

func TestAttributes_AreKeptAsLetters(t *testing.T) {
	for a, want := range map[attrs]string{0: "", 0x8000: "H", 0x1000 | 0x0080: "RS", keptAttrs: "AHRS"} {
		b := formatAttrs(a)
		if string(b) != want || parseAttrs(b) != a {
			t.Errorf("%#x is kept as %q and read as %#x, want %q", a, b, parseAttrs(b), want)
		}
	}
	if got := parseAttrs([]byte("xHx")); got != 0x8000 {
		t.Errorf("among letters that are not known: got %#x", got)
	}
}

func TestTime_OfCreationIsKeptToTheNanosecond(t *testing.T) {
	for _, want := range []time.Time{time.Unix(0, 0), time.Unix(-5, 1), time.Unix(1<<33, 999_999_999), time.Unix(1700000000, 120)} {
		if got, ok := parseTime(formatTime(want)); !got.Equal(want) || !ok {
			t.Errorf("%v is kept as %q and read as %v, %t", want, formatTime(want), got, ok)
		}
	}
	for _, bad := range []string{"", "5", "5.1", "x.000000000", "5.-00000001", "5.0000000000"} {
		if got, ok := parseTime([]byte(bad)); ok {
			t.Errorf("%q is read as %v", bad, got)
		}
	}
}
