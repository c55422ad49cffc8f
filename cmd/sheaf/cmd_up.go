package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func (a *app) upCmd() *cobra.Command {
	var stay bool
	c := &cobra.Command{
		Use:   "up [FOLDER]",
		Short: "Make a drive if there is none, mount it, and stay",
		Long: `Makes the drive on its first run and prints its recovery words once. Then it mounts it, says
where, and stays until it is interrupted (Ctrl-C), stopped (sheaf stop) or unmounted.
If a daemon runs already, the drive is mounted by it and sheaf up ends.

What else was mounted when it ended last, and was not unmounted, is mounted again: after a kill, an
interrupt or a restart of the machine, but not after sheaf stop.

With --api it also serves programs of this machine by HTTP, which need a token: sheaf token create.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			dir := a.home.Mount
			if len(args) == 1 {
				dir = args[0]
			}
			dir, err := mountPoint(dir)
			if err != nil {
				return err
			}
			if s := a.dial(ctx); s != nil {
				defer func() { _ = s.Close(ctx) }()
				if a.api != "" {
					return usagef("sheaf stop, and then sheaf up --api "+a.api, "the daemon that runs was started without --api")
				}
				if err := a.unlock(ctx, s); err != nil {
					return err
				}
				return a.mountBy(ctx, s, &sheafv1.MountRequest{Dir: dir})
			}
			return a.foreground(ctx, &sheafv1.MountRequest{Dir: dir}, foreground{create: !stay, restore: true, stay: stay})
		},
	}
	c.Flags().StringVar(&a.api, "api", "", "also serve the API at this loopback `address`, 127.0.0.1:PORT (port 0: a free one)")
	c.Flags().BoolVar(&stay, "stay", false, "stay also when nothing is mounted any more, as a service does; make no drive")
	return c
}

// foreground says how a daemon in the foreground is.
type foreground struct {
	create  bool // it makes a drive if there is none
	restore bool // it mounts what the one before it had
	stay    bool // it does not end with its mount
}

// foreground is the daemon itself: it mounts, and stays until the mount ends, somebody stops it,
// or ctx is done.
func (a *app) foreground(ctx context.Context, r *sheafv1.MountRequest, f foreground) error {
	var init *sheafv1.InitRequest
	if f.create && !(&device{home: a.home}).Exists() {
		p, err := a.newPassphrase(ctx)
		if err != nil {
			return err
		}
		init = &sheafv1.InitRequest{Passphrase: p}
	}
	return a.asDaemon(ctx, func(d *daemon, s *session) error {
		if err := a.begin(ctx, s, init); err != nil {
			return err
		}
		if f.restore {
			a.restore(ctx, d)
		}
		if err := a.mountBy(ctx, s, r); err != nil {
			return err
		}
		a.notify("READY=1")
		gone := d.svc.Gone(r.GetDir())
		if f.stay {
			gone = nil
		}
		if err := a.sayAPI(d); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-d.stopped:
		case <-gone:
		}
		a.notify("STOPPING=1")
		a.say("unmounting and putting all into packs …")
		return nil
	})
}

// begin makes the drive, or opens the one that is there, if init is nil.
func (a *app) begin(ctx context.Context, s *session, init *sheafv1.InitRequest) error {
	if init == nil {
		return a.unlock(ctx, s)
	}
	resp, err := s.Drives.Init(ctx, init)
	if err != nil {
		return err
	}
	if a.json {
		if err := a.object("init", resp); err != nil {
			return err
		}
	}
	a.sayMade(resp)
	a.say("")
	return nil
}

// mountBy mounts, and says so.
func (a *app) mountBy(ctx context.Context, s *session, r *sheafv1.MountRequest) error {
	resp, err := s.Mounts.Mount(ctx, r)
	if err != nil {
		return err
	}
	if a.json {
		return a.object("mount", resp.GetMount())
	}
	m := resp.GetMount()
	what := "the drive"
	if m.GetSnapshot() != "" {
		what = "snapshot " + m.GetSnapshot()
	}
	if m.GetSource() != "" {
		what = m.GetSource()
	}
	how := ""
	if m.GetReadOnly() {
		how = ", read-only"
	}
	if resp.GetAlready() {
		how += ", since " + clock(m.GetSince())
	}
	a.say("%s is mounted at %s%s", what, m.GetDir(), how)
	a.next(false, "sheaf umount %s", m.GetDir())
	return nil
}

// inLines sets recovery words in lines of six, numbered.
func inLines(words string) string {
	var b strings.Builder
	for i, w := range strings.Fields(words) {
		if i > 0 && i%6 == 0 {
			b.WriteByte('\n')
		}
		b.WriteString("  " + w)
	}
	return b.String()
}
