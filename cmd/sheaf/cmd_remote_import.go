package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func (a *app) remoteImportCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "import RCLONE.CONF [NAME ...]",
		Short: "Take remotes over from a configuration of rclone: exit 3 if some were not",
		Long: `Passwords that rclone obscures are revealed, and sealed with the rest. The password of an encrypted configuration is taken
from RCLONE_CONFIG_PASS, or asked for at a terminal. The file stays as it is.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			conf, err := readConf(args[0], "rclone")
			if err != nil {
				return err
			}
			return a.withRemotes(ctx, func(s *session) error {
				q := &sheafv1.RemotesImportRequest{Config: conf, Password: a.getenv("RCLONE_CONFIG_PASS"), Names: args[1:]}
				r, err := s.Remotes.Import(ctx, q)
				if err != nil && explain(err).Code == sheafv1.Code_CODE_WRONG_SECRET && q.GetPassword() == "" {
					p, e := a.ask(ctx, "password of the configuration of rclone", false)
					if errors.Is(e, errNoTerminal) {
						return err
					}
					if e != nil {
						return e
					}
					q.Password = string(p)
					r, err = s.Remotes.Import(ctx, q)
				}
				if err != nil {
					return err
				}
				return a.imported(r)
			})
		},
	}
}

// maxConf is the longest configuration of another program that is read, in bytes.
const maxConf = 2 << 20

func readConf(name, of string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read configuration of %s: %w", of, err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxConf+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration of %s: %w", of, err)
	}
	if len(b) > maxConf {
		return nil, usagef("", "%s is longer than any configuration of %s", name, of)
	}
	return b, nil
}

func (a *app) imported(r *sheafv1.RemotesImportResponse) error {
	if a.json {
		if err := a.object("", r); err != nil {
			return err
		}
	}
	skipped := 0
	next := ""
	for _, x := range r.GetRemotes() {
		switch {
		case x.GetSkipped() != "":
			skipped++
			a.say("%s (%s): not taken over: %s", printable(x.GetName()), printable(x.GetKind()), printable(x.GetSkipped()))
			continue
		case x.GetNeedsSignIn():
			a.say("%s (%s): taken over; somebody has to sign in", x.GetName(), x.GetKind())
			next = "sheaf remote auth " + x.GetName()
		default:
			a.say("%s (%s): taken over", x.GetName(), x.GetKind())
			next = cmp.Or(next, "sheaf remote test "+x.GetName())
		}
		if u := x.GetUnknown(); len(u) > 0 {
			a.say("  left out, for sheaf knows no such options: %s", printable(strings.Join(u, ", ")))
		}
	}
	if next != "" {
		a.next(false, "%s", next)
	}
	if skipped > 0 {
		return coded(sheafv1.Code_CODE_PARTIAL, "sheaf remote list", "%d of %d remotes were not taken over", skipped, len(r.GetRemotes()))
	}
	return nil
}
