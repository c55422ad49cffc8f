package merge

import (
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// A mutant is the planner with a rule of it left out: what stands in a file once, and what takes its place.
type mutant struct {
	name, file, old, new string
}

var mutants = []mutant{
	{"a delete wins over an edit", "decide.go", "changed := n.edited[s] || n.rescued ||", "changed := n.rescued ||"},
	{"a delete wins over a move", "decide.go", "n.rescued = true", "n.rescued = false"},
	{"the last of a content is deleted under two names", "decide.go", "	p.keepCrossed()\n", ""},
	{"what is in a directory now has moved with it", "decide.go", "p.wasIn(n, s) && is(", "is("},
	{"a delete wins over a touch", "decide.go", "changed = true // somebody touched it", "changed = false"},
	{"what is new on one side was deleted on the other", "decide.go", `	if !n.hasBase {
		n.alive = s == Left || p.o.Mode != Mirror`, `	if !n.hasBase {
		n.alive = s == Left`},
	{"what was deleted comes back", "decide.go", `	default:
		n.why = "it was deleted on the " + o.String() + " side"`, `	default:
		n.alive = true`},
	{"the left content wins, and the other is gone", "decide.go", `		default:
			p.clash(n)
		}`, `		default:
			n.source = int8(Left)
		}`},
	{"contents that were not compared are equal", "decide.go", `		case !known:
			n.source = -2
		case p.o.Mode == Mirror:`, `		case !known:
		case p.o.Mode == Mirror:`},
	{"equal contents are a conflict", "decide.go", `		case known && eq:
		case !known:`, `		case known && eq && l.Kind == Dir:
		case !known:`},
	{"an edit is not brought over", "decide.go", `		n.source = int8(s)
		if eq,`, `		if eq,`},
	{"an edit goes the wrong way", "decide.go", `		s := Left
		if edited[1] {
			s = Right
		}
		n.why = "it was changed`, `		s := Left
		if edited[0] {
			s = Right
		}
		n.why = "it was changed`},
	{"a circle is not broken", "decide.go", "		p.breakCircles()\n", ""},
	{"a directory goes though something in it stays", "decide.go", "			up.alive, changed = true, true\n", ""},
	{"a move of the right side is not seen", "decide.go", `	case n.moved[Right] && !n.moved[Left]:
		take(Right)`, `	case n.moved[Right] && !n.moved[Left] && n == nil:
		take(Right)`},
	{"what is left out is planned for", "decide.go", "		n.alive = true\n		return\n	case !n.has[0] && !n.has[1]:", "		n.alive = false\n		return\n	case !n.has[0] && !n.has[1]:"},
	{"what a filter leaves out by size or age is gone", "skip.go", "	n.out, n.moved, n.edited, n.touched = true, [2]bool{}, [2]bool{}, [2]bool{}\n", "	n.has[Left], n.has[Right] = n.has[Left] && !l, n.has[Right] && !r\n"},
	{"what a filter leaves out by size or age is planned for", "skip.go", "	n.out, n.moved, n.edited, n.touched = true, [2]bool{}, [2]bool{}, [2]bool{}\n", "	n.out, n.moved = n.out, n.moved\n"},
	{"what was left out when it went was deleted", "skip.go", "		n.woken = n.hasBase && (n.base[Left].Skip || n.base[Right].Skip)\n", ""},
	{"what is left out of a pair is not noted", "skip.go", "		p.add(n, Step{Op: Shelve, Path: n.base[Left].Path})\n", ""},
	{"a pair that is left out and half gone is kept", "skip.go", "		p.add(n, Step{Op: Forget, Path: n.base[Left].Path, Drop: true})\n", ""},
	{"what was renamed to where it is left out is gone", "skip.go", "n.kind == File && b.ID == \"\" &&", "n.kind != File && b.ID == \"\" &&"},
	{"an edit waits until the old state is left out no more", "skip.go", "p.o.writes(s) && n.hasBase && !n.cur[o].Skip && n.edited[o] &&", "p.o.writes(s) && n.hasBase && !n.cur[o].Skip && n.edited[o] && n.out &&"},
	{"an edit replaces what is left out and was edited, too", "skip.go", "n.edited[o] && !n.edited[s] &&", "n.edited[o] &&"},
	{"what is left out of the source is brought over by a mirror", "skip.go", "p.o.writes(s) && n.hasBase", "n.hasBase"},
	{"a filter that has changed changes nothing", "gather.go", "is.Out || is.Skip != was.Skip || was.Kind", "is.Out || was.Kind"},
	{"a place without empty directories has removed them", "decide.go", "n.has[s], n.assumed[s], n.cur[s], n.par[s] = true, true, n.base[s], up", "n.cur[s] = n.base[s]"},
	{"a file in the place of something unseen is one that was replaced", "decide.go", "if p.in.Incomplete[s] && n.hasBase && !n.has[s] && n.has[s.Other()] {", "if p.in.Incomplete[s] && n == nil {"},
	{"of two pairs of one path the first one has what is there", "match.go", "if ok && n.kind == File && items[i].Path == n.base[s].Path && items[i].ID == n.base[s].ID &&", "if ok && i < 0 && n.kind == File && items[i].Path == n.base[s].Path && items[i].ID == n.base[s].ID &&"},
	{"what has the name of something left out is agreed on before that is noted", "emit.go", "if at, ok := p.was(s, n); ok && len(n.steps) > 0 {", "if at, ok := p.was(s, n); ok && len(n.steps) > 9 {"},
	{"a pair of what is left out stays, whatever has its name", "skip.go", "skips && (!both || p.replaced(n)):", "skips && !both:"},
	{"a directory that is not shown is where something else is now", "decide.go", "if p.byPath[s][p.pathKey(s, is)] != nil {", "if false {"},
	{"pairs in a directory without one stay where it was", "emit.go", "st.Carries = n.kind == Dir && ", "st.Carries = n.kind == File && "},
	{"of two pairs of one ID the first one has it", "match.go", "!taken[i] && (!sure || items[i].Version", "!taken[i] && (!sure || true || items[i].Version"},
	{"what is left out is where it is to be while what it is in is not", "emit.go", "if n.out && n.there[s] {\n			p.put", "if n.out && n.there[s] && n == nil {\n			p.put"},
	{"a directory goes into one that is left out and in it", "emit.go", "if n.there[s] && within(s, n.tpar, n) {", "if false {"},
	{"a directory that is made anew is not agreed on in one that cannot have its name", "emit.go", "(!n.hasBase || len(n.steps) > 0 &&", "(!n.hasBase || len(n.steps) > 9 &&"},
	{"what is not shown is looked for in no order", "decide.go", "return cmp.Compare(depth(a), depth(b)) })\n	where :=", "return cmp.Compare(depth(b), depth(a)) })\n	where :="},
	{"an escape is given to what another name reads like", "emit.go", "enc != n.tname[s] && p.elsewhere", "enc != enc && p.elsewhere"},
	{"what a listing lacks is gone", "match.go", "					n.cur[s], n.has[s], n.assumed[s] = n.base[s], true, true\n", ""},
	{"moves are taken from a listing that is not whole", "match.go", `		if !p.in.Incomplete[s] {
			p.byID(`, `		if true {
			p.byID(`},
	{"an item is whose path it has, whatever its ID", "match.go", `&& (n.base[s].ID == "" || items[i].ID == "" || n.base[s].ID == items[i].ID) {`, `{`},
	{"a saved file is another", "match.go", "		for _, n := range free() { // programs save a file as a new one\n			if i, ok := atPath(n); ok {", "		for _, n := range free() { // programs save a file as a new one\n			if i, ok := atPath(n); ok && i < 0 {"},
	{"two new files of one name are two things", "match.go", "			if i < 0 {\n				continue\n			}\n			m := made", "			if i < 0 || true {\n				continue\n			}\n			m := made"},
	{"a kind may change", "match.go", "return i, ok && !taken[i] && items[i].Kind == n.kind", "return i, ok && !taken[i]"},
	{"of two pairs for one path the first has it", "match.go", "for _, exact := range [2]bool{true, false} {\n			for _, n := range free() {\n				i, ok", "for _, exact := range [1]bool{false} {\n			for _, n := range free() {\n				i, ok"},
	{"a version that changed is no change", "gather.go", "return was.Version == is.Version && was.MTime", "return was.MTime"},
	{"nobody looks into a torn directory", "gather.go", "	if !is || p.known[b.N] {", "	if true || !is || p.known[b.N] {"},
	{"what is unchanged above is not looked up", "gather.go", "	if !missing && len(torn[0])+len(torn[1]) == 0 {\n		return nil", "	if missing || !missing {\n		return nil"},
	{"a part of the trees is planned for though something else differs", "gather.go", "	case !p.unseen(pairs, items):\n		p.mixed = true\n", ""},
	{"a part of the trees does not know what is above it", "gather.go", "group < p.in.From {", "group < \"\" {"},
	{"two things have one name", "apart.go", "	for i := 0; i < len(order); i++ {\n", "	for i := 0; i < 0; i++ {\n"},
	{"a conflict takes a name that is in use", "apart.go", "if taken(n, name) {", "if taken(n, name) && n == nil {"},
	{"names that a side cannot tell apart are not set apart", "emit.go", "			enc, ok = p.o.Names[s].Encode(n.tname[s], true)", "			enc, ok = p.o.Names[s].Encode(n.tname[s], false)"},
	{"names that change places do not make room", "emit.go", "			p.move(s, m, to)\n			return true", "			return true"},
	{"a directory goes before what is in it", "emit.go", "	for _, m := range slices.Clone(n.kids[s]) {\n		p.remove(s, m)\n	}\n	if len(n.kids[s]) > 0 {\n		return\n	}\n", ""},
	{"steps do not wait for the directories above", "emit.go", "	st.Needs = p.chain(st.Needs, s, n)\n", ""},
	{"a copy does not wait for its source to be there", "emit.go", "	st.Needs = p.chain(st.Needs, s.Other(), n)\n", ""},
	{"steps of one thing do not wait for each other", "emit.go", "	if n.prev >= 0 {\n		st.Needs = append(st.Needs, n.prev)\n	}\n", ""},
	{"a name is taken before it is free", "emit.go", "	if st.Op == Move || st.Op == Mkdir || st.Op == Copy {", "	if st.Op == Hash {"},
	{"what both sides agree on is not noted", "emit.go", "	case both && (!n.hasBase || n.base != n.cur || len(n.steps) > 0):", "	case both && n == nil:"},
	{"what is gone is not forgotten", "emit.go", "	case !n.alive && n.hasBase && !n.there[0] && !n.there[1] && len(n.steps) == 0:", "	case n == nil:"},
	{"things keep the names they had for a moment", "gather.go", "			name = old\n", "			name = of\n"},
	{"the source writes to itself", "merge.go", "return o.Mode == TwoWay || s == Right }", "return true }"},
	{"a name is not mapped back", "names.go", "	if n.escapes() && strings.Contains(enc, wide) {\n		enc = unescape(enc)\n	}\n", ""},
	{"a name is not escaped", "names.go", "	if n.escapes() {\n		enc = n.escape(name)\n	}\n", ""},
	{"devices of Windows are names", "names.go", "		return true\n	}\n	if len(stem) < 4", "		return false\n	}\n	if len(stem) < 4"},
}

// G3: each rule that is left out is found, by a schedule or, where what comes of it is no loss, by a case that is written down. SHEAF_MUTANTS is
// within how many schedules; without it, that the rules are where they are looked for is all that is checked, for each mutant is built anew.
func TestMutants_AreFound(t *testing.T) {
	n := testkit.Environ(t, "SHEAF_MUTANTS", 0)
	root, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			b, err := os.ReadFile(m.file)
			if err != nil {
				t.Fatal(err)
			}
			if k := strings.Count(string(b), m.old); k != 1 {
				t.Fatalf("%s has %q %d times, want once: the rule has been written anew, and so has its mutant to be", m.file, m.old, k)
			}
			text := strings.Replace(string(b), m.old, m.new, 1)
			if _, err := parser.ParseFile(token.NewFileSet(), m.file, text, 0); err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				return
			}
			dir := t.TempDir()
			file := filepath.Join(dir, "mutant.go")
			overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, m.file): file}})
			for name, p := range map[string][]byte{file: []byte(text), filepath.Join(dir, "overlay.json"): overlay} {
				if err == nil {
					err = os.WriteFile(name, p, 0o600)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-vet=off", "-timeout=10m", "-overlay", filepath.Join(dir, "overlay.json"), "-run", "AllSchedules|Cases|Stops|Names", ".")
			cmd.Env = append(os.Environ(), "SHEAF_MUTANTS=", "SHEAF_FAILURES=1", "SHEAF_SEED=1", fmt.Sprint("SHEAF_SCHEDULES=", n))
			out, err := cmd.CombinedOutput()
			text = string(out)
			i := strings.Index(text, "SHEAF_SEED=1\n")
			if i < 0 {
				i = 0
			}
			j := strings.Index(text[min(len(text), i+12):], "SHEAF_SEED=")
			table := strings.Contains(text, "--- FAIL: TestPlan_Cases") || strings.Contains(text, "--- FAIL: TestNames") || strings.Contains(text, "--- FAIL: TestPlan_Stops")
			if err == nil || j < 0 && !table && !strings.Contains(text, "panic:") && !strings.Contains(text, "fatal error: stack overflow") {
				t.Fatalf("it is not found in %d schedules: %v\n%.1500s", n, err, text)
			}
			switch {
			case j >= 0:
				t.Logf("%.120s", text[i+12+j:])
			case table:
				t.Log("by a case that is written down, and no schedule")
			default:
				t.Log("it panics")
			}
		})
	}
}
