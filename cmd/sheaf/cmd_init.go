package main

import (
	"path/filepath"

	"github.com/spf13/cobra"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func (a *app) initCmd() *cobra.Command {
	var from, recoveryFile, chunker, name string
	var inPlace bool
	c := &cobra.Command{
		Use:   "init",
		Short: "Make a new drive, or open an existing one as a new device",
		Long: `Makes a drive whose packs lie in the folder SHEAF_STORE, or in a folder of sheaf's own.
The recovery words are printed once and stored nowhere: write them down.

A passphrase is asked for at a terminal, and taken from SHEAF_PASSWORD, SHEAF_PASSWORD_FILE,
SHEAF_PASSWORD_COMMAND or SHEAF_PASSWORD_FD. Without one, a key file on this device opens the drive.

With --from, the drive at that place, a remote (nas:drive) or a folder, is opened as a new device, with its
passphrase or its recovery words. What this device writes lies in a store of its own, and goes to that place, too. With
--in-place, the folder itself is the store of this device; no other device may use it at the same time.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if (&device{home: a.home}).Exists() { // before anybody is asked for anything
				return sheaf.ErrExists
			}
			r := &sheafv1.InitRequest{Chunker: chunker, DeviceName: name, Join: from != ""}
			var err error
			if r.GetJoin() {
				if r.From, err = placeArg(from); err != nil {
					return err
				}
				if inPlace {
					if a.joinFrom, err = filepath.Abs(from); err != nil {
						return err
					}
					r.From = ""
				}
				if r.Recovery, err = a.recoveryWords(recoveryFile); err != nil {
					return err
				}
				if r.GetRecovery() == "" {
					r.Passphrase, err = a.knownPassphrase(ctx)
				}
			} else {
				if recoveryFile != "" {
					return usagef("sheaf init --from FOLDER --recovery-file FILE", "--recovery-file opens an existing drive: --from is missing")
				}
				r.Passphrase, err = a.newPassphrase(ctx)
			}
			if err != nil {
				return err
			}
			return a.withSession(ctx, func(s *session) error {
				resp, err := s.Drives.Init(ctx, r)
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", resp)
				}
				a.sayMade(resp)
				a.next(false, "sheaf mount %s", a.home.Mount)
				return nil
			})
		},
	}
	f := c.Flags()
	f.StringVar(&from, "from", "", "open the drive at this `place`, a remote or a folder, as a new device")
	f.BoolVar(&inPlace, "in-place", false, "with --from: the folder is the store of this device itself")
	f.StringVar(&recoveryFile, "recovery-file", "", "a `file` with the 24 recovery words (SHEAF_RECOVERY_FILE)")
	f.StringVar(&chunker, "chunker", "", "how files are cut: rabin or fastcdc")
	f.StringVar(&name, "device-name", "", "how this device is shown (default: the host's name)")
	return c
}

// sayMade says, for people, what init made.
func (a *app) sayMade(r *sheafv1.InitResponse) {
	a.say("drive   %s", r.GetDrive())
	a.say("device  %s", r.GetDevice())
	a.say("packs   %s", a.storeDir())
	if r.GetRecovery() != "" {
		a.say("\nRecovery words. They open the drive when all else is lost, and are shown only now:\n\n%s", inLines(r.GetRecovery()))
	}
}
