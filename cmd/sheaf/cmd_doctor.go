package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func (a *app) doctorCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check what sheaf needs, and say what mends it: exit 1 if something fails",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			cs := a.diagnose(ctx)
			failed := 0
			rows := [][]string{}
			for _, c := range cs {
				if c.GetState() == sheafv1.Check_STATE_FAIL {
					failed++
				}
				if a.json {
					if err := a.object("check", c); err != nil {
						return err
					}
					continue
				}
				row := []string{strings.ToUpper(word(c.GetState())), c.GetName(), printable(c.GetFound())}
				if c.GetFix() != "" {
					row = append(row, "-> "+c.GetFix())
				}
				rows = append(rows, row)
			}
			if !a.json && !a.quiet {
				if err := a.table(rows); err != nil {
					return err
				}
			}
			if failed > 0 {
				return coded(sheafv1.Code_CODE_UNSPECIFIED, "", "%d checks failed", failed)
			}
			return nil
		},
	}
}

// diagnose does all checks: by the daemon if it answers in time, else here.
func (a *app) diagnose(ctx context.Context) []*sheafv1.Check {
	short, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	if s := a.dial(short); s != nil {
		defer func() { _ = s.Close(ctx) }()
		r, err := s.Drives.Doctor(short, &sheafv1.DoctorRequest{})
		if err == nil {
			return append(r.GetChecks(), ok("socket", "the daemon answers"), a.checkVersion(short, s))
		}
		return append(a.checks(ctx), bad("socket", "the daemon does not answer: "+explain(err).Error(), "sheaf stop --force, or end its process; see "+a.home.Log()))
	}
	lock, err := a.home.TryLock()
	if err != nil {
		if explain(err).Code == sheafv1.Code_CODE_LOCKED {
			return append(a.checks(ctx), warn("lock", explain(err).Error(), "wait until it has ended"))
		}
		return append(a.checks(ctx), bad("lock", err.Error(), "chmod -R u+rwX "+a.home.Data))
	}
	s := a.inProcess(lock)
	defer func() { _ = s.Close(context.WithoutCancel(ctx)) }()
	// As far as it opens without asking anybody; the check of the drive says how it stands.
	_, _ = s.Drives.Unlock(ctx, &sheafv1.UnlockRequest{})
	r, err := s.Drives.Doctor(ctx, &sheafv1.DoctorRequest{})
	if err != nil {
		return append(a.checks(ctx), bad("drive", explain(err).Error(), ""))
	}
	return append(r.GetChecks(), ok("socket", "no daemon runs"))
}
