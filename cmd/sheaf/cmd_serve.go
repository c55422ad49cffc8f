package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func (a *app) serveCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Serve the drive by WebDAV, SFTP, S3 or HTTP, to programs that cannot see a mount",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, v := range servables {
		c.AddCommand(a.serveKindCmd(v))
	}
	c.AddCommand(a.serveListCmd(), a.serveStopCmd())
	return c
}

const serveHelp = `Returns when the door answers, and leaves a daemon running that serves it, also after a restart of
the daemon, until sheaf serve stop. With --foreground this process is that daemon, and stays.

Only programs of this machine can reach it, unless --addr says otherwise%s. Every
client needs a password: the first is made and shown here, further ones by sheaf apppassword create.`

const windowsHelp = `

Windows sends a password only by TLS: use --tls, and let Windows trust the certificate once. It also
refuses files of more than about 50 MB. As administrator, this allows 4 GB:
  reg add HKLM\SYSTEM\CurrentControlSet\Services\WebClient\Parameters /v FileSizeLimitInBytes /t REG_DWORD /d 0xffffffff /f
  net stop webclient & net start webclient`

// A servable is one way to serve, as its command tells of it.
type servable struct {
	kind                     sheafv1.DoorKind
	name, by, about, example string
	addr                     string // where it listens if nobody says where
	own                      bool   // it has an encryption and keys of its own, so that neither TLS nor names are for it
	keys                     bool   // its clients have keys that are made, and no password that anybody chooses
	reads                    bool   // it is for reading only, always
	litter                   bool   // it keeps out what file managers leave everywhere
}

var servables = []servable{
	{
		kind: sheafv1.DoorKind_DOOR_KIND_WEBDAV, name: "webdav", by: "by WebDAV", about: ", for file managers of every system", addr: "127.0.0.1:7433", litter: true,
		example: `  sheaf serve webdav
  sheaf serve webdav sheaf:/Photos --read-only
  sheaf serve webdav --addr 192.168.1.5:7433 --tls`,
	},
	{
		kind: sheafv1.DoorKind_DOOR_KIND_HTTP, name: "http", by: "as pages for a browser", about: ", to read only", addr: "127.0.0.1:7433", reads: true,
		example: "  sheaf serve http sheaf:/Photos --addr 127.0.0.1:0",
	},
	{
		kind: sheafv1.DoorKind_DOOR_KIND_SFTP, name: "sftp", by: "by SFTP", about: ", for sftp, sshfs, rclone and the like. It gives no shell", addr: "127.0.0.1:7422", own: true,
		example: `  sheaf serve sftp
  sheaf serve sftp sheaf:/Inbox --addr 0.0.0.0:7422`,
	},
	{
		kind: sheafv1.DoorKind_DOOR_KIND_S3, name: "s3", by: "by the protocol of S3", addr: "127.0.0.1:7443", keys: true,
		about: ": the folders at its top are the buckets.\nBuckets are named in the path of a URL, not in that of the host",
		example: `  sheaf serve s3
  sheaf apppassword create backup --s3 --folder /Backups`,
	},
}

// help is what its command says of it at length.
func (v *servable) help() string {
	text := "Serves the drive, or a folder of it, " + v.by + v.about + ".\n\n"
	if v.own {
		return text + fmt.Sprintf(serveHelp, "")
	}
	text += fmt.Sprintf(serveHelp, ", which needs --tls")
	if v.kind == sheafv1.DoorKind_DOOR_KIND_WEBDAV {
		text += windowsHelp
	}
	return text
}

func (a *app) serveKindCmd(v servable) *cobra.Command {
	r := &sheafv1.ServeRequest{Kind: v.kind}
	var passwordFile string
	var foreground bool
	c := &cobra.Command{
		Use: v.name + " [PATH]", Short: "Serve the drive, or a folder of it, " + v.by, Long: v.help(), Example: v.example, Args: cobra.MaximumNArgs(1),
	}
	f := c.Flags()
	f.StringVar(&r.Addr, "addr", "", "the IP `address:port` to listen at, port 0 for any (default "+v.addr+")")
	f.StringVar(&r.User, "user", "", "the `name` of who is let in (default sheaf)")
	if !v.keys {
		f.StringVar(&passwordFile, "password-file", "", "a `file` with his password; else chance makes one")
	}
	if !v.own {
		f.BoolVar(&r.Tls, "tls", false, "with TLS, by a certificate that this device makes")
		f.StringArrayVar(&r.Hosts, "host", nil, "a further `name` by which clients may call this machine")
	}
	f.BoolVar(&foreground, "foreground", false, "stay, and close when interrupted")
	if !v.reads {
		f.BoolVar(&r.ReadOnly, "read-only", false, "for reading only")
	}
	if v.litter {
		f.BoolVar(&r.KeepLitter, "keep-litter", false, "put \"._*\", \".DS_Store\", \"desktop.ini\" and the like into the drive")
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		if passwordFile != "" {
			p, err := secretFile(passwordFile)
			if err != nil {
				return err
			}
			r.Password = p
		}
		begin := func(ctx context.Context, s *session) error { return a.serveBy(ctx, s, r, args) }
		if foreground {
			return a.foregroundServing(ctx, begin)
		}
		return a.inBackground(ctx, begin)
	}
	return c
}

// foregroundServing is the daemon itself: it serves, and stays until somebody stops it or ctx is done.
func (a *app) foregroundServing(ctx context.Context, begin func(ctx context.Context, s *session) error) error {
	if s := a.dial(ctx); s != nil {
		defer func() { _ = s.Close(ctx) }()
		return usagef("leave --foreground out", "a daemon runs already")
	}
	return a.asDaemon(ctx, func(d *daemon, s *session) error {
		err := a.unlock(ctx, s)
		if err == nil {
			err = begin(ctx, s)
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-d.stopped:
		}
		return nil
	})
}

// serveBy opens a door, and says so.
func (a *app) serveBy(ctx context.Context, s *session, r *sheafv1.ServeRequest, args []string) error {
	if len(args) > 0 {
		res, err := a.resolver(ctx, s)
		if err != nil {
			return err
		}
		p, err := res.drive(args[0])
		if err != nil {
			return err
		}
		r.Path = p.wire()
	}
	resp, err := s.Doors.Serve(ctx, r)
	if err != nil {
		return err
	}
	if a.json {
		return a.object("serving", resp)
	}
	v := resp.GetServing()
	a.say("%s is served at %s%s", what(v), v.GetUrl(), how(v))
	user := r.GetUser()
	if user == "" {
		user = "sheaf"
	}
	keys := v.GetKind() == sheafv1.DoorKind_DOOR_KIND_S3
	if !keys {
		a.say("user      %s", user)
	}
	switch {
	case keys && resp.GetSecret() != "":
		a.say("access key %s", resp.GetAppPassword().GetId())
		a.say("secret key %s   (shown only here)", resp.GetSecret())
	case keys:
		a.say("keys      those that were made before; others: sheaf apppassword create NAME --s3")
	case resp.GetSecret() != "":
		a.say("password  %s   (shown only here)", resp.GetSecret())
	case len(r.GetPassword()) > 0:
		a.say("password  the one in the file")
	default:
		a.say("password  one that was made before; another: sheaf apppassword create NAME")
	}
	if v.GetTls() {
		a.say("certificate %s", v.GetCertificate())
		a.say("SHA-256   %s", v.GetFingerprint())
	}
	switch v.GetKind() {
	case sheafv1.DoorKind_DOOR_KIND_WEBDAV:
		a.sayHow(v)
	case sheafv1.DoorKind_DOOR_KIND_SFTP:
		a.say("host key  %s", v.GetFingerprint())
		host, port, _ := net.SplitHostPort(v.GetAddr()) // it was made by joining the two
		a.say("connect   sftp -P %s %s@%s", port, user, host)
	}
	a.next(false, "sheaf serve stop %s", v.GetAddr())
	return nil
}

// what says what a door shows, for people.
func what(v *sheafv1.Serving) string {
	if v.GetPath() == "" {
		return "the drive"
	}
	return drivePrefix + printable(v.GetPath())
}

// how says in which way.
func how(v *sheafv1.Serving) string {
	if v.GetReadOnly() {
		return ", read-only"
	}
	return ""
}

// sayHow says how each system connects.
func (a *app) sayHow(v *sheafv1.Serving) {
	u, err := url.Parse(v.GetUrl())
	if err != nil {
		return
	}
	scheme := "dav"
	if v.GetTls() {
		scheme = "davs"
	}
	a.say("macOS     Finder, Go, Connect to Server: %s", v.GetUrl())
	a.say("GNOME     gio mount %s://%s/", scheme, u.Host)
	a.say("Linux     mount -t davfs %s /mnt", v.GetUrl())
	if v.GetTls() {
		a.say(`Windows   trust the certificate (certutil -addstore Root %s), then: net use * %s`, "webdav.crt", v.GetUrl())
	} else {
		a.say("Windows   sends a password only by TLS: sheaf serve webdav --tls")
	}
	a.say(`          and takes files up to about 50 MB, until FileSizeLimitInBytes is raised: sheaf serve webdav --help`)
}

func (a *app) serveListCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List what is served",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			s := a.dial(ctx)
			if s == nil { // who serves is a daemon
				a.say("nothing is served")
				a.next(false, "sheaf serve webdav")
				return nil
			}
			defer func() { _ = s.Close(ctx) }()
			resp, err := s.Doors.ListServing(ctx, &sheafv1.ListServingRequest{})
			if err != nil {
				return err
			}
			var rows [][]string
			for _, v := range resp.GetServings() {
				if a.json {
					if err := a.object("serving", v); err != nil {
						return err
					}
					continue
				}
				since := "since " + clock(v.GetSince())
				if v.GetError() != "" {
					since = "does not answer: " + printable(v.GetError())
				}
				rows = append(rows, []string{v.GetUrl(), word(v.GetKind()), what(v) + how(v), since})
			}
			if a.json || a.quiet {
				return nil
			}
			return a.table(rows)
		},
	}
}

func (a *app) serveStopCmd() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "stop [ADDRESS]",
		Short: "Close a door, by its address, its URL or its ID",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == all {
				return usagef("sheaf serve list", "name one door, or --all")
			}
			ctx := cmd.Context()
			s := a.dial(ctx)
			if s == nil {
				return errNoDaemon()
			}
			defer func() { _ = s.Close(ctx) }()
			resp, err := s.Doors.StopServing(ctx, &sheafv1.StopServingRequest{Door: strings.Join(args, "")})
			if err != nil {
				return err
			}
			if a.json {
				return a.object("", resp)
			}
			for _, v := range resp.GetStopped() {
				a.say("%s is not served any more", v.GetUrl())
			}
			a.next(false, "sheaf serve list")
			return nil
		},
	}
	c.Flags().BoolVar(&all, "all", false, "all that is served")
	return c
}
