package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func (a *app) conflictCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "conflict", Short: "Files that devices wrote, and names that they gave, at the same time: see both versions, and choose", Args: cobra.NoArgs, RunE: needsVerb,
	}
	c.AddCommand(a.conflictListCmd("list [PATH]", "List all conflicts", cobra.MaximumNArgs(1)),
		a.conflictListCmd("show PATH", "Show the versions of one file", cobra.ExactArgs(1)), a.conflictKeepCmd())
	return c
}

func (a *app) conflictListCmd(use, short string, args cobra.PositionalArgs) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.withDrive(ctx, args, func(s *session, ps []place) error {
				r := &sheafv1.ConflictsListRequest{}
				if len(ps) > 0 {
					r.Path = ps[0].wire()
				}
				resp, err := s.Conflicts.List(ctx, r)
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", resp)
				}
				if a.quiet {
					return nil
				}
				if len(resp.GetConflicts()) == 0 {
					a.say("no conflicts")
					return nil
				}
				hint := "sheaf conflict keep PATH --mine"
				rows := [][]string{{"path", "by", "changed", "size"}}
				for _, c := range resp.GetConflicts() {
					for _, v := range c.GetVersions() {
						by := printable(v.GetDeviceName())
						switch {
						case v.GetMine():
							by += " (this device)"
						case by == "":
							by = "a device that is no member any more"
						}
						name, size := a.name(v.GetPath()), strconv.FormatInt(v.GetSize(), 10)
						if v.GetDir() {
							name, size, hint = name+"/", "-", "sheaf conflict keep FOLDER --merge"
						}
						rows = append(rows, []string{name, by, clock(v.GetMtime()), size})
					}
				}
				if err := a.table(rows); err != nil {
					return err
				}
				a.next(true, hint)
				return nil
			})
		},
	}
}

func (a *app) conflictKeepCmd() *cobra.Command {
	var mine, theirs, both, this, merge bool
	c := &cobra.Command{
		Use:   "keep PATH",
		Short: "End a conflict: keep one version, or all as files of their own",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			keep, n := sheafv1.ConflictsKeepRequest_KEEP_UNSPECIFIED, 0
			for k, set := range map[sheafv1.ConflictsKeepRequest_Keep]bool{
				sheafv1.ConflictsKeepRequest_KEEP_MINE: mine, sheafv1.ConflictsKeepRequest_KEEP_THEIRS: theirs,
				sheafv1.ConflictsKeepRequest_KEEP_BOTH: both, sheafv1.ConflictsKeepRequest_KEEP_THIS: this,
				sheafv1.ConflictsKeepRequest_KEEP_MERGED: merge,
			} {
				if set {
					keep, n = k, n+1
				}
			}
			if n != 1 {
				return usagef("sheaf conflict keep PATH --both", "say what to keep: one of --mine, --theirs, --both, --this, --merge")
			}
			return a.withDrive(ctx, args, func(s *session, ps []place) error {
				resp, err := s.Conflicts.Keep(ctx, &sheafv1.ConflictsKeepRequest{Path: ps[0].wire(), Keep: keep})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", resp)
				}
				for _, p := range resp.GetKept() {
					a.say("kept %s", a.name(p))
				}
				for _, p := range resp.GetRemoved() {
					a.say("removed %s (sheaf history, sheaf restore --at bring it back)", a.name(p))
				}
				return nil
			})
		},
	}
	f := c.Flags()
	f.BoolVar(&mine, "mine", false, "the version of this device")
	f.BoolVar(&theirs, "theirs", false, "the newest version of another device")
	f.BoolVar(&both, "both", false, "all, each as a file of its own")
	f.BoolVar(&merge, "merge", false, "of folders: one, with all that is in any of them; of two texts: one, with the changes of both")
	f.BoolVar(&this, "this", false, "the version whose path is given")
	return c
}
