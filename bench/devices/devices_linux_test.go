package devices

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// Three devices write one drive through their mounts, in the same folders and files, with nothing between them but a folder, and
// die now and then. In the end all show the same tree; what was synced and that nobody who saw it replaced or removed
// is in it; and all know of the same conflicts. SHEAF_DEVICES=10m is how long they write.
func TestDevices_ComeToOneTreeAndLoseNothing(t *testing.T) {
	live(t, testkit.Seed(t), fleet(t, 3, folder(t)), func() {})
}

// live lets the devices write, die and collect garbage for a while, and looks at what they have come to. Before that last it calls calm.
func live(t *testing.T, seed int64, all []*device, calm func()) {
	t.Helper()
	long := 12 * time.Second
	if s := os.Getenv("SHEAF_DEVICES"); s != "" {
		var err error
		if long, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	l := &ledger{texts: map[string]*text{}}
	ctx, stop := context.WithTimeout(t.Context(), long)
	defer stop()
	var wg sync.WaitGroup
	var workers []*worker
	var freed, times atomic.Int64
	for i, d := range all {
		w := &worker{d: d, l: l, rng: rand.New(rand.NewPCG(uint64(seed), uint64(i))), ops: map[string]int{}}
		workers = append(workers, w)
		wg.Go(func() { w.work(ctx) })
		wg.Go(func() { // without it, a drive that is written all the time is committed once a minute
			for ctx.Err() == nil {
				_, _ = d.run(ctx, "wait") // it may be down
			}
		})
		wg.Go(func() {
			for ctx.Err() == nil {
				if n := collect(ctx, d); n > 0 {
					freed.Add(n)
					times.Add(1)
				}
			}
		})
	}
	kills := 0
	for rng := testkit.Rand(seed); ; kills++ {
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(2000+rng.IntN(4000)) * time.Millisecond): // when a device dies
		}
		if ctx.Err() != nil {
			break
		}
		d := all[rng.IntN(len(all))]
		l.tell(time.Now(), "%s dies", d.name)
		_ = d.cmd.Process.Kill()
		_, _ = d.run(ctx, "status") // frees a process that cannot end because it waits for itself
		d.mu.Lock()
		d.down()
		err := d.up()
		d.mu.Unlock()
		if err != nil {
			log, _ := os.ReadFile(filepath.Join(d.home, "mount.log"))
			t.Fatalf("%s does not come back: %v\n%s", d.name, err, log)
		}
	}
	wg.Wait()
	calm()
	for _, w := range workers {
		t.Logf("%s: %v", w.d.name, w.ops)
	}
	found := settle(t, all)
	missing, due := l.missing(found)
	t.Logf("%d kills, %d texts written, %d due, %d found; %d collections freed %d KiB", kills, len(l.texts), due, len(found), times.Load(), freed.Load()>>10)
	if long >= time.Minute && times.Load() == 0 {
		t.Error("nothing was freed: the run proves nothing of garbage collection")
	}
	if due == 0 {
		t.Error("nothing had to be there: the run proves nothing")
	}
	for _, s := range missing {
		t.Errorf("%s was synced, nobody who saw it replaced it, and it is nowhere:\n%s", s, strings.Join(l.about(s), "\n"))
	}
	conflicts(t, all)
	for _, d := range all {
		if err := d.end(); err != nil {
			t.Error(err)
		}
		if _, err := d.run(t.Context(), "store", "verify"); err != nil {
			t.Error(err)
		}
	}
}

var freedForm = regexp.MustCompile(`"freed_?[bB]ytes": ?"?(\d+)`)

// collect forgets the states that a device keeps by itself, and collects garbage without days of grace. It returns the bytes that were freed; 0
// also if the device is down.
func collect(ctx context.Context, d *device) (freed int64) {
	out, err := d.run(ctx, "snapshot", "list", "--json")
	if err != nil {
		return 0
	}
	args := []string{"snapshot", "rm"}
	for line := range strings.Lines(out) {
		var s struct{ ID, Label string }
		if json.Unmarshal([]byte(line), &s) == nil && s.ID != "" && s.Label == "" {
			args = append(args, s.ID)
		}
	}
	if len(args) > 2 {
		_, _ = d.run(ctx, args...) // others forget the same ones
	}
	out, err = d.run(ctx, "store", "gc", "--grace", "0s", "--json")
	if err != nil {
		return 0
	}
	if m := freedForm.FindStringSubmatch(out); m != nil {
		freed, _ = strconv.ParseInt(m[1], 10, 64)
	}
	return freed
}

// A meeting is the place through which devices share a drive: its name, and what each device has to be told before it knows it.
type meeting struct {
	at   string
	env  []string
	tell [][]string
}

// folder is a meeting in a folder of this machine.
func folder(t *testing.T) meeting { return meeting{at: filepath.Join(t.TempDir(), "place")} }

// fleet makes a drive and devices that share it.
func fleet(t *testing.T, n int, m meeting) []*device {
	t.Helper()
	meet := func(name string) *device {
		d := newDevice(t, name)
		d.env = m.env
		return d
	}
	first := meet("dev0")
	out, err := first.run(t.Context(), "init", "--json", "--device-name", "dev0")
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ Recovery string }
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	words := filepath.Join(t.TempDir(), "words")
	if err := os.WriteFile(words, []byte(made.Recovery), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range append(slices.Clone(m.tell), []string{"replica", "add", m.at}, []string{"wait", "--copies", "2"}) {
		if _, err := first.run(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
	}
	all := []*device{first}
	for i := 1; i < n; i++ {
		d := meet(fmt.Sprintf("dev%d", i))
		for _, args := range append(slices.Clone(m.tell), []string{"init", "--from", m.at, "--recovery-file", words, "--device-name", d.name}) {
			if _, err := d.run(t.Context(), args...); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, d)
	}
	for _, d := range all {
		if err := d.up(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// settle lets the devices look at each other's work until all show the same, and returns the texts that are there and where.
func settle(t *testing.T, all []*device) map[string]string {
	t.Helper()
	var why string
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		for _, d := range all {
			if _, err := d.run(t.Context(), "replica", "sync"); err != nil {
				t.Fatal(err)
			}
		}
		first, texts, err := look(all[0].dir)
		why = ""
		for _, d := range all[1:] {
			if err != nil {
				break
			}
			var tree map[string]string
			if tree, _, err = look(d.dir); err != nil {
				break
			}
			if why = differ(first, tree); why != "" {
				why = d.name + ": " + why
				break
			}
		}
		if err != nil { // a name went elsewhere between two looks
			why = err.Error()
		}
		if why == "" {
			return texts
		}
	}
	t.Fatalf("the devices do not come to one tree: %s", why)
	return nil
}

// look returns what a mount shows: of each path its kind, mode and bytes; and the texts in all files.
func look(dir string) (tree, texts map[string]string, err error) {
	tree, texts = map[string]string{}, map[string]string{}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, dir)
		info, err := e.Info()
		if err != nil {
			return err
		}
		what := info.Mode().String()
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum := blake3.Sum256(b)
			what += fmt.Sprintf(" %d %x", len(b), sum[:8])
			for _, s := range textForm.FindAllString(string(b), -1) {
				texts[s] = name
			}
		}
		tree[name] = what
		return nil
	})
	return tree, texts, err
}

func differ(a, b map[string]string) string {
	for _, path := range slices.Sorted(maps.Keys(a)) {
		if a[path] != b[path] {
			return fmt.Sprintf("%q is %q, and %q on the first", path, b[path], a[path])
		}
	}
	for _, path := range slices.Sorted(maps.Keys(b)) {
		if _, ok := a[path]; !ok {
			return fmt.Sprintf("%q is not on the first", path)
		}
	}
	return ""
}

// conflicts checks that all devices show the same conflicts.
func conflicts(t *testing.T, all []*device) {
	t.Helper()
	type list struct {
		Conflicts []struct {
			Versions []struct {
				Path   string `json:"path"`
				Device string `json:"device"`
			} `json:"versions"`
		} `json:"conflicts"`
	}
	var first string
	for i, d := range all {
		out, err := d.run(t.Context(), "conflict", "list", "--json")
		if err != nil {
			t.Fatal(err)
		}
		var l list
		if err := json.Unmarshal([]byte(out), &l); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		text := fmt.Sprintf("%+v", l)
		if i == 0 {
			first = text
			t.Logf("%d conflicts", len(l.Conflicts))
		} else if text != first {
			t.Errorf("%s shows other conflicts than the first:\n%s\n%s", d.name, text, first)
		}
	}
}
