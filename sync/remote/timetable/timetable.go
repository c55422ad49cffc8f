// Package timetable says how fast bytes may go to places and come from them, by the hour of the week. It is values only: who holds
// to it keeps the count.
//
// A Table is written as rclone's --bwlimit has it: one rate for always, or entries with the time from which they hold.
//
//	off                                       no limit
//	1MiB                                      a mebibyte a second, each way
//	512KiB:4MiB                               up, and down
//	08:00,512KiB 18:00,4MiB:off 23:00,off     by the hour, each day
//	Mon-08:00,1MiB Fri-18:00,off              by the day of the week
package timetable

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Limit is in bytes a second; 0: none.
type Limit struct{ Up, Down int64 }

// Least is the smallest limit, in bytes a second: below it, a call that shares it with thirty others would look like one that hangs.
const Least = 32 << 10

// most is the largest: what is above it is none.
const most = 1 << 40

// A Table is what holds in each minute of the week. Its zero value limits nothing.
type Table struct {
	entries []entry // by from
	text    string
}

// An entry holds from a minute of the week on, until the next one does.
type entry struct {
	from int // minutes since Sunday, 00:00
	Limit
}

const (
	dayMinutes  = 24 * 60
	weekMinutes = 7 * dayMinutes
	maxEntries  = 7 * 48
)

var days = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// Parse reads a Table. "" is the one that limits nothing.
func Parse(s string) (Table, error) {
	fields := strings.Fields(s)
	t := Table{text: strings.Join(fields, " ")}
	if len(fields) == 0 {
		return Table{}, nil
	}
	if len(fields) > maxEntries {
		return Table{}, fmt.Errorf("%d entries, and %d are the most", len(fields), maxEntries)
	}
	if len(fields) == 1 && !strings.Contains(fields[0], ",") {
		l, err := parseLimit(fields[0])
		if err != nil {
			return Table{}, err
		}
		if l != (Limit{}) {
			t.entries = []entry{{0, l}}
		}
		return t, nil
	}
	for _, f := range fields {
		at, rate, ok := strings.Cut(f, ",")
		if !ok {
			return Table{}, fmt.Errorf("%q says no time: entries are like 08:00,512KiB", f)
		}
		l, err := parseLimit(rate)
		if err != nil {
			return Table{}, err
		}
		from, err := parseTime(at)
		if err != nil {
			return Table{}, err
		}
		for _, m := range from {
			t.entries = append(t.entries, entry{m, l})
		}
	}
	slices.SortStableFunc(t.entries, func(a, b entry) int { return cmp.Compare(a.from, b.from) })
	for i := range t.entries[1:] {
		if m := t.entries[i].from; m == t.entries[i+1].from {
			return Table{}, fmt.Errorf("two entries for %s-%02d:%02d", days[m/dayMinutes], m%dayMinutes/60, m%60)
		}
	}
	return t, nil
}

// parseTime returns the minutes of the week that [DAY-]HH:MM is.
func parseTime(s string) ([]int, error) {
	day, clock, one := strings.Cut(s, "-")
	if !one {
		clock = s
	}
	hour, minute, ok := strings.Cut(clock, ":")
	h, herr := strconv.ParseUint(hour, 10, 8)
	m, merr := strconv.ParseUint(minute, 10, 8)
	if !ok || herr != nil || merr != nil || h > 23 || m > 59 || len(minute) != 2 {
		return nil, fmt.Errorf("%q is no time of the day: they are like 08:00 or Mon-08:00", s)
	}
	at := int(h*60 + m)
	if one {
		d := slices.Index(days, strings.ToLower(day))
		if d < 0 {
			return nil, fmt.Errorf("%q is no day: they are Mon, Tue, Wed, Thu, Fri, Sat and Sun", day)
		}
		return []int{d*dayMinutes + at}, nil
	}
	var all []int
	for d := range days {
		all = append(all, d*dayMinutes+at)
	}
	return all, nil
}

// parseLimit reads RATE or UP:DOWN.
func parseLimit(s string) (Limit, error) {
	up, down, two := strings.Cut(s, ":")
	if !two {
		down = up
	}
	u, err := parseRate(up)
	if err != nil {
		return Limit{}, err
	}
	d, err := parseRate(down)
	return Limit{u, d}, err
}

// units are bytes by the names in which rates are written. A letter alone is binary, as rclone has it.
var units = map[string]float64{
	"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "kb": 1e3, "mb": 1e6, "gb": 1e9,
}

// parseRate returns bytes a second, 0 for "off".
func parseRate(s string) (int64, error) {
	if s == "off" {
		return 0, nil
	}
	num := strings.TrimRight(s, "KMGBIkmgbi")
	unit, known := units[strings.ToLower(s[len(num):])]
	v, err := strconv.ParseFloat(num, 64)
	switch {
	case err != nil || !(v >= 0) || v > most: // NaN and infinity are none
		return 0, fmt.Errorf("%q is no rate: they are like 512KiB (a second), or off", s)
	case !known:
		return 0, fmt.Errorf("%q says not of what: write %sKiB or %sMiB", s, num, num)
	case v*unit < Least:
		return 0, fmt.Errorf("%q is below %dKiB a second, which is the least", s, Least>>10)
	case v*unit > most:
		return 0, nil
	}
	return int64(v * unit), nil
}

// String returns the text that the Table was read of, "off" for the zero value.
func (t Table) String() string { return cmp.Or(t.text, "off") }

// At returns what holds at a time, by the clock of its zone.
func (t Table) At(now time.Time) Limit {
	l, _ := t.find(now)
	return l
}

// Next returns how long what holds now holds at least. It is at most an hour, for clocks are put forward and back.
func (t Table) Next(now time.Time) time.Duration {
	_, minutes := t.find(now)
	if minutes > 60 {
		return time.Hour
	}
	passed := time.Duration(now.Second())*time.Second + time.Duration(now.Nanosecond())
	return time.Duration(minutes)*time.Minute - passed
}

// find returns what holds, and the minutes until the next entry: at least one.
func (t Table) find(now time.Time) (Limit, int) {
	if len(t.entries) == 0 {
		return Limit{}, weekMinutes
	}
	m := int(now.Weekday())*dayMinutes + now.Hour()*60 + now.Minute()
	i, found := slices.BinarySearchFunc(t.entries, m, func(e entry, m int) int { return cmp.Compare(e.from, m) })
	if found {
		i++ // it holds already
	}
	held := t.entries[(i+len(t.entries)-1)%len(t.entries)] // before the first one of the week, the last one of the week before
	until := weekMinutes - m + t.entries[0].from
	if i < len(t.entries) {
		until = t.entries[i].from - m
	}
	return held.Limit, until
}
