package tier

import (
	"slices"
	"testing"
)

// Ahead is asked for who reads in order, also if several do so at once; not for who looks here and there.
func TestHabits_TellWhoReadsInOrder(t *testing.T) {
	for name, c := range map[string]struct{ reads, ahead []int }{
		"in order":             {[]int{0, 1, 2, 3, 4}, []int{0, 1, 2, 3, 4}},
		"the same again":       {[]int{0, 0, 1, 1, 1}, []int{0, 0, 1, 1, 1}},
		"several at once":      {[]int{0, 1, 3, 2, 4, 6, 5, 7}, []int{0, 1, 1, 1, 2, 2, 2, 3}},
		"here and there":       {[]int{0, 2, 5, 7, 10, 12}, []int{0, 0, 0, 0, 0, 0}},
		"the end first":        {[]int{31, 0, 30, 3}, []int{0, 0, 0, 0}},
		"in order, then leaps": {[]int{4, 5, 6, 20, 21}, []int{0, 1, 2, 0, 1}},
	} {
		var h habits
		var got []int
		for _, no := range c.reads {
			got = append(got, h.read([32]byte{1}, no))
		}
		if !slices.Equal(got, c.ahead) {
			t.Errorf("%s: got %v, want %v", name, got, c.ahead)
		}
	}
}
