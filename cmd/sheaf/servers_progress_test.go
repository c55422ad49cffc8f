//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/sync/remote/remotetest"
)

// aJob is how far a job says that it is.
type aJob struct {
	ID         string
	Work       string
	State      string
	Started    string
	Items      int64
	ItemsTotal int64 `json:"items_total"`
	Bytes      int64
	BytesTotal int64 `json:"bytes_total"`
	Counted    bool
}

// A progressWatch looks at what a machine says of its progress, and holds it to three things: it never goes above 100 %, it never goes back unless
// the total grew, and it never says that all is done before it is.
type progressWatch struct {
	m     *machine
	store string // of the machine
	place string // of the drive at the server

	turns map[string]struct{ turn, bytes, total int64 }
	jobs  map[string]aJob
	wrong []string
	looks int
	done  int // looks at which it said that all is at the place
	part  int // looks in the midst of a turn or a job
}

func newProgressWatch(m *machine, place remotetest.Place) *progressWatch {
	return &progressWatch{
		m: m, store: filepath.Join(m.home, "store"), place: driveDir(place),
		turns: map[string]struct{ turn, bytes, total int64 }{}, jobs: map[string]aJob{},
	}
}

func (w *progressWatch) blame(format string, args ...any) {
	if len(w.wrong) < 20 {
		w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
	}
}

// named lists what a place has of packs and heads.
func named(dir string) map[string]bool {
	all := map[string]bool{}
	for _, part := range []string{"packs", "heads"} {
		_ = filepath.WalkDir(filepath.Join(dir, part), func(name string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				rel, _ := filepath.Rel(dir, name)
				all[rel] = true
			}
			return nil // what goes while it is looked at is not there
		})
	}
	return all
}

// status judges one answer. had is what the store had before it was asked.
func (w *progressWatch) status(s standing, had map[string]bool) {
	w.looks++
	for _, r := range s.Replicas {
		last := w.turns[r.Name]
		if r.TurnBytes > r.TurnTotal {
			w.blame("a turn at %s has brought %d of %d bytes", r.Name, r.TurnBytes, r.TurnTotal)
		}
		if r.Turn == last.turn && (r.TurnBytes < last.bytes && r.TurnTotal <= last.total || r.TurnTotal < last.total) {
			w.blame("turn %d at %s went back from %d of %d bytes to %d of %d", r.Turn, r.Name, last.bytes, last.total, r.TurnBytes, r.TurnTotal)
		}
		if r.Turn < last.turn {
			w.blame("turn %d at %s came after turn %d", r.Turn, r.Name, last.turn)
		}
		if r.TurnBytes > 0 && r.TurnBytes < r.TurnTotal {
			w.part++
		}
		last.turn, last.bytes, last.total = r.Turn, r.TurnBytes, r.TurnTotal
		w.turns[r.Name] = last
	}
	if s.Pending < 0 || s.Copies < 1 || s.Copies > len(s.Replicas)+1 {
		w.blame("%d bytes are said to be pending, and there to be %d copies at %d replicas", s.Pending, s.Copies, len(s.Replicas))
	}
	if !s.atRest() {
		if s.Copies > 1 {
			for _, r := range s.Replicas {
				if r.LagBlobs > 0 {
					w.blame("there are said to be %d copies, while %s lacks %d blobs", s.Copies, r.Name, r.LagBlobs)
				}
			}
		}
		return
	}
	// All that was in the store before it was asked is to be at the place now, unless the device has removed it since.
	w.done++
	there := named(w.place)
	for name := range had {
		if there[name] {
			continue
		}
		if _, err := os.Stat(filepath.Join(w.store, name)); err == nil {
			w.blame("all is said to be at the server, and %s is not", name)
		}
	}
}

// job judges what is said of one job.
func (w *progressWatch) job(j aJob) {
	last, known := w.jobs[j.ID]
	w.jobs[j.ID] = j
	if j.Bytes > 0 && j.Bytes < j.BytesTotal || j.Items > 0 && j.Items < j.ItemsTotal {
		w.part++
	}
	if j.Bytes > j.BytesTotal || j.Items > j.ItemsTotal {
		w.blame("job %s, %s, has done %d of %d bytes and %d of %d items", j.ID, j.Work, j.Bytes, j.BytesTotal, j.Items, j.ItemsTotal)
	}
	if known && last.Started == j.Started && (j.Bytes < last.Bytes || j.Items < last.Items || j.BytesTotal < last.BytesTotal || j.ItemsTotal < last.ItemsTotal) {
		w.blame("job %s, %s, went back from %+v to %+v", j.ID, j.Work, last, j)
	}
	if j.State == "done" && (j.Bytes != j.BytesTotal || j.Items != j.ItemsTotal) {
		w.blame("job %s, %s, is done with %d of %d bytes and %d of %d items", j.ID, j.Work, j.Bytes, j.BytesTotal, j.Items, j.ItemsTotal)
	}
	if known && last.State != "running" && last.State != j.State && last.Started == j.Started {
		w.blame("job %s, %s, was %s and is %s", j.ID, j.Work, last.State, j.State)
	}
}

// look looks once.
func (w *progressWatch) look(t *testing.T) {
	had := named(w.store)
	if code, out, errs := w.m.run(t, "status", "--json"); code == 0 {
		var s standing
		if err := json.Unmarshal([]byte(out), &s); err != nil {
			w.blame("status: %v: %s", err, out)
		}
		w.status(s, had)
	} else {
		w.blame("status: exit %d: %s", code, errs)
	}
	if code, out, _ := w.m.run(t, "job", "list", "--json"); code == 0 {
		for sc := bufio.NewScanner(bytes.NewReader([]byte(out))); sc.Scan(); {
			var j aJob
			if err := json.Unmarshal(sc.Bytes(), &j); err != nil {
				w.blame("job list: %v: %s", err, sc.Text())
			}
			w.job(j)
		}
	}
}

// follow looks again and again until the function that it returns is called, which fails the test if something was not true.
func (w *progressWatch) follow(t *testing.T) (end func()) {
	stop := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for {
			w.look(t)
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond): // between two looks
			}
		}
	})
	return func() {
		close(stop)
		all.Wait()
		for _, what := range w.wrong {
			t.Errorf("progress: %s", what)
		}
		t.Logf("progress: %d looks, %d in the midst of something, %d at which all was said to be there, %d jobs", w.looks, w.part, w.done, len(w.jobs))
		if w.looks < 5 || w.part == 0 || w.done == 0 {
			t.Errorf("%d looks, %d in the midst of something and %d at its end, prove little", w.looks, w.part, w.done)
		}
	}
}

// A progressWatch finds what it is there for.
func TestProgressWatch_FindsWhatIsNotTrue(t *testing.T) {
	turn := func(turn, bytes, total, lag int64) (s standing) {
		text := fmt.Sprintf(`{"state":"open","copies":1,"replicas":[{"name":"a","known":true,"lag_blobs":%d,"turn":%d,"turn_bytes":%d,"turn_total":%d}]}`, lag, turn, bytes, total)
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	store, place := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(store, "heads"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(store, "heads", "7"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for what, says := range map[string]struct {
		all []any
		bad bool
	}{
		"a turn that goes on":            {[]any{turn(1, 1, 10, 1), turn(1, 5, 10, 1), turn(2, 0, 0, 1)}, false},
		"a turn that finds more to do":   {[]any{turn(1, 5, 10, 1), turn(1, 5, 20, 1)}, false},
		"above 100 %":                    {[]any{turn(1, 11, 10, 1)}, true},
		"a turn that goes back":          {[]any{turn(1, 5, 10, 1), turn(1, 4, 10, 1)}, true},
		"a turn that forgets its total":  {[]any{turn(1, 5, 10, 1), turn(1, 0, 3, 1)}, true},
		"done before the head is there":  {[]any{turn(1, 10, 10, 0)}, true},
		"a job that goes on":             {[]any{aJob{ID: "1", State: "running", Bytes: 1, BytesTotal: 2}, aJob{ID: "1", State: "done", Bytes: 2, BytesTotal: 2}}, false},
		"a job above 100 %":              {[]any{aJob{ID: "1", State: "running", Bytes: 3, BytesTotal: 2}}, true},
		"a job that goes back":           {[]any{aJob{ID: "1", State: "running", Bytes: 2, BytesTotal: 3}, aJob{ID: "1", State: "running", Bytes: 1, BytesTotal: 3}}, true},
		"a job done before it is":        {[]any{aJob{ID: "1", State: "done", Bytes: 1, BytesTotal: 2}}, true},
		"a job that is started again":    {[]any{aJob{ID: "1", State: "failed", Bytes: 2, BytesTotal: 3, Started: "a"}, aJob{ID: "1", State: "running", BytesTotal: 3, Started: "b"}}, false},
		"a job that ended and goes on":   {[]any{aJob{ID: "1", State: "failed"}, aJob{ID: "1", State: "running"}}, true},
		"copies that are none, and said": {[]any{func() standing { s := turn(1, 0, 0, 3); s.Copies = 2; return s }()}, true},
	} {
		t.Run(what, func(t *testing.T) {
			w := newProgressWatch(&machine{}, remotetest.Place{Path: place})
			w.store = store
			for _, x := range says.all {
				switch x := x.(type) {
				case standing:
					w.status(x, named(store))
				case aJob:
					w.job(x)
				}
			}
			if (len(w.wrong) > 0) != says.bad {
				t.Errorf("it finds %q", w.wrong)
			}
		})
	}
}
