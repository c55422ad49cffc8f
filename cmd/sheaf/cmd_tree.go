package main

import (
	"path"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
)

func (a *app) mvCmd() *cobra.Command {
	var noClobber bool
	c := &cobra.Command{
		Use:   "mv PATH... TARGET",
		Short: "Move or rename inside the drive",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if anyRemote(args) {
				return a.movePlaces(ctx, args)
			}
			return a.withDrive(ctx, args, func(s *session, ps []place) error {
				to := ps[len(ps)-1]
				into := to.path == ""
				if n, err := s.Files.Stat(ctx, &sheafv1.StatRequest{Path: to.wire()}); err == nil {
					into = n.GetType() == sheafv1.Kind_KIND_DIR
				} else if explainCode(err) != sheafv1.Code_CODE_NOT_FOUND {
					return err
				}
				if !into && (len(ps) > 2 || to.slash) {
					return coded(sheafv1.Code_CODE_NOT_FOUND, "sheaf mkdir "+args[len(args)-1], "%s is not a directory", args[len(args)-1])
				}
				for i, p := range ps[:len(ps)-1] {
					target := to.path
					if into {
						target = path.Join(to.path, path.Base(p.path))
					}
					r, err := s.Files.Move(ctx, &sheafv1.MoveRequest{From: p.wire(), To: wirepath.Encode(target), NoReplace: noClobber})
					if err != nil {
						return err
					}
					if a.json {
						if err := a.object("node", r.GetNode()); err != nil {
							return err
						}
						continue
					}
					a.say("%s -> /%s", args[i], a.name(r.GetNode().GetPath()))
				}
				return nil
			})
		},
	}
	c.Flags().BoolVar(&noClobber, "no-clobber", false, "fail if the target is taken")
	return c
}

func (a *app) rmCmd() *cobra.Command {
	var recursive, force bool
	c := &cobra.Command{
		Use:   "rm PATH...",
		Short: "Remove from the drive; the history keeps it",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if anyRemote(args) {
				return a.removePlaces(ctx, args, recursive, force)
			}
			return a.withDrive(ctx, args, func(s *session, ps []place) error {
				r := &sheafv1.RemoveRequest{Recursive: recursive, Force: force}
				for _, p := range ps {
					r.Paths = append(r.Paths, p.wire())
				}
				resp, err := s.Files.Remove(ctx, r)
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", resp)
				}
				a.say("removed %d", resp.GetRemoved())
				if resp.GetSnapshot() != "" && resp.GetRemoved() > 0 {
					a.next(false, "to undo: sheaf restore %s --at %s", quoted("/"+ps[0].path), resp.GetSnapshot())
				}
				return nil
			})
		},
	}
	c.Flags().BoolVarP(&recursive, "recursive", "r", false, "directories with all that is in them")
	c.Flags().BoolVarP(&force, "force", "f", false, "what is not there is no error")
	return c
}

func (a *app) mkdirCmd() *cobra.Command {
	var parents bool
	c := &cobra.Command{
		Use:   "mkdir PATH...",
		Short: "Make directories in the drive",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.withDrive(ctx, args, func(s *session, ps []place) error {
				for _, p := range ps {
					n, err := s.Files.Mkdir(ctx, &sheafv1.MkdirRequest{Path: p.wire(), Parents: parents})
					if err != nil {
						return err
					}
					if a.json {
						if err := a.object("node", n); err != nil {
							return err
						}
						continue
					}
					a.say("made /%s", a.name(n.GetPath()))
				}
				return nil
			})
		},
	}
	c.Flags().BoolVarP(&parents, "parents", "p", false, "and what is missing above; one that is there is no error")
	return c
}

func (a *app) duCmd() *cobra.Command {
	var unique bool
	c := &cobra.Command{
		Use:   "du [PATH...]",
		Short: "Say what room things take",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if len(args) == 0 {
				args = []string{drivePrefix}
			}
			if anyRemote(args) {
				if unique {
					return usagef("", "a place of plain files has no chunks to count")
				}
				return a.usePlaces(ctx, args)
			}
			return a.withDrive(ctx, args, func(s *session, ps []place) error {
				rows := [][]string{{"logical", "files", "dirs", "path"}}
				if unique {
					rows = [][]string{{"logical", "unique", "stored", "files", "dirs", "path"}}
				}
				for _, p := range ps {
					u, err := s.Files.DiskUsage(ctx, &sheafv1.DiskUsageRequest{Path: p.wire(), Unique: unique})
					if err != nil {
						return err
					}
					if a.json {
						if err := a.object("usage", u); err != nil {
							return err
						}
						continue
					}
					row := []string{a.size(u.GetLogicalBytes())}
					if unique {
						row = append(row, a.size(u.GetUniqueBytes()), a.size(u.GetStoredBytes()))
					}
					rows = append(rows, append(row, count(u.GetFiles()), count(u.GetDirs()), "/"+a.name(p.wire())))
				}
				if a.json {
					return nil
				}
				return a.table(rows)
			})
		},
	}
	c.Flags().BoolVar(&unique, "unique", false, "also with each chunk counted once, and as it is stored")
	return c
}
