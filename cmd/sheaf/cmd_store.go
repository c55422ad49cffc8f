package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func (a *app) storeCmd() *cobra.Command {
	c := &cobra.Command{Use: "store", Short: "Where the packs lie, and their upkeep", Args: cobra.NoArgs, RunE: needsVerb}
	c.AddCommand(a.storePathCmd(), a.storeStatsCmd(), a.storeVerifyCmd(), a.storeGCCmd(), a.storeEvictCmd())
	return c
}

func (a *app) storePathCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "path",
		Short: "Print the folder of the packs",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return a.object("", &sheafv1.StatsResponse{Path: a.storeDir()})
			}
			_, err := fmt.Fprintln(a.out, a.storeDir())
			return err
		},
	}
}

func (a *app) storeStatsCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "stats",
		Short: "Say what the store holds",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return a.with(ctx, func(s *session) error {
				st, err := s.Store.Stats(ctx, &sheafv1.StatsRequest{})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", st)
				}
				if a.quiet {
					return nil
				}
				err = a.table([][]string{
					{"folder", st.GetPath()},
					{"packs", fmt.Sprintf("%d, %s", st.GetPacks(), a.size(st.GetPackBytes()))},
					{"chunks", fmt.Sprintf("%d, %s sealed, %s plain", st.GetChunks(), a.size(st.GetChunkBytes()), a.size(st.GetPlainBytes()))},
					{"journal", a.size(st.GetJournalBytes())},
					{"snapshots", count(st.GetSnapshots())},
				})
				if err != nil {
					return err
				}
				a.next(true, "sheaf store verify")
				return nil
			})
		},
	}
}

func (a *app) storeVerifyCmd() *cobra.Command {
	var f jobFlags
	c := &cobra.Command{
		Use:   "verify",
		Short: "Read and check all that the store holds: exit 0 if it is whole, 13 if it is damaged",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return a.with(ctx, func(s *session) error {
				j, err := a.upkeep(ctx, s, &sheafv1.StartRequest{Work: &sheafv1.StartRequest_Verify{Verify: &sheafv1.VerifyJob{}}}, f.progress)
				if j == nil || a.json {
					return err
				}
				v := j.GetVerify()
				for _, x := range v.GetFindings() {
					what := x.GetBlob()
					if x.GetPath() != "" {
						what += " /" + x.GetPath()
					}
					_, _ = fmt.Fprintf(a.err, "damaged: %s: %s\n", printable(what), printable(x.GetReason()))
				}
				a.say("checked %d packs, %d chunks, %s: %d damaged", v.GetPacks(), v.GetChunks(), a.size(v.GetBytes()), len(v.GetFindings()))
				return err
			})
		},
	}
	c.Flags().BoolVarP(&f.progress, "progress", "P", false, "show progress, also where no terminal is")
	return c
}

func (a *app) storeGCCmd() *cobra.Command {
	var f jobFlags
	var grace time.Duration
	c := &cobra.Command{
		Use:   "gc",
		Short: "Free what nothing reaches, while the drive is in use",
		Long: `Frees chunks that neither the drive nor any kept snapshot reaches.

A drive that only this device uses is done at once, but its replicas have to be reachable. Where there
are other devices, each run goes as far as it can: what nothing has reached for the days of grace is
announced to the others; when all of them have answered, which they do by themselves while they are
running, a later run frees it. A device that does not come back keeps all announced from going until
it is revoked ("sheaf device revoke").`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return a.with(ctx, func(s *session) error {
				j, err := a.upkeep(ctx, s, &sheafv1.StartRequest{Work: &sheafv1.StartRequest_Gc{Gc: &sheafv1.GCJob{GraceSeconds: graceSeconds(grace)}}}, f.progress)
				if err != nil || a.json {
					return err
				}
				g := j.GetGc()
				a.say("freed %s in %d packs; %s are live, %s are dead and stay for now (%d chunks wait for the next run)",
					a.size(g.GetFreedBytes()), g.GetPacks(), a.size(g.GetLiveBytes()), a.size(g.GetKeptBytes()), g.GetCondemned())
				if n := g.GetAnnounced(); n > 0 {
					a.say("%d packs go once the other devices have agreed", n)
				}
				if w := g.GetWaits(); len(w) > 0 {
					a.say("what was announced waits for %s", printable(strings.Join(w, ", ")))
				}
				a.next(false, "sheaf store stats")
				return nil
			})
		},
	}
	c.Flags().DurationVar(&grace, "grace", sheaf.DefaultGrace, "how long something stays that nothing reaches, where there are other devices")
	c.Flags().BoolVarP(&f.progress, "progress", "P", false, "show progress, also where no terminal is")
	return c
}

// graceSeconds says it as GCJob has it, where 0 is the default.
func graceSeconds(grace time.Duration) int64 {
	if grace <= 0 {
		return -1
	}
	return int64(max(grace, time.Second) / time.Second)
}
