package churn

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// A figure is something that is measured again and again and must not grow.
type figure struct {
	name string
	unit string
	// slack is a growth that is let pass: what a drive may need more of at the end than in the middle, for
	// a cache that fills or a number that is cut to whole ones.
	slack float64
	at    []float64 // seconds
	value []float64
}

func (f *figure) add(at, value float64) {
	f.at, f.value = append(f.at, at), append(f.value, value)
}

// blocks is into how many parts the measured time is cut. Neighbours among samples are alike (a garbage collector saws,
// a journal fills and empties), so each part counts as one sample, its mean.
const blocks = 16

// enough is how often a figure must be measured.
const enough = 2 * blocks

// sure is how many standard errors a growth must be from 0 to be one. With 14 degrees of freedom a figure that does
// not grow is this far off once in 1500 times, and must be off by the slack besides.
const sure = 4

// growth fits a line over the second half of the time. It returns by how much the figure grew along it
// from its begin to its end, the standard error of that, and the mean.
func (f *figure) growth() (grew, off, mean float64, err error) {
	if len(f.at) < enough {
		return 0, 0, 0, fmt.Errorf("%s was measured %d times, which is too few to tell", f.name, len(f.at))
	}
	from, to := (f.at[0]+f.at[len(f.at)-1])/2, f.at[len(f.at)-1]
	var sum, at [blocks]float64
	var n [blocks]int
	for i, t := range f.at {
		if t >= from {
			b := min(int((t-from)/(to-from)*blocks), blocks-1)
			sum[b] += f.value[i]
			at[b] += t
			n[b]++
		}
	}
	var xs, ys []float64
	for b := range blocks {
		if n[b] > 0 {
			xs, ys = append(xs, at[b]/float64(n[b])), append(ys, sum[b]/float64(n[b]))
		}
	}
	if len(xs) < blocks/2 {
		return 0, 0, 0, fmt.Errorf("%s was measured in %d of %d parts of the time, which is too few to tell", f.name, len(xs), blocks)
	}
	slope, se, mean := line(xs, ys)
	return slope * (to - from), se * (to - from), mean, nil
}

// line fits y = a + slope·x, and returns the standard error of slope and the mean of y.
func line(xs, ys []float64) (slope, se, mean float64) {
	n := float64(len(xs))
	var mx, my, xx, xy, rest float64
	for i := range xs {
		mx += xs[i] / n
		my += ys[i] / n
	}
	for i := range xs {
		xx += (xs[i] - mx) * (xs[i] - mx)
		xy += (xs[i] - mx) * (ys[i] - my)
	}
	slope = xy / xx
	for i := range xs {
		d := ys[i] - my - slope*(xs[i]-mx)
		rest += d * d
	}
	return slope, math.Sqrt(rest / (n - 2) / xx), my
}

// grows reports whether the figure grows, and in words how it behaves.
func (f *figure) grows() (yes bool, says string, err error) {
	grew, off, mean, err := f.growth()
	if err != nil {
		return false, "", err
	}
	return grew > f.slack && grew > sure*off,
		fmt.Sprintf("%-28s mean %9.2f, first %9.2f, last %9.2f, growth over the second half %+8.2f ± %.2f, let pass %.2f %s",
			f.name, mean, f.value[0], f.value[len(f.value)-1], grew, off, f.slack, f.unit), nil
}

// judge returns what grows, and a line on each figure.
func judge(figures []*figure) (grows []string, table string, err error) {
	var b strings.Builder
	for _, f := range figures {
		yes, says, err := f.grows()
		if err != nil {
			return nil, "", err
		}
		if yes {
			grows = append(grows, f.name)
		}
		b.WriteString("\n" + says)
	}
	return grows, b.String(), nil
}

func TestFigure_TellsALeakFromNoise(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	wave := func(i int) float64 { return float64(i%37) + 5*rng.NormFloat64() } // a saw and noise
	for _, c := range []struct {
		name string
		f    func(i int) float64
		want bool
	}{
		{"flat", wave, false},
		{"filled in the first half, flat then", func(i int) float64 { return float64(min(i, 150)) + wave(i) }, false},
		{"leak", func(i int) float64 { return float64(i)/6 + wave(i) }, true},
		{"less than the slack", func(i int) float64 { return float64(i) / 40 }, false},
		{"falling", func(i int) float64 { return wave(i) - float64(i) }, false},
		{"one step up", func(i int) float64 { return wave(i) + 50*float64(i/280) }, true},
	} {
		f := &figure{name: c.name, slack: 8}
		for i := range 400 {
			f.add(float64(i), c.f(i))
		}
		got, says, err := f.grows()
		if err != nil || got != c.want {
			t.Errorf("grows: got %v %v, want %v\n%s", got, err, c.want, says)
		}
	}
	few := &figure{}
	few.add(1, 1)
	if _, _, err := few.grows(); err == nil {
		t.Error("one sample is enough to tell")
	}
}
