package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
)

func (a *app) pinCmd() *cobra.Command {
	var f jobFlags
	c := &cobra.Command{
		Use:   "pin PATH...",
		Short: "Keep files, and all below folders, on this device",
		Long: `Fetches what is not on this device, and keeps it there, so that it can be read while no replica can be
reached. What is written or comes below a pinned folder later is fetched as well, while the daemon runs. Pins are of this
device only. Interrupted, it keeps what is here and fetches no more until it is pinned again.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.withDrive(ctx, args, func(s *session, ps []place) error {
				j, err := a.upkeep(ctx, s, &sheafv1.StartRequest{Work: &sheafv1.StartRequest_Pin{Pin: &sheafv1.PinJob{Paths: wires(ps)}}}, f.progress)
				if err != nil || a.json {
					return err
				}
				a.say("pinned %s: fetched %s of %s that were to be fetched", printable(strings.Join(args, ", ")), a.size(j.GetBytes()), a.size(j.GetBytesTotal()))
				return nil
			})
		},
	}
	c.Flags().BoolVarP(&f.progress, "progress", "P", false, "show progress, also where no terminal is")
	c.AddCommand(a.pinListCmd())
	return c
}

// wires are the paths as the contract has them.
func wires(ps []place) []string {
	all := make([]string, len(ps))
	for i, p := range ps {
		all[i] = p.wire()
	}
	return all
}

func (a *app) pinListCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List what is pinned on this device, and how much of it is here",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return a.with(ctx, func(s *session) error {
				r, err := s.Custody.Pins(ctx, &sheafv1.PinsRequest{})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", r)
				}
				rows := [][]string{{"state", "copies", "files", "size", "here", "queued", "path"}}
				var gone []string
				for _, p := range r.GetPins() {
					name, err := wirepath.Decode(p.GetPath())
					if err != nil {
						return err
					}
					w, err := s.Custody.Where(ctx, &sheafv1.WhereRequest{Path: p.GetPath()})
					if err != nil && explain(err).Code == sheafv1.Code_CODE_NOT_FOUND {
						gone = append(gone, "/"+name)
						continue
					}
					if err != nil {
						return err
					}
					row := a.custodyRow(w, "/"+name)
					if p.GetPaused() {
						row[0] += ", paused"
					}
					rows = append(rows, row)
				}
				if len(r.GetPins()) == 0 {
					a.say("nothing is pinned")
					return nil
				}
				if a.quiet {
					return nil
				}
				err = a.table(rows)
				for _, name := range gone {
					a.say("%s is pinned, and not there now", printable(name))
				}
				return err
			})
		},
	}
}

func (a *app) unpinCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "unpin PATH...",
		Short: "Let what was pinned go: the cache may drop it when it needs the room",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.withDrive(ctx, args, func(s *session, ps []place) error {
				r, err := s.Custody.Unpin(ctx, &sheafv1.UnpinRequest{Paths: wires(ps)})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", r)
				}
				a.say("unpinned %s: %s need not stay here any more", printable(strings.Join(args, ", ")), a.size(r.GetReleasedBytes()))
				return nil
			})
		},
	}
}
