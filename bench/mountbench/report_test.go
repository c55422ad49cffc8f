package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSpreadOf_TakesTheMiddleAndLeavesTheFiguresAlone(t *testing.T) {
	for _, tt := range []struct {
		in   []float64
		want spread
	}{
		{[]float64{3}, spread{3, 3, 3}},
		{[]float64{9, 1, 5}, spread{5, 1, 9}},
		{[]float64{4, 1, 2, 9}, spread{3, 1, 9}},
	} {
		in := slices.Clone(tt.in)
		if got := spreadOf(in); got != tt.want {
			t.Errorf("spreadOf(%v) = %v, want %v", tt.in, got, tt.want)
		}
		if !slices.Equal(in, tt.in) {
			t.Errorf("spreadOf changed %v to %v", tt.in, in)
		}
	}
}

func TestTurned_EachIsFirstOnceAndNobodyIsLost(t *testing.T) {
	all := []string{"a", "b", "c", "d"}
	var first []string
	for n := range 8 {
		got := turned(all, n)
		first = append(first, got[0])
		slices.Sort(got)
		if !slices.Equal(got, all) {
			t.Errorf("turned by %d: %v", n, got)
		}
	}
	if want := []string{"a", "b", "c", "d", "a", "b", "c", "d"}; !slices.Equal(first, want) {
		t.Errorf("first are %v, want %v", first, want)
	}
	if got := turned([]string{}, 3); len(got) != 0 {
		t.Errorf("nothing, turned, is %v", got)
	}
}

// filled is a book in which the machine was twice as slow in the second round.
func filled() *book {
	b := newBook([]row{
		{Name: "write", Unit: seconds, Goal: 0.8},
		{Name: "random", Unit: perSecond, Goal: 4},
		{Name: "sqlite", Unit: perSecond},
		{Name: "memory", Unit: mebibytes, Most: 250},
		{Name: "rest", Unit: seconds, Alone: true},
	})
	b.add("rest", sheafName, 2)
	b.add("rest", cryptName, 1)
	for _, round := range []float64{1, 2, 1} {
		b.add("write", sheafName, 1*round)
		b.add("write", cryptName, 2*round)
		b.add("write", plainName, 0.5*round)
		b.add("random", sheafName, 300/round)
		b.add("random", cryptName, 100/round)
	}
	b.add("memory", sheafName, 260)
	b.skip("sqlite", nullName, keepsNothing)
	return b
}

const keepsNothing = "it keeps nothing"

func TestBook_RatiosAreTakenRoundByRound(t *testing.T) {
	b := filled()
	if got, ok := b.ratio("write", sheafName, cryptName); !ok || got != (spread{0.5, 0.5, 0.5}) {
		t.Errorf("ratio %v %v, want 0.5 in each round", got, ok)
	}
	if _, ok := b.ratio("random", sheafName, plainName); ok {
		t.Error("a ratio to no figures")
	}
	b.add("write", cryptName, 1)
	if _, ok := b.ratio("write", sheafName, cryptName); ok {
		t.Error("a ratio of unlike rounds")
	}
	b.add("none", sheafName, 1)
	b.add("none", plainName, 0)
	if _, ok := b.ratio("none", sheafName, plainName); ok {
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
	for _, r := range b.rows {
		yes, ok := b.reached(r)
		if got := [2]bool{yes, ok}; got != want[r.Name] {
			t.Errorf("%s: reached %v, want %v", r.Name, got, want[r.Name])
		}
	}
}

func TestBook_TableShowsSkippedRowsAndVerdicts(t *testing.T) {
	var out bytes.Buffer
	if err := filled().table(&out); err != nil {
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
	if err := filled().json(&out); err != nil {
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
		if got := short(in); got != want {
			t.Errorf("short(%v) = %s, want %s", in, got, want)
		}
	}
}

func TestProc_FiguresAreReadAsTheKernelWritesThem(t *testing.T) {
	text := "Name:\tsheaf\nVmHWM:\t  204800 kB\nVmRSS:\t  102400 kB\n"
	if got := kib(field(text, "VmRSS")); got != 100 {
		t.Errorf("VmRSS is %v MiB", got)
	}
	if got := kib(field(text, "VmSwap")); got != 0 {
		t.Errorf("a missing field is %v MiB", got)
	}
	got, err := ticks("12 (a ) name) S 1 12 12 0 -1 4194560 1 2 3 4 250 50 0 0 20 0")
	if err != nil || got != 300 {
		t.Errorf("ticks are %d, %v", got, err)
	}
	for _, bad := range []string{"", "12 (x", "12 (x) S 1 2 3", "12 (x) S 1 12 12 0 -1 4194560 1 2 3 4 many 50 0"} {
		if n, err := ticks(bad); err == nil {
			t.Errorf("%q has %d ticks", bad, n)
		}
	}
}

func TestFioRate_CountsOperationsByTheTimeOfTheJob(t *testing.T) {
	good := `fio: a warning
{"jobs":[{"error":0,"job_runtime":500,"read":{"total_ios":0},"write":{"total_ios":2000}}]}`
	if got, err := fioRate([]byte(good)); err != nil || math.Abs(got-4000) > 1e-9 {
		t.Errorf("rate %v, %v", got, err)
	}
	for _, bad := range []string{
		"", "fio: no such file", `{"jobs":[]}`,
		`{"jobs":[{"error":5,"job_runtime":500,"read":{"total_ios":7}}]}`,
		`{"jobs":[{"error":0,"job_runtime":0,"read":{"total_ios":7}}]}`,
		`{"jobs":[{"error":0,"job_runtime":500,"read":{"total_ios":0}}]}`,
	} {
		if got, err := fioRate([]byte(bad)); err == nil {
			t.Errorf("%q has the rate %v", bad, got)
		}
	}
}
