package main

import (
	"crypto/tls"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/sync/find/meeting"
)

func (a *app) serverCmd() *cobra.Command {
	c := &cobra.Command{Use: "server", Short: "Run what devices share that are not on one network", Args: cobra.NoArgs, RunE: needsVerb}
	c.AddCommand(a.rendezvousCmd())
	return c
}

func (a *app) rendezvousCmd() *cobra.Command {
	var listen, cert, key, rate, most string
	var relays int
	c := &cobra.Command{
		Use: "rendezvous", Short: "Let devices find each other that are behind routers, and carry what they cannot say directly",
		Long: `Runs until it is interrupted. It needs no drive, and one TCP and UDP port that others reach. Any devices may use it, of any drive.

It knows names that are new each hour and nothing of what is behind them, from where those come who hold them, and how much it carries for whom. What it carries it cannot
read. It keeps nothing but its own key, in the data folder of this device. With --cert and --key it shows a certificate that systems trust; otherwise the hash of its key is in its address.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			o := meeting.Options{Relays: relays, Log: a.logger(a.err)}
			if relays == 0 {
				o.Relays = -1
			}
			for _, x := range []struct {
				text string
				n    *int64
			}{{rate, &o.RelayRate}, {most, &o.RelayBytes}} {
				n, err := parseSize(x.text)
				if err != nil || n <= 0 {
					return usagef("--relay-rate 4MiB --relay-bytes 16GiB", "%q is no size", x.text)
				}
				*x.n = n
			}
			shown := meeting.Server{}
			if cert == "" && key == "" {
				if err := a.home.Make(); err != nil {
					return err
				}
				own, err := meeting.OwnCertificate(filepath.Join(a.home.Data, "rendezvous.pem"))
				if err != nil {
					return err
				}
				o.Certificate = own
				if shown.Pin, err = meeting.PinOf(own); err != nil {
					return err
				}
			} else {
				pair, err := tls.LoadX509KeyPair(cert, key)
				if err != nil {
					return usagef("--cert FILE --key FILE, both in PEM", "certificate: %w", err)
				}
				o.Certificate = pair
			}
			h, err := meeting.Listen(ctx, listen, o)
			if err != nil {
				return usagef("--listen ADDRESS:PORT", "%w", err)
			}
			shown.Addr = h.Addr().String()
			if a.json {
				err = a.object("rendezvous", &sheafv1.MeetServer{Address: shown.String()})
			} else {
				a.say("devices meet at %s\nOn each of them, with the address by which it reaches this machine:\n\n  sheaf device reach --server %s", shown.Addr, shown)
			}
			if err == nil {
				<-ctx.Done()
			}
			if e := h.Close(); err == nil {
				err = e
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&listen, "listen", ":7436", "the `address:port` to listen at, for TCP and UDP")
	f.StringVar(&cert, "cert", "", "a `file` with the certificate and its chain, in PEM")
	f.StringVar(&key, "key", "", "a `file` with its key, in PEM")
	f.IntVar(&relays, "relays", 256, "how `many` pairs of devices it carries at a time; 0: none")
	f.StringVar(&rate, "relay-rate", "4MiB", "how `much` it carries in a second for one pair, in each direction")
	f.StringVar(&most, "relay-bytes", "16GiB", "how `much` it carries for one pair, before they have to ask again")
	return c
}
