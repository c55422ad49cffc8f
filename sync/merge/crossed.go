package merge

import (
	"slices"
	"strings"
)

// whyCrossed is why something is not deleted.
const whyCrossed = "each side deleted the same content under another name: nobody deleted the last of it"

// keepCrossed keeps what each side has deleted under another name than the other. Who deletes one of two equal files believes that the other stays; and where things have no
// ID, a crash between the notes of renames leaves both names of each in the base, so that the renames back look like this: as many names of a content go on the one side as
// on the other. Where it is not as many, somebody has deleted copies. Whether a copy stays under a third name is not known here, for what nobody has changed is not in a plan.
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
	var names [2]map[string][]*node // that a content loses on the other side
	for s := range names {
		names[s] = map[string][]*node{}
		for _, n := range p.nodes {
			if dying(Side(s), n) {
				for _, k := range keys(&n.cur[s]) {
					names[s][k] = append(names[s][k], n)
				}
			}
		}
	}
	for k, left := range names[Left] {
		right := names[Right][k]
		if len(left) != len(right) {
			continue
		}
		for _, m := range left {
			for _, n := range right {
				if eq, known := sameContent(&m.cur[Left], &n.cur[Right]); known && eq {
					m.alive, n.alive, m.why, n.why = true, true, whyCrossed, whyCrossed
				}
			}
		}
	}
}
