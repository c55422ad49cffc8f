package main

import (
	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func (a *app) deviceReachCmd() *cobra.Command {
	var lan string
	var servers []string
	var none bool
	c := &cobra.Command{
		Use: "reach", Short: "Say how this device and the others find each other, and let it change",
		Long: `A device that listens for others (sheaf invite) announces itself on the networks that it is on, so that devices of its drive find it there without any setting. What it
announces is sealed to them: others see a name that is new each hour, and nothing else. With --lan off it says nothing, and does not listen for what others say.

Devices that are not on one network meet by servers, which anybody may run: sheaf server rendezvous. All devices of the drive have to name the same one, or several, of which one that is away
does no harm. A server knows names that are new each hour, and the addresses of those who hold them; it tells both sides of each other, and they connect directly if the routers in between allow it. If
they do not, the server carries what both say to each other, encrypted from end to end.`,
		Example: `  sheaf device reach --server meet.example.org:7436
  sheaf device reach --server 192.0.2.1:7436~HASH --server meet.example.org:7436`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return a.withDrive(ctx, nil, func(s *session, _ []place) error {
				r := &sheafv1.SetReachRequest{}
				switch lan {
				case "":
				case "on", "off":
					on := lan == "on"
					r.Lan = &on
				default:
					return usagef("--lan on, or --lan off", "%q is neither", lan)
				}
				if len(servers) > 0 || none {
					r.Servers = &sheafv1.MeetServers{Addresses: servers}
				}
				if r.Lan != nil || r.Servers != nil {
					if _, err := s.Peers.SetReach(ctx, r); err != nil {
						return err
					}
				}
				resp, err := s.Peers.ListPeers(ctx, &sheafv1.ListPeersRequest{})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", resp)
				}
				a.sayReach(resp)
				return nil
			})
		},
	}
	c.Flags().StringArrayVar(&servers, "server", nil, "a `server` at which the devices meet: HOST:PORT, or HOST:PORT~HASH; may be given four times, and replaces those from before")
	c.Flags().BoolVar(&none, "no-server", false, "meet at no server")
	c.MarkFlagsMutuallyExclusive("server", "no-server")
	c.Flags().StringVar(&lan, "lan", "", "`on|off`: announce this device on its networks")
	return c
}

// sayReach says how devices find each other.
func (a *app) sayReach(r *sheafv1.ListPeersResponse) {
	if r.GetListen() == "" {
		a.say("this device does not listen for others: sheaf invite")
	} else {
		a.say("this device listens at %s", r.GetListen())
	}
	if r.GetLan() {
		a.say("it announces itself on its networks")
	} else {
		a.say("it does not announce itself on its networks: sheaf device reach --lan on")
	}
	for _, x := range r.GetServers() {
		if x.GetReached() {
			a.say("it is met at %s", x.GetAddress())
		} else {
			a.say("it is not met at %s: %s", x.GetAddress(), printable(x.GetError()))
		}
	}
	for _, at := range r.GetOutside() {
		a.say("from outside it is %s", at)
	}
}
