package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

var (
	// errWrong is what must never be: bytes that nobody wrote.
	errWrong = errors.New("WRONG DATA")
	// errBroken wraps what a schedule found wrong with the drive.
	errBroken = errors.New("promise broken")
)

// A world is one schedule.
type world struct {
	ctx      context.Context
	seed     uint64
	rng      *rand.Rand
	dir      string // for the keys of devices
	places   []*place
	devices  []*device
	direct   bool      // devices reach each other
	pairs    []*pair   // those that do
	ghosts   []*device // that were revoked, and go on
	recovery string
	words    map[string]*word
	known    map[string]bool // all that files were ever made to hold
	pool     []string        // of bytes that are written again and again
	gone     []former        // devices that are none any more, and not revoked
	former   map[string]bool // all that ever were such, by the names of their replicas
	n        int             // of the step
	tidy     int             // for how many steps garbage is about to go
	clock    time.Time       // of all devices

	count map[string]int
	said  []string // what was done: the trace
	notes func(format string, args ...any)
	grave []string // promises that were broken
}

func newWorld(ctx context.Context, seed uint64, dir string) *world {
	w := &world{
		ctx: ctx, seed: seed, rng: rand.New(rand.NewPCG(seed, 0x51)), dir: dir, words: map[string]*word{}, known: map[string]bool{"": true}, former: map[string]bool{}, count: map[string]int{},
		clock: time.Now(), direct: seed%4 == 3 || peersOnly,
	}
	for range 5 {
		b := string(testkit.Random(w.rng, 200+w.rng.IntN(30<<10)))
		w.pool = append(w.pool, b)
		w.known[b] = true
	}
	return w
}

// people makes places and devices, and lets them all know of each other.
func (w *world) people() error {
	for i := range 1 + w.rng.IntN(3) {
		w.places = append(w.places, newPlace(string(rune('p'+i))))
	}
	for i := range 2 + w.rng.IntN(4) {
		var places []*place
		for j, p := range w.places {
			// The first is everywhere, so that the others are never two worlds.
			if i == 0 || w.rng.IntN(3) > 0 || j == len(w.places)-1 && len(places) == 0 {
				places = append(places, p)
			}
		}
		w.rng.Shuffle(len(places), func(a, b int) { places[a], places[b] = places[b], places[a] })
		d := newDevice(w, string(rune('a'+i)), places)
		w.devices = append(w.devices, d)
		if err := d.open(); err != nil {
			return fmt.Errorf("%s begins: %w", d.name, err)
		}
		if err := d.exchange(); err != nil {
			return fmt.Errorf("%s begins: %w", d.name, err)
		}
	}
	return nil
}

// run does n steps, and then holds what came of it against what was promised.
func (w *world) run(steps int) error {
	defer w.end()
	begin := w.people
	if w.direct {
		begin = w.acquaint
	}
	if err := begin(); err != nil {
		return err
	}
	for w.n = range steps {
		// Each step has chance of its own: what differs between two runs of a schedule is seen where it begins, and changes little after it.
		w.rng = rand.New(rand.NewPCG(w.seed, 1000+uint64(w.n)))
		if err := w.step(); err != nil {
			return fmt.Errorf("step %d: %w", w.n, err)
		}
		w.wait()
		if w.direct {
			w.bury()
		}
		if len(w.grave) > 0 {
			break
		}
	}
	if len(w.grave) == 0 {
		if err := w.settle(); err != nil {
			return err
		}
	}
	if len(w.grave) > 0 {
		return fmt.Errorf("%w:\n%s", errBroken, strings.Join(w.grave[:min(len(w.grave), 12)], "\n"))
	}
	return nil
}

// end closes all.
func (w *world) end() {
	for _, d := range append(slices.Clone(w.devices), w.ghosts...) {
		d.power.cut()
		_ = d.down(ended())
		_ = d.tier.Close()
	}
	w.wait()
}

// wait returns when all that drives do by themselves has come to rest.
func (w *world) wait() { synctest.Wait() }

// must is for what cannot fail.
func (w *world) must(err error) {
	if err != nil {
		panic(err)
	}
}

func (w *world) failf(format string, args ...any) {
	w.grave = append(w.grave, fmt.Sprintf(format, args...))
}

// say notes what was done and what came of it.
func (w *world) say(format string, args ...any) {
	s := fmt.Sprintf("%d ", w.n) + fmt.Sprintf(format, args...)
	w.said = append(w.said, s)
	if w.notes != nil {
		w.notes("%s", s)
	}
}

// outcome is an error as the trace has it: its text may have names of blobs that chance made.
func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, errDead):
		return "dead"
	}
	return "failed"
}

func (w *world) copy(to, from *mem.Bucket) {
	for info, err := range from.List(w.ctx, "") {
		w.must(err)
		r, err := from.Get(w.ctx, info.Name, 0, -1)
		w.must(err)
		w.must(to.Put(w.ctx, info.Name, r, info.Size))
		w.must(r.Close())
	}
}

// log tells what a device has to say, if somebody wants to know.
func (w *world) log(d *device) *slog.Logger {
	if w.notes == nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(notesWriter{w, d}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type notesWriter struct {
	w *world
	d *device
}

func (n notesWriter) Write(p []byte) (int, error) {
	n.w.notes("    %s: %s", n.d.name, strings.TrimSpace(string(p)))
	return len(p), nil
}

// chosen is the piece of a random identity that the name of a thing ends with where two have one place.
var chosen = regexp.MustCompile(` \([0-9a-f]{4,32}\)`)

// mark is a short form of a tree, for the trace. Identities are left out: which one a thing gets hangs on the order in which goroutines take of the schedule's chance.
func mark(t tree) string {
	var all []string
	for path, what := range t {
		all = append(all, chosen.ReplaceAllString(path, " (…)")+"\x00"+what+"\x00")
	}
	slices.Sort(all)
	h := blake3.New()
	for _, s := range all {
		_, _ = io.WriteString(h, s)
	}
	return fmt.Sprintf("%d:%x", len(t), h.Sum(nil)[:8])
}

// rounds is how many exchanges it takes all devices at most to come to rest when faults have ended.
const rounds = 16

// settle ends all faults, lets all devices meet until nothing changes, and looks at what they show.
func (w *world) settle() error {
	for _, d := range w.devices {
		d.heal()
		d.power.set(-1, false)
		w.drop(d)
	}
	for _, p := range w.pairs {
		p.heal()
	}
	w.n, w.rng = 1000, rand.New(rand.NewPCG(w.seed, 999))
	var all tree
	// What a device fetches in the end of one round it brings to its other places in the next: two have to be quiet.
	quiet, was := false, false
	for round := 0; round < rounds && !(quiet && was); round++ {
		before := w.puts()
		was, quiet = quiet, true
		devices := w.devices
		if w.direct {
			var err error
			if quiet, err = w.settleTogether(round == rounds-1); err != nil {
				return err
			}
			devices = nil
		}
		for i, d := range devices {
			if d.d == nil {
				quiet = false
				err := d.open()
				if err != nil && d.headless() && round < rounds-1 {
					w.say("settle %s: %v", d.name, err)
					continue // others have yet to bring what it begins on
				}
				if err != nil {
					return fmt.Errorf("%w: %s does not open when all is well: %w", errBroken, d.name, err)
				}
			}
			if err := d.exchange(); err != nil {
				quiet = false
				if w.say("settle %s: %v", d.name, err); round == rounds-1 {
					return fmt.Errorf("%w: %s does not come to rest: %w", errBroken, d.name, err)
				}
				// Its state may be one that it has to begin anew from.
				if err := d.down(w.ctx); err != nil {
					w.say("settle %s: close: %v", d.name, err)
				}
				continue
			}
			t, err := w.look(d.fsys)
			if err != nil && !errors.Is(err, errWrong) && round < rounds-1 {
				// Whoever has brought a head here may have brought it before a pack that its own place hid from it (ADR 16), which comes with its next turn.
				quiet = false
				w.say("settle %s: look: %v", d.name, err)
				w.count["late packs"]++
				continue
			}
			if err != nil {
				return fmt.Errorf("%w: %s when all is well: %w", errBroken, d.name, err)
			}
			if i == 0 {
				all = t
			}
			quiet = quiet && mark(t) == mark(all)
		}
		quiet = quiet && w.puts() == before
		time.Sleep(3 * time.Minute) // what was let alone is asked again
		w.count["rounds"]++
	}
	clashes := ""
	for _, d := range w.devices {
		if d.d == nil {
			return fmt.Errorf("%w: %s is down when all is well", errBroken, d.name)
		}
		t, err := w.look(d.fsys)
		if err != nil {
			return fmt.Errorf("%w: %s when all is well: %w", errBroken, d.name, err)
		}
		if d == w.devices[0] {
			all = t
		}
		if s := t.differs(all); s != "" {
			w.failf("%s shows another tree than %s:\n%s", d.name, w.devices[0].name, s)
		}
		c, err := conflicts(w.ctx, d)
		if err != nil {
			return fmt.Errorf("%w: %s lists conflicts: %w", errBroken, d.name, err)
		}
		if d == w.devices[0] {
			clashes = c
		} else if c != clashes {
			w.failf("%s lists other conflicts than %s:\n%s\n%s", d.name, w.devices[0].name, c, clashes)
		}
	}
	if len(w.grave) == 0 && !quiet {
		w.failf("after %d rounds there is still something to do", rounds)
	}
	w.say("settled %s", mark(all))
	w.judge(all)
	return w.inspect(all)
}

// conflicts returns what a device lists of them, as all are to list it.
func conflicts(ctx context.Context, d *device) (string, error) {
	all, err := d.d.Conflicts(ctx, "")
	var s strings.Builder
	for _, c := range all {
		for _, v := range c.Versions {
			fmt.Fprintf(&s, "%s %s %s %d\n", v.Path, v.Device, v.MTime, v.Size)
		}
		s.WriteByte('\n')
	}
	return s.String(), err
}

// puts counts what was put at places.
func (w *world) puts() (n int) {
	for _, p := range w.places {
		n += p.puts
	}
	for _, d := range w.devices {
		n += d.took
	}
	return n
}

// inUse returns the places that a device has: one that only a revoked device had is as it was when that went.
func (w *world) inUse() (all []*place) {
	for _, p := range w.places {
		if slices.ContainsFunc(w.devices, func(d *device) bool {
			return slices.ContainsFunc(d.links, func(l *link) bool { return l.place == p })
		}) {
			all = append(all, p)
		}
	}
	return all
}

// inspect verifies each device, opens one anew, and joins a new one from one place alone.
func (w *world) inspect(all tree) error {
	// To read all packs takes as long as all else: one in four schedules does so on all devices.
	verified := w.devices
	if w.rng.IntN(4) > 0 {
		verified = verified[w.rng.IntN(len(verified)):][:1]
	}
	for _, d := range verified {
		r, err := d.d.Verify(w.ctx, nil)
		if err != nil {
			return fmt.Errorf("%w: verify %s: %w", errBroken, d.name, err)
		}
		for _, f := range r.Findings {
			w.failf("verify %s: %s %s %s", d.name, f.Blob, f.Path, f.Reason)
		}
	}
	again := w.devices[w.rng.IntN(len(w.devices))]
	for _, d := range w.devices {
		d.wasBack = false // it has met all, and is who it was
	}
	if err := again.down(w.ctx); err != nil {
		return fmt.Errorf("%w: close %s: %w", errBroken, again.name, err)
	}
	var late *device
	if places := w.inUse(); len(places) > 0 && (!w.direct || w.rng.IntN(2) == 0) {
		late = newDevice(w, "z", places[w.rng.IntN(len(places)):][:1])
	} else {
		late = newDevice(w, "z", nil)
		w.pair(late, w.devices[w.rng.IntN(len(w.devices))])
	}
	w.devices = append(w.devices, late)
	for _, d := range []*device{again, late} {
		if err := d.open(); err != nil {
			return fmt.Errorf("%w: %s does not open: %w", errBroken, d.name, err)
		}
		t, err := w.look(d.fsys)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", errBroken, d.name, err)
		}
		if s := t.differs(all); s != "" {
			w.failf("%s shows another tree when it begins:\n%s", d.name, s)
		}
	}
	return nil
}

var _ blob.Bucket = (*link)(nil)
