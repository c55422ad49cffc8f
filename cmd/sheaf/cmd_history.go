package main

import (
	"path"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func (a *app) historyCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "history PATH",
		Short: "List the versions of a path, newest first",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.withDrive(ctx, args, func(s *session, ps []place) error {
				st, err := s.Files.History(ctx, &sheafv1.HistoryRequest{Path: ps[0].wire()})
				if err != nil {
					return err
				}
				defer func() { _ = st.Close() }()
				rows := [][]string{{"since", "size", "changed", "device", "snapshot"}}
				there := false
				for st.Receive() {
					m := st.Msg()
					if a.json {
						if err := a.object("version", m); err != nil {
							return err
						}
					}
					size, modified := "not there", "-"
					if n := m.GetNode(); n != nil {
						there = true
						size, modified = word(n.GetType()), clock(n.GetModified())
						if n.GetType() == sheafv1.Kind_KIND_FILE {
							size = a.size(n.GetSize())
						}
					}
					k := m.GetSnapshot()
					rows = append(rows, []string{clock(k.GetTime()), size, modified, k.GetDevice(), k.GetId()})
				}
				if err := st.Err(); err != nil {
					return err
				}
				if !there {
					return coded(sheafv1.Code_CODE_NOT_FOUND, "sheaf snapshot list", "%s is in no kept snapshot", args[0])
				}
				if a.json || a.quiet {
					return nil
				}
				if err := a.table(rows); err != nil {
					return err
				}
				a.next(true, "sheaf restore %s --at SNAPSHOT", quoted(args[0]))
				return nil
			})
		},
	}
}

func (a *app) restoreCmd() *cobra.Command {
	var f jobFlags
	var at, to string
	var overwrite bool
	c := &cobra.Command{
		Use:   "restore PATH --at TIME",
		Short: "Bring a path back as it was",
		Long: `Brings a file, or a directory with all that was in it, back to where it was, or with --to into
a folder of this machine or of the drive. A file that is there now and differs is kept
beside it under another name; what is there now and was not then stays.`,
		Example: `  sheaf restore /notes.txt --at "2h ago"
  sheaf restore /photos --at yesterday --to ./found`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			when := moment(at, time.Now())
			if when == "" {
				return usagef(`name it: --at "2h ago"; sheaf history PATH lists what there is`, "the time to restore from is missing")
			}
			return a.with(ctx, func(s *session) error {
				r, err := a.resolver(ctx, s)
				if err != nil {
					return err
				}
				from, err := r.drive(args[0])
				if err != nil {
					return err
				}
				from.at = when
				job := &sheafv1.StartRequest{Work: &sheafv1.StartRequest_Restore{Restore: &sheafv1.RestoreJob{
					Path: from.wire(), At: when, Overwrite: overwrite, Options: f.options(),
				}}}
				where := "/" + from.path
				if to != "" {
					target, err := r.place(to)
					if err != nil {
						return err
					}
					if from.path != "" {
						target.path = target.join(path.Base(from.path))
					}
					where = target.path
					if target.inDrive {
						job.GetRestore().To, where = "/"+target.wire(), "/"+target.path
					} else {
						job = copyJob(from, target, &f)
					}
				}
				if _, err := a.runJob(ctx, s, job, &f); err != nil {
					return err
				}
				a.say("%s is at %s", printable(args[0]), printable(where))
				return nil
			})
		},
	}
	f.add(c.Flags())
	c.Flags().StringVar(&at, "at", "", "the `time` or snapshot to restore from")
	c.Flags().StringVar(&to, "to", "", "the `folder` to restore into, in place of where it was")
	c.Flags().BoolVar(&overwrite, "overwrite", false, "replace files that differ, in place of keeping them too")
	return c
}
