package manifest

import (
	"errors"
	"math/rand/v2"
	"testing"
)

// at returns the entry at a path of names, which must be there.
func (d *device) at(t *testing.T, names ...string) *tree {
	t.Helper()
	if err := d.load(); err != nil {
		t.Fatal(err)
	}
	n := d.root
	for _, name := range names {
		if n = n.kids[name]; n == nil {
			t.Fatalf("%v is not there", names)
		}
	}
	return n
}

func (d *device) mustCommit(t *testing.T) {
	t.Helper()
	if err := d.commit(); err != nil {
		t.Fatal(err)
	}
}

func (d *device) mustJoin(t *testing.T, o *device) {
	t.Helper()
	if err := d.join(o); err != nil {
		t.Fatal(err)
	}
}

// cycleOfTwo returns a world in which one device moved y into z while the other moved
// z into x and x into y, and both joined: y is cut, and holds x, which holds z.
func cycleOfTwo(t *testing.T, bug writerBug) (*world, *device, *device) {
	t.Helper()
	w := newWorld(rand.New(rand.NewPCG(1, 1)), 2, bug)
	a, b := w.devices[0], w.devices[1]
	if err := a.load(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"x", "y", "z"} {
		a.create(a.root, name, 2)
	}
	a.mustCommit(t)
	b.mustJoin(t, a)
	b.move(b.at(t, "z"), b.at(t, "x"), "z")
	b.move(b.at(t, "x"), b.at(t, "y"), "x")
	b.mustCommit(t)
	for range 4 { // its Lamport time is to be greater
		e := a.at(t, "x")
		e.e.Attr = a.stamp()
		a.change(e)
	}
	a.move(a.at(t, "y"), a.at(t, "z"), "y")
	a.mustCommit(t)
	a.mustJoin(t, b)
	b.mustJoin(t, a)
	return w, a, b
}

func TestJoin_CutsACycleAtItsLastMove(t *testing.T) {
	_, a, _ := cycleOfTwo(t, writerRight)
	y, z := a.at(t, "y"), a.at(t, "y", "x", "z")
	if y.e.Stored == nil || y.e.Stored.Parent != z.e.ID || !z.e.Held {
		t.Errorf("y has %v and z %v; want y stored in z, which is held", y.e.Stored, z.e.Held)
	}
}

func TestJoin_EntryReturnsWhenTheCycleIsGone(t *testing.T) {
	_, a, b := cycleOfTwo(t, writerRight)
	b.move(b.at(t, "y", "x", "z"), b.at(t), "z")
	b.mustCommit(t)
	e := a.at(t, "y")
	e.e.Mode, e.e.Attr = 0o700, a.stamp()
	a.change(e)
	a.mustCommit(t)
	a.mustJoin(t, b)
	if y := a.at(t, "z", "y"); y.e.Stored != nil || y.e.Mode != 0o700 {
		t.Errorf("y is %v, %o", y.e.Stored, y.e.Mode)
	}
	if z := a.at(t, "z"); z.e.Held {
		t.Error("z is still held")
	}
}

// A move below what was cut is undone by the view unless that was settled first.
func TestWriter_SettlesWhatWasCutBeforeAMoveBelowIt(t *testing.T) {
	for _, tc := range []struct {
		bug  writerBug
		want error
	}{{writerRight, nil}, {writerNoSettle, errViolated}} {
		_, a, _ := cycleOfTwo(t, tc.bug)
		a.move(a.at(t, "y", "x", "z"), a.at(t, "y"), "z")
		if err := a.commit(); !errors.Is(err, tc.want) {
			t.Errorf("bug %d: %v, want %v", tc.bug, err, tc.want)
		}
	}
}
