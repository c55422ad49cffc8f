package service

import (
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

// What is wrong with a replica is found, and what mends it is said.
func TestDoctor_LooksAtReplicas(t *testing.T) {
	now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) *sheafv1.Replica {
		return &sheafv1.Replica{Name: "nas", Known: true, Pushed: stamp(now.Add(-d))}
	}
	late := ago(48 * time.Hour)
	late.LagBlobs = 3
	behind := ago(time.Minute)
	behind.LagBlobs = 3
	old := ago(time.Minute)
	old.Verified = stamp(now.Add(-300 * 24 * time.Hour))
	for what, c := range map[string]struct {
		r     *sheafv1.Replica
		state sheafv1.Check_State
		fix   string
	}{
		"well":            {ago(time.Minute), sheafv1.Check_STATE_OK, ""},
		"a little behind": {behind, sheafv1.Check_STATE_OK, ""},
		"late":            {late, sheafv1.Check_STATE_WARN, "sheaf replica sync"},
		"long unverified": {old, sheafv1.Check_STATE_WARN, "sheaf replica verify nas"},
		"unknown":         {&sheafv1.Replica{Name: "nas"}, sheafv1.Check_STATE_WARN, "sheaf replica sync"},
		"away":            {&sheafv1.Replica{Name: "nas", Error: "no route", Code: sheafv1.Code_CODE_TEMPORARY}, sheafv1.Check_STATE_WARN, "sheaf replica sync"},
		"signed out":      {&sheafv1.Replica{Name: "nas", Error: "denied", Code: sheafv1.Code_CODE_SIGN_IN, Hint: "sheaf remote auth nas"}, sheafv1.Check_STATE_FAIL, "sheaf remote auth nas"},
		"full":            {&sheafv1.Replica{Name: "nas", Error: "full", Code: sheafv1.Code_CODE_LIMIT, Hint: "make room at the place"}, sheafv1.Check_STATE_FAIL, "make room"},
	} {
		cs := checkReplicas([]*sheafv1.Replica{c.r}, now)
		if len(cs) != 1 || cs[0].GetState() != c.state || !strings.HasPrefix(cs[0].GetFix(), c.fix) || c.fix == "" && cs[0].GetFix() != "" {
			t.Errorf("%s: got %v", what, cs)
		}
	}
	if cs := checkReplicas(nil, now); len(cs) != 1 || cs[0].GetState() != sheafv1.Check_STATE_WARN || cs[0].GetFix() == "" {
		t.Errorf("none at all: got %v", cs)
	}
}
