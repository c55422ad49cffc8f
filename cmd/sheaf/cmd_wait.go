package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func (a *app) waitCmd() *cobra.Command {
	var copies int32
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "wait [PATH]",
		Short: "Wait until all that was written is in packs: exit 0, or 5 if it is not in time",
		Long: `Returns when all that was written before, or with a PATH what is there and below it, lies in packs, and
with --copies in so many places, this device being one. A place has a file when it has all its bytes and
shows it in the drive.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.withDrive(ctx, args, func(s *session, ps []place) error {
				req := &sheafv1.WaitRequest{Copies: copies, TimeoutMs: timeout.Milliseconds()}
				what := "all"
				for i, p := range ps {
					req.Path, what = p.wire(), args[i]
				}
				r, err := s.Drives.Wait(ctx, req)
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", r)
				}
				if r.GetCopies() == 1 {
					a.say("%s is in packs, in 1 place", printable(what))
				} else {
					a.say("%s is in packs, in %d places", printable(what), r.GetCopies())
				}
				return nil
			})
		},
	}
	c.Flags().Int32Var(&copies, "copies", 1, "in how many places, this device being one")
	c.Flags().DurationVar(&timeout, "timeout", 0, "how `long`, as in 60s; 0: without end")
	return c
}

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Say which sheaf this is",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := version()
			if a.json {
				return a.object("", v)
			}
			a.say("sheaf %s (%s, %s)", v.GetVersion(), v.GetGo(), v.GetPlatform())
			return nil
		},
	}
}
