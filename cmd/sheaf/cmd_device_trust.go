package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func (a *app) deviceShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show ID|NAME", Short: "Say what is known of one device: whose it is, who vouches for it, and how it is reached", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.onDevice(ctx, func(s *session) (*sheafv1.Device, error) {
				resp, err := s.Devices.List(ctx, &sheafv1.DevicesListRequest{Device: args[0]})
				if err != nil {
					return nil, err
				}
				return resp.GetDevices()[0], nil
			})
		},
	}
}

// deviceSays prints one device.
func (a *app) deviceSays(d *sheafv1.Device) {
	a.say("%s  %s", printable(d.GetName()), d.GetId())
	if g := d.GetGivenName(); g != "" {
		a.say("the drive calls it %s", printable(g))
	}
	a.say("%s, %s; added %s, last heard of %s", deviceState(d), d.GetRole(), clock(d.GetAdded()), clock(d.GetSeen()))
	accepted := "not accepted here"
	if d.GetAccepted() {
		accepted = "accepted here"
	}
	a.say("%s: %s", accepted, d.GetWhy())
	if d.GetAt() != "" {
		a.say("connected at %s (%s)", d.GetAt(), d.GetWay())
	}
	if k := d.GetOwner(); k != nil {
		a.say("owned by %s  %s, validity: %s", keyName(k), groups(k.GetFingerprint()), word(k.GetValidity()))
		a.path(k)
	} else {
		a.say("no record of who owns it is known here")
	}
}

func (a *app) deviceRenameCmd() *cobra.Command {
	return &cobra.Command{
		Use: "rename ID|NAME NEW", Short: "Call a device otherwise, on this device; an empty name is the one that the drive has", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.onDevice(ctx, func(s *session) (*sheafv1.Device, error) {
				resp, err := s.Devices.Rename(ctx, &sheafv1.DevicesRenameRequest{Device: args[0], Name: args[1]})
				return resp.GetDevice(), err
			})
		},
	}
}

// onDevice shows the device that do returns.
func (a *app) onDevice(ctx context.Context, do func(s *session) (*sheafv1.Device, error)) error {
	return a.withDrive(ctx, nil, func(s *session, _ []place) error {
		d, err := do(s)
		if err != nil {
			return err
		}
		if a.json {
			return a.object("", d)
		}
		a.deviceSays(d)
		return nil
	})
}

func (a *app) deviceTrustCmd() *cobra.Command {
	var no, asVouched bool
	var role, need string
	c := &cobra.Command{
		Use:   "trust [ID|NAME]",
		Short: "Say which devices this device accepts: this one, or what all of them need",
		Long: `Only members of the drive are accepted, and who is one no trust decides: a device becomes one when a person lets it in (sheaf invite). Here you say what this device needs besides, before it lets a member connect:

  --need member     nothing
  --need marginal   the OpenPGP key of its owner is valid at least marginally
  --need full       that key is valid: you certified it, or somebody did whom you trust to introduce others (sheaf device vouch)

With a device: it is accepted, whoever vouches for it; with --no it is not; with --as-vouched it is as --need says. --role read-only has it put nothing here, whatever the drive allows it. A device that is not accepted any more
has its connections cut at once. What it wrote, and others bring, counts all the same, as long as it is a member: sheaf device revoke ends that.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			r := &sheafv1.DevicesTrustRequest{Role: role}
			needs := map[string]sheafv1.Need{"": 0, "member": sheafv1.Need_NEED_MEMBER, "marginal": sheafv1.Need_NEED_MARGINAL, "full": sheafv1.Need_NEED_FULL}
			var ok bool
			if r.Need, ok = needs[need]; !ok {
				return usagef("--need member, marginal or full", "%q is none of these", need)
			}
			if len(args) == 1 {
				r.Device = args[0]
				switch {
				case no:
					r.Answer = sheafv1.Answer_ANSWER_NO
				case asVouched:
					r.Answer = sheafv1.Answer_ANSWER_WITHDRAWN
				case role == "":
					r.Answer = sheafv1.Answer_ANSWER_YES
				}
			}
			return a.withDrive(ctx, nil, func(s *session, _ []place) error {
				resp, err := s.Devices.Trust(ctx, r)
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", resp)
				}
				if d := resp.GetDevice(); d != nil {
					a.deviceSays(d)
				}
				a.say("members need: %s", word(resp.GetNeed()))
				return nil
			})
		},
	}
	f := c.Flags()
	f.BoolVar(&no, "no", false, "do not accept it")
	f.BoolVar(&asVouched, "as-vouched", false, "say nothing of it: it is as --need says")
	f.StringVar(&role, "role", "", "`full|read-only`: the most that it may do here")
	f.StringVar(&need, "need", "", "`member|marginal|full`: what members need to be accepted")
	c.MarkFlagsMutuallyExclusive("no", "as-vouched")
	return c
}

func (a *app) deviceVouchCmd() *cobra.Command {
	var r sheafv1.DevicesVouchRequest
	var in introducing
	c := &cobra.Command{
		Use:   "vouch ID|NAME",
		Short: "Certify whose a device is, so that others who trust you may accept it",
		Long: `Certifies the OpenPGP key of who owns the device, with your own (sheaf key new). You need the fingerprint of that key, as its owner tells it to you by a way that nobody else can alter. With --introducer you also say how far you trust
the owner to vouch for others: devices that they vouch for are accepted here then, if they are members (sheaf device trust --need).

A device of your own is certified by --mine: its record says that it is yours.`,
		Example: `  sheaf device vouch laptop2 --mine
  sheaf device vouch bobs-phone --fingerprint '9F3A 77C2 …' --introducer full`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			ctx := cmd.Context()
			r.Device = args[0]
			if r.Introducer, r.Depth, err = in.read(); err != nil {
				return err
			}
			return a.onDevice(ctx, func(s *session) (*sheafv1.Device, error) {
				resp, err := s.Devices.Vouch(ctx, &r)
				return resp.GetDevice(), err
			})
		},
	}
	f := c.Flags()
	f.BoolVar(&r.Mine, "mine", false, "it is your own")
	f.StringVar(&r.Fingerprint, "fingerprint", "", "what the owner has `told` you")
	f.BoolVar(&r.Withdraw, "withdraw", false, "take back what you certified of its owner")
	in.flags(c)
	c.MarkFlagsMutuallyExclusive("mine", "fingerprint")
	return c
}
