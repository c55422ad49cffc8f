package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

// upkeep runs verify or gc.
func (a *app) upkeep(ctx context.Context, s *session, r *sheafv1.StartRequest, progress bool) (*sheafv1.Job, error) {
	j, err := s.Jobs.Start(ctx, r)
	if err != nil {
		return nil, err
	}
	j, err = a.watch(ctx, s, j, progress)
	if err != nil {
		if ctx.Err() != nil {
			_, _ = s.Jobs.Cancel(context.WithoutCancel(ctx), &sheafv1.CancelRequest{Id: j.GetId()})
		}
		return nil, err
	}
	if a.json {
		if err := a.object("job", j); err != nil {
			return j, err
		}
	}
	return j, jobError(j)
}

func (a *app) jobCmd() *cobra.Command {
	c := &cobra.Command{Use: "job", Short: "Long works of the daemon", Args: cobra.NoArgs, RunE: needsVerb}
	one := func(use, short string, do func(ctx context.Context, s *session, id string) (*sheafv1.Job, error)) *cobra.Command {
		return &cobra.Command{
			Use: use + " JOB", Short: short, Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				ctx := cmd.Context()
				s := a.dial(ctx)
				if s == nil {
					return errNoDaemon()
				}
				defer func() { _ = s.Close(ctx) }()
				j, err := do(ctx, s, args[0])
				if err != nil {
					return err
				}
				return a.printJobs([]*sheafv1.Job{j})
			},
		}
	}
	c.AddCommand(a.jobListCmd(),
		one("watch", "Show how far a job is, until it has ended", func(ctx context.Context, s *session, id string) (*sheafv1.Job, error) {
			return a.watch(ctx, s, &sheafv1.Job{Id: id}, true)
		}),
		one("cancel", "End a job", func(ctx context.Context, s *session, id string) (*sheafv1.Job, error) {
			return s.Jobs.Cancel(ctx, &sheafv1.CancelRequest{Id: id})
		}),
		one("resume", "Start a job that has ended again", func(ctx context.Context, s *session, id string) (*sheafv1.Job, error) {
			return s.Jobs.Resume(ctx, &sheafv1.ResumeRequest{Id: id})
		}))
	return c
}

func (a *app) jobListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the jobs that run, and the last ones that ended", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			s := a.dial(ctx)
			if s == nil {
				return errNoDaemon()
			}
			defer func() { _ = s.Close(ctx) }()
			l, err := s.Jobs.List(ctx, &sheafv1.JobsListRequest{})
			if err != nil {
				return err
			}
			return a.printJobs(l.GetJobs())
		},
	}
}

func (a *app) printJobs(jobs []*sheafv1.Job) error {
	rows := [][]string{{"job", "state", "began", "progress"}}
	for _, j := range jobs {
		if a.json {
			if err := a.object("job", j); err != nil {
				return err
			}
			continue
		}
		rows = append(rows, []string{j.GetId(), word(j.GetState()), clock(j.GetStarted()), a.progressLine(j)})
	}
	if a.json || a.quiet {
		return nil
	}
	return a.table(rows)
}
