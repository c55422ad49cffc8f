package main

import (
	"testing"
	"time"
)

func TestParseTime_ReadsWhatPeopleWrite(t *testing.T) {
	zone := time.FixedZone("CET", 3600)
	now := time.Date(2026, 11, 23, 14, 30, 0, 0, zone)
	at := func(y, mo, d, h, mi, s, ns int) time.Time {
		return time.Date(y, time.Month(mo), d, h, mi, s, ns, zone)
	}
	for text, want := range map[string]time.Time{
		"now":                       now,
		"2h ago":                    at(2026, 11, 23, 12, 30, 0, 0),
		"2 hours ago":               at(2026, 11, 23, 12, 30, 0, 0),
		"an hour ago":               at(2026, 11, 23, 13, 30, 0, 0),
		"10 minutes ago":            at(2026, 11, 23, 14, 20, 0, 0),
		"10m":                       at(2026, 11, 23, 14, 20, 0, 0),
		"1.5 days ago":              at(2026, 11, 22, 2, 30, 0, 0),
		"3W ago":                    at(2026, 11, 2, 14, 30, 0, 0),
		"2 months ago":              at(2026, 9, 23, 14, 30, 0, 0),
		"1 year ago":                at(2025, 11, 23, 14, 30, 0, 0),
		"yesterday":                 at(2026, 11, 22, 23, 59, 59, 999999999),
		"2026-11-20":                at(2026, 11, 20, 23, 59, 59, 999999999),
		"2026-11-23 14:00":          at(2026, 11, 23, 14, 0, 0, 0),
		"2026-11-23T14:00:05":       at(2026, 11, 23, 14, 0, 5, 0),
		"2026-11-23T13:00:05Z":      at(2026, 11, 23, 14, 0, 5, 0),
		"2026-11-23T14:00:05+01:00": at(2026, 11, 23, 14, 0, 5, 0),
		"2026-11-23 13:00:05 +0000": at(2026, 11, 23, 14, 0, 5, 0),
	} {
		if got, ok := parseTime(text, now); !ok || !got.Equal(want) {
			t.Errorf("%q: got %v, %v, want %v", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "latest", "before the move", "2 ago", "h ago", "2 fortnights ago", "1.5 months ago", "99999999999 weeks ago", "2026-13-01", "0000000000000001@7"} {
		if got, ok := parseTime(text, now); ok {
			t.Errorf("%q: got %v, want no time", text, got)
		}
	}
}

func TestMoment_LeavesNamesOfSnapshotsAlone(t *testing.T) {
	now := time.Date(2026, 11, 23, 14, 30, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"": "", "now": "", "latest": "latest", "00ff@12": "00ff@12", "before the move": "before the move",
		"30m ago": "2026-11-23T14:00:00Z",
	} {
		if got := moment(text, now); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestParseRange(t *testing.T) {
	for text, want := range map[string][2]int64{
		"0-1M": {0, 1 << 20}, "1-3": {1, 2}, "1K-": {1024, 0}, "4K+512": {4096, 512}, "1.5K-2K": {1536, 512}, "1kB+1": {1000, 1}, "1MiB-": {1 << 20, 0},
	} {
		off, n, err := parseRange(text)
		if err != nil || off != want[0] || n != want[1] {
			t.Errorf("%q: got %d, %d, %v, want %v", text, off, n, err, want)
		}
	}
	for _, text := range []string{"", "-", "5", "3-1", "3-3", "3+", "3+0", "-5", "a-b", "1-2-3", "1Q-", "-1+4", "99999999999E-"} {
		if off, n, err := parseRange(text); err == nil {
			t.Errorf("%q: got %d, %d, want an error", text, off, n)
		}
	}
}

func FuzzTime(f *testing.F) {
	for _, s := range []string{"2h ago", "2026-11-23", "yesterday", "1e9 days ago", "0.0000001s"} {
		f.Add(s)
	}
	now := time.Date(2026, 11, 23, 14, 30, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		_, _ = parseTime(s, now)
		if off, n, err := parseRange(s); err == nil && (off < 0 || n < 0) {
			t.Errorf("%q: got %d, %d", s, off, n)
		}
	})
}
