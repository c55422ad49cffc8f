package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func (a *app) snapshotCmd() *cobra.Command {
	c := &cobra.Command{Use: "snapshot", Short: "Kept states of the drive", Args: cobra.NoArgs, RunE: needsVerb}
	c.AddCommand(a.snapshotCreateCmd(), a.snapshotListCmd(), a.snapshotDiffCmd(), a.snapshotRmCmd())
	return c
}

// needsVerb is what a noun does by itself.
func needsVerb(cmd *cobra.Command, _ []string) error {
	return usagef(cmd.CommandPath()+" --help", "%s needs a verb", cmd.CommandPath())
}

func (a *app) snapshotCreateCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "create [LABEL]",
		Short: "Keep the drive as it is now, until the snapshot is removed",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			label := "snapshot of " + time.Now().Format("2006-01-02 15:04:05")
			if len(args) == 1 {
				label = args[0]
			}
			return a.with(ctx, func(s *session) error {
				k, err := s.Snapshots.Create(ctx, &sheafv1.CreateRequest{Label: label})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", k)
				}
				a.say("%s  %s  %s", k.GetId(), clock(k.GetTime()), printable(k.GetLabel()))
				a.next(false, "sheaf mount FOLDER --at %s", k.GetId())
				return nil
			})
		},
	}
}

func (a *app) snapshotListCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the kept snapshots, newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return a.with(ctx, func(s *session) error {
				l, err := s.Snapshots.List(ctx, &sheafv1.SnapshotsListRequest{})
				if err != nil {
					return err
				}
				rows := [][]string{{"snapshot", "time", "files", "size", "label"}}
				for _, k := range l.GetSnapshots() {
					if a.json {
						if err := a.object("snapshot", k); err != nil {
							return err
						}
					}
					rows = append(rows, []string{k.GetId(), clock(k.GetTime()), count(k.GetFiles()), a.size(k.GetBytes()), printable(k.GetLabel())})
				}
				if a.json || a.quiet {
					return nil
				}
				if err := a.table(rows); err != nil {
					return err
				}
				a.next(true, "sheaf snapshot diff SNAPSHOT")
				return nil
			})
		},
	}
}

func (a *app) snapshotDiffCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "diff OLDER [NEWER]",
		Short: "List the paths in which two snapshots differ; NEWER is the newest if it is not named",
		Long: `Lists the paths in which two snapshots differ: + is new, - is gone, M has other bytes, A has
other attributes. Both can also be named by a time.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			r := &sheafv1.DiffRequest{From: moment(args[0], time.Now())}
			if len(args) == 2 {
				r.To = moment(args[1], time.Now())
			}
			return a.with(ctx, func(s *session) error {
				if r.GetTo() == "" { // the newest is the drive as it is
					if _, err := s.Drives.Wait(ctx, &sheafv1.WaitRequest{}); err != nil {
						return err
					}
				}
				st, err := s.Snapshots.Diff(ctx, r)
				if err != nil {
					return err
				}
				defer func() { _ = st.Close() }()
				signs := map[sheafv1.DiffResponse_Change]string{
					sheafv1.DiffResponse_CHANGE_ADDED: "+", sheafv1.DiffResponse_CHANGE_REMOVED: "-",
					sheafv1.DiffResponse_CHANGE_MODIFIED: "M", sheafv1.DiffResponse_CHANGE_ATTRIBUTES: "A",
				}
				for st.Receive() {
					m := st.Msg()
					if a.json {
						if err := a.object("difference", m); err != nil {
							return err
						}
						continue
					}
					a.say("%s /%s", signs[m.GetChange()], a.name(m.GetPath()))
				}
				return st.Err()
			})
		},
	}
}

func (a *app) snapshotRmCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "rm SNAPSHOT...",
		Short: "Forget snapshots",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.with(ctx, func(s *session) error {
				r, err := s.Snapshots.Drop(ctx, &sheafv1.DropRequest{Ids: args})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", r)
				}
				a.say("forgot %d", r.GetDropped())
				a.next(false, "sheaf store gc")
				return nil
			})
		},
	}
}
