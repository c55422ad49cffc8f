package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
)

// filterHelp says what filters do, for all commands that take one.
const filterHelp = `--max-size, --min-size, --max-age, --min-age, --type and --not-type leave files out, too. Such a file is not brought over, and it is neither
deleted nor replaced on either side, whatever becomes of the filter, the file or the clock: one that grows over the limit stays as it is on both sides.
An edit of the other side still goes over what both had agreed on.`

// filterFlags are those of what a rule leaves out.
type filterFlags struct {
	c                                *cobra.Command
	minSize, maxSize, minAge, maxAge string
	types, notTypes                  []string
	ignore, exclude                  []string
}

func (x *filterFlags) add(c *cobra.Command) {
	x.c = c
	f := c.Flags()
	f.StringArrayVar(&x.ignore, "ignore", nil, "a `line` as in a .gitignore, of what is left out; may be given again")
	f.StringArrayVar(&x.exclude, "exclude", nil, "the same as --ignore, for those who are used to that: a `line`")
	f.StringVar(&x.maxSize, "max-size", "", "leave out what has more bytes than `size`: 100M, or off")
	f.StringVar(&x.minSize, "min-size", "", "leave out what has fewer bytes than `size`: 1k, or off")
	f.StringVar(&x.maxAge, "max-age", "", "leave out what was last changed longer ago than `time`: 30d, or off")
	f.StringVar(&x.minAge, "min-age", "", "leave out what was changed in the last `time`: 10m, or off")
	f.StringArrayVar(&x.types, "type", nil, "only files of this `type`: archive, audio, document, image, video, or an end as .raw; off for all; may be given again")
	f.StringArrayVar(&x.notTypes, "not-type", nil, "no files of this `type`; may be given again")
}

// lines returns the lines of --ignore and --exclude, and whether there are any.
func (x *filterFlags) lines() ([]string, bool) {
	f := x.c.Flags()
	return append(x.ignore, x.exclude...), f.Changed("ignore") || f.Changed("exclude")
}

// filter returns what the flags say, nil if nothing, and whether they say anything of types.
func (x *filterFlags) filter() (m *sheafv1.RuleFilter, setTypes bool, err error) {
	m = &sheafv1.RuleFilter{}
	said := false
	for _, y := range [...]struct {
		flag, text string
		to         **int64
		read       func(string) (int64, error)
	}{
		{"min-size", x.minSize, &m.MinSize, parseSize},
		{"max-size", x.maxSize, &m.MaxSize, parseSize},
		{"min-age", x.minAge, &m.MinAgeMs, parseAge},
		{"max-age", x.maxAge, &m.MaxAgeMs, parseAge},
	} {
		if !x.c.Flags().Changed(y.flag) {
			continue
		}
		var n int64
		if y.text != "off" {
			if n, err = y.read(y.text); err == nil && n <= 0 {
				err = fmt.Errorf("%q is nothing", y.text)
			}
			if err != nil {
				return nil, false, usagef("--max-size 100M, --max-age 30d, or off", "--%s: %w", y.flag, err)
			}
		}
		*y.to, said = &n, true
	}
	setTypes = x.c.Flags().Changed("type") || x.c.Flags().Changed("not-type")
	if setTypes {
		said = true
		if len(x.types) != 1 || x.types[0] != "off" {
			m.Types = x.types
		}
		m.NotTypes = x.notTypes
	}
	if !said {
		return nil, false, nil
	}
	return m, setTypes, nil
}

// parseAge reads how long ago something is, in milliseconds: 30d, 1h30m, 2w.
func parseAge(s string) (int64, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return d.Milliseconds(), nil
	}
	now := time.Now()
	t, ok := parseTime(s, now)
	if !ok || strings.ContainsAny(s, "-:") {
		return 0, fmt.Errorf("age %q", s)
	}
	return now.Sub(t).Milliseconds(), nil
}

// filterText says what a rule leaves out; "" if nothing.
func (a *app) filterText(r *sheafv1.Rule) string {
	f := r.GetFilter()
	var all []string
	add := func(n int64, format string, arg any) {
		if n > 0 {
			all = append(all, fmt.Sprintf(format, arg))
		}
	}
	age := func(ms int64) string {
		if d := time.Duration(ms) * time.Millisecond; d%(24*time.Hour) == 0 {
			return fmt.Sprintf("%d days", d/(24*time.Hour))
		}
		return (time.Duration(ms) * time.Millisecond).String()
	}
	add(f.GetMinSize(), "less than %s", a.size(f.GetMinSize()))
	add(f.GetMaxSize(), "more than %s", a.size(f.GetMaxSize()))
	add(f.GetMinAgeMs(), "changed in the last %s", age(f.GetMinAgeMs()))
	add(f.GetMaxAgeMs(), "unchanged for %s", age(f.GetMaxAgeMs()))
	add(int64(len(f.GetTypes())), "not of type %s", strings.Join(f.GetTypes(), ", "))
	add(int64(len(f.GetNotTypes())), "of type %s", strings.Join(f.GetNotTypes(), ", "))
	add(int64(len(r.GetIgnore())), "%d lines of ignore", len(r.GetIgnore()))
	return printable(strings.Join(all, "; "))
}

// tellFilter prints what a rule leaves out.
func (a *app) tellFilter(r *sheafv1.Rule) {
	if text := a.filterText(r); text != "" {
		a.say("left out: %s", text)
	}
}

func (a *app) syncPreviewCmd() *cobra.Command {
	q := &sheafv1.RulesPreviewRequest{}
	var x filterFlags
	var all bool
	c := &cobra.Command{
		Use: "preview NAME", Short: "Say which files a rule leaves out and what its next turn would do, also with another filter", Args: cobra.ExactArgs(1),
		Long: `Looks at both places, and says which files are left out, how many are not, and which steps a turn would take. With flags it says that of the rule
as sheaf sync edit would make it with the same flags, and changes nothing.

` + filterHelp,
		Example: "  sheaf sync preview photos --max-size 100M\n  sheaf sync preview photos --all",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			q.Rule, q.Files = args[0], true
			q.Ignore, q.SetIgnore = x.lines()
			if q.Filter, q.SetTypes, err = x.filter(); err != nil {
				return err
			}
			return a.with(cmd.Context(), func(s *session) error {
				st, err := s.Rules.Preview(cmd.Context(), q)
				if err != nil {
					return err
				}
				defer func() { _ = st.Close() }()
				return a.tellRun(st, args[0], true, all)
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "list the files that are not left out, too")
	x.add(c)
	return c
}

// tellFile prints a file of a preview.
func (a *app) tellFile(f *sheafv1.RuleFile, all bool) error {
	switch {
	case a.json:
		return a.object("file", f)
	case f.GetLeftOut() != "":
		a.say("out  %s: %s", a.name(f.GetPath()), f.GetLeftOut())
	case all:
		a.say("in   %s", a.name(f.GetPath()))
	}
	return nil
}

// previewDraft says what a rule would do that is not made.
func (a *app) previewDraft(cmd *cobra.Command, r *sheafv1.RulesAddRequest) error {
	return a.with(cmd.Context(), func(s *session) error {
		st, err := s.Rules.Preview(cmd.Context(), &sheafv1.RulesPreviewRequest{Draft: r, Files: true})
		if err != nil {
			return err
		}
		defer func() { _ = st.Close() }()
		return a.tellRun(st, wirepath.Encode(r.GetName()), true, false)
	})
}
