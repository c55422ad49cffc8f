package service_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/sheaf-drive/sheaf/api/apitest"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/service"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/book"
	"github.com/sheaf-drive/sheaf/sync/remote/localdir"
)

// Turns that somebody asks for, changes of the rule and the daemon's own turns come together. Nothing hangs, no file is lost, and what fails says why.
func TestRules_AreChangedWhileTheyRun(t *testing.T) {
	dir := t.TempDir()
	d := apitest.Start(t, func(o *service.Options) {
		b := book.Open(book.Options{Dir: filepath.Join(dir, "book"), Guarded: func() (bool, error) { return false, nil }})
		o.Daemon, o.Remotes = true, &service.Remotes{Kinds: remote.Kinds{localdir.Kind}, Book: b}
	})
	left, right := filepath.Join(dir, "left"), filepath.Join(dir, "right")
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	const files = 60
	write := func(in string, i int) {
		if err := os.WriteFile(filepath.Join(in, fmt.Sprintf("%s-%d", filepath.Base(in), i)), []byte("x"), 0o600); err != nil {
			t.Error(err)
		}
	}
	s, ctx := d.Service, t.Context()
	if _, err := s.AddRule(ctx, &sheafv1.RulesAddRequest{Name: "rule", Left: left, Right: right, EveryMs: 1000}); err != nil {
		t.Fatal(err)
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
