package main

import (
	"context"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/sheaf-drive/sheaf/cmd/sheaf/home"
	"github.com/sheaf-drive/sheaf/cmd/sheaf/settings"
)

// An app is one run of the command: what it was given, and what all verbs share.
type app struct {
	in     io.Reader
	out    io.Writer
	err    io.Writer
	getenv func(string) string

	homeDir string // --home
	api     string // --api
	cache   string // --cache-size
	json    bool
	quiet   bool
	si      bool
	wait    time.Duration // for another process that has the drive open
	served  bool          // this process was a daemon, which ends by a signal
	began   bool          // the verb was found and its arguments are right
	looked  sync.Once     // whether out is a terminal,
	shown   bool          // and it is

	home     home.Home
	joinFrom string // init --from
	secrets  secrets
}

// command runs one command line and returns its exit code.
func command(ctx context.Context, a *app, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	err := root.ExecuteContext(ctx)
	if err != nil && !a.began { // the command line itself is wrong
		a.json = a.json || jsonAsked(args)
		err = usagef("sheaf help", "%w", err)
	}
	return a.fail(ctx, err)
}

// jsonAsked looks for --json where the command line could not be parsed.
func jsonAsked(args []string) bool {
	for _, arg := range args {
		if arg == "--json" || arg == "--json=true" {
			return true
		}
	}
	return false
}

// root returns the tree of commands.
func (a *app) root() *cobra.Command {
	c := &cobra.Command{
		Use:           "sheaf",
		Short:         "An encrypted, deduplicated drive that you can mount",
		Long:          rootHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.flagsFromEnv(cmd.Flags()); err != nil {
				return err
			}
			if a.cache != "" {
				if err := settings.Find(settings.CacheSize).Check(a.cache); err != nil {
					return usagef("--cache-size 2GiB", "%w", err)
				}
			}
			if err := checkEnvironment(a.getenv); err != nil {
				return err
			}
			a.began = true
			h, err := home.Find(a.homeDir, a.getenv)
			a.home = h
			return err
		},
	}
	c.CompletionOptions.HiddenDefaultCmd = false
	f := c.PersistentFlags()
	f.StringVar(&a.homeDir, "home", "", "the one `folder` in which all of this device lies (SHEAF_HOME)")
	f.BoolVar(&a.json, "json", false, "print JSON: one object, or one a line with its \"kind\"")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "print nothing that was not asked for")
	f.DurationVar(&a.wait, "lock-wait", 10*time.Second, "how `long` to wait for another sheaf command that has the drive open")
	f.StringVar(&a.cache, "cache-size", "", "how `much` of what is at replicas is kept on this device, beside what is pinned: at least 64MiB (default 1GiB)")
	f.BoolVar(&a.si, "si", false, "sizes in kB and MB and not in KiB and MiB")
	c.AddCommand(
		a.upCmd(), a.initCmd(), a.inviteCmd(), a.joinCmd(), a.mountCmd(), a.umountCmd(), a.serveCmd(), a.appPasswordCmd(), a.stopCmd(), a.statusCmd(), a.waitCmd(), a.doctorCmd(),
		a.lsCmd(), a.catCmd(), a.cpCmd(), a.mvCmd(), a.rmCmd(), a.mkdirCmd(), a.duCmd(), a.checkCmd(), a.historyCmd(), a.restoreCmd(),
		a.snapshotCmd(), a.storeCmd(), a.remoteCmd(), a.syncCmd(), a.ignoreCmd(), a.folderCmd(), a.replicaCmd(), a.pinCmd(), a.unpinCmd(), a.conflictCmd(), a.deviceCmd(), a.tokenCmd(), a.eventsCmd(), a.apiCmd(), a.keyCmd(), a.jobCmd(), a.serverCmd(), a.serviceCmd(), a.configCmd(), a.versionCmd(), a.manCmd(), a.daemonCmd(),
	)
	return c
}

const rootHelp = `sheaf keeps files in a drive: encrypted, each byte stored once, with its history.

The drive can be mounted as a folder, and every command works without that too.
A path of the drive is written sheaf:/path; where only the drive can be meant,
/path does as well, and so does a path below a folder where the drive is mounted.`

// flagsFromEnv sets each flag that was not given from SHEAF_<FLAG>.
func (a *app) flagsFromEnv(flags *pflag.FlagSet) (err error) {
	flags.VisitAll(func(f *pflag.Flag) {
		if err != nil || f.Changed || f.Name == "help" {
			return
		}
		name := "SHEAF_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if v := a.getenv(name); v != "" {
			if e := flags.Set(f.Name, v); e != nil {
				err = usagef("", "%s: %w", name, e)
			}
		}
	})
	return err
}

// terminal reports whether w is one that a person looks at.
func terminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
