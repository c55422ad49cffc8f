package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// A mutant is the drive with a rule of it left out.
type mutant struct {
	name string
	file string // from the root of the module
	// edits are what stands there once, and what takes its place.
	edits [][2]string
	// seed is of the first schedule that is tried: one that finds it.
	seed uint64
}

var mutants = []mutant{
	{"a head is put though what it needs is not there", "sync/replica/copy.go", [][2]string{
		{"if err := r.faulty(); err != nil {\n\t\treturn err // no head", "if err := r.faulty(); err != nil && false {\n\t\treturn err // no head"},
	}, 91000800},
	{"a pack counts as stored by the word of the place", "sync/replica/copy.go", [][2]string{
		{"lacks, err := r.confirm(ctx, done)\n\t\tif err != nil {\n\t\t\treturn put", "lacks, err := map[blob.Name]bool{}, error(nil)\n\t\tif err != nil {\n\t\t\treturn put"},
	}, 1},
	{"a small blob counts as stored by the word of the place", "sync/replica/heads.go", [][2]string{
		{"\t\tput = true\n\t}", "\t\treturn true, nil\n\t}"},
	}, 1},
	{"what is fetched is not learned before its heads", "sync/replica/fetch.go", [][2]string{
		{"if f.o.Packs || f.anyLacking(n) {", "if f.o.Packs {"},
	}, 1},
	{"a head that was put in a crash is forgotten", "chunkstore/refs/memory.go", [][2]string{
		{"if next.Seq == r.known[r.id].Seq+1 {", "if next.Seq == 0 {"},
	}, 1},
	{"the memory of heads is not durable", "chunkstore/refs/memory.go", [][2]string{
		{"if err := db.Sync(ctx); err != nil {", "if err := ctx.Err(); err != nil {"},
	}, 1},
	{"a device that was set back uses its numbers again", "chunkstore/refs/refs.go", [][2]string{
		{"case newest > own.Seq:", "case newest > own.Seq && false:"},
	}, 1},
	{"the collector waits for nobody's word", "collect.go", [][2]string{
		{"if !newest[id].Agrees(self, c.Number) {", "if false {"},
		{"case id == self && first.Collection != c, active && !first.Agrees(self, c.Number):", "case first.Seq == 0 && active:"},
	}, 1},
	{"the collector waits for each word, and not until each is seen", "collect.go", [][2]string{
		{"since, err := d.refs.Since(ctx, id, from)", "from = h.Seq\n\t\tsince, err := d.refs.Since(ctx, id, from)"},
	}, 1},
	{"the collector marks no head", "collect.go", [][2]string{
		{"for _, h := range plan.heads {", "for _, h := range plan.heads[:0] {"},
	}, 1},
	{"a device agrees at once", "agree.go", [][2]string{
		{"case !d.ripe(ctx, a):", "case false && !d.ripe(ctx, a):"},
	}, 1},
	{"what is doomed is taken for stored", "chunkstore/put.go", [][2]string{
		{"p.Ghost || p.Doomed || !p.Own && s.shy.Load()", "p.Ghost || !p.Own && s.shy.Load()"},
	}, 1},
	{"who is new takes all for stored", "chunkstore/put.go", [][2]string{
		{"p.Ghost || p.Doomed || !p.Own && s.shy.Load()", "p.Ghost || p.Doomed"},
	}, 1},
	{"who collects gives no place a turn", "collect.go", [][2]string{
		{"away, err := d.round(ctx)", "away, err := []string(nil), error(nil)"},
	}, 1},
	{"the state of another device takes the place of one's own", "begin.go", [][2]string{
		{"if s.Context.Includes(base.Context) {", "if true || s.Context.Includes(base.Context) {"},
	}, 1},
	{"a file that is open takes bytes of others under it", "vfs/live/adopt.go", [][2]string{
		{"if len(p.touch) > 0 {\n\t\tf.mu.RLock()", "if false {\n\t\tf.mu.RLock()"},
		{"if err != nil || p.unknown || len(p.touch) > 0 {", "if err != nil || p.unknown {"},
	}, 1},
	{"a join brings back what was deleted", "vfs/manifest/join.go", [][2]string{
		{"if other || !seen[1-s].Covers(dot) ||", "if true || other || !seen[1-s].Covers(dot) ||"},
	}, 1},
	{"a join takes what is new for deleted", "vfs/manifest/join.go", [][2]string{
		{"if other || !seen[1-s].Covers(dot) ||", "if other ||"},
	}, 1},
	{"the journal is replayed on what was being adopted", "begin.go", [][2]string{
		{"d.wasAdopting(ctx, own); err != nil || adopting {", "d.wasAdopting(ctx, own); err != nil || adopting && false {"},
	}, 1},
	{"what the journal is trimmed to is not kept", "begin.go", [][2]string{
		{"return own, d.keepGround(ctx, own)", "return own, nil"},
	}, 96000001},
	{"fsync does not wait for the disk", "vfs/live/live.go", [][2]string{
		{"return translate(f.jr.Sync(f.jr.Last()))", "return nil"},
	}, 1},
	{"a place that cannot be reached has nothing", "chunkstore/blob/tier/far.go", [][2]string{
		{"if len(f.faults) == 0 {\n\t\treturn fs.ErrNotExist", "if true || len(f.faults) == 0 {\n\t\treturn fs.ErrNotExist"},
	}, 1},
	{"work of others is brought to no other place", "sync/engine/turn.go", [][2]string{
		{"due := p.bridged < bridged && len(e.places) > 1", "due := false && p.bridged < bridged"},
	}, 1},
	{"work that could not be taken over is not tried again", "sync/engine/turn.go", [][2]string{
		{"e.mu.Lock()\n\te.retry = true\n\te.mu.Unlock()\n\tif ctx.Err()", "if ctx.Err()"},
	}, 1},
	{"garbage goes where a listing lacks what is there", "sync/engine/turn.go", [][2]string{
		{"case brought && len(got.Unlisted) > 0:", "case false:"},
	}, 40012300},
	{"an index blob is brought as a place gives it", "sync/replica/pack.go", [][2]string{
		{"if r.o.Index == nil {", "if true {"},
	}, 8900},
	{"a shelf that begins in the middle prunes what is before it", "sync/replica/fetch.go", [][2]string{
		{"; tied && f.o.Part {", "; tied && false {"},
	}, 139},
	{"index blobs that peers have removed are shown to them", "chunkstore/blob/shelf/shelf.go", [][2]string{
		{`const hides = "index/"`, `const hides = "none/"`},
	}, 47},
	{"an entry of the members log is taken without those before it", "vet.go", [][2]string{
		{"if errors.Is(err, keys.ErrIncomplete) {", "if err = nil; errors.Is(err, keys.ErrIncomplete) {"},
	}, 1},
	{"a drive with faulty heads of others does not open", "begin.go", [][2]string{
		{"|| !isAway(err) && !d.mayCome(err)) {", "|| !isAway(err)) {"},
	}, 1},
}

// apply returns the mutated file.
func (m mutant) apply(t *testing.T, root string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		t.Fatal(err)
	}
	s := string(b)
	for _, e := range m.edits {
		if n := strings.Count(s, e[0]); n != 1 {
			t.Fatalf("%s has %q %d times, want once: the rule has been written anew, and so has its mutant to be", m.file, e[0], n)
		}
		s = strings.Replace(s, e[0], e[1], 1)
	}
	if _, err := parser.ParseFile(token.NewFileSet(), m.file, s, 0); err != nil {
		t.Fatal(err)
	}
	return []byte(s)
}

var seedForm = regexp.MustCompile(`SHEAF_SEED=(\d+)( goes another way|: )`)

// G3: each rule that is left out of the real code is found. SHEAF_MUTANTS is how many schedules are tried for each; without it, that the rules
// are where they are looked for is all that is checked, for each mutant is built anew.
func TestMutants_AreFound(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	n := testkit.Environ(t, "SHEAF_MUTANTS", 0)
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			b := m.apply(t, root)
			if n == 0 {
				return
			}
			dir := t.TempDir()
			file := filepath.Join(dir, "mutant.go")
			overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, m.file): file}})
			if err == nil {
				err = os.WriteFile(file, b, 0o600)
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-timeout=30m", "-overlay", filepath.Join(dir, "overlay.json"), "-run", "AllSchedules", ".")
			cmd.Env = append(os.Environ(), "SHEAF_MUTANTS=", "SHEAF_TWICE=1000000000", "SHEAF_FAILURES=1",
				fmt.Sprint("SHEAF_SEED=", m.seed), fmt.Sprint("SHEAF_SCHEDULES=", n))
			began := time.Now()
			out, err := cmd.CombinedOutput()
			found := seedForm.FindSubmatch(out)
			if err == nil || found == nil {
				t.Fatalf("it is not found in %d schedules from %d: %v\n%.2000s", n, m.seed, err, out)
			}
			seed, err := strconv.ParseUint(string(found[1]), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			why, _, _ := strings.Cut(string(out[strings.Index(string(out), string(found[0])):]), "the end of it")
			t.Logf("found by seed %d, the %dth, in %.0f s: %.300s", seed, seed-m.seed+1, time.Since(began).Seconds(), why)
		})
	}
}
