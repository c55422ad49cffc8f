package churn

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// A bound is how much a figure may grow: a part with the time, and a part for what fills once, or is cut to whole numbers.
type bound struct{ anHour, once float64 }

func (b bound) times(n float64) bound { return bound{n * b.anHour, n * b.once} }

// A figure is something that is measured again and again and must not grow.
type figure struct {
	name  string
	unit  string
	bound bound
	at    []float64 // seconds
	value []float64
}

func (f *figure) add(at, value float64) {
	f.at, f.value = append(f.at, at), append(f.value, value)
}

// blocks is into how many parts the samples are cut, if there are as many. Neighbours among samples are alike (a collection needs memory
// for a while, a journal fills and empties), so each part counts as one sample, its median.
const blocks = 16

// enough is how often a figure must be measured.
const enough = 8

// sure is how many standard deviations of Kendall's S the limits of a slope are away from its middle. A figure that does not grow, whatever its noise
// is, is below the lower limit once in some 2000 times.
const sure = 3.29

// A trend is how a figure behaves over the last three quarters of its samples: before, caches fill.
type trend struct {
	hours          float64
	slope, low, up float64 // by hour: the likely one, and what it is between almost surely
	median         float64
	step           float64 // by how much all of the last parts are above all of the first ones
}

// ends is how many parts at the begin and at the end are held against each other. Without growth all of the one are above all
// of the other once in 252 times, and they must be so by the bound besides.
const ends = 5

// trend fits a line, as Theil and Sen do: its slope is the median of the slopes between any two parts. Up
// to 29 % of them may be anything. The limits are those of Sen, by the distribution of Kendall's S.
func (f *figure) trend() (t trend, err error) {
	if len(f.at) < enough {
		return t, fmt.Errorf("%s was measured %d times, which is too few to tell", f.name, len(f.at))
	}
	at, value := f.at[len(f.at)/4:], f.value[len(f.at)/4:]
	n := min(len(at), blocks)
	var xs, ys, slopes []float64
	for b := range n {
		from, to := b*len(at)/n, (b+1)*len(at)/n
		xs, ys = append(xs, median(at[from:to])/3600), append(ys, median(value[from:to]))
	}
	for i := range xs {
		for j := range i {
			slopes = append(slopes, (ys[i]-ys[j])/(xs[i]-xs[j]))
		}
	}
	slices.Sort(slopes)
	off := sure * math.Sqrt(float64(n*(n-1)*(2*n+5))/18)
	low := max(0, int((float64(len(slopes))-off)/2))
	return trend{
		hours: (at[len(at)-1] - at[0]) / 3600, slope: median(slopes), low: slopes[low], up: slopes[len(slopes)-1-low], median: median(ys),
		step: slices.Min(ys[n-min(ends, n/3):]) - slices.Max(ys[:min(ends, n/3)]),
	}, nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// A verdict is what is known of a figure.
type verdict string

const (
	holds  verdict = "holds"    // if it grows, it is by less than it may
	grows  verdict = "GROWS"    // surely by more than it may, steadily or at once
	unsure verdict = "not sure" // there is too much noise for this bound, or too little time
)

// verdict returns what is known of the figure, and in words how it behaves.
func (f *figure) verdict() (v verdict, says string, err error) {
	t, err := f.trend()
	if err != nil {
		return "", "", err
	}
	may := f.bound.anHour + f.bound.once/t.hours
	v = holds
	switch {
	case t.low > may || t.step > may*t.hours:
		v = grows
	case t.up > may:
		v = unsure
	}
	return v, fmt.Sprintf("%-28s median %8.2f, first %8.2f, last %8.2f, in an hour %+.2f (%+.2f to %+.2f), may %.2f %s: %s",
		f.name, t.median, f.value[0], f.value[len(f.value)-1], t.slope, t.low, t.up, may, f.unit, v), nil
}

// writeFigures writes all samples into a folder, a line each: which figure, when, and the value.
func writeFigures(figures []*figure, dir string) error {
	f, err := os.CreateTemp(dir, "figures-*.csv")
	if err != nil {
		return err
	}
	for _, g := range figures {
		for i := range g.at {
			if _, err := fmt.Fprintf(f, "%s,%.1f,%g\n", g.name, g.at[i], g.value[i]); err != nil {
				return errors.Join(err, f.Close())
			}
		}
	}
	return f.Close()
}

// judge returns what is known of each figure, and a line on it.
func judge(figures []*figure) (is map[string]verdict, table string, err error) {
	var b strings.Builder
	is = make(map[string]verdict)
	for _, f := range figures {
		v, says, err := f.verdict()
		if err != nil {
			return nil, "", err
		}
		is[f.name] = v
		b.WriteString("\n" + says)
	}
	return is, b.String(), nil
}

func TestFigure_TellsALeakFromNoise(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	wave := func(i int) float64 { return 5*float64(i%7) + 5*rng.NormFloat64() } // a saw and noise
	for _, c := range []struct {
		name string
		f    func(i int) float64
		want bool
	}{
		{"flat", wave, false},
		{"filled in the first quarter, flat then", func(i int) float64 { return float64(min(i, 90)) + wave(i) }, false},
		{"leak", func(i int) float64 { return float64(i)/6 + wave(i) }, true},
		{"less than it may", func(i int) float64 { return float64(i) / 40 }, false},
		{"falling", func(i int) float64 { return wave(i) - float64(i) }, false},
		{"one step up", func(i int) float64 { return wave(i) + 50*float64(i/250) }, true},
	} {
		f := &figure{name: c.name, bound: bound{anHour: 10, once: 3}}
		for i := range 400 {
			f.add(18*float64(i), c.f(i)) // two hours
		}
		got, says, err := f.verdict()
		if err != nil || (got == grows) != c.want {
			t.Errorf("grows: got %v %v, want %v\n%s", got, err, c.want, says)
		}
	}
	few := &figure{}
	few.add(1, 1)
	if _, _, err := few.verdict(); err == nil {
		t.Error("one sample is enough to tell")
	}
}
