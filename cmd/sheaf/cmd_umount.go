package main

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

// errNoDaemon is what a verb ends with that only a daemon can do.
func errNoDaemon() error {
	return coded(sheafv1.Code_CODE_NO_DAEMON, "sheaf mount FOLDER", "no daemon is running")
}

func (a *app) umountCmd() *cobra.Command {
	var wait, force bool
	c := &cobra.Command{
		Use:     "umount FOLDER",
		Aliases: []string{"unmount"},
		Short:   "Take a mount away",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			s := a.dial(ctx)
			if s == nil {
				cleared, err := clearDead(ctx, dir)
				if err != nil {
					return err
				}
				if !cleared {
					return errNoDaemon()
				}
				a.say("cleared away what a killed daemon left at %s", dir)
				return nil
			}
			defer func() { _ = s.Close(ctx) }()
			resp, err := s.Mounts.Unmount(ctx, &sheafv1.UnmountRequest{Dir: dir, Wait: wait, Force: force})
			if err != nil {
				return err
			}
			if a.json {
				return a.object("", resp)
			}
			a.say("unmounted %s", dir)
			if n := resp.GetPendingBytes(); n > 0 {
				a.say("%s are safe in the journal and not in packs yet", a.size(n))
				a.next(false, "sheaf wait")
			} else {
				a.next(false, "sheaf stop")
			}
			return nil
		},
	}
	c.Flags().BoolVar(&wait, "wait", false, "wait until nobody uses it, and until all is in packs")
	c.Flags().BoolVar(&force, "force", false, "also if it is in use: files open there get errors")
	return c
}

func (a *app) stopCmd() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "stop",
		Short: "Unmount all and end the daemon",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			s := a.dial(ctx)
			if s == nil {
				return errNoDaemon()
			}
			defer func() { _ = s.Close(ctx) }()
			resp, err := s.Drives.Stop(ctx, &sheafv1.StopRequest{Force: force})
			if err != nil {
				return err
			}
			// The drive is closed; the process is gone when its lock is free.
			lock, err := a.lock(ctx, a.wait)
			if err != nil {
				return err
			}
			if err := lock.Unlock(); err != nil {
				return err
			}
			if a.json {
				return a.object("", resp)
			}
			a.say("stopped; %d unmounted", resp.GetUnmounted())
			a.next(false, "sheaf mount %s", a.home.Mount)
			return nil
		},
	}
	c.Flags().BoolVar(&force, "force", false, "also if a mount is in use: files open there get errors")
	return c
}
