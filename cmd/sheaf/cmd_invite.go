package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"
	"rsc.io/qr"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func (a *app) inviteCmd() *cobra.Command {
	var life time.Duration
	var listen string
	var noWait bool
	c := &cobra.Command{
		Use:   "invite",
		Short: "Let one more device join the drive: prints a code for it, and waits",
		Long: `Prints six words and a link, and waits until a device has joined by one of them: sheaf join CODE. The code is good for one device, for ten
minutes, and for three tries. From then on this device listens for its peers, on port 7434 if that is free.

The new device becomes a member like this one: it can read and write all of the drive, and let others in.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			s, _, err := a.startDaemon(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = s.Close(ctx) }()
			if err := a.unlock(ctx, s); err != nil {
				return err
			}
			v, err := s.Peers.Invite(ctx, &sheafv1.InviteRequest{Seconds: int32(life / time.Second), Listen: listen})
			if err != nil {
				return err
			}
			if a.json {
				if err := a.object("invite", v); err != nil {
					return err
				}
			} else {
				if terminal(a.out) {
					a.say("%s", qrText(v.GetLink()))
				}
				a.say("code  %s\nlink  %s\n", v.GetCode(), v.GetLink())
				a.say("good until %s, for one device. On the new device:", clock(v.GetExpires()))
				a.say("\n  sheaf join '%s'\n", v.GetLink())
			}
			if noWait {
				return nil
			}
			w, err := s.Peers.WaitInvite(ctx, &sheafv1.WaitInviteRequest{Id: v.GetId()})
			if err != nil {
				return err
			}
			if a.json {
				return a.object("joined", w)
			}
			a.say("%s joined (check words: %s)", printable(w.GetName()), w.GetCheck())
			a.next(false, "sheaf device list")
			return nil
		},
	}
	f := c.Flags()
	f.DurationVar(&life, "for", 10*time.Minute, "how `long` the code is good")
	f.StringVar(&listen, "listen", "", "where to listen for peers from now on: an `address` and a port, or :PORT")
	f.BoolVar(&noWait, "no-wait", false, "do not wait for the device")
	return c
}

// qrText draws a code that a camera reads, two rows in a line.
func qrText(text string) string {
	c, err := qr.Encode(text, qr.L)
	if err != nil {
		return "" // too long for one: the link is printed anyway
	}
	const margin = 2
	dark := func(x, y int) bool { return x >= 0 && y >= 0 && x < c.Size && y < c.Size && c.Black(x, y) }
	var b strings.Builder
	for y := -margin; y < c.Size+margin; y += 2 {
		for x := -margin; x < c.Size+margin; x++ {
			switch up, low := dark(x, y), dark(x, y+1); { // terminals are dark mostly: what is light is drawn
			case !up && !low:
				b.WriteString("█")
			case !up:
				b.WriteString("▀")
			case !low:
				b.WriteString("▄")
			default:
				b.WriteString(" ")
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (a *app) joinCmd() *cobra.Command {
	var at []string
	var name string
	var yes bool
	c := &cobra.Command{
		Use:   "join CODE|LINK",
		Short: "Make this device one of a drive, by the code that another device shows",
		Long: `Reaches the device that shows the code (sheaf invite there), says what it is called and which check words it shows, and asks. After a yes this device is a
member of the drive: its tree is there at once, and the content of files comes when it is read. No passphrase and no recovery words are needed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			s, _, err := a.startDaemon(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = s.Close(ctx) }()
			j, err := s.Peers.Join(ctx, &sheafv1.JoinRequest{Code: args[0], At: at, DeviceName: name})
			if err != nil {
				return err
			}
			if a.json {
				if err := a.object("found", j); err != nil {
					return err
				}
			}
			a.say("%s (%s)\ncheck words: %s", printable(j.GetName()), j.GetDevice(), j.GetCheck())
			if !yes {
				ok, err := a.confirm(ctx, "does the other device show these words too, and do you want to join its drive?")
				if err != nil || !ok {
					_, e := s.Peers.AcceptJoin(ctx, &sheafv1.AcceptJoinRequest{Id: j.GetId(), No: true})
					if err == nil {
						err = e
					}
					return err
				}
			}
			r, err := s.Peers.AcceptJoin(ctx, &sheafv1.AcceptJoinRequest{Id: j.GetId()})
			if err != nil {
				return err
			}
			if a.json {
				return a.object("joined", r)
			}
			a.say("joined the drive %s as %s", r.GetDrive(), r.GetDevice())
			a.next(false, "sheaf mount %s", a.home.Mount)
			return nil
		},
	}
	f := c.Flags()
	f.StringArrayVar(&at, "at", nil, "where the other device is, `host:port`, if a code does not say it")
	f.StringVar(&name, "device-name", "", "how this device is shown (default: the host's name)")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}
