package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func (a *app) statusCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "status [PATH...]",
		Short: "Say what is going on, on one screen; or where files are",
		Long: `Without a PATH: the drive, what is on its way, replicas, mounts. With: where the files there and below are,
by what is known on this device; no replica is asked, and nothing is fetched.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if len(args) > 0 {
				return a.statusOf(ctx, args)
			}
			return a.withSession(ctx, func(s *session) error {
				if !s.daemon {
					// As far as it opens without asking anybody.
					_, err := s.Drives.Unlock(ctx, &sheafv1.UnlockRequest{})
					if err != nil && explain(err).Code == sheafv1.Code_CODE_NEED_SECRET {
						if p, e := a.passphraseFromEnv(ctx); e == nil && p != nil {
							_, err = s.Drives.Unlock(ctx, &sheafv1.UnlockRequest{Passphrase: p})
						}
					}
					switch code := explainCode(err); code {
					case sheafv1.Code_CODE_UNSPECIFIED, sheafv1.Code_CODE_NEED_SECRET, sheafv1.Code_CODE_NO_DRIVE:
						if err != nil && code == sheafv1.Code_CODE_UNSPECIFIED {
							return err
						}
					default:
						return err
					}
				}
				st, err := s.Drives.Status(ctx, &sheafv1.StatusRequest{})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", st)
				}
				return a.printStatus(st)
			})
		},
	}
}

// explainCode is the kind of err; of nil CODE_UNSPECIFIED.
func explainCode(err error) sheafv1.Code {
	if err == nil {
		return sheafv1.Code_CODE_UNSPECIFIED
	}
	return explain(err).Code
}

func copiesText(st *sheafv1.StatusResponse) string {
	if len(st.GetReplicas()) == 0 {
		return "1: only on this device so far"
	}
	return fmt.Sprintf("%d, of %d places with this device", st.GetCopies(), len(st.GetReplicas())+1)
}

func (a *app) printStatus(st *sheafv1.StatusResponse) error {
	if a.quiet {
		return nil
	}
	daemon := "not running"
	if st.GetDaemon() {
		daemon = fmt.Sprintf("process %d, since %s", st.GetPid(), clock(st.GetSince()))
	}
	rows := [][]string{}
	switch st.GetState() {
	case sheafv1.DriveState_DRIVE_STATE_NONE:
		a.say("no drive here yet")
		a.next(false, "sheaf up")
		return nil
	case sheafv1.DriveState_DRIVE_STATE_LOCKED:
		rows = append(rows, []string{"drive", "closed: its passphrase or recovery words are needed"})
	default:
		opens := "a key on this device opens it"
		if st.GetPassphrase() {
			opens = "a passphrase opens it"
		}
		rows = append(rows,
			[]string{"drive", st.GetDrive() + ", " + opens},
			[]string{"device", st.GetDevice() + " (" + printable(st.GetDeviceName()) + ")"},
			[]string{"pending", a.size(st.GetPendingBytes()) + " in the journal, not in packs yet"},
			[]string{"copies", copiesText(st)})
		for _, r := range st.GetReplicas() {
			row := a.replicaRow(r)
			rows = append(rows, []string{"replica", fmt.Sprintf("%s: %s, lag %s", row[0], row[2], row[3])})
		}
	}
	for _, r := range st.GetRules() {
		rows = append(rows, []string{"rule", a.ruleLine(r)})
	}
	rows = append(rows, []string{"packs", st.GetStore()}, []string{"daemon", daemon})
	if st.GetJobs() > 0 {
		rows = append(rows, []string{"jobs", fmt.Sprintf("%d running", st.GetJobs())})
	}
	if err := a.table(rows); err != nil {
		return err
	}
	for _, m := range st.GetMounts() {
		if err := a.printMounts([]*sheafv1.Mount{m}); err != nil {
			return err
		}
	}
	if len(st.GetMounts()) == 0 {
		a.next(false, "sheaf mount %s", a.home.Mount)
	} else {
		a.next(false, "sheaf ls -l /")
	}
	return nil
}
