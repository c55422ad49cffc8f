package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

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
			dir, err := mountPoint(args[0])
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
			if wait {
				told := a.tellPending(ctx, s, dir)
				defer told()
			}
			resp, err := s.Mounts.Unmount(ctx, &sheafv1.UnmountRequest{Dir: dir, Wait: wait, Force: force})
			if err != nil {
				return err
			}
			if a.json {
				return a.object("", resp)
			}
			a.say("unmounted %s", dir)
			left := a.pending(resp.GetPendingBytes(), resp.GetReplicas())
			for _, line := range left {
				a.say("%s", line)
			}
			if len(left) > 0 {
				a.say("all of it is safe on this device, and goes on its way while the daemon runs")
				a.next(false, "sheaf wait --copies %d", len(resp.GetReplicas())+1)
			} else {
				a.next(false, "sheaf stop")
			}
			return nil
		},
	}
	c.Flags().BoolVar(&wait, "wait", false, "wait until nobody uses it, and until all is in packs and at every replica")
	c.Flags().BoolVar(&force, "force", false, "also if it is in use: files open there get errors")
	return c
}

// pending says, a line for each place, what is not there yet.
func (a *app) pending(journal int64, replicas []*sheafv1.Replica) (lines []string) {
	if journal > 0 {
		lines = append(lines, a.size(journal)+" are in the journal, and not in packs yet")
	}
	for _, r := range replicas {
		why := ""
		if r.GetError() != "" {
			why = " (" + printable(r.GetError()) + ")"
		}
		switch {
		case !r.GetKnown():
			lines = append(lines, fmt.Sprintf("what %s lacks is not known yet%s", r.GetName(), why))
		case r.GetLagBlobs() > 0:
			lines = append(lines, fmt.Sprintf("%s are not at %s yet%s", a.size(r.GetLagBytes()), r.GetName(), why))
		}
	}
	return lines
}

// The times of what is said while an umount waits.
const (
	pendingEvery = time.Second
	pendingAgain = 10 * time.Second // where it is not one line at a terminal
)

// tellPending says what an umount that waits is waiting for, until the function it returns is called.
func (a *app) tellPending(ctx context.Context, s *session, dir string) (end func()) {
	if a.quiet || a.json {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	live := terminal(a.err)
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(pendingEvery)
		defer tick.Stop()
		var last string
		var at time.Time
		for {
			select {
			case <-ctx.Done():
				if live {
					_, _ = fmt.Fprint(a.err, "\r\x1b[K")
				}
				return
			case <-tick.C:
			}
			st, err := s.Drives.Status(ctx, &sheafv1.StatusRequest{})
			if err != nil {
				continue // the umount says what is wrong
			}
			text := strings.Join(a.pending(st.GetPendingBytes(), st.GetReplicas()), "; ")
			for _, m := range st.GetMounts() {
				if m.GetDir() == dir {
					text = dir + " is in use"
				}
			}
			switch {
			case text == "":
			case live:
				_, _ = fmt.Fprintf(a.err, "\r%s\x1b[K", "waiting: "+text)
			case text != last && time.Since(at) >= pendingAgain:
				a.tell("waiting: %s", text)
				last, at = text, time.Now()
			}
		}
	})
	return func() {
		cancel()
		done.Wait()
	}
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
			if left := a.pending(0, resp.GetReplicas()); len(left) > 0 {
				for _, line := range left {
					a.say("%s", line)
				}
				a.say("all of it is safe on this device, and goes there when sheaf runs again")
			}
			a.next(false, "sheaf mount %s", a.home.Mount)
			return nil
		},
	}
	c.Flags().BoolVar(&force, "force", false, "also if a mount is in use: files open there get errors")
	return c
}
