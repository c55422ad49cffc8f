package merge

import (
	"maps"
	"slices"
	"strings"
)

// Sums writes hashes of one content, by the name of their algorithm, as Item.Sums has them.
func Sums(hashes map[string]string) string {
	if len(hashes) == 0 {
		return ""
	}
	var b strings.Builder
	for _, alg := range slices.Sorted(maps.Keys(hashes)) {
		if hashes[alg] == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(alg + ":" + hashes[alg])
	}
	return b.String()
}

// Equal compares two of Item.Sums. known is false if they have no algorithm in common.
func Equal(a, b string) (equal, known bool) {
	if a == "" || b == "" {
		return false, false
	}
	if a == b {
		return true, true
	}
	for s := range strings.SplitSeq(a, " ") {
		alg, sum, _ := strings.Cut(s, ":")
		for t := range strings.SplitSeq(b, " ") {
			if rest, ok := strings.CutPrefix(t, alg); ok && strings.HasPrefix(rest, ":") {
				known = true
				if rest[1:] != sum {
					return false, true
				}
			}
		}
	}
	return known, known
}

// sameContent compares two files or links, of any side.
func sameContent(a, b *Item) (equal, known bool) {
	if a.Kind == Symlink || b.Kind == Symlink {
		return a.Kind == b.Kind && a.Target == b.Target, true
	}
	if a.Size >= 0 && b.Size >= 0 && a.Size != b.Size {
		return false, true
	}
	if a.Size == 0 && b.Size == 0 {
		return true, true
	}
	return Equal(a.Sums, b.Sums)
}
