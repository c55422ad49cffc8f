package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func (a *app) storeEvictCmd() *cobra.Command {
	var f jobFlags
	var keep string
	var copies int32
	c := &cobra.Command{
		Use:   "evict",
		Short: "Let go what replicas keep, to make room on this device",
		Long: `Removes packs from this device that it has written and that replicas have, the oldest first. Nothing is
removed anywhere else: what is needed again is read from the replicas, and kept in the cache (cache-size).

A pack goes only if two replicas, or the one that there is, list it now and give a piece of it, chosen at
random, that is the same here. Other devices do not count, for they let go what they have, too. What is
pinned stays, and what was not brought to the replicas yet.

"sheaf config set store-size 20GiB" does the same by itself, whenever there is more.`,
		Example: "  sheaf store evict --keep 20GiB\n  sheaf store evict --copies 1",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			n := int64(0)
			if keep != "" {
				var err error
				if n, err = parseSize(keep); err != nil {
					return usagef("--keep 20GiB", "%w", err)
				}
			}
			ctx := cmd.Context()
			return a.with(ctx, func(s *session) error {
				j, err := a.upkeep(ctx, s, &sheafv1.StartRequest{Work: &sheafv1.StartRequest_Evict{Evict: &sheafv1.EvictJob{KeepBytes: n, Copies: copies}}}, f.progress)
				if err != nil || a.json {
					return err
				}
				e := j.GetEvict()
				a.say("%d packs left this device, %s; %s of what it has written are here", e.GetPacks(), a.size(e.GetBytes()), a.size(e.GetKeptBytes()))
				if n := e.GetShort(); n > 0 {
					a.say("%d packs stay until enough replicas have them", n)
				}
				if w := e.GetAway(); len(w) > 0 {
					a.say("could not be asked: %s", printable(strings.Join(w, ", ")))
				}
				a.next(false, "sheaf status /")
				return nil
			})
		},
	}
	c.Flags().StringVar(&keep, "keep", "", "how `much` of what this device has written stays here (default none)")
	c.Flags().Int32Var(&copies, "copies", 0, "how many replicas must have a pack (default 2, or 1 if there is one)")
	c.Flags().BoolVarP(&f.progress, "progress", "P", false, "show progress, also where no terminal is")
	return c
}
