// Package measure is what the programs below bench share: a book of figures, which knows medians, ratios
// and goals; what a machine is; and how to run a program and know what it took. It measures nothing by
// itself, and knows none of the systems that are compared.
package measure

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// A Unit says what the figures of a row are, and so which way is better.
type Unit string

// The units.
const (
	Seconds   Unit = "s"   // less is better
	PerSecond Unit = "/s"  // more is better
	MiB       Unit = "MiB" // less is better
	Count     Unit = ""    // less is better
)

// A Row is one kind of work, and what it must reach.
type Row struct {
	Name string
	Unit Unit
	// Goal bounds the ratio to the first of Book.Against, or to Than: it is at most Goal where less is better, and
	// at least Goal where more is. 0 means none.
	Goal float64
	// Than is the one of Book.Against whom Goal is about; "" is the first.
	Than string
	// Most bounds our own median; 0 means none.
	Most float64
	// Alone says that its figures mean nothing beside each other, and no ratio is shown.
	Alone bool
}

// better says which way the ratio of this row should go: "≤" or "≥".
func (r Row) better() string {
	if r.Unit == PerSecond {
		return "≥"
	}
	return "≤"
}

// A Spread is the median of some figures, and their least and greatest.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// SpreadOf returns the Spread of at least one figure. The median of an even number is
// the mean of the two in the middle.
func SpreadOf(figures []float64) Spread {
	s := slices.Clone(figures)
	slices.Sort(s)
	n := len(s)
	return Spread{Median: (s[(n-1)/2] + s[n/2]) / 2, Min: s[0], Max: s[n-1]}
}

// Best stands in Book.Against for the one of the other systems that was best in the round.
const Best = "the best"

// A Book keeps the figures of all rows, systems and rounds.
type Book struct {
	Systems []string // the first is ours
	Against []string // what ratios are shown to: other systems, or Best; goals are about the first
	Rows    []Row
	figures map[cell][]float64
	skipped map[cell]string // why
}

type cell struct{ row, system string }

// NewBook returns a Book without figures.
func NewBook(systems, against []string, rows []Row) *Book {
	return &Book{Systems: systems, Against: against, Rows: rows, figures: map[cell][]float64{}, skipped: map[cell]string{}}
}

// Add adds the figure of one round.
func (b *Book) Add(row, system string, figure float64) {
	c := cell{row, system}
	b.figures[c] = append(b.figures[c], figure)
}

// Skip notes that a system does not do this row, and why.
func (b *Book) Skip(row, system, why string) { b.skipped[cell{row, system}] = why }

// Ratio returns the Spread of system over's figure divided by that of under, which may be Best, round by round:
// two figures of one round had the machine in the same mood. ok is false if one has none, or
// if they have not the same rounds.
func (b *Book) Ratio(row, over, under string) (Spread, bool) {
	x, y := b.figures[cell{row, over}], b.under(row, under)
	if len(x) == 0 || len(x) != len(y) {
		return Spread{}, false
	}
	var r []float64
	for i := range x {
		if y[i] <= 0 {
			return Spread{}, false
		}
		r = append(r, x[i]/y[i])
	}
	return SpreadOf(r), true
}

// under returns the figures of a system, or in each round that of the best of the others.
func (b *Book) under(row, system string) []float64 {
	if system != Best {
		return b.figures[cell{row, system}]
	}
	var best []float64
	for _, s := range b.Systems[1:] {
		for i, f := range b.figures[cell{row, s}] {
			switch {
			case i == len(best):
				best = append(best, f)
			case b.unit(row) == PerSecond:
				best[i] = max(best[i], f)
			default:
				best[i] = min(best[i], f)
			}
		}
	}
	return best
}

func (b *Book) unit(row string) Unit {
	for _, r := range b.Rows {
		if r.Name == row {
			return r.Unit
		}
	}
	return ""
}

// than returns whom the goal of a row is about.
func (b *Book) than(r Row) string {
	switch {
	case r.Than != "":
		return r.Than
	case len(b.Against) > 0:
		return b.Against[0]
	}
	return ""
}

// Reached says whether a row reached its goals. ok is false if it has none, or no figures.
func (b *Book) Reached(r Row) (yes, ok bool) {
	yes = true
	if r.Goal > 0 {
		got, has := b.Ratio(r.Name, b.Systems[0], b.than(r))
		if !has {
			return false, false
		}
		ok = true
		if r.Unit == PerSecond {
			yes = got.Median >= r.Goal
		} else {
			yes = got.Median <= r.Goal
		}
	}
	if own := b.figures[cell{r.Name, b.Systems[0]}]; r.Most > 0 && len(own) > 0 {
		ok = true
		yes = yes && SpreadOf(own).Median <= r.Most
	}
	return yes && ok, ok
}

// Short writes a figure with three digits that count.
func Short(f float64) string {
	if f == 0 {
		return "0"
	}
	digits := 2 - int(math.Floor(math.Log10(math.Abs(f))))
	return fmt.Sprintf("%.*f", max(digits, 0), f)
}

func (s Spread) String() string {
	if s.Min == s.Max {
		return Short(s.Median)
	}
	return Short(s.Median) + " (" + Short(s.Min) + "–" + Short(s.Max) + ")"
}

// Table writes all rows for people to read.
func (b *Book) Table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	head := []string{"row", "unit"}
	head = append(head, b.Systems...)
	for i, under := range b.Against {
		head = append(head, b.Systems[0]+"/"+under)
		if i == 0 {
			head = append(head, "goal", "")
		}
	}
	if len(b.Against) == 0 {
		head = append(head, "goal", "")
	}
	fmt.Fprintln(t, strings.Join(head, "\t"))
	for _, r := range b.Rows {
		line := []string{r.Name, string(r.Unit)}
		for _, s := range b.Systems {
			line = append(line, b.show(r.Name, s))
		}
		for i, under := range b.Against {
			line = append(line, b.showRatio(r, under))
			if i == 0 {
				line = append(line, r.goal(), b.verdict(r))
			}
		}
		if len(b.Against) == 0 {
			line = append(line, r.goal(), b.verdict(r))
		}
		fmt.Fprintln(t, strings.Join(line, "\t"))
	}
	return t.Flush()
}

// Figures returns the figures of one cell, one for each round.
func (b *Book) Figures(row, system string) []float64 { return b.figures[cell{row, system}] }

// show writes one cell; "skip" is a row that the system cannot do, and "–" one that has no meaning for it.
func (b *Book) show(row, system string) string {
	c := cell{row, system}
	if f := b.figures[c]; len(f) > 0 {
		return SpreadOf(f).String()
	}
	if b.skipped[c] != "" {
		return "skip"
	}
	return "–"
}

func (b *Book) showRatio(r Row, under string) string {
	if s, ok := b.Ratio(r.Name, b.Systems[0], under); ok && !r.Alone {
		return s.String()
	}
	return "–"
}

func (r Row) goal() string {
	switch {
	case r.Goal > 0 && r.Than != "":
		return r.better() + " " + Short(r.Goal) + " of " + r.Than
	case r.Goal > 0:
		return r.better() + " " + Short(r.Goal)
	case r.Most > 0:
		return "≤ " + Short(r.Most) + " " + string(r.Unit)
	}
	return ""
}

func (b *Book) verdict(r Row) string {
	switch yes, ok := b.Reached(r); {
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
	Unit    Unit      `json:"unit"`
	System  string    `json:"system"`
	Rounds  []float64 `json:"rounds,omitempty"`
	Skipped string    `json:"skipped,omitempty"` // why there are no figures
	*Spread
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
	Spread
}

// JSON writes one line for each cell and each ratio.
func (b *Book) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	for _, r := range b.Rows {
		for _, s := range b.Systems {
			c := cell{r.Name, s}
			out := result{Kind: "result", Row: r.Name, Unit: r.Unit, System: s, Rounds: b.figures[c], Skipped: b.skipped[c]}
			if len(out.Rounds) > 0 {
				sp := SpreadOf(out.Rounds)
				out.Spread = &sp
			} else if out.Skipped == "" {
				continue
			}
			if err := enc.Encode(out); err != nil {
				return fmt.Errorf("write results: %w", err)
			}
		}
		for _, under := range b.Against {
			sp, ok := b.Ratio(r.Name, b.Systems[0], under)
			if !ok || r.Alone {
				continue
			}
			out := ratioResult{Kind: "ratio", Row: r.Name, Over: b.Systems[0], Under: under, Better: "less", Spread: sp}
			if r.Unit == PerSecond {
				out.Better = "more"
			}
			if under == b.than(r) {
				out.Goal = r.Goal
				if yes, ok := b.Reached(r); ok {
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

// Turned returns list, begun n places later: who comes first changes from row to row and
// from round to round, so that nobody always follows the same one.
func Turned[T any](list []T, n int) []T {
	if len(list) == 0 {
		return nil
	}
	n %= len(list)
	return slices.Concat(list[n:], list[:n])
}

// A Machine says what ran, and where.
type Machine struct {
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

// Print writes it for people to read.
func (m Machine) Print(w io.Writer) {
	fmt.Fprintf(w, "%s\n%d × %s, %d MiB, %s, %s, load %s\n", m.When, m.Cores, m.CPU, m.MemoryMB, m.Kernel, m.Disk, m.Load)
	fmt.Fprintf(w, "%d rounds, sizes / %d\n", m.Rounds, m.Scale)
	for _, v := range m.Versions {
		fmt.Fprintln(w, "  "+v)
	}
}

// Field returns what follows "key:" in a text of lines like those of /proc; "" if there is none.
func Field(text, key string) string {
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// KiB returns a figure of /proc such as "1234 kB", in MiB; 0 if it is none.
func KiB(s string) float64 {
	var n int64
	if _, err := fmt.Sscanf(s, "%d kB", &n); err != nil {
		return 0
	}
	return float64(n) / 1024
}

// Ticks returns the processor time of a process in clock ticks, from its line in
// /proc/PID/stat: the name, in brackets, may hold anything.
func Ticks(stat string) (int64, error) {
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
