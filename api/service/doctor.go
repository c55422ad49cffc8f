package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/access"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

// The bounds of what Doctor takes for well.
const (
	lateReplica = 24 * time.Hour       // how long a replica may lack something
	lateVerify  = 180 * 24 * time.Hour // how long ago its packs may have been verified last
)

// Doctor checks what can be wrong.
func (s *Service) Doctor(ctx context.Context, _ *sheafv1.DoctorRequest) (*sheafv1.DoctorResponse, error) {
	var r sheafv1.DoctorResponse
	if s.o.Checks != nil {
		r.Checks = s.o.Checks(ctx)
	}
	c := &sheafv1.Check{Name: "drive", State: sheafv1.Check_STATE_OK}
	ctx, d, release, err := s.use(ctx)
	switch {
	case errors.Is(err, sheaf.ErrNoDrive):
		c.State, c.Found, c.Fix = sheafv1.Check_STATE_WARN, "this device has no drive yet", "sheaf up"
	case errors.Is(err, sheaf.ErrNeedSecret):
		c.State, c.Found, c.Fix = sheafv1.Check_STATE_WARN, "the drive is closed, so it was not looked into", "sheaf status"
	case err != nil:
		c.State, c.Found = sheafv1.Check_STATE_FAIL, err.Error()
	default:
		defer release()
		st, err := d.Stats(ctx)
		if err == nil {
			_, err = d.Snapshots(ctx)
		}
		if err != nil {
			c.State, c.Found, c.Fix = sheafv1.Check_STATE_FAIL, err.Error(), "sheaf store verify"
		} else {
			c.Found = fmt.Sprintf("readable: %d packs, %d snapshots", st.Packs, st.Snapshots)
		}
		r.Checks = append(r.Checks, checkReplicas(replicasOf(d), time.Now())...)
		r.Checks = append(r.Checks, checkConflicts(ctx, d))
		if access.Of(ctx).IsLocal() {
			r.Checks = append(r.Checks, checkRules(s.standing(ctx))...)
		}
	}
	r.Checks = append(r.Checks, c)
	return &r, nil
}

// checkReplicas looks whether what is here is elsewhere, too.
func checkReplicas(all []*sheafv1.Replica, now time.Time) (cs []*sheafv1.Check) {
	if len(all) == 0 {
		return []*sheafv1.Check{{
			Name: "replicas", State: sheafv1.Check_STATE_WARN, Found: "none: all is lost with this disk", Fix: "sheaf replica add FOLDER, or REMOTE:PATH",
		}}
	}
	for _, r := range all {
		c := &sheafv1.Check{Name: "replica " + r.GetName(), State: sheafv1.Check_STATE_OK, Found: "it has all"}
		switch {
		case r.GetCode() == sheafv1.Code_CODE_TEMPORARY || r.GetError() == "" && !r.GetKnown():
			c.State, c.Found, c.Fix = sheafv1.Check_STATE_WARN, r.GetError(), r.GetHint()
			if c.Found == "" {
				c.Found = "what it lacks is not known yet"
			}
			if c.Fix == "" {
				c.Fix = "sheaf replica sync"
			}
		case r.GetError() != "":
			c.State, c.Found, c.Fix = sheafv1.Check_STATE_FAIL, r.GetError(), r.GetHint()
			if c.Fix == "" {
				c.Fix = "sheaf replica sync"
			}
		case r.GetLagBlobs() > 0 && now.Sub(r.GetPushed().AsTime()) > lateReplica:
			c.State, c.Fix = sheafv1.Check_STATE_WARN, "sheaf replica sync"
			c.Found = fmt.Sprintf("it lacks %d blobs since %s", r.GetLagBlobs(), r.GetPushed().AsTime().Local().Format("2006-01-02 15:04"))
		case r.GetVerified() != nil && now.Sub(r.GetVerified().AsTime()) > lateVerify:
			c.State, c.Fix = sheafv1.Check_STATE_WARN, "sheaf replica verify "+r.GetName()
			c.Found = "it has all, and was last verified " + r.GetVerified().AsTime().Local().Format("2006-01-02")
		}
		cs = append(cs, c)
	}
	return cs
}

// checkConflicts tells of files that wait for somebody to decide.
func checkConflicts(ctx context.Context, d Drive) *sheafv1.Check {
	all, err := d.Conflicts(ctx, "")
	switch {
	case err != nil:
		return &sheafv1.Check{Name: "conflicts", State: sheafv1.Check_STATE_WARN, Found: err.Error(), Fix: "sheaf conflict list"}
	case len(all) > 0:
		return &sheafv1.Check{
			Name: "conflicts", State: sheafv1.Check_STATE_WARN, Found: fmt.Sprintf("two devices wrote %d files at the same time", len(all)), Fix: "sheaf conflict list",
		}
	}
	return &sheafv1.Check{Name: "conflicts", State: sheafv1.Check_STATE_OK, Found: "none"}
}
