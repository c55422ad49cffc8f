package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/cmd/sheaf/unit"
)

func (a *app) serviceCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "service", Short: "Have the drive mounted with each session: by systemd, launchd or the Task Scheduler",
		Long: `The service is sheaf up in the background of your session: it mounts the drive, and what else was mounted
when it ended, and is started again when it fails. It is yours, not the system's. For it to run while you
are not logged in, on Linux: loginctl enable-linger.`,
		Args: cobra.NoArgs, RunE: needsVerb,
	}
	verb := func(use, short string, do func(ctx context.Context, m unit.Manager, name string) error) *cobra.Command {
		return &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := a.manager()
			if err == nil {
				err = do(cmd.Context(), m, unit.NameFor(a.home.Dir))
			}
			return serviceError(err)
		}}
	}
	c.AddCommand(a.serviceInstallCmd(), a.serviceLogsCmd(),
		verb("uninstall", "Stop it, and have it started no more", func(ctx context.Context, m unit.Manager, name string) error {
			if err := m.Uninstall(ctx, name); err != nil {
				return err
			}
			if a.json {
				return a.record(serviceState{Kind: "service", Name: name})
			}
			a.say("uninstalled %s; the drive and all its data stay", name)
			return nil
		}),
		verb("start", "Start it now", a.serviceStart),
		verb("stop", "Unmount all and end it, until the next session or start", func(ctx context.Context, m unit.Manager, name string) error {
			if err := m.Stop(ctx, name); err != nil {
				return err
			}
			if a.json {
				return a.serviceStatus(ctx, m, name)
			}
			a.say("stopped %s", name)
			a.next(false, "sheaf service start")
			return nil
		}),
		verb("restart", "Stop and start it", func(ctx context.Context, m unit.Manager, name string) error {
			if err := m.Stop(ctx, name); err != nil {
				return err
			}
			return a.serviceStart(ctx, m, name)
		}),
		verb("status", "Say how it is", a.serviceStatus))
	return c
}

func (a *app) serviceInstallCmd() *cobra.Command {
	return &cobra.Command{
		Use: "install [FOLDER]", Short: "Have the drive mounted at FOLDER with each session", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			dir := a.home.Mount
			if len(args) == 1 {
				dir = args[0]
			}
			spec, err := a.serviceSpec(dir)
			if err != nil {
				return err
			}
			m, err := a.manager()
			if err != nil {
				return err
			}
			// What a service cannot be asked for, nobody is to notice at the next start of the machine.
			err = a.withSession(ctx, func(s *session) error {
				_, err := s.Drives.Unlock(ctx, &sheafv1.UnlockRequest{})
				return err
			})
			if err != nil {
				return err
			}
			path, err := m.Install(ctx, spec)
			if err != nil {
				return serviceError(err)
			}
			if a.json {
				return a.record(serviceState{Kind: "service", Name: spec.Name, Path: path, Installed: true})
			}
			a.say("installed %s %s", spec.Name, path)
			a.next(false, "sheaf service start")
			return nil
		},
	}
}

func (a *app) serviceStart(ctx context.Context, m unit.Manager, name string) error {
	st, err := m.State(ctx, name)
	if err != nil {
		return err
	}
	if s := a.dial(ctx); s != nil && !st.Running {
		_ = s.Close(ctx) // it was asked nothing
		return coded(sheafv1.Code_CODE_LOCKED, "sheaf stop", "a daemon runs already that is no service")
	}
	if err := m.Start(ctx, name); err != nil {
		return fmt.Errorf("%w; see sheaf service logs", err)
	}
	if a.json {
		return a.serviceStatus(ctx, m, name)
	}
	a.say("started %s", name)
	a.next(false, "sheaf status")
	return nil
}

func (a *app) serviceStatus(ctx context.Context, m unit.Manager, name string) error {
	st, err := m.State(ctx, name)
	if err != nil {
		return err
	}
	if a.json {
		return a.record(serviceState{"service", name, st.Path, st.Installed, st.Running, st.Detail})
	}
	if !st.Installed {
		return unit.ErrNone
	}
	return a.table([][]string{{"name", name}, {"file", st.Path}, {"running", strconv.FormatBool(st.Running)}, {"detail", st.Detail}, {"log", a.home.Log()}})
}
