// Package causal holds the logical time of a drive: dots, contexts and stamps,
// by which devices without a common clock agree on what has seen what. It
// holds no clock and makes no decision. The rules are in docs/FORMAT.md,
// "Causality"; they follow the dotted version vectors of Preguiça, Baquero et
// al. and the replicated tree of Kleppmann et al.
package causal

import (
	"cmp"
	"fmt"
	"slices"
)

// Device is the short name of a device in dots: the first eight bytes of its
// 16-byte device ID, big endian. The members log refuses a second device with
// an equal short name. Zero is no device.
type Device uint64

// String returns the name in hexadecimal.
func (d Device) String() string { return fmt.Sprintf("%016x", uint64(d)) }

// A Dot is one write: the counter-th of its device. It is never used twice.
// The zero Dot is no write; counters begin at 1.
type Dot struct {
	Device  Device
	Counter uint64
}

// IsZero reports whether d is no write.
func (d Dot) IsZero() bool { return d == Dot{} }

// Compare orders dots by device, then counter. The order has no causal meaning.
func (d Dot) Compare(e Dot) int {
	if c := cmp.Compare(d.Device, e.Device); c != 0 {
		return c
	}
	return cmp.Compare(d.Counter, e.Counter)
}

// String returns "device@counter".
func (d Dot) String() string { return fmt.Sprintf("%s@%d", d.Device, d.Counter) }

// A Stamp orders moves: by Lamport time, then device. It is total over the
// moves of a drive, for a device never uses a Lamport time twice for two moves.
type Stamp struct {
	Lamport uint64
	Device  Device
}

// Compare orders stamps by Lamport time, then device.
func (s Stamp) Compare(t Stamp) int {
	if c := cmp.Compare(s.Lamport, t.Lamport); c != 0 {
		return c
	}
	return cmp.Compare(s.Device, t.Device)
}

// A Seen is one part of a Context: all writes of Device up to Counter.
type Seen struct {
	Device  Device
	Counter uint64
}

// A Context says which writes a state has seen: for each device all up to a
// counter. A device publishes whole snapshots only, and a snapshot holds all
// that its writer had seen, so contexts have no gaps and need no stragglers.
// It is sorted by device, holds no device twice and no zero counter. A Context
// is a value: its methods never change the receiver's memory.
type Context []Seen

// Counter returns the highest counter of d that c has seen, 0 for none.
func (c Context) Counter(d Device) uint64 {
	i, ok := slices.BinarySearchFunc(c, d, func(s Seen, d Device) int { return cmp.Compare(s.Device, d) })
	if !ok {
		return 0
	}
	return c[i].Counter
}

// Covers reports whether c has seen d. Every context covers the zero Dot.
func (c Context) Covers(d Dot) bool { return d.Counter <= c.Counter(d.Device) }

// Includes reports whether c has seen all that o has.
func (c Context) Includes(o Context) bool {
	for _, s := range o {
		if c.Counter(s.Device) < s.Counter {
			return false
		}
	}
	return true
}

// Equal reports whether c and o have seen the same writes.
func (c Context) Equal(o Context) bool { return slices.Equal(c, o) }

// With returns c raised to see d.
func (c Context) With(d Dot) Context {
	if c.Covers(d) {
		return c
	}
	i, ok := slices.BinarySearchFunc(c, d.Device, func(s Seen, d Device) int { return cmp.Compare(s.Device, d) })
	n := slices.Clone(c)
	if ok {
		n[i].Counter = d.Counter
		return n
	}
	return slices.Insert(n, i, Seen(d))
}

// Join returns the context that has seen what c or o has.
func (c Context) Join(o Context) Context {
	n := make(Context, 0, max(len(c), len(o)))
	for len(c) > 0 && len(o) > 0 {
		switch a, b := c[0], o[0]; {
		case a.Device < b.Device:
			n, c = append(n, a), c[1:]
		case a.Device > b.Device:
			n, o = append(n, b), o[1:]
		default:
			n, c, o = append(n, Seen{a.Device, max(a.Counter, b.Counter)}), c[1:], o[1:]
		}
	}
	return append(append(n, c...), o...)
}

// Valid reports whether c is sorted, without doubles and without zeros.
func (c Context) Valid() bool {
	for i, s := range c {
		if s.Device == 0 || s.Counter == 0 || i > 0 && c[i-1].Device >= s.Device {
			return false
		}
	}
	return true
}
