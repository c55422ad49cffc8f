package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/cmd/sheaf/settings"
)

// ago is "2h ago", "10 minutes ago", "1.5 days ago", "3w".
var ago = regexp.MustCompile(`^(?:(\d+(?:\.\d+)?|an?)\s*)([a-z]+)(?:\s+ago)?$`)

// units are the lengths of time that a person names.
var units = map[string]time.Duration{
	"s": time.Second, "sec": time.Second, "second": time.Second,
	"m": time.Minute, "min": time.Minute, "minute": time.Minute,
	"h": time.Hour, "hr": time.Hour, "hour": time.Hour,
	"d": 24 * time.Hour, "day": 24 * time.Hour,
	"w": 7 * 24 * time.Hour, "week": 7 * 24 * time.Hour,
}

// layouts are the forms of a point in time, besides RFC 3339. Without a zone it is local.
var layouts = []string{
	"2006-01-02 15:04:05.999999999 -0700", "2006-01-02 15:04:05 -0700", "2006-01-02 15:04:05 MST",
	"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04",
}

// parseTime reads a point in time as people write it, seen from now. A day without a
// time is its end, for "at that day" means with all that was done on it.
func parseTime(s string, now time.Time) (time.Time, bool) {
	text := strings.TrimSpace(s)
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, true
	}
	for _, l := range layouts {
		if t, err := time.ParseInLocation(l, text, now.Location()); err == nil {
			return t, true
		}
	}
	endOf := func(t time.Time) time.Time {
		y, m, d := t.Date()
		return time.Date(y, m, d+1, 0, 0, 0, 0, now.Location()).Add(-1)
	}
	if t, err := time.ParseInLocation("2006-01-02", text, now.Location()); err == nil {
		return endOf(t), true
	}
	switch text = strings.ToLower(text); text {
	case "now":
		return now, true
	case "yesterday":
		return endOf(now.AddDate(0, 0, -1)), true
	}
	m := ago.FindStringSubmatch(text)
	if m == nil {
		return time.Time{}, false
	}
	n := 1.0
	if m[1][0] != 'a' {
		var err error
		if n, err = strconv.ParseFloat(m[1], 64); err != nil {
			return time.Time{}, false
		}
	}
	unit := m[2]
	if u, ok := units[unit]; ok {
		return back(now, n, u)
	}
	singular := strings.TrimSuffix(unit, "s")
	if u, ok := units[singular]; ok && len(singular) > 1 {
		return back(now, n, u)
	}
	if n != float64(int(n)) || n > 10000 {
		return time.Time{}, false
	}
	switch singular {
	case "month":
		return now.AddDate(0, -int(n), 0), true
	case "year", "y":
		return now.AddDate(-int(n), 0, 0), true
	}
	return time.Time{}, false
}

// back goes n units back, if that can be said.
func back(now time.Time, n float64, unit time.Duration) (time.Time, bool) {
	d := n * float64(unit)
	if d > float64(1<<62) {
		return time.Time{}, false
	}
	return now.Add(-time.Duration(d)), true
}

// moment turns what a person wrote after --at into what the contract takes: a time in RFC 3339,
// or the ID or label of a snapshot as it is. "now" and "" are the present.
func moment(s string, now time.Time) string {
	if s == "" || s == "now" {
		return ""
	}
	if t, ok := parseTime(s, now); ok {
		return t.UTC().Format(time.RFC3339Nano)
	}
	return s
}

// parseRange reads "0-1M" (from, to: the last byte is not in it), "1M-" or "4K+512" (from, length).
func parseRange(s string) (off, n int64, err error) {
	bad := fmt.Errorf("range %q is not of the form 0-1M, 1M- or 4K+512", s)
	from, rest, plus := strings.Cut(s, "+")
	if !plus {
		var minus bool
		if from, rest, minus = strings.Cut(s, "-"); !minus {
			return 0, 0, bad
		}
	}
	if off, err = parseSize(from); err != nil {
		return 0, 0, bad
	}
	if rest == "" && !plus {
		return off, 0, nil
	}
	if n, err = parseSize(rest); err != nil {
		return 0, 0, bad
	}
	if !plus {
		n -= off
	}
	if n <= 0 {
		return 0, 0, fmt.Errorf("range %q is empty", s)
	}
	return off, n, nil
}

// parseSize reads a number of bytes: 10, 4K, 1.5M, 2GiB, 3kB.
func parseSize(s string) (int64, error) { return settings.ParseSize(s) }
