// Package lines makes one text of two that come from a third, line by line.
package lines

import (
	"errors"
	"fmt"
	"strings"

	"github.com/aymanbagabas/go-udiff"
)

// ErrClash says that two texts have changed the same lines in different ways, or lines next to each other.
var ErrClash = errors.New("both have changed the same lines, or lines next to each other")

// Merge returns base with what a and b have changed in it, as diff3 does, but stricter: a change of one that touches one of the other is an error that wraps
// [ErrClash] and tells the line, unless both are the same. Lines end with "\n". It takes memory and time in proportion to the texts, and more where they differ much.
func Merge(base, a, b string) (string, error) {
	x, y := udiff.Lines(base, a), udiff.Lines(base, b)
	var all []udiff.Edit
	for len(x) > 0 || len(y) > 0 {
		switch {
		case len(y) == 0 || len(x) > 0 && x[0].End < y[0].Start:
			all, x = append(all, x[0]), x[1:]
		case len(x) == 0 || y[0].End < x[0].Start:
			all, y = append(all, y[0]), y[1:]
		case x[0] == y[0]:
			all, x, y = append(all, x[0]), x[1:], y[1:]
		default:
			at := strings.Count(base[:min(x[0].Start, y[0].Start)], "\n") + 1
			return "", fmt.Errorf("line %d: %w", at, ErrClash)
		}
	}
	return udiff.Apply(base, all)
}
