package merge

import (
	"slices"
	"strings"
)

// whyCrossed is why something is not deleted.
const whyCrossed = "each side deleted the same content under another name: nobody deleted the last of it"

// keepCrossed keeps what each side has deleted under another name than the other. Who deletes one of two equal files believes that the other stays; and where things have no
// ID, a crash between the notes of a rename leaves both names in the base, so that the rename back looks like this.
func (p *planner) keepCrossed() {
	dying := func(s Side, n *node) bool {
		return !n.alive && n.hasBase && n.has[s] && !n.has[s.Other()] && (n.kind == Symlink || n.kind == File && n.cur[s].Size != 0)
	}
	keys := func(i *Item) []string {
		if i.Kind == Symlink {
			return []string{"\x00" + i.Target}
		}
		return slices.DeleteFunc(strings.Split(i.Sums, " "), func(s string) bool { return s == "" })
	}
	left := map[string][]*node{}
	for _, n := range p.nodes {
		if dying(Left, n) {
			for _, k := range keys(&n.cur[Left]) {
				left[k] = append(left[k], n)
			}
		}
	}
	if len(left) == 0 {
		return
	}
	for _, n := range p.nodes {
		if !dying(Right, n) {
			continue
		}
		for _, k := range keys(&n.cur[Right]) {
			for _, m := range left[k] {
				if eq, known := sameContent(&m.cur[Left], &n.cur[Right]); known && eq {
					m.alive, n.alive, m.why, n.why = true, true, whyCrossed, whyCrossed
				}
			}
		}
	}
}
