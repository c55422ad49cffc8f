package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func (a *app) deviceCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "device", Short: "The devices that the drive is on: see them, say which to trust, and revoke one that is lost", Args: cobra.NoArgs, RunE: needsVerb,
	}
	c.AddCommand(
		a.deviceListCmd(), a.deviceShowCmd(), a.deviceRenameCmd(), a.deviceTrustCmd(), a.deviceVouchCmd(), a.devicePeersCmd(), a.deviceReachCmd(), a.deviceRevokeCmd(),
	)
	return c
}

func (a *app) deviceListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List all devices, and when each was last heard of", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return a.withDrive(ctx, nil, func(s *session, _ []place) error {
				resp, err := s.Devices.List(ctx, &sheafv1.DevicesListRequest{})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", resp)
				}
				if a.quiet {
					return nil
				}
				rows := [][]string{{"name", "state", "role", "owner", "way", "added", "last heard of", "id"}}
				for _, d := range resp.GetDevices() {
					owner := "-"
					if d.GetOwner() != nil {
						owner = keyName(d.GetOwner())
					}
					rows = append(rows, []string{
						printable(d.GetName()), deviceState(d), d.GetRole(), owner, orDash(d.GetWay()), clock(d.GetAdded()), clock(d.GetSeen()), d.GetId(),
					})
				}
				if err := a.table(rows); err != nil {
					return err
				}
				for _, d := range resp.GetDevices() {
					if !d.GetAccepted() && !d.GetRevoked() && !d.GetSelf() {
						a.tell("%s is not accepted here: %s (sheaf device show %s)", printable(d.GetName()), d.GetWhy(), printable(d.GetName()))
					}
				}
				return nil
			})
		},
	}
}

func (a *app) devicePeersCmd() *cobra.Command {
	return &cobra.Command{
		Use: "peers", Short: "List how the other devices are reached: over which way, and where", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return a.withDrive(ctx, nil, func(s *session, _ []place) error {
				resp, err := s.Peers.ListPeers(ctx, &sheafv1.ListPeersRequest{})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", resp)
				}
				if a.quiet {
					return nil
				}
				a.sayReach(resp)
				rows := [][]string{{"name", "connected", "way", "at", "since", "replica"}}
				for _, p := range resp.GetPeers() {
					by := p.GetBy()
					if by == "" {
						by = "no"
					}
					rows = append(rows, []string{printable(p.GetName()), by, p.GetWay(), p.GetAt(), clock(p.GetSince()), p.GetReplica()})
				}
				return a.table(rows)
			})
		},
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func deviceState(d *sheafv1.Device) string {
	switch {
	case d.GetRevoked():
		return "revoked"
	case d.GetError() != "":
		return "wrong: " + printable(d.GetError())
	case d.GetSelf():
		return "this device"
	case !d.GetAccepted():
		return "not accepted"
	case !d.GetWriter():
		return "reads only"
	}
	return "member"
}

func (a *app) deviceRevokeCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID|NAME",
		Short: "End the membership of a device, for good: it gets nothing that is written from now on",
		Long: `End the membership of a device, for good. What it wrote so far stays. Nothing that it writes from now on counts, and what the
other devices write, each from when it hears of this, is sealed with keys that it is not given.

What it has read already it can keep. If the passphrase or the recovery words of the drive may be known to who has it,
change these, too: sheaf key passphrase, sheaf key recovery.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.withDrive(ctx, nil, func(s *session, _ []place) error {
				resp, err := s.Devices.Revoke(ctx, &sheafv1.DevicesRevokeRequest{Device: args[0]})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", resp)
				}
				d := resp.GetDevice()
				a.say("revoked %s (%s)", printable(d.GetName()), d.GetId())
				held := fmt.Sprintf("it may still hold what it could read until now: %d files, %s, and what was kept of before", resp.GetFiles(), a.size(resp.GetBytes()))
				if at := resp.GetSnapshot(); at != "" {
					held += "; sheaf ls -R --at " + at + " / lists them"
				}
				a.say("%s", held)
				a.next(true, "sheaf wait --copies 2, so that the others hear of it")
				return nil
			})
		},
	}
}
