package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func (a *app) keyCmd() *cobra.Command {
	c := &cobra.Command{Use: "key", Short: "What opens the drive, and OpenPGP keys: yours and those of others", Args: cobra.NoArgs, RunE: needsVerb}
	c.AddCommand(a.keyPassphraseCmd(), a.keyRecoveryCmd())
	c.AddCommand(a.keyring()...)
	return c
}

func (a *app) keyPassphraseCmd() *cobra.Command {
	var file string
	var none bool
	c := &cobra.Command{
		Use:   "passphrase",
		Short: "Replace the passphrase",
		Long: `The new passphrase is taken from --new-password-file (SHEAF_NEW_PASSWORD_FILE), from
SHEAF_NEW_PASSWORD, from what answers for every passphrase (SHEAF_PASSWORD, …), or asked for at a
terminal. Nothing but the slot that holds the drive's keys is written again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return a.with(ctx, func(s *session) error {
				var p []byte
				if !none {
					var err error
					if p, err = a.replacement(ctx, file); err != nil {
						return err
					}
				}
				r, err := s.Keys.SetPassphrase(ctx, &sheafv1.SetPassphraseRequest{Passphrase: p})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", r)
				}
				if r.GetPassphrase() {
					a.say("the new passphrase opens the drive from now on")
				} else {
					a.say("no passphrase any more: a key on this device opens the drive")
				}
				a.next(false, "sheaf status")
				return nil
			})
		},
	}
	c.Flags().StringVar(&file, "new-password-file", "", "a `file` with the new passphrase")
	c.Flags().BoolVar(&none, "none", false, "no passphrase any more: keep a key on this device instead")
	return c
}

// replacement returns the new passphrase; it is never empty.
func (a *app) replacement(ctx context.Context, file string) ([]byte, error) {
	if file != "" {
		return secretFile(file)
	}
	if p := a.getenv("SHEAF_NEW_PASSWORD"); p != "" {
		return []byte(p), nil
	}
	p, err := a.passphraseFromEnv(ctx)
	if p != nil || err != nil {
		return p, err
	}
	p, err = a.ask(ctx, "new passphrase", true)
	switch {
	case errors.Is(err, errNoTerminal):
		return nil, usagef("set SHEAF_NEW_PASSWORD_FILE", "the new passphrase is missing")
	case err == nil && len(p) == 0:
		return nil, usagef("sheaf key passphrase --none", "an empty passphrase is none")
	}
	return p, err
}

func (a *app) keyRecoveryCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "recovery",
		Short: "Replace the recovery words and print the new ones",
		Long: `Prints 24 new words, once, and then ends the old ones. If it is cut off between the two, both open
the drive; run it again, and only the newest do.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return a.with(ctx, func(s *session) error {
				r, err := s.Keys.NewRecovery(ctx, &sheafv1.NewRecoveryRequest{})
				if err != nil {
					return err
				}
				// The old words go when the new ones are out, and not before: whatever fails on the way, the person has words that
				// open the drive. Printed with --quiet too: they are shown nowhere else, ever.
				if a.json {
					err = a.object("", r)
				} else {
					_, err = fmt.Fprintf(a.out, "New recovery words, shown only now:\n\n%s\n\n", inLines(r.GetRecovery()))
				}
				if err != nil {
					return err
				}
				if _, err := s.Keys.RetireRecovery(ctx, &sheafv1.RetireRecoveryRequest{Recovery: r.GetRecovery()}); err != nil {
					return fmt.Errorf("the old words open the drive too, until this is run again: %w", err)
				}
				a.say("the old words open nothing any more")
				return nil
			})
		},
	}
}
