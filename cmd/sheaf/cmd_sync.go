package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
)

func (a *app) syncCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "sync",
		Short: "Keep two places of plain files alike: folders, remotes, the drive",
		Long: `Rules keep two places of plain files alike. A daemon gives each its turns; where none runs, sheaf sync run gives one.

Nothing is lost: a file that is replaced or removed goes to .sheaf-history on its own side, for 30 days; where both sides changed
a file both contents stay; and a turn that would delete much is not begun before you say so.`,
		Args: cobra.NoArgs, RunE: needsVerb,
	}
	c.AddCommand(
		a.syncAddCmd(), a.syncListCmd(), a.syncRunCmd(), a.syncEditCmd(), a.syncPreviewCmd(), a.syncExplainCmd(), a.syncConflictsCmd(),
		a.syncRuleCmd("pause", "Give a rule no turns until it is resumed", "is paused", "sheaf sync resume NAME", func(ctx context.Context, s *session, rule string) (*sheafv1.Rule, error) {
			return s.Rules.Pause(ctx, &sheafv1.RulesPauseRequest{Rule: rule})
		}),
		a.syncRuleCmd("resume", "End a pause", "goes on", "sheaf sync list", func(ctx context.Context, s *session, rule string) (*sheafv1.Rule, error) {
			return s.Rules.Resume(ctx, &sheafv1.RulesResumeRequest{Rule: rule})
		}),
		a.syncRuleCmd("accept", "Take the places that are there now for those of the rule, as after a disk was changed", "takes the places as they are now: they meet as if for the first time", "sheaf sync run -n NAME",
			func(ctx context.Context, s *session, rule string) (*sheafv1.Rule, error) {
				return s.Rules.Accept(ctx, &sheafv1.RulesAcceptRequest{Rule: rule})
			}),
		a.syncRemoveCmd(),
	)
	return c
}

const syncAddHelp = `Makes a rule that keeps two places alike. The left place has to be there; the right one is made if it is not.

A place is name:path of a remote, :kind,option=value:path, a folder of this machine, or sheaf:/path for the drive.

Changes go both ways. With --copy what the left place has goes to the right one, and nothing is removed there; with --send
what the left place changes goes over, removals too, and what the right place has of its own stays; with --mirror the right
place becomes what the left one is.

--ignore takes lines as in a .gitignore, and so do files called .sheafignore in any folder of either place, which go over
like other files. What they leave out is neither copied nor removed; see sheaf ignore.

` + filterHelp

func (a *app) syncAddCmd() *cobra.Command {
	r := &sheafv1.RulesAddRequest{}
	var modes modeFlags
	var every time.Duration
	var x filterFlags
	var dry bool
	c := &cobra.Command{
		Use: "add [NAME] A B", Short: "Keep two places alike from now on", Long: syncAddHelp,
		Example: `  sheaf sync add photos ~/Pictures sheaf:/Pictures
  sheaf sync add s3:pics dav:pics --copy --every 1h --ignore '*.tmp'
  sheaf sync add phone ~/Pictures nas:pics --type image --max-size 100M -n`,
		Args: cobra.RangeArgs(2, 3),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if len(args) == 3 {
				if r.GetName() != "" {
					return usagef("", "the name is given twice")
				}
				r.Name, args = args[0], args[1:]
			}
			if r.Left, err = wirePlace(args[0]); err != nil {
				return err
			}
			if r.Right, err = wirePlace(args[1]); err != nil {
				return err
			}
			if r.Mode, err = modes.mode(); err != nil {
				return err
			}
			r.EveryMs = every.Milliseconds()
			r.Ignore, _ = x.lines()
			if r.Filter, _, err = x.filter(); err != nil {
				return err
			}
			if dry {
				return a.previewDraft(cmd, r)
			}
			return a.with(cmd.Context(), func(s *session) error {
				rule, err := s.Rules.Add(cmd.Context(), r)
				if err != nil {
					return err
				}
				if a.json {
					return a.object("rule", rule)
				}
				a.say("%s: %s", rule.GetName(), between(rule))
				a.tellFilter(rule)
				switch {
				case rule.GetPaused():
					a.next(false, "sheaf sync run -n %s", rule.GetName())
				case s.daemon:
					a.next(false, "sheaf sync list")
				default:
					a.say("no daemon runs: it has turns by itself as soon as one does")
					a.next(false, "sheaf sync run -n %s", rule.GetName())
				}
				return nil
			})
		},
	}
	f := c.Flags()
	f.StringVar(&r.Name, "name", "", "what the rule is `called` (default the last name of A)")
	f.DurationVar(&every, "every", 0, "the `time` between turns where a place does not tell of changes (default 5m)")
	f.BoolVarP(&dry, "dry-run", "n", false, "only say what would be left out and done, and make no rule")
	x.add(c)
	f.BoolVar(&r.Paused, "paused", false, "no turns before sheaf sync resume")
	modes.add(c)
	return c
}

// modeFlags are those of the way that changes go.
type modeFlags struct{ twoWay, copy, send, mirror bool }

func (m *modeFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&m.twoWay, "two-way", false, "changes go both ways, which is usual")
	f.BoolVar(&m.copy, "copy", false, "from A to B only, and nothing is removed in B")
	f.BoolVar(&m.send, "send", false, "from A to B only, removals too; what B has of its own stays")
	f.BoolVar(&m.mirror, "mirror", false, "from A to B only, and B becomes what A is")
}

func (m *modeFlags) mode() (sheafv1.RuleMode, error) {
	mode, n := sheafv1.RuleMode_RULE_MODE_UNSPECIFIED, 0
	for k, set := range map[sheafv1.RuleMode]bool{
		sheafv1.RuleMode_RULE_MODE_TWO_WAY: m.twoWay, sheafv1.RuleMode_RULE_MODE_COPY: m.copy, sheafv1.RuleMode_RULE_MODE_MIRROR: m.mirror,
		sheafv1.RuleMode_RULE_MODE_SEND: m.send,
	} {
		if set {
			mode, n = k, n+1
		}
	}
	if n > 1 {
		return mode, usagef("", "only one of --two-way, --copy, --send and --mirror")
	}
	return mode, nil
}

// between says what a rule is of.
func between(r *sheafv1.Rule) string {
	arrow := map[sheafv1.RuleMode]string{
		sheafv1.RuleMode_RULE_MODE_TWO_WAY: "<->", sheafv1.RuleMode_RULE_MODE_COPY: "->", sheafv1.RuleMode_RULE_MODE_MIRROR: "=>",
		sheafv1.RuleMode_RULE_MODE_SEND: "~>",
	}[r.GetMode()]
	return printable(r.GetLeft() + " " + arrow + " " + r.GetRight())
}

func (a *app) syncListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the rules, and how they stand", Args: cobra.NoArgs,
		Long: "Lists the rules, and how they stand. <-> is both ways, -> copies, ~> sends, and => mirrors.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(s *session) error {
				resp, err := s.Rules.List(cmd.Context(), &sheafv1.RulesListRequest{})
				if err != nil {
					return err
				}
				rows := [][]string{{"rule", "state", "last", "next", "alike", "steps", "conflicts", "places"}}
				var why []string
				for _, r := range resp.GetRules() {
					if a.json {
						if err := a.object("rule", r); err != nil {
							return err
						}
						continue
					}
					rows = append(rows, []string{
						r.GetName(), word(r.GetState()), clock(r.GetLastRun()), clock(r.GetNextRun()), count(r.GetAgreed()), count(r.GetSteps()), count(r.GetConflicts()), between(r),
					})
					if r.GetError() != "" {
						why = append(why, r.GetName()+": "+a.name(r.GetError()))
					}
					if r.GetWaits() != "" {
						why = append(why, r.GetName()+" waits for "+r.GetWaits())
					}
				}
				switch {
				case a.json, a.quiet:
					return nil
				case len(rows) == 1:
					a.say("no rules")
					a.next(true, "sheaf sync add A B")
					return nil
				}
				if err := a.table(rows); err != nil {
					return err
				}
				for _, w := range why {
					a.say("%s", printable(w))
				}
				a.next(true, "sheaf sync run -n NAME")
				return nil
			})
		},
	}
}

// ruleRun is a stream of steps, and of a summary at the end.
type ruleRun interface {
	Receive() bool
	Msg() *sheafv1.RulesRunResponse
	Err() error
	Close() error
}

var _ ruleRun = (*connect.ServerStreamForClient[sheafv1.RulesRunResponse])(nil)

func (a *app) syncRunCmd() *cobra.Command {
	var dry, background bool
	var allow int64
	c := &cobra.Command{
		Use: "run NAME", Short: "Give a rule a turn now, or say what it would do",
		Long: `Gives a rule a turn now, also one that is paused, and prints each step when it is done. With -n it prints the steps that a
turn would take now, and takes none.

Exit code 6 says that somebody has to decide: the turn would delete too much, a place is not the one that it was, or conflicts
wait. 3 says that some steps failed.`,
		Example: `  sheaf sync run -n photos
  sheaf sync run photos --allow-deletes 412`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if dry && cmd.Flags().Changed("allow-deletes") {
				return usagef("", "-n deletes nothing: --allow-deletes is for a turn")
			}
			if background {
				return a.runInBackground(ctx, args[0], allow, dry)
			}
			return a.with(ctx, func(s *session) error {
				var st ruleRun
				var err error
				if dry {
					st, err = s.Rules.Preview(ctx, &sheafv1.RulesPreviewRequest{Rule: args[0]})
				} else {
					st, err = s.Rules.Run(ctx, &sheafv1.RulesRunRequest{Rule: args[0], AllowDeletes: allow})
				}
				if err != nil {
					return err
				}
				defer func() { _ = st.Close() }()
				return a.tellRun(st, args[0], dry, false)
			})
		},
	}
	c.Flags().BoolVarP(&dry, "dry-run", "n", false, "only say what would be done")
	c.Flags().BoolVar(&background, "background", false, "have the daemon do it as a job, and do not wait")
	c.Flags().Int64Var(&allow, "allow-deletes", 0, "let this turn delete so many `files` on a side, if it has to")
	return c
}

// runInBackground gives a rule a turn as a job.
func (a *app) runInBackground(ctx context.Context, rule string, allow int64, dry bool) error {
	if dry {
		return usagef("", "only one of -n and --background")
	}
	s := a.dial(ctx)
	if s == nil {
		return errNoDaemon()
	}
	defer func() { _ = s.Close(ctx) }()
	j, err := s.Jobs.Start(ctx, &sheafv1.StartRequest{Work: &sheafv1.StartRequest_Rule{Rule: &sheafv1.RuleJob{Rule: rule, AllowDeletes: allow}}})
	if err != nil {
		return err
	}
	if a.json {
		return a.object("job", j)
	}
	a.say("job %s", j.GetId())
	a.next(false, "sheaf job watch %s", j.GetId())
	return nil
}

// tellRun prints what a turn does.
func (a *app) tellRun(st ruleRun, rule string, dry, all bool) error {
	var sum *sheafv1.RuleSummary
	for st.Receive() {
		m := st.Msg()
		switch {
		case m.GetSummary() != nil:
			sum = m.GetSummary()
		case m.GetFile() != nil:
			if err := a.tellFile(m.GetFile(), all); err != nil {
				return err
			}
		case a.json:
			if err := a.object("step", m.GetStep()); err != nil {
				return err
			}
		case m.GetStep().GetError() != "":
			_, _ = fmt.Fprintf(a.err, "sheaf: %s: %s\n", printable(a.name(m.GetStep().GetStep())), printable(a.name(m.GetStep().GetError())))
		default:
			a.say("%s", a.name(m.GetStep().GetStep()))
		}
	}
	if sum != nil {
		if err := a.tellSummary(sum, dry); err != nil {
			return err
		}
	}
	if err := st.Err(); err != nil {
		return err
	}
	if n := sum.GetConflictsWaiting(); n > 0 && !dry {
		return coded(sheafv1.Code_CODE_DECISION, "sheaf sync conflicts "+rule, "%d conflicts wait for somebody to choose; both contents are kept", n)
	}
	return nil
}

// tellSummary prints what came of a turn.
func (a *app) tellSummary(sum *sheafv1.RuleSummary, dry bool) error {
	if a.json {
		return a.object("summary", sum)
	}
	for _, p := range sum.GetProblems() {
		_, _ = fmt.Fprintf(a.err, "sheaf: cannot be made alike: %s, on the %s side: %s\n", printable(a.name(p.GetPath())), p.GetSide(), printable(a.name(p.GetWhy())))
	}
	for _, c := range sum.GetConflicts() {
		a.say("conflict: %s, and what the %s side had is now %s", a.name(c.GetPath()), c.GetSide(), a.name(c.GetCopy()))
	}
	line := fmt.Sprintf("%d steps, %s; %d were alike", sum.GetSteps(), a.size(sum.GetBytes()), sum.GetAgreed())
	if dry {
		line = fmt.Sprintf("would take %d steps; %d are alike", sum.GetSteps(), sum.GetAgreed())
	}
	if n := sum.GetFilesOut(); dry && n > 0 {
		line += fmt.Sprintf("; %d files are left out, and %d are not", n, sum.GetFilesIn())
	}
	if sum.GetFailed() > 0 {
		line += fmt.Sprintf("; %d failed", sum.GetFailed())
	}
	a.say("%s", line)
	return nil
}

// syncRuleCmd is a verb of one rule, for which NAME stands in next.
func (a *app) syncRuleCmd(verb, short, what, next string, do func(ctx context.Context, s *session, rule string) (*sheafv1.Rule, error)) *cobra.Command {
	return &cobra.Command{
		Use: verb + " NAME", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(s *session) error {
				r, err := do(cmd.Context(), s, args[0])
				if err != nil {
					return err
				}
				if a.json {
					return a.object("rule", r)
				}
				a.say("%s %s", r.GetName(), what)
				a.next(false, "%s", strings.ReplaceAll(next, "NAME", r.GetName()))
				return nil
			})
		},
	}
}

func (a *app) syncRemoveCmd() *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME", Short: "End a rule; what is at its places stays there", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(s *session) error {
				resp, err := s.Rules.Remove(cmd.Context(), &sheafv1.RulesRemoveRequest{Rule: args[0]})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", resp)
				}
				a.say("%s is no rule any more; all files stay where they are", args[0])
				return nil
			})
		},
	}
}

func (a *app) syncEditCmd() *cobra.Command {
	r := &sheafv1.RulesEditRequest{}
	var modes modeFlags
	var every time.Duration
	var all bool
	var x filterFlags
	c := &cobra.Command{
		Use: "edit NAME", Short: "Change a rule: its name, its mode, its time, what it leaves out", Args: cobra.ExactArgs(1),
		Long:    "Changes a rule. --ignore takes the place of all lines that there were, --type and --not-type of all types. The places of a rule never change: make\nanother one. sheaf sync preview with the same flags says what the rule would leave out then.\n\n" + filterHelp,
		Example: "  sheaf sync edit photos --every 1h --ignore '*.tmp' --ignore '/cache/'",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			f := cmd.Flags()
			r.Rule, r.EveryMs = args[0], every.Milliseconds()
			lines, set := x.lines()
			r.Ignore, r.SetIgnore = lines, set || all
			if r.Filter, r.SetTypes, err = x.filter(); err != nil {
				return err
			}
			if all && set {
				return usagef("", "only one of --ignore and --ignore-nothing")
			}
			if r.Mode, err = modes.mode(); err != nil {
				return err
			}
			if f.Changed("every") && r.GetEveryMs() <= 0 {
				return usagef("--every 5m", "the time between turns is from a second to a year")
			}
			return a.with(cmd.Context(), func(s *session) error {
				rule, err := s.Rules.Edit(cmd.Context(), r)
				if err != nil {
					return err
				}
				if a.json {
					return a.object("rule", rule)
				}
				a.say("%s: %s, every %s", rule.GetName(), between(rule), time.Duration(rule.GetEveryMs())*time.Millisecond)
				a.tellFilter(rule)
				a.next(false, "sheaf sync run -n %s", rule.GetName())
				return nil
			})
		},
	}
	f := c.Flags()
	f.StringVar(&r.Name, "name", "", "another `name`")
	f.DurationVar(&every, "every", 0, "the `time` between turns where a place does not tell of changes")
	x.add(c)
	f.BoolVar(&all, "ignore-nothing", false, "leave nothing out")
	modes.add(c)
	return c
}

func (a *app) syncExplainCmd() *cobra.Command {
	return &cobra.Command{
		Use: "explain NAME PATH", Short: "Say what a rule knows of a path, and what it did with it", Args: cobra.ExactArgs(2),
		Long: "Says what a rule knows of a path below its places, as of its last turn or sheaf sync run -n, and what it did with it.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(s *session) error {
				e, err := s.Rules.Explain(cmd.Context(), &sheafv1.RulesExplainRequest{Rule: args[0], Path: wirepath.Encode(args[1])})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", e)
				}
				on := "on neither side"
				switch {
				case e.GetLeft() && e.GetRight():
					on = "on both sides"
				case e.GetLeft():
					on = "on the left side only"
				case e.GetRight():
					on = "on the right side only"
				}
				a.say("it is %s", on)
				if e.GetAgreed() {
					a.say("both have agreed on it")
				}
				if e.GetIgnored() {
					a.say("it is left out: %s", printable(e.GetIgnoredBy()))
				}
				for i, why := range [...]string{e.GetLeftOutLeft(), e.GetLeftOutRight()} {
					if why != "" {
						a.say("the %s side's is left out, and stays as it is: %s", [...]string{"left", "right"}[i], why)
					}
				}
				if e.GetProblem() != "" {
					a.say("it cannot be made alike: %s", a.name(e.GetProblem()))
				}
				for _, d := range e.GetDecisions() {
					a.say("%s  %s  (%s)", clock(d.GetTime()), a.name(d.GetStep()), a.name(d.GetWhy()))
				}
				for _, n := range e.GetNext() {
					a.say("next turn: %s", a.name(n))
				}
				return nil
			})
		},
	}
}

func (a *app) syncConflictsCmd() *cobra.Command {
	var dismiss string
	c := &cobra.Command{
		Use: "conflicts NAME", Short: "List the files that both sides of a rule changed, and dismiss what is settled", Args: cobra.ExactArgs(1),
		Long: `Lists the contents that claimed one name. Both are kept, as files of their own: remove, rename or merge them as you like, and then
dismiss the conflict, which changes no file.`,
		Example: "  sheaf sync conflicts photos\n  sheaf sync conflicts photos --dismiss all",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.with(ctx, func(s *session) error {
				resp, err := s.Rules.Conflicts(ctx, &sheafv1.RulesConflictsRequest{Rule: args[0]})
				if err != nil {
					return err
				}
				if dismiss != "" {
					return a.dismiss(ctx, s, args[0], dismiss, resp.GetConflicts())
				}
				if a.json {
					for _, x := range resp.GetConflicts() {
						if err := a.object("conflict", x); err != nil {
							return err
						}
					}
					return nil
				}
				if len(resp.GetConflicts()) == 0 {
					a.say("no conflicts")
					return nil
				}
				rows := [][]string{{"time", "name", "the other content", "from", "id"}}
				for _, x := range resp.GetConflicts() {
					rows = append(rows, []string{clock(x.GetTime()), a.name(x.GetPath()), a.name(x.GetCopy()), x.GetSide(), a.name(x.GetId())})
				}
				if err := a.table(rows); err != nil {
					return err
				}
				a.next(true, "sheaf sync conflicts %s --dismiss ID", args[0])
				return nil
			})
		},
	}
	c.Flags().StringVar(&dismiss, "dismiss", "", "forget the conflict with this `ID`, or all")
	return c
}

// dismiss forgets one conflict of a rule, or all that are listed.
func (a *app) dismiss(ctx context.Context, s *session, rule, id string, all []*sheafv1.RuleConflict) error {
	ids := []string{wirepath.Encode(id)}
	if id == "all" {
		ids = nil
		for _, x := range all {
			ids = append(ids, x.GetId())
		}
	}
	for _, id := range ids {
		if _, err := s.Rules.Dismiss(ctx, &sheafv1.RulesDismissRequest{Rule: rule, Conflict: id}); err != nil {
			return err
		}
	}
	a.say("dismissed %d", len(ids))
	return nil
}
