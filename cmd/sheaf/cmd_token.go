package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/access"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
)

func (a *app) tokenCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "token", Short: "What lets programs in over the network door: sheaf up --api", Args: cobra.NoArgs, RunE: needsVerb,
	}
	c.AddCommand(a.tokenCreateCmd(), a.tokenListCmd(), a.tokenRevokeCmd())
	return c
}

func (a *app) tokenCreateCmd() *cobra.Command {
	var r sheafv1.TokensCreateRequest
	var folder, life string
	c := &cobra.Command{
		Use:   "create [LABEL]",
		Short: "Make a token, and print it, this once",
		Long: `Make a token, and print it, this once: only its hash is kept, on this device. Whoever has it may do what it is for until it
ends or is revoked. Secrets, remotes, mounts, tokens and files of this machine are for no token: these calls are served over the unix socket only.

Services that a token may be for: ` + strings.Join(access.Services(), ", ") + ".",
		Example: `  sheaf token create "photo frame" --read-only --folder /Photos --expires 52w
  sheaf token create backup --service files --service jobs --expires 90d`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			now := time.Now()
			at, ok := parseTime(life, now)
			if !ok || !at.Before(now) {
				return usagef("--expires 30d", "%q is no length of time", life)
			}
			r.ExpiresSeconds = int64(now.Sub(at) / time.Second)
			if len(args) == 1 {
				r.Label = args[0]
			}
			return a.withSession(ctx, func(s *session) error {
				rs, err := a.resolver(ctx, s)
				if err != nil {
					return err
				}
				p, err := rs.drive(folder)
				if err != nil {
					return err
				}
				r.Folder = p.wire()
				resp, err := s.Tokens.Create(ctx, &r)
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", resp)
				}
				if _, err := a.out.Write([]byte(resp.GetSecret() + "\n")); err != nil {
					return err
				}
				if !a.quiet {
					a.tell("token %s ends %s; it is shown only here", resp.GetToken().GetId(), clock(resp.GetToken().GetExpires()))
				}
				return nil
			})
		},
	}
	f := c.Flags()
	f.BoolVar(&r.ReadOnly, "read-only", false, "it changes nothing")
	f.StringVar(&folder, "folder", "", "the only `folder` of the drive that it sees")
	f.StringArrayVar(&r.Services, "service", nil, "the only `service` that it calls; can be given several times")
	f.StringVar(&life, "expires", "30d", "how `long` it is good: 12h, 30d, 52w")
	return c
}

func (a *app) tokenListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List all tokens, and when each was used last", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return a.withSession(ctx, func(s *session) error {
				resp, err := s.Tokens.List(ctx, &sheafv1.TokensListRequest{})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", resp)
				}
				rows := [][]string{{"id", "may", "made", "ends", "used last", "label"}}
				for _, t := range resp.GetTokens() {
					ends := clock(t.GetExpires())
					if !time.Now().Before(t.GetExpires().AsTime()) {
						ends = "ended"
					}
					rows = append(rows, []string{t.GetId(), a.tokenMay(t), clock(t.GetCreated()), ends, clock(t.GetUsed()), printable(t.GetLabel())})
				}
				if a.quiet {
					return nil
				}
				return a.table(rows)
			})
		},
	}
}

// tokenMay says in a few words what a token may do.
func (a *app) tokenMay(t *sheafv1.Token) string {
	may := "read and write"
	if t.GetReadOnly() {
		may = "read"
	}
	if p, err := wirepath.Decode(t.GetFolder()); err == nil && p != "" {
		may += " /" + printable(p)
	}
	if len(t.GetServices()) > 0 {
		may += " by " + strings.Join(t.GetServices(), ", ")
	}
	return may
}

func (a *app) tokenRevokeCmd() *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID...", Short: "End tokens at once", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.withSession(ctx, func(s *session) error {
				resp, err := s.Tokens.Revoke(ctx, &sheafv1.TokensRevokeRequest{Ids: args})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", resp)
				}
				a.say("revoked %s", printable(strings.Join(args, ", ")))
				return nil
			})
		},
	}
}
