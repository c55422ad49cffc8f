package measure

import (
	"bufio"
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSpreadOf_TakesTheMiddleAndLeavesTheFiguresAlone(t *testing.T) {
	for _, tt := range []struct {
		in   []float64
		want Spread
	}{
		{[]float64{3}, Spread{3, 3, 3}},
		{[]float64{9, 1, 5}, Spread{5, 1, 9}},
		{[]float64{4, 1, 2, 9}, Spread{3, 1, 9}},
	} {
		in := slices.Clone(tt.in)
		if got := SpreadOf(in); got != tt.want {
			t.Errorf("SpreadOf(%v) = %v, want %v", tt.in, got, tt.want)
		}
		if !slices.Equal(in, tt.in) {
			t.Errorf("SpreadOf changed %v to %v", tt.in, in)
		}
	}
}

func TestTurned_EachIsFirstOnceAndNobodyIsLost(t *testing.T) {
	all := []string{"a", "b", "c", "d"}
	var first []string
	for n := range 8 {
		got := Turned(all, n)
		first = append(first, got[0])
		slices.Sort(got)
		if !slices.Equal(got, all) {
			t.Errorf("turned by %d: %v", n, got)
		}
	}
	if want := []string{"a", "b", "c", "d", "a", "b", "c", "d"}; !slices.Equal(first, want) {
		t.Errorf("first are %v, want %v", first, want)
	}
	if got := Turned([]string{}, 3); len(got) != 0 {
		t.Errorf("nothing, turned, is %v", got)
	}
}

// filled is a book in which the machine was twice as slow in the second round.
func filled() *Book {
	b := NewBook([]string{"sheaf", "gocryptfs", "plain", "nullfs"}, []string{"gocryptfs", "plain"}, []Row{
		{Name: "write", Unit: Seconds, Goal: 0.8},
		{Name: "random", Unit: PerSecond, Goal: 4},
		{Name: "sqlite", Unit: PerSecond},
		{Name: "memory", Unit: MiB, Most: 250},
		{Name: "rest", Unit: Seconds, Alone: true},
	})
	b.Add("rest", "sheaf", 2)
	b.Add("rest", "gocryptfs", 1)
	for _, round := range []float64{1, 2, 1} {
		b.Add("write", "sheaf", 1*round)
		b.Add("write", "gocryptfs", 2*round)
		b.Add("write", "plain", 0.5*round)
		b.Add("random", "sheaf", 300/round)
		b.Add("random", "gocryptfs", 100/round)
	}
	b.Add("memory", "sheaf", 260)
	b.Skip("sqlite", "nullfs", keepsNothing)
	return b
}

const keepsNothing = "it keeps nothing"

func TestBook_RatiosAreTakenRoundByRound(t *testing.T) {
	b := filled()
	if got, ok := b.Ratio("write", "sheaf", "gocryptfs"); !ok || got != (Spread{0.5, 0.5, 0.5}) {
		t.Errorf("ratio %v %v, want 0.5 in each round", got, ok)
	}
	if _, ok := b.Ratio("random", "sheaf", "plain"); ok {
		t.Error("a ratio to no figures")
	}
	b.Add("write", "gocryptfs", 1)
	if _, ok := b.Ratio("write", "sheaf", "gocryptfs"); ok {
		t.Error("a ratio of unlike rounds")
	}
	b.Add("none", "sheaf", 1)
	b.Add("none", "plain", 0)
	if _, ok := b.Ratio("none", "sheaf", "plain"); ok {
		t.Error("a ratio to zero")
	}
}

func TestBook_GoalsGoTheWayOfTheirUnit(t *testing.T) {
	b := filled()
	want := map[string][2]bool{ // reached, has a goal and figures
		"write":  {true, true},   // 0.5 of the time, ≤ 0.8
		"random": {false, true},  // 3 times as many, ≥ 4
		"sqlite": {false, false}, // no goal
		"memory": {false, true},  // 260 > 250
		"rest":   {false, false}, // no goal
	}
	for _, r := range b.Rows {
		yes, ok := b.Reached(r)
		if got := [2]bool{yes, ok}; got != want[r.Name] {
			t.Errorf("%s: reached %v, want %v", r.Name, got, want[r.Name])
		}
	}
}

func TestBook_TableShowsSkippedRowsAndVerdicts(t *testing.T) {
	var out bytes.Buffer
	if err := filled().Table(&out); err != nil {
		t.Fatal(err)
	}
	var got [][]string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Fields(line))
	}
	want := [][]string{
		{"row", "unit", "sheaf", "gocryptfs", "plain", "nullfs", "sheaf/gocryptfs", "goal", "sheaf/plain"},
		{"write", "s", "1.00", "(1.00–2.00)", "2.00", "(2.00–4.00)", "0.500", "(0.500–1.00)", "–", "0.500", "≤", "0.800", "yes", "2.00"},
		{"random", "/s", "300", "(150–300)", "100", "(50.0–100)", "–", "–", "3.00", "≥", "4.00", "NO", "–"},
		{"sqlite", "/s", "–", "–", "–", "skip", "–", "–"},
		{"memory", "MiB", "260", "–", "–", "–", "–", "≤", "250", "MiB", "NO", "–"},
		{"rest", "s", "2.00", "1.00", "–", "–", "–", "–"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestBook_JSONIsOneObjectALine(t *testing.T) {
	var out bytes.Buffer
	if err := filled().JSON(&out); err != nil {
		t.Fatal(err)
	}
	var got []string
	sc := bufio.NewScanner(&out)
	for sc.Scan() {
		var m map[string]any
		if err := json.Unmarshal(sc.Bytes(), &m); err != nil {
			t.Fatalf("%s: %v", sc.Bytes(), err)
		}
		got = append(got, sc.Text())
	}
	want := []string{
		`{"kind":"result","row":"write","unit":"s","system":"sheaf","rounds":[1,2,1],"median":1,"min":1,"max":2}`,
		`{"kind":"result","row":"write","unit":"s","system":"gocryptfs","rounds":[2,4,2],"median":2,"min":2,"max":4}`,
		`{"kind":"result","row":"write","unit":"s","system":"plain","rounds":[0.5,1,0.5],"median":0.5,"min":0.5,"max":1}`,
		`{"kind":"ratio","row":"write","over":"sheaf","under":"gocryptfs","goal":0.8,"better":"less","reached":true,"median":0.5,"min":0.5,"max":0.5}`,
		`{"kind":"ratio","row":"write","over":"sheaf","under":"plain","better":"less","median":2,"min":2,"max":2}`,
		`{"kind":"result","row":"random","unit":"/s","system":"sheaf","rounds":[300,150,300],"median":300,"min":150,"max":300}`,
		`{"kind":"result","row":"random","unit":"/s","system":"gocryptfs","rounds":[100,50,100],"median":100,"min":50,"max":100}`,
		`{"kind":"ratio","row":"random","over":"sheaf","under":"gocryptfs","goal":4,"better":"more","reached":false,"median":3,"min":3,"max":3}`,
		`{"kind":"result","row":"sqlite","unit":"/s","system":"nullfs","skipped":"it keeps nothing"}`,
		`{"kind":"result","row":"memory","unit":"MiB","system":"sheaf","rounds":[260],"median":260,"min":260,"max":260}`,
		`{"kind":"result","row":"rest","unit":"s","system":"sheaf","rounds":[2],"median":2,"min":2,"max":2}`,
		`{"kind":"result","row":"rest","unit":"s","system":"gocryptfs","rounds":[1],"median":1,"min":1,"max":1}`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestShort_KeepsThreeDigitsThatCount(t *testing.T) {
	for in, want := range map[float64]string{
		0: "0", 0.00123456: "0.00123", 0.5: "0.500", 1.2345: "1.23", 12.345: "12.3", 123.45: "123", 98765: "98765", 0.99999: "1.000",
	} {
		if got := Short(in); got != want {
			t.Errorf("Short(%v) = %s, want %s", in, got, want)
		}
	}
}

func TestProc_FiguresAreReadAsTheKernelWritesThem(t *testing.T) {
	text := "Name:\tsheaf\nVmHWM:\t  204800 kB\nVmRSS:\t  102400 kB\n"
	if got := KiB(Field(text, "VmRSS")); got != 100 {
		t.Errorf("VmRSS is %v MiB", got)
	}
	if got := KiB(Field(text, "VmSwap")); got != 0 {
		t.Errorf("a missing field is %v MiB", got)
	}
	got, err := Ticks("12 (a ) name) S 1 12 12 0 -1 4194560 1 2 3 4 250 50 0 0 20 0")
	if err != nil || got != 300 {
		t.Errorf("ticks are %d, %v", got, err)
	}
	for _, bad := range []string{"", "12 (x", "12 (x) S 1 2 3", "12 (x) S 1 12 12 0 -1 4194560 1 2 3 4 many 50 0"} {
		if n, err := Ticks(bad); err == nil {
			t.Errorf("%q has %d ticks", bad, n)
		}
	}
}

func TestBook_TheBestIsAnotherOneInEachRound(t *testing.T) {
	b := NewBook([]string{"us", "x", "y"}, []string{Best}, []Row{{Name: "time", Unit: Seconds, Goal: 0.5}, {Name: "rate", Unit: PerSecond, Goal: 2}})
	for _, f := range [][3]float64{{1, 2, 8}, {2, 9, 4}} {
		for i, s := range b.Systems {
			b.Add("time", s, f[i])
			b.Add("rate", s, 100/f[i])
		}
	}
	for row, want := range map[string]float64{"time": 0.5, "rate": 2} {
		if got, ok := b.Ratio(row, "us", Best); !ok || got != (Spread{want, want, want}) {
			t.Errorf("%s: got %v %v, want %v in each round", row, got, ok, want)
		}
	}
	if _, ok := b.Reached(b.Rows[0]); !ok {
		t.Error("the goal is not judged")
	}
}
