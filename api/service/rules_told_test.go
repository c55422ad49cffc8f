package service_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/api/access"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

// How a rule stands is told to who may list rules, and to nobody else; so it is in Status.
func TestRules_TellHowTheyStand(t *testing.T) {
	s, left, _ := ruled(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := s.PauseRule(ctx, &sheafv1.RulesPauseRequest{Rule: "rule"}); err != nil {
		t.Fatal(err)
	}
	begun, told := make(chan struct{}), make(chan *sheafv1.Event, 100)
	done := make(chan error, 1)
	go func() {
		done <- s.WatchEvents(ctx, &sheafv1.EventsWatchRequest{}, func(e *sheafv1.Event) error {
			if e.GetKind() == sheafv1.EventKind_EVENT_KIND_BEGIN {
				close(begun)
			}
			told <- e
			return nil
		})
	}()
	<-begun
	if err := os.WriteFile(filepath.Join(left, "a"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := s.Start(ctx, &sheafv1.StartRequest{Work: &sheafv1.StartRequest_Rule{Rule: &sheafv1.RuleJob{Rule: "rule"}}})
	if err != nil {
		t.Fatal(err)
	}
	var last *sheafv1.Job
	if err := s.Watch(ctx, &sheafv1.WatchRequest{Id: j.GetId()}, func(r *sheafv1.WatchResponse) error { last = r.GetJob(); return nil }); err != nil {
		t.Fatal(err)
	}
	if last.GetState() != sheafv1.JobState_JOB_STATE_DONE || last.GetItems() != 1 || last.GetItemsTotal() != 1 || last.GetBytes() != 1 || last.GetWork() != "sync" {
		t.Errorf("got %v, want one step of one byte", last)
	}
	for e := range told {
		if e.GetKind() == sheafv1.EventKind_EVENT_KIND_RULE && e.GetRule() == "rule" && e.GetSteps() == 1 {
			break
		}
	}
	st, err := s.Status(ctx, &sheafv1.StatusRequest{})
	if err != nil || len(st.GetRules()) != 1 || st.GetRules()[0].GetLastRun() == nil {
		t.Errorf("got %v, %v, want the rule and its last turn", st.GetRules(), err)
	}
	st, err = s.Status(access.With(ctx, &access.Grant{ID: "t"}), &sheafv1.StatusRequest{})
	if err != nil || len(st.GetRules()) != 0 {
		t.Errorf("a token sees %v, %v: the names of places are not its business", st.GetRules(), err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// What a turn would delete too much of waits for a word, in words; a job that is braked says so.
func TestRules_SayWhatTheyWaitFor(t *testing.T) {
	s, left, _ := ruled(t)
	ctx := t.Context()
	if _, err := s.PauseRule(ctx, &sheafv1.RulesPauseRequest{Rule: "rule"}); err != nil {
		t.Fatal(err)
	}
	turn := func() *sheafv1.Job {
		j, err := s.Start(ctx, &sheafv1.StartRequest{Work: &sheafv1.StartRequest_Rule{Rule: &sheafv1.RuleJob{Rule: "rule"}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Watch(ctx, &sheafv1.WatchRequest{Id: j.GetId()}, func(r *sheafv1.WatchResponse) error { j = r.GetJob(); return nil }); err != nil {
			t.Fatal(err)
		}
		return j
	}
	for _, n := range []string{"a", "b", "c"} {
		if err := os.WriteFile(filepath.Join(left, n), []byte(n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	turn()
	for _, n := range []string{"a", "b", "c"} {
		if err := os.Remove(filepath.Join(left, n)); err != nil {
			t.Fatal(err)
		}
	}
	if j := turn(); j.GetCode() != sheafv1.Code_CODE_DECISION || !strings.Contains(j.GetHint(), "--allow-deletes 3") {
		t.Errorf("got %v, want a question", j)
	}
	l, err := s.ListRules(ctx, &sheafv1.RulesListRequest{})
	if err != nil || !strings.Contains(l.GetRules()[0].GetWaits(), "3 files may be deleted") {
		t.Errorf("got %v, %v", l, err)
	}
	r, err := s.Doctor(ctx, &sheafv1.DoctorRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.GetChecks() {
		if c.GetName() == "rule rule" {
			return
		}
	}
	t.Errorf("doctor says nothing of the rule: %v", r)
}
