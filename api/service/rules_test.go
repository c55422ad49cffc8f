package service_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/api/apitest"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/service"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/book"
	"github.com/sheaf-drive/sheaf/sync/remote/localdir"
)

// ruled starts a daemon with a rule between two folders.
func ruled(t *testing.T, ignore ...string) (s *service.Service, left, right string) {
	t.Helper()
	dir := t.TempDir()
	d := apitest.Start(t, func(o *service.Options) {
		b := book.Open(book.Options{Dir: filepath.Join(dir, "book"), Guarded: func() (bool, error) { return false, nil }})
		o.Daemon, o.Remotes = true, &service.Remotes{Kinds: remote.Kinds{localdir.Kind}, Book: b}
	})
	left, right = filepath.Join(dir, "left"), filepath.Join(dir, "right")
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Service.AddRule(t.Context(), &sheafv1.RulesAddRequest{Name: "rule", Left: left, Right: right, EveryMs: 1000, Ignore: ignore}); err != nil {
		t.Fatal(err)
	}
	return d.Service, left, right
}

// A pause ends a turn that somebody asked for between two steps, also where the daemon's own turn waits behind that.
func TestRules_APauseEndsTheTurnThatIsUnderWay(t *testing.T) {
	s, left, _ := ruled(t)
	ctx := t.Context()
	const files = 400
	var all sync.WaitGroup
	defer all.Wait()
	for round := 0; ; round++ { // until the turn that is asked for has the files, and not one of the daemon
		for i := range files {
			if err := os.WriteFile(filepath.Join(left, fmt.Sprintf("%d-%d", round, i)), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		paused := make(chan error, 1)
		n := 0
		err := s.RunRule(ctx, &sheafv1.RulesRunRequest{Rule: "rule"}, func(m *sheafv1.RulesRunResponse) error {
			if m.GetStep() == nil {
				return nil
			}
			if n++; n == 1 {
				time.Sleep(3 * time.Second) // the daemon has seen the files as well, and its turn waits for this one
				all.Go(func() {
					_, err := s.PauseRule(ctx, &sheafv1.RulesPauseRequest{Rule: "rule"})
					paused <- err
				})
			}
			time.Sleep(10 * time.Millisecond)
			return nil
		})
		if n == 0 && round < 10 {
			continue
		}
		if !errors.Is(err, context.Canceled) || n == 0 || n >= files {
			t.Errorf("got error %v after %d of %d steps, want the turn cut off", err, n, files)
		}
		if err := <-paused; err != nil {
			t.Error(err)
		}
		return
	}
}

// A line that asks for a directory is the one that leaves it out.
func TestRules_ExplainWhichLineLeavesADirectoryOut(t *testing.T) {
	s, left, _ := ruled(t, "/cache/")
	if err := os.MkdirAll(filepath.Join(left, "cache", "in"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.RunRule(t.Context(), &sheafv1.RulesRunRequest{Rule: "rule"}, func(*sheafv1.RulesRunResponse) error { return nil }); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"cache", "cache/in"} {
		e, err := s.ExplainRule(t.Context(), &sheafv1.RulesExplainRequest{Rule: "rule", Path: path})
		if err != nil || !e.GetIgnored() || e.GetIgnoredBy() != "/cache/" {
			t.Errorf("%s: got %v and error %v, want it left out by /cache/", path, e, err)
		}
	}
}

// Turns that somebody asks for, changes of the rule and the daemon's own turns come together. Nothing hangs, no file is lost, and what fails says why.
func TestRules_AreChangedWhileTheyRun(t *testing.T) {
	s, left, right := ruled(t)
	ctx := t.Context()
	const files = 60
	write := func(in string, i int) {
		if err := os.WriteFile(filepath.Join(in, fmt.Sprintf("%s-%d", filepath.Base(in), i)), []byte("x"), 0o600); err != nil {
			t.Error(err)
		}
	}
	run := func() error {
		return s.RunRule(ctx, &sheafv1.RulesRunRequest{Rule: "rule"}, func(*sheafv1.RulesRunResponse) error { return nil })
	}
	var all sync.WaitGroup
	for _, in := range []string{left, right} {
		all.Go(func() {
			for i := range files {
				write(in, i)
			}
		})
	}
	for range 3 {
		all.Go(func() {
			for range 5 {
				if err := run(); err != nil && !errors.Is(err, context.Canceled) {
					t.Errorf("run: %v", err)
				}
			}
		})
	}
	all.Go(func() {
		for i := range 5 {
			_, err := s.PauseRule(ctx, &sheafv1.RulesPauseRequest{Rule: "rule"})
			_, err2 := s.EditRule(ctx, &sheafv1.RulesEditRequest{Rule: "rule", EveryMs: int64(1000 + i)})
			_, err3 := s.ResumeRule(ctx, &sheafv1.RulesResumeRequest{Rule: "rule"})
			_, err4 := s.ListRules(ctx, &sheafv1.RulesListRequest{})
			if err := errors.Join(err, err2, err3, err4); err != nil {
				t.Errorf("change: %v", err)
			}
		}
	})
	all.Wait()
	if err := run(); err != nil {
		t.Fatal(err)
	}
	for _, in := range []string{left, right} {
		for _, from := range []string{left, right} {
			for i := range files {
				if _, err := os.Stat(filepath.Join(in, fmt.Sprintf("%s-%d", filepath.Base(from), i))); err != nil {
					t.Error(err)
				}
			}
		}
	}
	// One that is removed has no turn any more, whoever was about to ask for it.
	var last sync.WaitGroup
	for range 3 {
		last.Go(func() {
			if err := run(); err != nil && !errors.Is(err, context.Canceled) && service.Explain(err).Code != sheafv1.Code_CODE_NOT_FOUND {
				t.Errorf("run while it is removed: %v", err)
			}
		})
	}
	if _, err := s.RemoveRule(ctx, &sheafv1.RulesRemoveRequest{Rule: "rule"}); err != nil {
		t.Error(err)
	}
	last.Wait()
	if err := run(); service.Explain(err) == nil || service.Explain(err).Code != sheafv1.Code_CODE_NOT_FOUND {
		t.Errorf("a rule that was removed: %v", err)
	}
}

// Many ask for a turn of a rule that is not open, and the daemon's own turns begin at the same time: one of them opens it, and none waits for who keeps it open.
func TestRules_OneOpensForAll(t *testing.T) {
	s, left, _ := ruled(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i := range 30 {
		if _, err := s.PauseRule(ctx, &sheafv1.RulesPauseRequest{Rule: "rule"}); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(left, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 9)
		for range 8 {
			go func() {
				done <- s.RunRule(ctx, &sheafv1.RulesRunRequest{Rule: "rule"}, func(*sheafv1.RulesRunResponse) error { return nil })
			}()
		}
		go func() {
			_, err := s.ResumeRule(ctx, &sheafv1.RulesResumeRequest{Rule: "rule"})
			done <- err
		}()
		for range 9 {
			select {
			case err := <-done:
				if err != nil && !errors.Is(err, context.Canceled) { // by the change of the rule
					t.Fatalf("round %d: %v", i, err)
				}
			case <-ctx.Done():
				buf := make([]byte, 1<<20)
				t.Fatalf("round %d hangs:\n%s", i, buf[:runtime.Stack(buf, true)])
			}
		}
	}
}
