package churn

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// A plan says how long and how large.
type plan struct {
	files  int
	lasts  time.Duration
	sample time.Duration // between two looks
	care   time.Duration // between two rounds of snapshot, history and garbage collection
	rate   int           // steps of each worker in a second; 0: as many as it can
	memory bound         // of MiB
	count  bound         // of handles and the like
	pool   bound         // of the pools of handles, which fill: that they stay within their limit is looked at besides
	live   bound         // of the ratios of live bytes and of the store

	// until, if it is not nil, is asked once lasts is over: it goes on until this is true, at most for a minute.
	until func(is map[string]verdict) bool
}

const workers = 2

// poolLimit is how many handles the pools of a drive have at most: those of 64 files of its store and of 256 tables of its
// database, which may be a few more for the moment of a compaction.
const poolLimit = 64 + 256 + 16

// short is what CI has time for. Caches still fill, which takes up to 64 MiB for the pack that is being written, as much for what
// was read and 16 MiB for the journal, packs are opened, and
// much is written while garbage is collected; only what leaks much is found. The workers have a pace, for a collection
// takes the longer the more is written meanwhile.
var short = plan{
	files: 1500, lasts: 10 * time.Second, sample: 50 * time.Millisecond, care: 250 * time.Millisecond, rate: 300,
	memory: bound{once: 150}, count: bound{once: 40}, pool: bound{once: poolLimit}, live: bound{once: 0.7},
}

// thePlan is short, or an hour over 100,000 files, or what SHEAF_CHURN and SHEAF_CHURN_FILES say.
func thePlan(t *testing.T) plan {
	t.Helper()
	lasts := os.Getenv("SHEAF_CHURN")
	if lasts == "" && os.Getenv("SHEAF_LONG") == "" {
		return short
	}
	p := plan{
		files: 100_000, lasts: time.Hour, sample: 5 * time.Second, care: 40 * time.Second, rate: 200,
		memory: bound{anHour: 16}, count: bound{anHour: 4}, pool: bound{once: poolLimit}, live: bound{anHour: 0.1},
	}
	var err error
	if lasts != "" {
		if p.lasts, err = time.ParseDuration(lasts); err != nil {
			t.Fatal(err)
		}
	}
	if s := os.Getenv("SHEAF_CHURN_FILES"); s != "" {
		if p.files, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	p.sample = min(p.sample, p.lasts/200)
	return p
}

// G9: an hour of churn over 100,000 files. Memory, handles, goroutines, journal and store do not grow; at the end each
// file is what was last written, and the store is whole.
func TestMounted_ChurnNeedsNoMoreOfAnything(t *testing.T) {
	p := thePlan(t)
	is, table := churn(t, p)
	t.Logf("figures:%s", table)
	for name, v := range is {
		if v == grows {
			t.Errorf("this grows: %s", name)
		}
	}
}

// The test above sees what leaks: a drive that does must not pass.
func TestMounted_ChurnFindsALeak(t *testing.T) {
	leaks := []string{heap, handles, goroutines, liveBytes}
	p := short
	p.lasts = 7 * time.Second
	// How many samples that are is the machine's to say, and how sure one may be is theirs.
	p.until = func(is map[string]verdict) bool {
		return !slices.ContainsFunc(leaks, func(name string) bool { return is[name] != grows })
	}
	is, table := churn(t, p, leakEnv+"=1")
	for _, name := range leaks {
		if is[name] != grows {
			t.Errorf("%s leaks, and nobody noticed; figures:%s", name, table)
		}
	}
	// How much of its heap a process gives back, and when, its runtime knows: this figure may stay unsure for a while.
	if is[resident] == holds {
		t.Errorf("resident memory leaks, and is said to hold; figures:%s", table)
	}
}

// The figures.
const (
	heap       = "heap"
	resident   = "resident memory"
	handles    = "handles"          // but those of pools
	pooled     = "handles of pools" // of files that were used last, and of tables of the database: how many these are is limited
	threads    = "threads"
	goroutines = "goroutines"
	journal    = "journal"
	local      = "local folder"
	liveBytes  = "live bytes per byte of files"
	store      = "store per live byte"
)

func churn(t *testing.T, p plan, env ...string) (is map[string]verdict, table string) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		testkit.Lacks(t, err)
	}
	seed := testkit.Seed(t)
	home, dir := t.TempDir(), t.TempDir()
	d := start(t, home, dir, env...)
	c := &keeper{plan: p, d: d, home: home, rng: rand.New(rand.NewPCG(uint64(seed), 99))}
	for i := range workers {
		w, err := newWorker(dir, fmt.Sprint("w", i), p.files/workers, rand.New(rand.NewPCG(uint64(seed), uint64(i))))
		if err != nil {
			t.Fatal(err)
		}
		c.workers = append(c.workers, w)
	}
	all(t, c.workers, (*worker).fill)
	all(t, c.workers, (*worker).check) // the kernel knows all from the begin, and memory is what that takes
	t.Logf("%d files are there", p.files)

	begin := time.Now()
	stop := make(chan struct{})
	var failed atomic.Bool
	var wg sync.WaitGroup
	run := func(f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				t.Error(err)
				failed.Store(true)
			}
		})
	}
	for _, w := range c.workers {
		run(func() error { return w.work(stop, p.rate) })
	}
	c.note()
	run(func() error { return c.care(t, stop) })
	err := c.watch(&failed)
	close(stop)
	wg.Wait()
	if err != nil || failed.Load() {
		t.Fatalf("it stopped after %s: %v", time.Since(begin).Round(time.Second), err)
	}
	steps := 0
	for _, w := range c.workers {
		steps += w.ops
	}
	t.Logf("%d steps, %d snapshots, %d collections, %d looks at the past", steps, c.snapshots, c.collections, c.looks)
	if c.collections < 2 || c.looks < 2 {
		t.Error("too little was done to prove anything")
	}
	d.stop()
	if dir := os.Getenv("SHEAF_CHURN_PROFILE"); dir != "" {
		if err := writeFigures(c.figures, dir); err != nil {
			t.Fatal(err)
		}
	}

	// A new process: nothing is in its memory or in the kernel's.
	d = start(t, home, dir)
	all(t, c.workers, (*worker).check)
	d.stop()
	whole(t, home)
	if c.found != nil {
		return c.found.is, c.found.table
	}
	is, table, err = judge(c.figures)
	if err != nil {
		t.Fatal(err)
	}
	return is, table
}

// all lets the workers do something side by side.
func all(t *testing.T, ws []*worker, f func(*worker) error) {
	t.Helper()
	var wg sync.WaitGroup
	for _, w := range ws {
		wg.Go(func() {
			if err := f(w); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// whole verifies the drive.
func whole(t *testing.T, home string) {
	t.Helper()
	ctx := context.Background()
	d, err := open(ctx, home)
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.Verify(ctx, nil)
	if err != nil || len(r.Findings) > 0 {
		t.Errorf("verify: %v %v", r.Findings, err)
	}
	t.Logf("verify: %d packs, %d chunks, %.0f MiB, %d findings", r.Packs, r.Chunks, mib(r.Bytes), len(r.Findings))
	if err := d.Close(ctx); err != nil {
		t.Error(err)
	}
}

// A keeper does what a service does beside the work of its users.
type keeper struct {
	plan
	d       *daemon
	home    string
	rng     *rand.Rand
	workers []*worker

	mu      sync.Mutex
	spent   time.Duration
	last    time.Time // when spent was counted
	figures []*figure

	found *found // what until was satisfied with; nil: it was not, or is not asked

	snapshots, collections, looks int
}

// found is what was known of all figures at some moment.
type found struct {
	is    map[string]verdict
	table string
}

// care makes snapshots, looks into them, thins them, and collects garbage, until it is told to stop.
func (c *keeper) care(t *testing.T, stop <-chan struct{}) error {
	tick := time.NewTicker(c.plan.care)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return nil
		case <-tick.C:
		}
		if err := c.past(fmt.Sprint("state ", i)); err != nil {
			return err
		}
		// How much a history holds depends on how many commits a busy machine does and on how much changes between two of them.
		// What is to stay the same is what lives once the history is gone, and that it goes.
		var live [2]sheaf.GCReport
		for k, keep := range []int{12, 0} {
			if err := c.d.ask("Thin", keep, nil); err != nil {
				return err
			}
			if err := c.d.ask("GC", 0, &live[k]); err != nil {
				return err
			}
		}
		size, err := below(filepath.Join(c.home, "store"))
		if err != nil {
			return err
		}
		r, bytes := live[1], c.bytes()
		if err := c.rest(t, float64(r.Live)/float64(bytes), float64(size)/float64(r.Live)); err != nil {
			return err
		}
		if c.collections++; c.collections%10 == 1 {
			t.Logf("collected: files %.1f MiB, live %.1f and with a history %.1f, store %.1f, freed %.1f, dead and kept %.1f",
				mib(bytes), mib(r.Live), mib(live[0].Live), mib(size), mib(r.Freed), mib(r.Kept))
		}
	}
}

// still holds up the workers, and has the kernel hand over what it holds. What it returns lets them go on.
func (c *keeper) still() (goOn func(), err error) {
	for _, w := range c.workers {
		w.mu.Lock()
	}
	f, err := os.Open(c.d.dir)
	if err == nil {
		err = errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
	}
	return func() {
		for _, w := range c.workers {
			w.mu.Unlock()
		}
	}, err
}

// rest measures while nothing goes on: no work is under way, all is committed, and the kernel has forgotten all files, how many of which
// it knows else depends on who else is on the machine. So what is in use then is what a drive needs always, or what it has lost. live and stored are of the
// collection that has just been.
func (c *keeper) rest(t *testing.T, live, stored float64) error {
	goOn, err := c.still()
	defer goOn()
	if err == nil {
		err = c.d.ask("Commit", 0, nil)
	}
	if err == nil {
		// To mount it once more, as it is, makes the kernel drop what it knows of it.
		err = unix.Mount("", c.d.dir, "", unix.MS_REMOUNT|unix.MS_NOSUID|unix.MS_NODEV, "")
	}
	if err != nil {
		return fmt.Errorf("rest: %w", err)
	}
	// It tells so when it likes to: a look at a time, until there is no less in use.
	var now [8]float64
	for heap := math.Inf(1); ; heap = now[0] {
		if now, err = c.measure(); err != nil {
			return err
		}
		if now[0] > heap-1 {
			break
		}
	}
	if now[3] > poolLimit {
		return fmt.Errorf("%.0f handles of pools, which are to have %d at most", now[3], poolLimit)
	}
	at := c.clock().Seconds()
	t.Logf("%5.0f s: %.1f %.3f %.3f", at, now, live, stored)
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, v := range append(now[:], live, stored) {
		c.figures[i].add(at, v)
	}
	return nil
}

// clock returns how long it has been measured. Time in which the machine slept, or these processes were stopped, does not
// count.
func (c *keeper) clock() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); !c.last.IsZero() {
		c.spent += min(now.Sub(c.last), 5*c.sample)
	}
	c.last = time.Now()
	return c.spent
}

// bytes returns what the files have.
func (c *keeper) bytes() (n int64) {
	for _, w := range c.workers {
		w.mu.Lock()
		for _, f := range w.files {
			n += int64(len(f.body))
		}
		w.mu.Unlock()
	}
	return n
}

// past makes a snapshot while nobody writes, and reads from it while they do again.
func (c *keeper) past(label string) error {
	type old struct {
		path string
		sum  [32]byte
	}
	var olds []old
	err := func() error {
		goOn, err := c.still() // what the kernel held is in the tree now
		defer goOn()
		if err == nil {
			err = c.d.ask("Keep", label, nil)
		}
		for _, w := range c.workers {
			for range 4 {
				f := w.files[c.rng.IntN(len(w.files))]
				olds = append(olds, old{w.inDrive(f), sha256.Sum256(f.body)})
			}
		}
		return err
	}()
	if err != nil {
		return err
	}
	c.snapshots++
	for _, o := range olds {
		var sum [32]byte
		if err := c.d.ask("Past", Old{label, o.path}, &sum); err != nil {
			return err
		}
		if sum != o.sum {
			return fmt.Errorf("%s in %s has other bytes than when it was made", o.path, label)
		}
		c.looks++
	}
	var n int
	if err := c.d.ask("History", olds[0].path, &n); err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("%s, which is in %s, has no history", olds[0].path, label)
	}
	return nil
}

// note makes the figures, which have no value yet.
func (c *keeper) note() {
	c.figures = []*figure{
		{name: heap, unit: "MiB", bound: c.memory},
		{name: resident, unit: "MiB", bound: c.memory.times(2)},
		{name: handles, bound: c.count},
		{name: pooled, bound: c.pool},
		{name: threads, bound: c.count},
		{name: goroutines, bound: c.count},
		{name: journal, unit: "MiB", bound: c.memory.times(2)},
		{name: local, unit: "MiB", bound: c.memory.times(4)}, // a database holds what it replaced until it is compacted
		{name: liveBytes, bound: c.live},
		{name: store, bound: c.live},
	}
}

// watch lets the time pass until the time is over.
func (c *keeper) watch(failed *atomic.Bool) error {
	// SHEAF_CHURN_PROFILE names a folder for two profiles of the heap, of the middle and of the end, and for all that was measured.
	profiles := os.Getenv("SHEAF_CHURN_PROFILE")
	profile := func() error {
		if profiles == "" {
			return nil
		}
		return c.d.ask("Profile", profiles, nil)
	}
	half := false
	over := func(spent time.Duration) (bool, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if spent < c.lasts || len(c.figures[0].at) < enough { // a machine that is busy takes longer
			return false, nil
		}
		if c.until == nil || spent > c.lasts+time.Minute {
			return true, nil
		}
		is, table, err := judge(c.figures)
		if err != nil || !c.until(is) {
			return false, err
		}
		c.found = &found{is, table} // one more sample might be one too many
		return true, nil
	}
	var spent time.Duration
	for !failed.Load() {
		if done, err := over(spent); done || err != nil {
			return errors.Join(err, profile())
		}
		spent = c.clock()
		if !half && spent > c.lasts/2 {
			half = true
			if err := profile(); err != nil {
				return err
			}
		}
		time.Sleep(c.sample)
	}
	return profile()
}

// measure returns one value of each figure but those of the store.
func (c *keeper) measure() (v [8]float64, err error) {
	// First of all: this collects what is garbage, and gives it back.
	var in Inside
	if err := c.d.ask("Look", 0, &in); err != nil {
		return v, err
	}
	proc := fmt.Sprintf("/proc/%d/", c.d.cmd.Process.Pid)
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		return v, err
	}
	open, pool, err := c.open(proc + "fd")
	if err != nil {
		return v, err
	}
	j, err := below(filepath.Join(c.home, "data", "journal"))
	if err != nil {
		return v, err
	}
	data, err := below(filepath.Join(c.home, "data"))
	if err != nil {
		return v, err
	}
	return [8]float64{
		// Which pages of a program and of its files are in memory is the kernel's to say; those without a file are the program's.
		in.Heap, field(status, "RssAnon") / 1024, float64(open), float64(pool), field(status, "Threads"), float64(in.Goroutines),
		mib(j), mib(data - j),
	}, nil
}

// open counts the handles of the process, those of pools apart. A file that is gone and still open takes room that nobody sees.
func (c *keeper) open(dir string) (n, pool int, err error) {
	fds, err := os.ReadDir(dir)
	if err != nil {
		return 0, 0, err
	}
	files := filepath.Join(c.home, "store") + "/"
	for _, fd := range fds {
		to, err := os.Readlink(filepath.Join(dir, fd.Name()))
		switch {
		case errors.Is(err, fs.ErrNotExist): // closed meanwhile
		case err != nil:
			return 0, 0, err
		case strings.HasPrefix(to, files) || strings.Contains(to, ".sst"):
			pool++
		default:
			n++
		}
	}
	return n, pool, nil
}

// field returns a number of /proc/PID/status.
func field(status []byte, name string) float64 {
	_, rest, _ := strings.Cut(string(status), "\n"+name+":")
	rest, _, _ = strings.Cut(rest, "\n")
	n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(rest, "kB")))
	if err != nil {
		return 0
	}
	return float64(n)
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// below returns the bytes of all files below dir, which may come and go.
func below(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = e.Info(); err == nil {
				n += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return n, err
}
