//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/remote/remotetest"
)

// A storm spoils a good part of what goes through a proxy. It is safe for concurrent use.
type storm struct {
	mu    sync.Mutex
	rng   *rand.Rand
	phase string
	stale map[string][]byte // listings of before
	hits  map[string]int
}

// now says which faults there are from now on.
func (s *storm) now(phase string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase = phase
}

// happens reports whether a fault of that name happens, with that probability, and counts it.
func (s *storm) happens(what string, odds float64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rng.Float64() >= odds {
		return false
	}
	s.hits[what]++
	return true
}

func (s *storm) is() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase
}

// before is a proxy's Before: three calls of ten fail, in each way that providers have of failing.
func (s *storm) before(w http.ResponseWriter, r *http.Request) bool {
	phase := s.is()
	switch {
	case phase == "401" && s.happens("401", 1):
		return remotetest.Answer(w, http.StatusUnauthorized, `WWW-Authenticate: Basic realm="x"`)
	case phase == "full" && (r.Method == http.MethodPut || r.Method == "MKCOL") && s.happens("full", 1):
		_, _ = io.Copy(io.Discard, r.Body)
		return remotetest.Answer(w, http.StatusInsufficientStorage)
	case phase == "calm":
		return false
	case s.happens("429", 0.06):
		return remotetest.Answer(w, http.StatusTooManyRequests, "Retry-After: 1")
	case s.happens("503", 0.06):
		return remotetest.Answer(w, http.StatusServiceUnavailable)
	case s.happens("500", 0.06):
		return remotetest.Answer(w, http.StatusInternalServerError)
	case s.happens("hang up", 0.06):
		if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = c.Close()
		}
		return true
	case s.happens("no answer", 0.02):
		select {
		case <-r.Context().Done():
		case <-time.After(3 * time.Second): // which is how long this server does not answer
		}
		if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = c.Close()
		}
		return true
	}
	return false
}

// oneOf finds the parts of a listing.
var oneOf = regexp.MustCompile(`(?s)<D:response>.*?</D:response>`)

// after is a proxy's After: bodies are cut off, and listings are old or incomplete.
func (s *storm) after(r *http.Response) error {
	phase := s.is()
	if phase == "calm" {
		return nil
	}
	if r.Request.Method == http.MethodGet && s.happens("cut", 0.06) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		// The length that was announced stays.
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body[:len(body)/2]), broken{}))
		return nil
	}
	if r.Request.Method != "PROPFIND" || r.StatusCode != http.StatusMultiStatus || phase != "listings" {
		return nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	key := r.Request.URL.Path + " " + r.Request.Header.Get("Depth")
	s.mu.Lock()
	old := s.stale[key]
	if old == nil || s.rng.IntN(4) == 0 {
		s.stale[key] = body
	}
	s.mu.Unlock()
	switch {
	case old != nil && s.happens("old listing", 0.3):
		body = old
	case s.happens("part of a listing", 0.3):
		first := true
		body = oneOf.ReplaceAllFunc(body, func(one []byte) []byte {
			keep := first // which is the folder itself
			first = false
			s.mu.Lock()
			defer s.mu.Unlock()
			if keep || s.rng.IntN(3) > 0 {
				return one
			}
			return nil
		})
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	r.Header.Set("Content-Length", fmt.Sprint(len(body)))
	return nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// copyHeadsFirst copies a place as it lies there while it is written: what a head names has to be there when the head is, so it is
// copied after the heads.
func copyHeadsFirst(t *testing.T, from, to string) (heads int) {
	t.Helper()
	for _, part := range []string{"heads", "."} {
		root := filepath.Join(from, part)
		err := filepath.WalkDir(root, func(name string, d os.DirEntry, err error) error {
			if os.IsNotExist(err) {
				return nil // gone, or not there yet
			}
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(from, name)
			if err != nil {
				return err
			}
			late := part == "." && (rel == "heads" || strings.HasPrefix(rel, "heads/"))
			if d.IsDir() {
				if late {
					return filepath.SkipDir
				}
				return os.MkdirAll(filepath.Join(to, rel), 0o700)
			}
			b, err := os.ReadFile(name)
			if os.IsNotExist(err) {
				return nil
			}
			if err != nil {
				return err
			}
			if part == "heads" {
				heads++
			}
			return os.WriteFile(filepath.Join(to, rel), b, 0o600)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return heads
}

// G9, G10: two machines work on one drive by a server of which three calls in ten fail; which for a while refuses the login, is full, and shows
// old listings and parts of listings. Whatever there is at a moment, no head names what is not there, and what the machines say of their progress is
// true; and when it is calm again, all comes to its end by itself. In full each state lasts a minute, three times.
func TestServers_AStormEndsRightAndNoHeadIsAheadOfWhatItNames(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits a good deal: make remotes runs it")
	}
	srv, direct := remotetest.RcloneWebDAV(t)
	proxy, place := remotetest.Front(t, srv, direct)
	rng := testkit.Rand(testkit.Seed(t))
	s := &storm{rng: rand.New(rand.NewPCG(rng.Uint64(), 1)), phase: "calm", stale: map[string][]byte{}, hits: map[string]int{}}
	proxy.Before(s.before)
	proxy.After(s.after)
	tmp := t.TempDir()

	var all []*machine
	var words string
	for i := range 2 {
		m := newMachine(t, "SHEAF_POLL=500ms")
		if i == 0 {
			var made struct{ Recovery string }
			if err := json.Unmarshal([]byte(m.sheaf(t, "init", "--json")), &made); err != nil {
				t.Fatal(err)
			}
			words = filepath.Join(tmp, "words")
			if err := os.WriteFile(words, []byte(made.Recovery), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		m.sheaf(t, addArgs(t, tmp, "place", place)...)
		if i == 0 {
			m.sheaf(t, "mkdir", "sheaf:/tree")
			m.sheaf(t, "replica", "add", "place:"+place.Path)
			m.sheaf(t, "wait", "--copies", "2", "--timeout", "2m")
		} else {
			m.sheaf(t, "init", "--from", "place:"+place.Path, "--recovery-file", words)
		}
		all = append(all, m)
	}
	// A daemon serves each, so that there are turns beside the commands, and what they say of their progress can be looked at.
	for _, m := range all {
		m.mount(t)
		defer newProgressWatch(m, direct).follow(t)()
	}

	span, rounds := 2*time.Second, 1
	if os.Getenv("SHEAF_LONG") != "" {
		span, rounds = time.Minute, 3
	}
	n, copies := 0, 0
	for range rounds {
		for _, phase := range []string{"calls", "401", "full", "listings", "calls"} {
			s.now(phase)
			for end := time.Now().Add(span); time.Now().Before(end); {
				m := all[n%len(all)]
				src := filepath.Join(tmp, fmt.Sprint("src-", n))
				if err := os.Mkdir(src, 0o700); err != nil {
					t.Fatal(err)
				}
				if _, err := testkit.Tree(rng, src, 8); err != nil {
					t.Fatal(err)
				}
				m.sheaf(t, "cp", src+"/.", fmt.Sprintf("sheaf:/tree/%d", n))
				if n >= 6 && n%3 == 0 {
					m.run(t, "rm", "-r", fmt.Sprintf("sheaf:/tree/%d", n-6)) // it may not be known here yet
				}
				m.run(t, "replica", "sync")                                   // which may fail
				m.run(t, "replica", []string{"verify", "heal"}[n%2], "place") // a long job, which may fail too
				n++
				if n%4 > 0 {
					continue
				}
				at := filepath.Join(tmp, fmt.Sprint("copy-", n))
				if copyHeadsFirst(t, filepath.Join(direct.Dir, filepath.FromSlash(direct.Path)), at) == 0 {
					continue
				}
				third := newMachine(t)
				third.sheaf(t, "init", "--from", at, "--recovery-file", words)
				if out := third.sheaf(t, "store", "verify"); !strings.Contains(out, "0 damaged") {
					t.Fatalf("a copy of what was there in the phase %q: %s", phase, out)
				}
				third.run(t, "stop", "--force")
				copies++
			}
		}
	}
	s.now("calm")
	for range 2 {
		for _, m := range all {
			m.sheaf(t, "wait", "--copies", "2", "--timeout", "3m")
			m.sheaf(t, "replica", "sync")
		}
	}
	trees := make([]map[string]string, len(all))
	for i, m := range all {
		back := filepath.Join(tmp, fmt.Sprint("back-", i))
		m.sheaf(t, "cp", "sheaf:/tree/.", back)
		trees[i] = content(t, back)
		if out := m.sheaf(t, "store", "verify"); !strings.Contains(out, "0 damaged") {
			t.Errorf("verify: %s", out)
		}
	}
	if diff := cmp.Diff(trees[0], trees[1]); diff != "" {
		t.Errorf("the machines show different trees (-first +second):\n%.2000s", diff)
	}
	for k := max(0, n-6); k < n; k++ { // nobody removed the last
		for name, want := range content(t, filepath.Join(tmp, fmt.Sprint("src-", k))) {
			if got := trees[0][filepath.Join(fmt.Sprint(k), name)]; got != want {
				t.Errorf("%d/%s is not as it was copied in", k, name)
			}
		}
	}
	all[0].sheaf(t, "replica", "verify")
	t.Logf("%d copies in, %d looks at what was there, faults: %v", n, copies, s.hits)
	for _, what := range []string{"401", "full", "429", "503", "500", "hang up"} {
		if s.hits[what] == 0 {
			t.Errorf("no call failed by %s: that proves little", what)
		}
	}
}
