package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/sync/merge/ignore"
)

// maxIgnoreRead is how much of an ignore file, and of those that it includes, is read.
const maxIgnoreRead = 256 << 10

// ruleLine says in a line how a rule stands.
func (a *app) ruleLine(r *sheafv1.Rule) string {
	line := fmt.Sprintf("%s: %s", r.GetName(), word(r.GetState()))
	if r.GetStepsTotal() > 0 {
		line += fmt.Sprintf(", %d of %d steps", r.GetSteps(), r.GetStepsTotal())
	}
	if r.GetLastRun() != nil {
		line += ", last " + clock(r.GetLastRun())
	}
	if r.GetNextRun() != nil {
		line += ", next " + clock(r.GetNextRun())
	}
	if r.GetError() != "" {
		line += ": " + printable(a.name(r.GetError()))
	}
	if r.GetWaits() != "" {
		line += "; waits for " + printable(r.GetWaits())
	}
	return line
}

func (a *app) ignoreCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "ignore", Short: "What rules leave out: say why, and bring lines over from Syncthing",
		Long: `Rules leave out what files called ` + ignore.Name + ` say, in any folder of either place: lines as in a .gitignore, of which the last that
matches decides, "#include NAME" for the lines of another file, and "(?i)" before a pattern for all cases of its letters. What is left out is neither
copied nor removed, on neither side, and when the line goes nothing of it is lost.`,
		Args: cobra.NoArgs, RunE: needsVerb,
	}
	c.AddCommand(a.ignoreTestCmd(), a.ignoreImportCmd())
	return c
}

func (a *app) ignoreTestCmd() *cobra.Command {
	var rule string
	c := &cobra.Command{
		Use: "test PATH...", Short: "Say whether rules leave a path out, and which line decides that",
		Long: `Says whether rules leave a path out, and which line decides that. A PATH is of a folder of this machine, or sheaf:/path, or remote:path, at a
place of a rule; it need not be there. With a slash at its end it is a directory.`,
		Example: "  sheaf ignore test ~/Pictures/raw/1.tmp sheaf:/Pictures/cache/",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(s *session) error {
				for _, arg := range args {
					at, err := wirePlace(arg)
					if err != nil {
						return err
					}
					dir := strings.HasSuffix(arg, "/")
					resp, err := s.Rules.Ignored(cmd.Context(), &sheafv1.RulesIgnoredRequest{Place: at, Dir: dir, Rule: rule})
					if err != nil {
						return err
					}
					for _, v := range resp.GetVerdicts() {
						if a.json {
							if err := a.object("verdict", v); err != nil {
								return err
							}
							continue
						}
						a.say("%s", a.verdictLine(arg, v))
					}
				}
				return nil
			})
		},
	}
	c.Flags().StringVar(&rule, "rule", "", "only of the `rule` that is so called")
	return c
}

// verdictLine says what a rule says of a path.
func (a *app) verdictLine(arg string, v *sheafv1.RuleVerdict) string {
	said := "goes over"
	if v.GetIgnored() {
		said = "is left out"
	}
	by := "no line says anything of it"
	switch {
	case v.GetFrom() == "rule":
		by = fmt.Sprintf("line %d of the rule: %s", v.GetLine(), a.name(v.GetText()))
	case v.GetFrom() != "":
		by = fmt.Sprintf("%s:%d of the %s side: %s", a.name(v.GetFile()), v.GetLine(), v.GetFrom(), a.name(v.GetText()))
	}
	return fmt.Sprintf("%s: %s %s (%s)", v.GetRule(), printable(arg), said, by)
}

func (a *app) ignoreImportCmd() *cobra.Command {
	var dry bool
	c := &cobra.Command{
		Use: "import FILE", Short: "Write a .stignore of Syncthing anew, as a " + ignore.Name + " beside it",
		Long: `Writes a .stignore of Syncthing anew, as a ` + ignore.Name + ` beside it: there the first line that matches decides and here the last one, so the order turns
around. What it includes is put in its place. Lines that have no counterpart are named, and the exit code is 3.`,
		Example: "  sheaf ignore import ~/Sync/.stignore", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := stignore(args[0])
			if err != nil {
				return err
			}
			return a.withSession(cmd.Context(), func(s *session) error {
				resp, err := s.Rules.ConvertIgnore(cmd.Context(), q)
				if err != nil {
					return err
				}
				for _, l := range resp.GetLeft() {
					_, _ = fmt.Fprintf(a.err, "sheaf: has no counterpart: %s\n", printable(a.name(l)))
				}
				to := filepath.Join(filepath.Dir(args[0]), ignore.Name)
				switch {
				case a.json:
					err = a.object("", resp)
				case dry:
					_, err = io.WriteString(a.out, resp.GetText())
				}
				if err != nil {
					return err
				}
				if !dry {
					if err := writeNew(to, resp.GetText()); err != nil {
						return err
					}
					a.say("wrote %s", to)
					a.next(false, "sheaf ignore test %s/PATH", filepath.Dir(args[0]))
				}
				if n := len(resp.GetLeft()); n > 0 {
					return coded(sheafv1.Code_CODE_PARTIAL, "write them by hand, as in a .gitignore", "%d lines were left over", n)
				}
				return nil
			})
		},
	}
	c.Flags().BoolVarP(&dry, "dry-run", "n", false, "only print what would be written")
	return c
}

// stignore reads a .stignore, and what it includes.
func stignore(name string) (*sheafv1.RulesConvertIgnoreRequest, error) {
	q, includes, left := &sheafv1.RulesConvertIgnoreRequest{File: name}, map[string]string{}, int64(maxIgnoreRead)
	var err error
	if q.Text, err = readText(name, &left); err != nil {
		return nil, err
	}
	if err := readIncludes(filepath.Dir(name), q.GetText(), includes, &left); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(includes)) {
		q.Includes = append(q.Includes, &sheafv1.IgnoreInclude{Name: name, Text: includes[name]})
	}
	return q, nil
}

// readText reads a file of at most left bytes.
func readText(name string, left *int64) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, *left+1))
	if *left -= int64(len(b)); err == nil && *left < 0 {
		err = coded(sheafv1.Code_CODE_LIMIT, "", "%s and what it includes have more than %d bytes", name, maxIgnoreRead)
	}
	return string(b), err
}

// readIncludes reads what a text includes, and what that includes; names are from the folder of the first, as Syncthing has it.
func readIncludes(dir, text string, all map[string]string, left *int64) error {
	for sc := bufio.NewScanner(strings.NewReader(text)); sc.Scan(); {
		name, ok := strings.CutPrefix(strings.TrimSpace(sc.Text()), "#include")
		if name = strings.TrimSpace(name); !ok || name == "" {
			continue
		}
		if _, known := all[name]; known {
			continue
		}
		sub, err := readText(filepath.Join(dir, filepath.FromSlash(name)), left)
		if err != nil {
			return err
		}
		all[name] = sub
		if err := readIncludes(dir, sub, all, left); err != nil {
			return err
		}
	}
	return nil
}

// writeNew writes a file that is not there yet.
func writeNew(name, text string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return coded(sheafv1.Code_CODE_EXISTS, "move it away, or see the lines with -n", "%s is there already", name)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
