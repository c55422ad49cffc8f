package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func (a *app) mountCmd() *cobra.Command {
	var at string
	var readOnly, inForeground bool
	c := &cobra.Command{
		Use:   "mount [PLACE] [FOLDER]",
		Short: "Mount the drive, a past state of it, or a place, at a folder",
		Long: `Returns when the folder answers, and leaves a daemon running that serves it, which ends by
sheaf stop. With --foreground this process is that daemon, and stays.

On Windows FOLDER may be a drive (X:), and without any argument a letter that is free is taken; WinFsp has to be installed
(sheaf doctor says). Elsewhere a folder has to be named.

PLACE is one of plain files: name:path, or :kind,option=value:path. A file that is written there is put
when it is closed or synced, through a spool in the folder for temporary files that is not encrypted.`,
		Example: `  sheaf mount ~/Sheaf
  sheaf mount ~/yesterday --at yesterday
  sheaf mount ~/then --at "2 weeks ago" --read-only
  sheaf mount nas:photos ~/nas
  sheaf mount X:`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			var dir string
			var err error
			if len(args) == 0 {
				if dir, err = freePoint(); err == nil && dir == "" {
					return usagef("sheaf mount "+a.home.Mount, "say which folder to mount at")
				}
			} else {
				dir, err = mountPoint(args[len(args)-1])
			}
			if err != nil {
				return err
			}
			r := &sheafv1.MountRequest{Dir: dir, ReadOnly: readOnly, At: moment(at, time.Now())}
			if len(args) == 2 {
				if r.Source, err = wirePlace(args[0]); err != nil {
					return err
				}
			}
			if inForeground {
				return a.foreground(ctx, r, foreground{})
			}
			return a.mountInBackground(ctx, r)
		},
	}
	f := c.Flags()
	f.StringVar(&at, "at", "", "show the drive as it was at a `time` or snapshot")
	f.BoolVar(&readOnly, "read-only", false, "for reading only")
	f.BoolVar(&inForeground, "foreground", false, "stay, and unmount when interrupted")
	c.AddCommand(a.mountListCmd())
	return c
}

// mountInBackground mounts by the daemon, and starts it if none runs.
func (a *app) mountInBackground(ctx context.Context, r *sheafv1.MountRequest) error {
	return a.inBackground(ctx, func(ctx context.Context, s *session) error { return a.mountBy(ctx, s, r) })
}

// inBackground runs f in a session with the daemon, which it starts if none runs, with the drive open. A daemon started for
// nothing is stopped again.
func (a *app) inBackground(ctx context.Context, f func(ctx context.Context, s *session) error) error {
	if s := a.dial(ctx); s == nil && !(&device{home: a.home}).Exists() {
		return coded(sheafv1.Code_CODE_NO_DRIVE, "sheaf init", "no drive here")
	}
	s, started, err := a.startDaemon(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close(ctx) }()
	if err = a.unlock(ctx, s); err == nil {
		err = f(ctx, s)
	}
	if err != nil && started {
		_, _ = s.Drives.Stop(context.WithoutCancel(ctx), &sheafv1.StopRequest{})
	}
	return err
}

func (a *app) mountListCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List what is mounted",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			s := a.dial(ctx)
			if s == nil { // who mounts is a daemon
				if a.json {
					return nil
				}
				a.say("nothing is mounted")
				a.next(false, "sheaf mount %s", a.home.Mount)
				return nil
			}
			defer func() { _ = s.Close(ctx) }()
			resp, err := s.Mounts.List(ctx, &sheafv1.MountsListRequest{})
			if err != nil {
				return err
			}
			return a.printMounts(resp.GetMounts())
		},
	}
}

func (a *app) printMounts(ms []*sheafv1.Mount) error {
	var rows [][]string
	for _, m := range ms {
		if a.json {
			if err := a.object("mount", m); err != nil {
				return err
			}
			continue
		}
		what, how := "the drive", "read-write"
		if m.GetSnapshot() != "" {
			what = m.GetSnapshot()
		}
		if m.GetSource() != "" {
			what = m.GetSource()
		}
		if m.GetReadOnly() {
			how = "read-only"
		}
		rows = append(rows, []string{m.GetDir(), what, how, "since " + clock(m.GetSince())})
	}
	if a.json || a.quiet {
		return nil
	}
	return a.table(rows)
}
