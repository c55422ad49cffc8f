package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/service"
)

func (a *app) replicaCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "replica", Short: "The places that the drive is copied to, sealed, and where its devices meet", Args: cobra.NoArgs, RunE: needsVerb,
	}
	c.AddCommand(a.replicaAddCmd(), a.replicaListCmd(), a.replicaRmCmd(), a.replicaSyncCmd(), a.replicaCopyCmd(), a.replicaVerifyCmd(), a.replicaHealCmd())
	return c
}

// placeArg makes a folder of this machine absolute: the daemon has another working directory.
func placeArg(at string) (string, error) {
	p, err := service.ParsePlace(at)
	if err != nil {
		return "", usagef("write nas:path, \":kind,option=value:path\", or a folder (./x:y if a name has a colon)", "%w", err)
	}
	if p.Local {
		return filepath.Abs(p.Path)
	}
	return at, nil
}

func (a *app) replicaAddCmd() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:   "add PLACE",
		Short: "Keep a copy of the drive at a remote (nas:drive) or in a folder, from now on",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			at, err := placeArg(args[0])
			if err != nil {
				return err
			}
			return a.with(ctx, func(s *session) error {
				r, err := s.Replicas.Add(ctx, &sheafv1.ReplicasAddRequest{At: at, Name: name})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", r)
				}
				a.say("%s is a replica at %s: what is written goes there from now on, sealed", r.GetName(), r.GetAt())
				a.next(false, "sheaf wait --copies 2")
				return nil
			})
		},
	}
	c.Flags().StringVar(&name, "name", "", "what to call it (default: the remote's name, or the folder's)")
	return c
}

func (a *app) replicaListCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Say how the replicas stand",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return a.with(ctx, func(s *session) error {
				r, err := s.Replicas.List(ctx, &sheafv1.ReplicasListRequest{})
				if err != nil {
					return err
				}
				return a.printReplicas(r)
			})
		},
	}
}

func (a *app) replicaSyncCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "sync",
		Short: "Push to and look at all replicas now: exit 3 if one failed",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return a.with(ctx, func(s *session) error {
				r, err := s.Replicas.Sync(ctx, &sheafv1.ReplicasSyncRequest{})
				if err != nil {
					return err
				}
				if err := a.printReplicas(r); err != nil {
					return err
				}
				failed := 0
				for _, x := range r.GetReplicas() {
					if x.GetError() != "" {
						failed++
					}
				}
				if failed > 0 {
					return coded(sheafv1.Code_CODE_PARTIAL, "sheaf replica list", "%d of %d replicas failed", failed, len(r.GetReplicas()))
				}
				return nil
			})
		},
	}
}

func (a *app) printReplicas(r *sheafv1.ReplicasListResponse) error {
	if a.json {
		return a.object("", r)
	}
	if a.quiet {
		return nil
	}
	if len(r.GetReplicas()) == 0 {
		a.say("no replicas: the drive is only on this device")
		a.next(false, "sheaf replica add PLACE")
		return nil
	}
	rows := [][]string{{"name", "place", "state", "lag", "packs", "pushed"}}
	for _, x := range r.GetReplicas() {
		rows = append(rows, a.replicaRow(x))
	}
	if err := a.table(rows); err != nil {
		return err
	}
	for _, x := range r.GetReplicas() {
		if x.GetError() != "" {
			a.say("%s: %s", x.GetName(), printable(x.GetError()))
			if x.GetHint() != "" {
				a.say("  %s", x.GetHint())
			}
		}
	}
	return nil
}

func (a *app) replicaRow(x *sheafv1.Replica) []string {
	state, lag := "in order", "none"
	switch {
	case x.GetBusy():
		state = "at work"
		if x.GetTurnTotal() > 0 {
			state = fmt.Sprintf("at work, %d %%", x.GetTurnBytes()*100/x.GetTurnTotal())
		}
	case x.GetError() != "" && strings.HasPrefix(x.GetAt(), "device "):
		state = "away"
		if x.GetFetched() != nil {
			state = "away, last seen " + clock(x.GetFetched())
		}
	case x.GetError() != "":
		state = "failed"
	case !x.GetKnown():
		state = "not looked at yet"
	}
	switch {
	case !x.GetKnown():
		lag = "not known"
	case x.GetLagBlobs() > 0:
		lag = fmt.Sprintf("%d blobs, %s", x.GetLagBlobs(), a.size(x.GetLagBytes()))
	}
	pushed := "never"
	if x.GetPushed() != nil {
		pushed = clock(x.GetPushed())
	}
	return []string{x.GetName(), printable(x.GetAt()), state, lag, fmt.Sprintf("%d, %s", x.GetPacks(), a.size(x.GetBytes())), pushed}
}

func (a *app) replicaRmCmd() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "rm NAME",
		Short: "Do not copy to a replica any more; what lies there stays",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.with(ctx, func(s *session) error {
				resp, err := s.Replicas.Remove(ctx, &sheafv1.ReplicasRemoveRequest{Name: args[0], Force: force})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", resp)
				}
				a.say("%s is no replica any more; what lies there stays", args[0])
				return nil
			})
		},
	}
	c.Flags().BoolVar(&force, "force", false, "also if something of the drive is there only")
	return c
}

func (a *app) replicaCopyCmd() *cobra.Command {
	var f jobFlags
	c := &cobra.Command{
		Use:   "copy FROM TO",
		Short: "Copy a drive from one place to another, without its keys",
		Long: `Brings all that lies at FROM and not at TO there, sealed as it is: packs, index, then heads, so
that TO is a whole drive at each moment. Needs no passphrase and no drive on this device.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			from, err := placeArg(args[0])
			if err != nil {
				return err
			}
			to, err := placeArg(args[1])
			if err != nil {
				return err
			}
			return a.withSession(ctx, func(s *session) error {
				return a.replicaJob(cmd, s, "copied", &sheafv1.StartRequest{Work: &sheafv1.StartRequest_ReplicaCopy{
					ReplicaCopy: &sheafv1.ReplicaCopyJob{From: from, To: to},
				}}, f.progress)
			})
		},
	}
	c.Flags().BoolVarP(&f.progress, "progress", "P", false, "show progress, also where no terminal is")
	return c
}

func (a *app) replicaVerifyCmd() *cobra.Command {
	var f jobFlags
	var sample int64
	c := &cobra.Command{
		Use:   "verify [NAME]",
		Short: "Read packs at a replica, or of this device, and check them: exit 13 if one is damaged",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.with(ctx, func(s *session) error {
				return a.replicaJob(cmd, s, "checked", &sheafv1.StartRequest{Work: &sheafv1.StartRequest_ReplicaVerify{
					ReplicaVerify: &sheafv1.ReplicaVerifyJob{Name: strings.Join(args, ""), Sample: sample},
				}}, f.progress)
			})
		},
	}
	c.Flags().BoolVarP(&f.progress, "progress", "P", false, "show progress, also where no terminal is")
	c.Flags().Int64Var(&sample, "sample", 0, "how many packs, drawn at random; 0: all")
	return c
}

func (a *app) replicaHealCmd() *cobra.Command {
	var f jobFlags
	c := &cobra.Command{
		Use:   "heal [NAME]",
		Short: "Replace what is damaged or missing at a replica, or on this device, from any other place that has it",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.with(ctx, func(s *session) error {
				return a.replicaJob(cmd, s, "healed", &sheafv1.StartRequest{Work: &sheafv1.StartRequest_ReplicaHeal{
					ReplicaHeal: &sheafv1.ReplicaHealJob{Name: strings.Join(args, "")},
				}}, f.progress)
			})
		},
	}
	c.Flags().BoolVarP(&f.progress, "progress", "P", false, "show progress, also where no terminal is")
	return c
}

// replicaJob runs a job on a replica and says what it did.
func (a *app) replicaJob(cmd *cobra.Command, s *session, did string, r *sheafv1.StartRequest, progress bool) error {
	j, err := a.upkeep(cmd.Context(), s, r, progress)
	if j == nil || a.json {
		return err
	}
	res := j.GetReplica()
	for _, x := range res.GetFindings() {
		_, _ = fmt.Fprintf(a.err, "%s: %s\n", x.GetBlob(), printable(x.GetReason()))
	}
	if res != nil {
		what := ""
		switch n, m := res.GetDamaged(), res.GetMissing(); {
		case n+m == 0:
		case did == "healed":
			what = fmt.Sprintf("; %d were damaged and %d missing", n, m)
		default:
			what = fmt.Sprintf("; %d more are damaged and %d are missing", n, m)
		}
		a.say("%s %d packs and %d other blobs, %s%s", did, res.GetPacks(), res.GetBlobs(), a.size(res.GetBytes()), what)
	}
	return err
}
