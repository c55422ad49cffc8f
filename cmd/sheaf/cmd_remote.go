package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/service"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

func (a *app) remoteCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "remote", Short: "The places away from here that this device knows by name", Args: cobra.NoArgs, RunE: needsVerb,
		Long: `A remote is a place of some kind with a name: in nas:drive, nas is the remote and drive a path in it. Remotes belong to
this device, and not to the drive, and work before there is one. What it takes to reach them lies sealed in sheaf's own folder.

A variable SHEAF_REMOTE_<NAME>_<KEY> goes before the option of that name. So secrets need not stand in a command line: give them
by such a variable, by --from-file, or at a terminal, where those that are missing are asked for.`,
	}
	c.AddCommand(a.remoteAddCmd(), a.remoteListCmd(), a.remoteShowCmd(), a.remoteTestCmd(), a.remoteEditCmd(), a.remoteRmCmd(),
		a.remoteKindsCmd(), a.remoteAuthCmd(), a.remoteImportCmd())
	return c
}

// withRemotes runs f in a session in which the remotes can be read: the drive is opened only if they are closed with it.
func (a *app) withRemotes(ctx context.Context, f func(s *session) error) error {
	return a.withSession(ctx, func(s *session) error {
		_, err := s.Remotes.List(ctx, &sheafv1.RemotesListRequest{})
		if err != nil && explain(err).Code == sheafv1.Code_CODE_NEED_SECRET {
			err = a.unlock(ctx, s)
		}
		if err != nil {
			return err
		}
		return f(s)
	})
}

func (a *app) remoteAddCmd() *cobra.Command {
	var o optionFlags
	var noTest bool
	var path string
	c := &cobra.Command{
		Use:   "add NAME KIND [key=value ...]",
		Short: "Make a place known by a name, and test it",
		Long: `What KIND wants to know says "sheaf remote kinds KIND". The place is tested at once; if that fails it is not added.
Where one has to sign in with a browser, that is done at once at a terminal, and else by "sheaf remote auth NAME".`,
		Example: "  sheaf remote add nas sftp host=nas user=me\n  sheaf remote add cloud webdav url=https://cloud.example.org/dav user=me --from-file pass=secret.txt",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if err := remote.CheckName(args[0]); err != nil {
				return usagef("", "%w", err)
			}
			values, err := o.values(a, args[2:])
			if err != nil {
				return err
			}
			return a.withRemotes(ctx, func(s *session) error {
				k, err := kindNamed(ctx, s, args[1])
				if err != nil {
					return err
				}
				if values, err = a.complete(ctx, k, args[0], absRoot(k.GetName(), values)); err != nil {
					return err
				}
				r, err := s.Remotes.Add(ctx, &sheafv1.RemotesAddRequest{Name: args[0], Kind: k.GetName(), Options: values})
				if err != nil {
					return err
				}
				return a.added(ctx, s, k, r, path, noTest)
			})
		},
	}
	o.add(c)
	c.Flags().BoolVar(&noTest, "no-test", false, "do not sign in, and do not ask the place whether it works")
	c.Flags().StringVar(&path, "path", "", "the `path` in it that is tested, such as the name of a bucket")
	return c
}

// absRoot makes the folder of a remote that is one of this machine absolute.
func absRoot(kind string, values []*sheafv1.OptionValue) []*sheafv1.OptionValue {
	for _, v := range values {
		if kind == remote.Local && v.GetName() == "root" && v.GetValue() != "" {
			if full, err := filepath.Abs(v.GetValue()); err == nil {
				v.Value = full
			}
		}
	}
	return values
}

// added is what is done when a remote was added: sign in, and test it.
func (a *app) added(ctx context.Context, s *session, k *sheafv1.RemoteKind, r *sheafv1.Remote, path string, noTest bool) (err error) {
	name := r.GetName()
	signed := false
	if r.GetNeedsSignIn() && terminal(a.in) && !noTest {
		if r, err = a.signIn(ctx, s, name, sheafv1.StartSignInRequest_WAY_UNSPECIFIED, ""); err != nil {
			return fmt.Errorf("%s was added, and nobody has signed in: %w", name, err)
		}
		signed = true
	}
	if !noTest && !r.GetNeedsSignIn() {
		t, err := s.Remotes.Test(ctx, &sheafv1.RemotesTestRequest{At: name + ":" + path})
		if err == nil {
			err = failure(t)
		}
		if err != nil {
			if signed {
				return fmt.Errorf("%s was added, but does not work: %w", name, err)
			}
			switch e := explain(err); e.Code { // it is not there to be edited
			case sheafv1.Code_CODE_SIGN_IN:
				err = coded(e.Code, fmt.Sprintf("sheaf remote add %s %s … with the right secrets", name, k.GetName()), "%w", err)
			case sheafv1.Code_CODE_NOT_FOUND:
				err = coded(e.Code, fmt.Sprintf("give --path what is there, or add it with --no-test and then make it: sheaf remote test %s:%s --make", name, path), "%w", err)
			}
			_, undo := s.Remotes.Remove(context.WithoutCancel(ctx), &sheafv1.RemotesRemoveRequest{Name: name})
			return errors.Join(fmt.Errorf("%s was not added (--no-test adds it all the same): %w", name, err), undo)
		}
		a.sayTest(t)
	}
	if a.json {
		return a.object("", r)
	}
	a.say("%s is a remote of this device: %s", name, printable(k.GetTitle()))
	if r.GetNeedsSignIn() {
		a.next(false, "sheaf remote auth %s", name)
	} else {
		a.next(false, "sheaf replica add %s:drive", name)
	}
	return nil
}

// failure returns the error of a test.
func failure(t *sheafv1.RemotesTestResponse) error {
	if t.GetError() == "" {
		return nil
	}
	return &service.Error{Code: t.GetCode(), Hint: t.GetHint(), Err: errors.New(t.GetError())}
}

// sayTest says, for people, how a test went.
func (a *app) sayTest(t *sheafv1.RemotesTestResponse) {
	for _, x := range t.GetSteps() {
		how := "ok"
		if !x.GetOk() {
			how = "failed"
		}
		a.say("%-7s %-6s %v", x.GetName(), how, (time.Duration(x.GetMicros()) * time.Microsecond).Round(100*time.Microsecond))
	}
	if t.GetReadRate() > 0 {
		a.say("rate    write %s/s, read %s/s", a.size(t.GetWriteRate()), a.size(t.GetReadRate()))
	}
}

func (a *app) remoteTestCmd() *cobra.Command {
	var mk bool
	c := &cobra.Command{
		Use:   "test NAME | PLACE",
		Short: "Open, list, write, read and delete at a place, and say how fast that went",
		Long: `What is written is one blob of 1 MiB, "sheaf-test-…", and it is deleted again. Of a place whose root holds only buckets
name one: sheaf remote test s3:bucket. The exit code says why not: 4 not there, 5 does not answer, 7 sign in again or mend a key, 8 full.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			at := args[0]
			if !strings.ContainsAny(at, `:/\`) {
				at += ":"
			}
			at, err := placeArg(at)
			if err != nil {
				return err
			}
			return a.withRemotes(ctx, func(s *session) error {
				t, err := s.Remotes.Test(ctx, &sheafv1.RemotesTestRequest{At: at, Make: mk})
				if err != nil {
					return err
				}
				if a.json {
					if err := a.object("", t); err != nil {
						return err
					}
				}
				a.sayTest(t)
				return failure(t)
			})
		},
	}
	c.Flags().BoolVar(&mk, "make", false, "make the folder if it is not there")
	return c
}

func (a *app) remoteListCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the remotes of this device",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return a.withRemotes(ctx, func(s *session) error {
				r, err := s.Remotes.List(ctx, &sheafv1.RemotesListRequest{})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", r)
				}
				if len(r.GetRemotes()) == 0 {
					a.say("this device knows no remotes")
					a.next(false, "sheaf remote kinds")
					return nil
				}
				rows := [][]string{{"name", "kind", "state", "replicas"}}
				for _, x := range r.GetRemotes() {
					state := "set up"
					if x.GetNeedsSignIn() {
						state = "sign in"
					}
					rows = append(rows, []string{x.GetName() + ":", x.GetKind(), state, cmp.Or(strings.Join(x.GetReplicas(), ", "), "-")})
				}
				return a.table(rows)
			})
		},
	}
}

func (a *app) remoteShowCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show the options of a remote; of secrets, that they are set",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.withRemotes(ctx, func(s *session) error {
				r, err := s.Remotes.Get(ctx, &sheafv1.RemotesGetRequest{Name: strings.TrimSuffix(args[0], ":")})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", r)
				}
				return a.showRemote(r)
			})
		},
	}
}

func (a *app) showRemote(r *sheafv1.Remote) error {
	rows := [][]string{{"kind", r.GetKind()}}
	for _, o := range r.GetOptions() {
		v := printable(o.GetValue())
		if o.GetSecret() {
			v = "(set, not shown)"
		}
		if o.GetEnvironment() {
			v += "  from " + remote.Variable(r.GetName(), o.GetName())
		}
		rows = append(rows, []string{o.GetName(), v})
	}
	if len(r.GetReplicas()) > 0 {
		rows = append(rows, []string{"replicas", strings.Join(r.GetReplicas(), ", ")})
	}
	if err := a.table(rows); err != nil {
		return err
	}
	if r.GetNeedsSignIn() {
		a.next(false, "sheaf remote auth %s", r.GetName())
	}
	return nil
}

func (a *app) remoteEditCmd() *cobra.Command {
	var o optionFlags
	c := &cobra.Command{
		Use:   "edit NAME key=value ...",
		Short: "Change options of a remote; key= takes one away",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			values, err := o.values(a, args[1:])
			if err != nil {
				return err
			}
			if len(values) == 0 {
				return usagef("sheaf remote show "+args[0], "nothing to change: key=value is missing")
			}
			return a.withRemotes(ctx, func(s *session) error {
				r, err := s.Remotes.Get(ctx, &sheafv1.RemotesGetRequest{Name: args[0]})
				if err != nil {
					return err
				}
				values = absRoot(r.GetKind(), values)
				if r, err = s.Remotes.Edit(ctx, &sheafv1.RemotesEditRequest{Name: args[0], Options: values}); err != nil {
					return err
				}
				if a.json {
					return a.object("", r)
				}
				a.say("%s is changed", r.GetName())
				a.next(false, "sheaf remote test %s", r.GetName())
				return nil
			})
		},
	}
	o.add(c)
	return c
}

func (a *app) remoteRmCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME",
		Short: "Forget a remote; what lies there stays. Refused while a replica is there",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.withRemotes(ctx, func(s *session) error {
				resp, err := s.Remotes.Remove(ctx, &sheafv1.RemotesRemoveRequest{Name: args[0]})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", resp)
				}
				a.say("%s is forgotten; what lies there stays", args[0])
				return nil
			})
		},
	}
}

func (a *app) remoteKindsCmd() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "kinds [KIND]",
		Short: "List the kinds of remotes, or what one of them wants to know",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.withSession(ctx, func(s *session) error {
				r, err := s.Remotes.Kinds(ctx, &sheafv1.KindsRequest{Name: strings.Join(args, "")})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", r)
				}
				if len(args) == 1 {
					return a.showKind(r.GetKinds()[0], all)
				}
				var rows [][]string
				for _, k := range r.GetKinds() {
					rows = append(rows, []string{k.GetName(), printable(k.GetTitle())})
				}
				if err := a.table(rows); err != nil {
					return err
				}
				a.next(true, "sheaf remote kinds KIND")
				return nil
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "also what hardly anybody needs")
	return c
}

func (a *app) showKind(k *sheafv1.RemoteKind, all bool) error {
	var rows [][]string
	more := 0
	for _, o := range k.GetOptions() {
		if o.GetAdvanced() && !all && !o.GetRequired() {
			more++
			continue
		}
		var marks []string
		if o.GetRequired() && o.GetDefault() == "" {
			marks = append(marks, "needed")
		}
		if o.GetSecret() {
			marks = append(marks, "secret")
		}
		help, _, _ := strings.Cut(o.GetHelp(), "\n")
		if o.GetOnly() != "" {
			help += " [provider " + strings.Replace(o.GetOnly(), "!", "other than ", 1) + "]"
		}
		rows = append(rows, []string{o.GetName(), strings.Join(marks, ", "), printable(help)})
	}
	if err := a.table(rows); err != nil {
		return err
	}
	if k.GetSignIn() {
		a.say("one signs in with a browser: sheaf remote auth NAME")
	}
	if more > 0 {
		a.say("and %d more: --all", more)
	}
	a.next(true, "sheaf remote add NAME %s key=value ...", k.GetName())
	return nil
}
