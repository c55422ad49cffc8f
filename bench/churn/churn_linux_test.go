package churn

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
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
	memory float64       // MiB that may come on top while it is measured
	count  float64       // handles and the like that may
	live   float64       // of the ratios of live bytes and of the store
}

const workers = 2

// short is what CI has time for. Caches still fill, which takes up to 64 MiB for the pack that is being written, as much for what
// was read and 16 MiB for the journal, packs are opened, and
// there are not yet as many snapshots as stay; only what leaks much is found.
var short = plan{files: 1500, lasts: 10 * time.Second, sample: 50 * time.Millisecond, care: time.Second, memory: 150, count: 40, live: 5}

// thePlan is short, or an hour over 100,000 files, or what SHEAF_CHURN and SHEAF_CHURN_FILES say.
func thePlan(t *testing.T) plan {
	t.Helper()
	lasts := os.Getenv("SHEAF_CHURN")
	if lasts == "" && os.Getenv("SHEAF_LONG") == "" {
		return short
	}
	p := plan{files: 100_000, lasts: time.Hour, sample: 5 * time.Second, care: 20 * time.Second, rate: 200, memory: 8, count: 3, live: 0.1}
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
	grows, table := churn(t, p)
	t.Logf("figures:%s", table)
	if len(grows) > 0 {
		t.Errorf("this grows: %s", strings.Join(grows, ", "))
	}
}

// The test above sees what leaks: a drive that does must not pass.
func TestMounted_ChurnFindsALeak(t *testing.T) {
	p := short
	p.lasts = 7 * time.Second
	grows, table := churn(t, p, leakEnv+"=1")
	for _, name := range []string{heap, handles, goroutines} {
		if !slices.Contains(grows, name) {
			t.Errorf("%s leaks, and nobody noticed; figures:%s", name, table)
		}
	}
}

// The figures.
const (
	heap       = "heap"
	resident   = "resident memory"
	handles    = "handles"
	threads    = "threads"
	goroutines = "goroutines"
	journal    = "journal"
	local      = "local folder"
	liveBytes  = "live bytes per byte of files"
	store      = "store per live byte"
)

func churn(t *testing.T, p plan, env ...string) (grows []string, table string) {
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
	run(func() error { return c.care(t, stop) })
	figures, err := c.watch(t, begin, &failed)
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

	// A new process: nothing is in its memory or in the kernel's.
	d = start(t, home, dir)
	all(t, c.workers, (*worker).check)
	d.stop()
	whole(t, home)
	grows, table, err = judge(figures)
	if err != nil {
		t.Fatal(err)
	}
	return grows, table
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
	reached float64 // of the last collection: what it found live, over all bytes of files
	stored  float64 // the store after it, over what is live

	snapshots, collections, looks int
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
		if err := c.d.ask("Thin", 12, nil); err != nil {
			return err
		}
		if i%2 == 0 {
			continue
		}
		var r sheaf.GCReport
		if err := c.d.ask("GC", 0, &r); err != nil {
			return err
		}
		size, err := below(filepath.Join(c.home, "store"))
		if err != nil {
			return err
		}
		bytes := c.bytes()
		c.mu.Lock()
		c.reached, c.stored = float64(r.Live)/float64(bytes), float64(size)/float64(r.Live)
		c.mu.Unlock()
		if c.collections++; c.collections%10 == 1 {
			t.Logf("collected: files %.1f MiB, live %.1f, store %.1f, freed %.1f, dead and kept %.1f", mib(bytes), mib(r.Live), mib(size), mib(r.Freed), mib(r.Kept))
		}
	}
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
		for _, w := range c.workers {
			w.mu.Lock()
			defer w.mu.Unlock()
		}
		f, err := os.Open(c.d.dir)
		if err != nil {
			return err
		}
		err = errors.Join(unix.Syncfs(int(f.Fd())), f.Close()) // what the kernel holds is in the tree now
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

// watch measures until the time is over.
func (c *keeper) watch(t *testing.T, begin time.Time, failed *atomic.Bool) ([]*figure, error) {
	figures := []*figure{
		{name: heap, unit: "MiB", slack: c.memory},
		{name: resident, unit: "MiB", slack: 2 * c.memory}, // the collector lets garbage grow to as much as is in use
		{name: handles, slack: c.count},
		{name: threads, slack: c.count},
		{name: goroutines, slack: c.count},
		{name: journal, unit: "MiB", slack: 2 * c.memory},
		{name: local, unit: "MiB", slack: 4 * c.memory}, // a database holds what it replaced until it is compacted
		{name: liveBytes, slack: c.live},
		{name: store, slack: c.live},
	}
	// SHEAF_CHURN_PROFILE names a folder for two profiles of the heap, of the middle and of the end.
	profiles := os.Getenv("SHEAF_CHURN_PROFILE")
	profile := func() error {
		if profiles == "" {
			return nil
		}
		return c.d.ask("Profile", profiles, nil)
	}
	half, said := false, begin
	few := func(f *figure) bool { return len(f.at) < 2*enough }
	// Time in which the machine slept, or these processes were stopped, does not count.
	var spent time.Duration
	last := begin
	for (spent < c.lasts || slices.ContainsFunc(figures, few)) && !failed.Load() { // a machine that is busy takes longer
		spent += min(time.Since(last), 5*c.sample)
		last = time.Now()
		at := spent.Seconds()
		now, err := c.measure()
		if err != nil {
			return nil, err
		}
		for i, f := range figures {
			if v := now[i]; v > 0 {
				f.add(at, v)
			}
		}
		if !half && spent > c.lasts/2 {
			half = true
			if err := profile(); err != nil {
				return nil, err
			}
		}
		if time.Since(said) > time.Minute {
			said = time.Now()
			t.Logf("%5.0f s: %.1f", at, now)
		}
		time.Sleep(c.sample)
	}
	return figures, profile()
}

// measure returns one value of each figure.
func (c *keeper) measure() (v [9]float64, err error) {
	proc := fmt.Sprintf("/proc/%d/", c.d.cmd.Process.Pid)
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		return v, err
	}
	fds, err := os.ReadDir(proc + "fd")
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
	var in Inside
	if err := c.d.ask("Look", 0, &in); err != nil {
		return v, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return [9]float64{
		in.Heap, field(status, "VmRSS") / 1024, float64(len(fds)), field(status, "Threads"), float64(in.Goroutines),
		mib(j), mib(data - j), c.reached, c.stored,
	}, nil
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
