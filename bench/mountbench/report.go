package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// The names of the systems. The first is the one that the others are compared with.
const (
	sheafName = "sheaf"
	cryptName = "gocryptfs"
	plainName = "plain"
	nullName  = "nullfs"
)

var systemNames = []string{sheafName, cryptName, plainName, nullName}

// A unit says what the figures of a row are, and so which way is better.
type unit string

const (
	seconds   unit = "s"   // less is better
	perSecond unit = "/s"  // more is better
	mebibytes unit = "MiB" // less is better
)

// A row is one kind of work, and what it must reach.
type row struct {
	Name string
	Unit unit
	// Goal bounds the ratio sheaf/gocryptfs: it is at most Goal where less is better, and
	// at least Goal where more is. 0 means none.
	Goal float64
	// Most bounds sheaf's own median; 0 means none.
	Most float64
	// Alone says that its figures mean nothing beside each other, and no ratio is shown.
	Alone bool
}

// better says which way the ratio sheaf/gocryptfs of this row should go: "≤" or "≥".
func (r row) better() string {
	if r.Unit == perSecond {
		return "≥"
	}
	return "≤"
}

// A spread is the median of some figures, and their least and greatest.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// spreadOf returns the spread of at least one figure. The median of an even number is
// the mean of the two in the middle.
func spreadOf(figures []float64) spread {
	s := slices.Clone(figures)
	slices.Sort(s)
	n := len(s)
	return spread{Median: (s[(n-1)/2] + s[n/2]) / 2, Min: s[0], Max: s[n-1]}
}

// A book keeps the figures of all rows, systems and rounds.
type book struct {
	rows    []row
	figures map[cell][]float64
	skipped map[cell]string // why
}

type cell struct{ row, system string }

func newBook(rows []row) *book {
	return &book{rows: rows, figures: map[cell][]float64{}, skipped: map[cell]string{}}
}

// add adds the figure of one round.
func (b *book) add(row, system string, figure float64) {
	c := cell{row, system}
	b.figures[c] = append(b.figures[c], figure)
}

// skip notes that a system does not do this row, and why.
func (b *book) skip(row, system, why string) { b.skipped[cell{row, system}] = why }

// ratio returns the spread of system a's figure divided by system b's, round by round: two
// figures of one round had the machine in the same mood. ok is false if one has none, or
// if they have not the same rounds.
func (b *book) ratio(row, over, under string) (spread, bool) {
	x, y := b.figures[cell{row, over}], b.figures[cell{row, under}]
	if len(x) == 0 || len(x) != len(y) {
		return spread{}, false
	}
	var r []float64
	for i := range x {
		if y[i] <= 0 {
			return spread{}, false
		}
		r = append(r, x[i]/y[i])
	}
	return spreadOf(r), true
}

// reached says whether a row reached its goals. ok is false if it has none, or no figures.
func (b *book) reached(r row) (yes, ok bool) {
	yes = true
	if r.Goal > 0 {
		got, has := b.ratio(r.Name, sheafName, cryptName)
		if !has {
			return false, false
		}
		ok = true
		if r.Unit == perSecond {
			yes = got.Median >= r.Goal
		} else {
			yes = got.Median <= r.Goal
		}
	}
	if own := b.figures[cell{r.Name, sheafName}]; r.Most > 0 && len(own) > 0 {
		ok = true
		yes = yes && spreadOf(own).Median <= r.Most
	}
	return yes && ok, ok
}

// short writes a figure with three digits that count.
func short(f float64) string {
	if f == 0 {
		return "0"
	}
	digits := 2 - int(math.Floor(math.Log10(math.Abs(f))))
	return fmt.Sprintf("%.*f", max(digits, 0), f)
}

func (s spread) String() string {
	if s.Min == s.Max {
		return short(s.Median)
	}
	return short(s.Median) + " (" + short(s.Min) + "–" + short(s.Max) + ")"
}

// table writes all rows for people to read.
func (b *book) table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "row\tunit\t%s\tsheaf/gocryptfs\tgoal\t\tsheaf/plain\n", strings.Join(systemNames, "\t"))
	for _, r := range b.rows {
		line := []string{r.Name, string(r.Unit)}
		for _, s := range systemNames {
			line = append(line, b.show(r.Name, s))
		}
		line = append(line, b.showRatio(r, cryptName), r.goal(), b.verdict(r), b.showRatio(r, plainName))
		fmt.Fprintln(t, strings.Join(line, "\t"))
	}
	return t.Flush()
}

// show writes one cell; "skip" is a row that the system cannot do, and "–" one that has no meaning for it.
func (b *book) show(row, system string) string {
	c := cell{row, system}
	if f := b.figures[c]; len(f) > 0 {
		return spreadOf(f).String()
	}
	if b.skipped[c] != "" {
		return "skip"
	}
	return "–"
}

func (b *book) showRatio(r row, under string) string {
	if s, ok := b.ratio(r.Name, sheafName, under); ok && !r.Alone {
		return s.String()
	}
	return "–"
}

func (r row) goal() string {
	switch {
	case r.Goal > 0:
		return r.better() + " " + short(r.Goal)
	case r.Most > 0:
		return "≤ " + short(r.Most) + " " + string(r.Unit)
	}
	return ""
}

func (b *book) verdict(r row) string {
	switch yes, ok := b.reached(r); {
	case !ok:
		return ""
	case yes:
		return "yes"
	}
	return "NO"
}

// A result is one cell as a line of JSON.
type result struct {
	Kind    string    `json:"kind"` // "result"
	Row     string    `json:"row"`
	Unit    unit      `json:"unit"`
	System  string    `json:"system"`
	Rounds  []float64 `json:"rounds,omitempty"`
	Skipped string    `json:"skipped,omitempty"` // why there are no figures
	*spread
}

// A ratioResult is the comparison of one row as a line of JSON.
type ratioResult struct {
	Kind    string  `json:"kind"` // "ratio"
	Row     string  `json:"row"`
	Over    string  `json:"over"`
	Under   string  `json:"under"`
	Goal    float64 `json:"goal,omitempty"`
	Better  string  `json:"better"` // "less" or "more"
	Reached *bool   `json:"reached,omitempty"`
	spread
}

// json writes one line for each cell and each ratio.
func (b *book) json(w io.Writer) error {
	enc := json.NewEncoder(w)
	for _, r := range b.rows {
		for _, s := range systemNames {
			c := cell{r.Name, s}
			out := result{Kind: "result", Row: r.Name, Unit: r.Unit, System: s, Rounds: b.figures[c], Skipped: b.skipped[c]}
			if len(out.Rounds) > 0 {
				sp := spreadOf(out.Rounds)
				out.spread = &sp
			} else if out.Skipped == "" {
				continue
			}
			if err := enc.Encode(out); err != nil {
				return fmt.Errorf("write results: %w", err)
			}
		}
		for _, under := range []string{cryptName, plainName} {
			sp, ok := b.ratio(r.Name, sheafName, under)
			if !ok || r.Alone {
				continue
			}
			out := ratioResult{Kind: "ratio", Row: r.Name, Over: sheafName, Under: under, Better: "less", spread: sp}
			if r.Unit == perSecond {
				out.Better = "more"
			}
			if under == cryptName {
				out.Goal = r.Goal
				if yes, ok := b.reached(r); ok {
					out.Reached = &yes
				}
			}
			if err := enc.Encode(out); err != nil {
				return fmt.Errorf("write results: %w", err)
			}
		}
	}
	return nil
}

// turned returns list, begun n places later: who comes first changes from row to row and
// from round to round, so that nobody always follows the same one.
func turned[T any](list []T, n int) []T {
	if len(list) == 0 {
		return nil
	}
	n %= len(list)
	return slices.Concat(list[n:], list[:n])
}

// A machine says what ran, and where.
type machine struct {
	Kind     string   `json:"kind"` // "machine"
	When     string   `json:"when"` // RFC 3339
	CPU      string   `json:"cpu"`
	Cores    int      `json:"cores"`
	MemoryMB int64    `json:"memory_mib"`
	Kernel   string   `json:"kernel"`
	Disk     string   `json:"disk"` // the file system of the work folder
	Load     string   `json:"load"` // the load average when it began
	Rounds   int      `json:"rounds"`
	Scale    int      `json:"scale"` // sizes are divided by it
	Versions []string `json:"versions"`
}

func (m machine) print(w io.Writer) {
	fmt.Fprintf(w, "%s\n%d × %s, %d MiB, %s, %s, load %s\n", m.When, m.Cores, m.CPU, m.MemoryMB, m.Kernel, m.Disk, m.Load)
	fmt.Fprintf(w, "%d rounds, sizes / %d\n", m.Rounds, m.Scale)
	for _, v := range m.Versions {
		fmt.Fprintln(w, "  "+v)
	}
}

// field returns what follows "key:" in a text of lines like those of /proc; "" if there is none.
func field(text, key string) string {
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// kib returns a figure of /proc such as "1234 kB", in MiB; 0 if it is none.
func kib(s string) float64 {
	var n int64
	if _, err := fmt.Sscanf(s, "%d kB", &n); err != nil {
		return 0
	}
	return float64(n) / 1024
}

// ticks returns the processor time of a process in clock ticks, from its line in
// /proc/PID/stat: the name, in brackets, may hold anything.
func ticks(stat string) (int64, error) {
	_, rest, ok := strings.Cut(stat[max(strings.LastIndexByte(stat, ')'), 0):], ")")
	f := strings.Fields(rest)
	if !ok || len(f) < 13 {
		return 0, fmt.Errorf("read processor time: %q is no line of stat", stat)
	}
	var user, sys int64
	if _, err := fmt.Sscan(f[11], &user); err != nil {
		return 0, fmt.Errorf("read processor time: %w", err)
	}
	if _, err := fmt.Sscan(f[12], &sys); err != nil {
		return 0, fmt.Errorf("read processor time: %w", err)
	}
	return user + sys, nil
}

// A fioReport is what is read of fio's report in JSON.
type fioReport struct {
	Jobs []struct {
		Error   int    `json:"error"`
		Runtime int64  `json:"job_runtime"` // ms, with the fsync at the end
		Read    fioSum `json:"read"`
		Write   fioSum `json:"write"`
	} `json:"jobs"`
}

type fioSum struct {
	IOs int64 `json:"total_ios"`
}

// fioRate returns the operations per second of fio's report. The time counts from the
// first operation to the end of the last fsync.
func fioRate(report []byte) (float64, error) {
	at := slices.Index(report, '{') // warnings come first
	if at < 0 {
		return 0, fmt.Errorf("read fio's report: %q is no JSON", report)
	}
	var r fioReport
	if err := json.Unmarshal(report[at:], &r); err != nil {
		return 0, fmt.Errorf("read fio's report: %w", err)
	}
	if len(r.Jobs) != 1 || r.Jobs[0].Error != 0 || r.Jobs[0].Runtime <= 0 {
		return 0, fmt.Errorf("read fio's report: no figures in it: %s", report)
	}
	j := r.Jobs[0]
	n := cmp.Or(j.Read.IOs, j.Write.IOs)
	if n <= 0 {
		return 0, fmt.Errorf("read fio's report: nothing was done: %s", report)
	}
	return float64(n) / (float64(j.Runtime) / 1000), nil
}
