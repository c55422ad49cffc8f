package timetable_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/sync/remote/timetable"
)

// on is a time of the week that begins on Sunday, 2026-03-01.
func on(day, hour, minute int) time.Time {
	return time.Date(2026, 3, 1+day, hour, minute, 0, 0, time.UTC)
}

func TestTable_SaysWhatHolds(t *testing.T) {
	const k, m = 1 << 10, 1 << 20
	type limit = timetable.Limit
	for _, c := range []struct {
		table string
		at    time.Time
		want  limit
	}{
		{"", on(0, 0, 0), limit{}},
		{"off", on(3, 12, 0), limit{}},
		{"1MiB", on(3, 12, 0), limit{m, m}},
		{"1.5M", on(3, 12, 0), limit{m + m/2, m + m/2}},
		{"1MB:64k", on(3, 12, 0), limit{1e6, 64 * k}},
		{"off:2M", on(3, 12, 0), limit{0, 2 * m}},
		{"2M:off", on(3, 12, 0), limit{2 * m, 0}},
		{"9999G", on(3, 12, 0), limit{}},
		{"08:00,512KiB 18:00,4MiB:off 23:00,off", on(2, 7, 59), limit{}},
		{"08:00,512KiB 18:00,4MiB:off 23:00,off", on(2, 8, 0), limit{512 * k, 512 * k}},
		{"08:00,512KiB 18:00,4MiB:off 23:00,off", on(2, 18, 1), limit{4 * m, 0}},
		{"08:00,512KiB 18:00,4MiB:off 23:00,off", on(6, 23, 59), limit{}},
		{"08:00,64K 18:00,1M", on(0, 0, 0), limit{m, m}}, // of Saturday
		{"Mon-08:00,1MiB Fri-18:00,off", on(1, 7, 59), limit{}},
		{"Mon-08:00,1MiB Fri-18:00,off", on(1, 8, 0), limit{m, m}},
		{"fri-18:00,off  mon-08:00,1MiB", on(5, 17, 59), limit{m, m}},
		{"Mon-08:00,1MiB Fri-18:00,off", on(6, 0, 0), limit{}},
		{"Mon-08:00,1MiB Fri-18:00,off", on(0, 12, 0), limit{}},
	} {
		table, err := timetable.Parse(c.table)
		if err != nil {
			t.Errorf("%q: %v", c.table, err)
			continue
		}
		if got := table.At(c.at); got != c.want {
			t.Errorf("%q at %v: %v, want %v", c.table, c.at.Format("Mon 15:04"), got, c.want)
		}
		again, err := timetable.Parse(table.String())
		if err != nil || again.String() != table.String() || again.At(c.at) != c.want {
			t.Errorf("%q is %q, which is another table: %v", c.table, table, err)
		}
	}
}

func TestParse_SaysWhatIsWrong(t *testing.T) {
	for s, why := range map[string]string{
		"512":                        "says not of what",
		"fast":                       "no rate",
		"-1M":                        "no rate",
		"NaNM":                       "no rate",
		"infM":                       "no rate",
		"1M:":                        "no rate",
		"1K":                         "the least",
		"1XB":                        "no rate",
		"1KK":                        "says not of what",
		"08:00,1M 2M":                "says no time",
		"24:00,1M":                   "no time of the day",
		"8:0,1M":                     "no time of the day",
		"Mo-08:00,1M":                "no day",
		"08:00,1M Mon-08:00,off":     "two entries for mon-08:00",
		strings.Repeat("1M ", 10000): "entries",
	} {
		if _, err := timetable.Parse(s); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%.40q: %v, want: %s", s, err, why)
		}
	}
}

// What Next says is never too long: until then the same holds, at any minute of the week, and after it another entry does.
func TestNext_IsWhenAnotherEntryHolds(t *testing.T) {
	table, err := timetable.Parse("08:00,64K 18:30,1M 23:59,off Sun-00:00,2M")
	if err != nil {
		t.Fatal(err)
	}
	for m := range 7 * 24 * 60 {
		now := on(0, 0, m).Add(17 * time.Second)
		held, next := table.At(now), table.Next(now)
		if next <= 0 || next > time.Hour {
			t.Fatalf("%v: next is in %v", now, next)
		}
		if l := table.At(now.Add(next - time.Second)); l != held {
			t.Fatalf("%v: %v holds before Next, and not %v", now, l, held)
		}
		if l := table.At(now.Add(next)); next < time.Hour && l == held {
			t.Fatalf("%v: nothing changes in %v", now, next)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("08:00,512KiB 18:00,4MiB:off Mon-23:00,off")
	f.Add("1.5M:off")
	f.Fuzz(func(t *testing.T, s string) {
		table, err := timetable.Parse(s)
		if err != nil {
			return
		}
		again, err := timetable.Parse(table.String())
		if err != nil {
			t.Fatalf("%q is %q: %v", s, table, err)
		}
		for m := range 24 * 7 {
			now := on(0, m, 0)
			l := table.At(now)
			if l != again.At(now) || l.Up < 0 || l.Down < 0 || l.Up > 0 && l.Up < timetable.Least {
				t.Fatalf("%q at %v: %v and %v", s, now, l, again.At(now))
			}
		}
	})
}
