package main

import (
	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func (a *app) appPasswordCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "apppassword",
		Short: "Passwords for the clients of sheaf serve, one for each",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(a.appPasswordCreateCmd(), a.appPasswordListCmd(), a.appPasswordRevokeCmd())
	return c
}

func (a *app) appPasswordCreateCmd() *cobra.Command {
	r := &sheafv1.CreateAppPasswordRequest{}
	var folder, passwordFile string
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a password for a client, and show it once",
		Example: `  sheaf apppassword create "Ann's tablet"
  sheaf apppassword create scanner --folder /Inbox
  sheaf apppassword create television --read-only`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Name = args[0]
			if passwordFile != "" {
				p, err := secretFile(passwordFile)
				if err != nil {
					return err
				}
				r.Password = p
			}
			return a.withDrive(cmd.Context(), []string{folder}, func(s *session, ps []place) error {
				r.Path = ps[0].wire()
				resp, err := s.Doors.CreateAppPassword(cmd.Context(), r)
				if err != nil {
					return err
				}
				if a.json {
					return a.object("app_password", resp)
				}
				if resp.GetAppPassword().GetSigns() {
					a.say("access key  %s", resp.GetAppPassword().GetId())
					a.say("secret key  %s   (shown only here)", resp.GetSecret())
					a.next(false, "sheaf apppassword revoke %s", resp.GetAppPassword().GetId())
					return nil
				}
				a.say("user      %s", resp.GetAppPassword().GetUser())
				if resp.GetSecret() != "" {
					a.say("password  %s   (shown only here)", resp.GetSecret())
				}
				a.next(false, "sheaf apppassword revoke %s", resp.GetAppPassword().GetId())
				return nil
			})
		},
	}
	f := c.Flags()
	f.StringVar(&r.User, "user", "", "the `name` of the user (default sheaf)")
	f.StringVar(&folder, "folder", "/", "the `folder` of the drive that is all it may see")
	f.BoolVar(&r.ReadOnly, "read-only", false, "for reading only")
	f.BoolVar(&r.Signs, "s3", false, "a pair of keys for sheaf serve s3")
	f.StringVar(&passwordFile, "password-file", "", "a `file` with the password; else chance makes one, which is better")
	return c
}

func (a *app) appPasswordListCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the passwords: whom they let in, and when they were last used",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(s *session) error {
				resp, err := s.Doors.ListAppPasswords(cmd.Context(), &sheafv1.ListAppPasswordsRequest{})
				if err != nil {
					return err
				}
				var rows [][]string
				for _, p := range resp.GetAppPasswords() {
					if a.json {
						if err := a.object("app_password", p); err != nil {
							return err
						}
						continue
					}
					sees := "everything"
					if p.GetPath() != "" {
						sees = drivePrefix + printable(p.GetPath())
					}
					if p.GetReadOnly() {
						sees += ", read-only"
					}
					if p.GetSigns() {
						sees += ", S3"
					}
					used := "never used"
					if p.GetUsed() != nil {
						used = "used " + clock(p.GetUsed())
					}
					rows = append(rows, []string{p.GetId(), p.GetUser(), printable(p.GetName()), sees, used})
				}
				if a.json || a.quiet {
					return nil
				}
				return a.table(rows)
			})
		},
	}
}

func (a *app) appPasswordRevokeCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "Take a password away: its client is refused from now on",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(s *session) error {
				resp, err := s.Doors.RevokeAppPassword(cmd.Context(), &sheafv1.RevokeAppPasswordRequest{Id: args[0]})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", resp)
				}
				a.say("%s lets nobody in any more", args[0])
				a.next(false, "sheaf apppassword list")
				return nil
			})
		},
	}
}
