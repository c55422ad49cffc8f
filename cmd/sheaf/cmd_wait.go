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
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.withDrive(ctx, args, func(s *session, ps []place) error {
				for _, p := range ps { // a path that is not there is in no copy
					if _, err := s.Files.Stat(ctx, &sheafv1.StatRequest{Path: p.wire()}); err != nil {
						return err
					}
				}
				r, err := s.Drives.Wait(ctx, &sheafv1.WaitRequest{Copies: copies, TimeoutMs: timeout.Milliseconds()})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", r)
				}
				a.say("all is in packs, in %d place", r.GetCopies())
				return nil
			})
		},
	}
	c.Flags().Int32Var(&copies, "copies", 1, "in how many places")
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
