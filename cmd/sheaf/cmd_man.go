package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) manCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "man FOLDER",
		Short: "Write the manual pages into a folder",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			n := 0
			for name, page := range manPages(cmd.Root()) {
				if err := os.WriteFile(filepath.Join(args[0], name), []byte(page), 0o644); err != nil {
					return err
				}
				n++
			}
			if a.json {
				return a.record(manualRecord{"manual", args[0], n})
			}
			a.say("wrote %d pages", n)
			a.next(false, "man %s", filepath.Join(args[0], "sheaf.1"))
			return nil
		},
	}
}

// manPages returns one page for each command that people use, by its file name.
func manPages(root *cobra.Command) map[string]string {
	pages := map[string]string{}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Hidden || c.Name() == "help" {
			return
		}
		pages[strings.ReplaceAll(c.CommandPath(), " ", "-")+".1"] = manPage(c)
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	return pages
}

// manPage returns the page of one command, in the man macros of roff.
func manPage(c *cobra.Command) string {
	var b strings.Builder
	name := strings.ReplaceAll(c.CommandPath(), " ", "-")
	fmt.Fprintf(&b, ".TH %s 1 \"\" sheaf \"sheaf manual\"\n", roff(strings.ToUpper(name)))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(name), roff(c.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(c.UseLine()))
	if c.Long != "" {
		b.WriteString(".SH DESCRIPTION\n" + paragraphs(c.Long))
	}
	if c.Example != "" {
		b.WriteString(".SH EXAMPLES\n.nf\n" + roff(c.Example) + "\n.fi\n")
	}
	manFlags(&b, "OPTIONS", c.NonInheritedFlags())
	manFlags(&b, "OPTIONS OF ALL COMMANDS", c.InheritedFlags())
	if !c.HasParent() {
		b.WriteString(".SH ENVIRONMENT\n" + paragraphs(environmentHelp))
		b.WriteString(".SH EXIT STATUS\n.nf\n" + roff(exitHelp) + "\n.fi\n")
	}
	var also []string
	if c.HasParent() {
		also = append(also, strings.ReplaceAll(c.Parent().CommandPath(), " ", "-"))
	}
	for _, sub := range c.Commands() {
		if !sub.Hidden && sub.Name() != "help" {
			also = append(also, strings.ReplaceAll(sub.CommandPath(), " ", "-"))
		}
	}
	slices.Sort(also)
	if len(also) > 0 {
		b.WriteString(".SH SEE ALSO\n")
		for i, s := range also {
			end := ","
			if i == len(also)-1 {
				end = ""
			}
			fmt.Fprintf(&b, ".BR %s (1)%s\n", roff(s), end)
		}
	}
	return b.String()
}

func manFlags(b *strings.Builder, title string, flags *pflag.FlagSet) {
	first := true
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		if first {
			fmt.Fprintf(b, ".SH %s\n", title)
			first = false
		}
		arg, use := pflag.UnquoteUsage(f)
		text := "--" + f.Name
		if f.Shorthand != "" {
			text = "-" + f.Shorthand + ", " + text
		}
		if arg != "" {
			text += " " + arg
		}
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(text), roff(use))
	})
}

// paragraphs sets text in paragraphs; lines that begin with a blank are kept as they are.
func paragraphs(s string) string {
	var b strings.Builder
	for i, p := range strings.Split(s, "\n\n") {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		if strings.HasPrefix(p, " ") {
			b.WriteString(".nf\n" + roff(p) + "\n.fi\n")
			continue
		}
		b.WriteString(roff(p) + "\n")
	}
	return b.String()
}

// roff returns s so that roff prints it as it is.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

const environmentHelp = `Each option can be given as SHEAF_OPTION, as in SHEAF_JSON=true.

SHEAF_HOME is the one folder in which all of this device lies. SHEAF_CONFIG is its
configuration. SHEAF_STORE is the folder of the packs of a new drive.

SHEAF_PASSWORD, SHEAF_PASSWORD_FILE, SHEAF_PASSWORD_COMMAND and SHEAF_PASSWORD_FD answer for
every passphrase; SHEAF_NEW_PASSWORD and SHEAF_NEW_PASSWORD_FILE for the new one of
sheaf key passphrase. SHEAF_RECOVERY_FILE names a file with the 24 recovery words.

What can be set with sheaf config set has a variable each, which goes before it: SHEAF_LOG_LEVEL (debug,
info, warn or error), SHEAF_BANDWIDTH and so on. SHEAF_LOG_JSON makes the log JSON.`

const exitHelp = `0    done
1    error
2    wrong usage, or a secret is missing
3    finished, some items failed
4    not found
5    temporary, trying again may help
6    a decision is needed
8    a limit is reached
9    nothing to do (with --error-on-no-change)
10   there is no drive
11   another process has the drive open
12   wrong passphrase or recovery words
13   stored bytes are damaged
14   the daemon is not running
130  interrupted`
