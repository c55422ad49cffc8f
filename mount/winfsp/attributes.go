package winfsp

import (
	"strconv"
	"strings"
	"time"
)

// attrs are attributes of Windows, by the numbers of cgofuse (UF_*).
type attrs uint32

// The letters of attributes, as attrib.exe has them. They are what is stored.
var attrLetters = []struct {
	letter rune
	bit    attrs
}{
	{'A', 0x0800}, // archive
	{'H', 0x8000}, // hidden
	{'R', 0x1000}, // read-only
	{'S', 0x0080}, // system
}

// keptAttrs are all attributes that are kept; the rest are not.
const keptAttrs attrs = 0x0800 | 0x8000 | 0x1000 | 0x0080

func formatAttrs(a attrs) []byte {
	var b []byte
	for _, l := range attrLetters {
		if a&l.bit != 0 {
			b = append(b, byte(l.letter))
		}
	}
	return b
}

// parseAttrs is the way back. Letters that it does not know it leaves out: a later version may have written them.
func parseAttrs(b []byte) (a attrs) {
	for _, l := range attrLetters {
		if strings.ContainsRune(string(b), l.letter) {
			a |= l.bit
		}
	}
	return a
}

// formatTime writes seconds and nanoseconds since 1970, as in "-5.000000001".
func formatTime(t time.Time) []byte {
	b := strconv.AppendInt(nil, t.Unix(), 10)
	ns := strconv.Itoa(t.Nanosecond())
	return append(append(append(b, '.'), strings.Repeat("0", 9-len(ns))...), ns...)
}

// parseTime is the way back.
func parseTime(b []byte) (time.Time, bool) {
	s, ns, ok := strings.Cut(string(b), ".")
	if !ok || len(ns) != 9 {
		return time.Time{}, false
	}
	sec, err1 := strconv.ParseInt(s, 10, 64)
	nsec, err2 := strconv.ParseUint(ns, 10, 32)
	if err1 != nil || err2 != nil {
		return time.Time{}, false
	}
	return time.Unix(sec, int64(nsec)), true
}
