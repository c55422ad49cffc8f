package sheaf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/evil"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs"
)

// An ordeal is a drive on a place that lies, and what must be in it.
type ordeal struct {
	*testing.T
	rng   *rand.Rand
	m     *machine
	store *evil.Store
	d     *Drive
	words string
	want  map[string][]string // by path: the values that it may have; more than one after a write that failed
	log   []string
	count map[string]int
	alone bool // it has no visitors, for whose sake garbage collection would leave everything for days
}

const absent = "\x00absent"

// lies are all that the place may tell at any time. Forget is not among them: who says that bytes are stored and drops them
// has lost them, and only Verify can tell (TestEvil_ForgottenPacksAreFound). Slow takes too long here.
var lies = []evil.Lie{
	evil.FlipBit, evil.Truncate, evil.Extend, evil.Swap, evil.Replay, evil.HTML, evil.Endless, evil.Withhold,
	evil.Fail, evil.Deny, evil.Partial, evil.Stale, evil.Reorder, evil.Duplicate, evil.WrongSize,
}

// T-1.0: whatever the place does, what is read is right or a typed error, nothing panics, and when the lies end
// all that was acknowledged is there.
func TestEvil_NothingIsLostAndNothingWrongIsShown(t *testing.T) {
	seed := testkit.Seed(t)
	runs, steps := 12, 40
	if long() {
		runs, steps = 300, 120
	}
	count := map[string]int{}
	for i := range runs {
		ran := t.Run(fmt.Sprint(i), func(t *testing.T) {
			o := newOrdeal(t, seed+int64(i))
			o.count = count
			for range steps {
				o.step()
			}
			o.heal()
			if t.Failed() {
				t.Logf("SHEAF_SEED=%d; steps: %q", seed+int64(i), o.log)
			}
		})
		if !ran {
			break
		}
	}
	t.Logf("%v", count)
	if count["refused"] == 0 || count["read"] == 0 || count["lies"] == 0 {
		t.Error("nothing was refused, or nothing read: this shows nothing")
	}
}

func newOrdeal(t *testing.T, seed int64) *ordeal {
	o := &ordeal{T: t, rng: testkit.Rand(seed), want: map[string][]string{}}
	o.alone = o.rng.IntN(2) == 0
	o.store = evil.New(mem.New(), seed)
	o.m = newMachine(t, o.store)
	o.d, o.words = o.m.create(Secret{})
	return o
}

func (o *ordeal) say(format string, args ...any) { o.log = append(o.log, fmt.Sprintf(format, args...)) }

// refused notes an error that came of the lies. It must be one that says so.
func (o *ordeal) refused(what string, err error) {
	o.Helper()
	o.count["refused"]++
	o.say("  %s: %.160v", what, err)
	// One error has no type: that of package keys when an entry of the members log is not to be seen after it was put.
	known := strings.Contains(err.Error(), "append to the members log")
	if !typed(err) && !known {
		o.Errorf("%s: error without a type: %v", what, err)
	}
}

// step lies anew, and does one thing.
func (o *ordeal) step() {
	o.store.Heal()
	switch k := o.rng.IntN(4); k {
	case 0: // the truth
	case 1: // one lie about one prefix
		lie, prefix := lies[o.rng.IntN(len(lies))], []string{"", "packs/", "heads/", "members/", "drive/", "index/"}[o.rng.IntN(6)]
		o.store.Set(lie, func(n blob.Name) bool { return prefix == "" || within(n, prefix) || string(n) == prefix })
		o.say("%v about %q", lie, prefix)
	default: // any lie at any time
		p := []float64{0.02, 0.2}[k-2]
		o.store.Chance(p, lies...)
		o.say("lies %v", p)
	}
	if o.d == nil {
		o.open()
		return
	}
	path := fmt.Sprintf("d%d/f%d", o.rng.IntN(2), o.rng.IntN(4))
	switch k := o.rng.IntN(16); {
	case k < 4:
		o.write(path)
	case k < 5:
		o.remove(path)
	case k < 8:
		o.read(path)
	case k < 11:
		o.do("commit", func(ctx context.Context) error { return o.d.Commit(ctx) })
	case k < 12:
		o.do("gc", func(ctx context.Context) error { return o.gc(ctx) })
	case k < 13:
		o.do("verify", func(ctx context.Context) error { _, err := o.d.Verify(ctx, nil); return err })
	case k < 14:
		o.visit()
	default:
		o.close()
	}
}

func (o *ordeal) do(what string, fn func(context.Context) error) {
	o.say("%s", what)
	if err := fn(o.Context()); err != nil {
		o.refused(what, err)
	}
}

// gc drops the history too, so that there is something to free.
func (o *ordeal) gc(ctx context.Context) error {
	all, err := o.d.Snapshots(ctx)
	if err != nil {
		return err
	}
	for _, k := range all[min(1, len(all)):] {
		if err := o.d.DropSnapshot(ctx, SnapshotID(k.Dot.String())); err != nil {
			return err
		}
	}
	_, err = o.d.GC(ctx, GCOptions{}, nil)
	return err
}

func (o *ordeal) write(path string) {
	body := testkit.Random(o.rng, 1+o.rng.IntN(3000))
	if o.rng.IntN(4) == 0 {
		body = testkit.Random(o.rng, 200<<10)
	}
	o.say("write %s", path)
	_, err := vfs.MkdirAll(o.Context(), o.d.FS(), path[:2], vfs.New{Mode: 0o755})
	if err == nil {
		err = vfs.WriteFile(o.Context(), o.d.FS(), path, body, vfs.New{Kind: vfs.KindFile, Mode: 0o644})
	}
	if err != nil {
		o.refused("write", err)
		o.want[path] = append(o.may(path), "", string(body))
		return
	}
	o.want[path] = []string{string(body)}
}

func (o *ordeal) may(path string) []string {
	if w, ok := o.want[path]; ok {
		return w
	}
	return []string{absent}
}

func (o *ordeal) remove(path string) {
	o.say("remove %s", path)
	dir, err := vfs.WalkDir(o.Context(), o.d.FS(), path[:2])
	if err == nil {
		err = dir.Remove(o.Context(), path[3:], false)
	}
	switch {
	case err == nil:
		o.want[path] = []string{absent}
	case errors.Is(err, fs.ErrNotExist) && slices.Contains(o.may(path), absent):
	case errors.Is(err, fs.ErrNotExist):
		o.Errorf("remove %s: it is said not to be there: %v", path, err)
	default:
		o.refused("remove", err)
		o.want[path] = append(o.may(path), absent)
	}
}

func (o *ordeal) read(path string) {
	o.say("read %s", path)
	got, err := vfs.ReadFile(o.Context(), o.d.FS(), path, 1<<30)
	o.judge("read", o.may(path), path, string(got), err)
}

// judge holds what was read of a path against what it may be.
func (o *ordeal) judge(what string, may []string, path, got string, err error) {
	o.Helper()
	if errors.Is(err, fs.ErrNotExist) {
		got, err = absent, nil
	}
	if err != nil {
		o.refused(what, err)
		return
	}
	o.count["read"]++
	if !slices.Contains(may, got) {
		o.Errorf("%s: %s has %d bytes %.20q, want one of %d values, the first of %d bytes %.20q", what, path, len(got), got, len(may), len(may[0]), may[0])
	}
}

func (o *ordeal) close() {
	ctx := o.Context()
	if o.rng.IntN(2) == 0 {
		ctx = done()
	}
	o.say("close")
	if err := o.d.Close(ctx); err != nil && !errors.Is(err, context.Canceled) {
		o.refused("close", err)
	}
	o.d = nil
}

func (o *ordeal) open() {
	o.say("open")
	d, err := o.m.tryOpen()
	if err != nil {
		o.refused("open", err)
		return
	}
	o.d = d
}

// visit joins the drive as a new device, which only looks, while this one is closed: no two Stores may write to one
// Bucket. It may know less than this device has done, but nothing else. The place tells the truth about the members log
// meanwhile: who is not shown its end puts his entry beside one that is there, and that is a fork for good.
func (o *ordeal) visit() {
	if o.alone || o.rng.IntN(3) > 0 {
		return
	}
	o.close()
	o.store.Heal()
	lie, prefix := lies[o.rng.IntN(len(lies))], []string{"packs/", "heads/", "index/", "keys/"}[o.rng.IntN(4)]
	o.store.Set(lie, func(n blob.Name) bool { return within(n, prefix) || string(n) == prefix })
	o.say("visit, %v about %q", lie, prefix)
	n := newMachine(o.T, o.store)
	v, err := Join(o.Context(), n.options(Secret{Recovery: o.words}), false)
	if err != nil {
		o.refused("join", err)
		return
	}
	if _, err := stateOf(o.Context(), v.FS()); errors.Is(err, errWrong) {
		o.Errorf("visit: %v", err)
	} else if err != nil {
		o.refused("visit", err)
	}
	if err := v.Close(done()); err != nil && !errors.Is(err, context.Canceled) {
		o.refused("close of a visit", err)
	}
}

// heal ends the lies, opens the drive again and looks at all of it.
func (o *ordeal) heal() {
	o.store.Heal()
	o.count["lies"] += len(o.store.Deeds())
	if o.d != nil {
		drop(o.T, o.d)
	}
	o.say("healed")
	d, err := o.m.tryOpen()
	if err != nil {
		o.Errorf("healed, but it does not open: %v", err)
		return
	}
	for _, path := range slices.Sorted(maps.Keys(o.want)) {
		got, err := vfs.ReadFile(o.Context(), d.FS(), path, 1<<30)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			o.Errorf("healed: read %s: %v", path, err)
			continue
		}
		o.judge("healed", o.want[path], path, string(got), err)
	}
	if err := d.Commit(o.Context()); err != nil {
		o.Errorf("healed: commit: %v", err)
	}
	for _, f := range verify(o.T, d).Findings {
		o.Errorf("healed: verify: %s %s", f.Blob, f.Reason)
	}
	closeDrive(o.T, d)
}

// A place that says it has stored packs and has not: the bytes are lost, but no read shows anything else, and Verify tells.
func TestEvil_ForgottenPacksAreFound(t *testing.T) {
	v := newVillage(t)
	place := evil.New(v.store, 1)
	v.bucket = place
	d := v.open()
	place.Set(evil.Forget, func(n blob.Name) bool { return within(n, "packs/") })
	big := make([]byte, 200<<10)
	newNoise(5).fill(big)
	write(t, d.FS(), "note", big)
	commit(t, d)
	closeDrive(t, d)
	place.Heal()
	want := maps.Clone(v.want)
	want["note"] = "file " + string(big)
	for who, open := range map[string]func() (*Drive, error){
		"its device": v.tryOpen,
		"a new device": func() (*Drive, error) {
			return Join(t.Context(), newMachine(t, v.store).options(Secret{Recovery: v.words}), false)
		},
	} {
		found, err := inspect(t, open, want)
		if err != nil || !errors.Is(found, chunkstore.ErrMissing) {
			t.Errorf("%s: found %v, error %v, want ErrMissing", who, found, err)
		}
	}
}
