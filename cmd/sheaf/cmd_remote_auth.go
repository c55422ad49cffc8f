package main

import (
	"context"
	"os"
	"os/exec"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func (a *app) remoteAuthCmd() *cobra.Command {
	var paste, device bool
	var redirect string
	c := &cobra.Command{
		Use:   "auth NAME",
		Short: "Sign in to a remote with a browser, or again if it says so",
		Long: `The client is your own: register one with the provider, and set the options client_id and client_secret. A browser on this machine
comes back to it by itself. On a machine without one, --print-url prints the page to open anywhere and takes, from standard input, the address
that the browser ends at (it cannot show it, and needs not) or the code in it; --device does the same with a code that is typed at the page, where the provider has that.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			way := sheafv1.StartSignInRequest_WAY_UNSPECIFIED
			switch {
			case paste && device:
				return usagef("", "--print-url and --device are two ways")
			case paste:
				way = sheafv1.StartSignInRequest_WAY_PASTE
			case device:
				way = sheafv1.StartSignInRequest_WAY_DEVICE
			}
			return a.withRemotes(ctx, func(s *session) error {
				r, err := a.signIn(ctx, s, args[0], way, redirect)
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", r)
				}
				a.say("signed in to %s", r.GetName())
				a.next(false, "sheaf remote test %s", r.GetName())
				return nil
			})
		},
	}
	c.Flags().BoolVar(&paste, "print-url", false, "print the page, and read what the browser ends at")
	c.Flags().BoolVar(&device, "device", false, "print the page, and a code to type there")
	c.Flags().StringVar(&redirect, "redirect", "", "the `address` that the provider was told for this client, http://127.0.0.1:PORT/ (default: a free port)")
	return c
}

// signIn has a person sign in to a remote. What it says goes to standard error: the answer is the remote.
func (a *app) signIn(ctx context.Context, s *session, name string, way sheafv1.StartSignInRequest_Way, redirect string) (*sheafv1.Remote, error) {
	f, err := s.Remotes.StartSignIn(ctx, &sheafv1.StartSignInRequest{Name: name, Way: way, Redirect: redirect})
	if err != nil {
		return nil, err
	}
	a.tell("open this page and sign in:")
	a.tell("  %s", printable(f.GetUrl()))
	if f.GetCode() != "" {
		a.tell("and type there: %s", printable(f.GetCode()))
	}
	switch way {
	case sheafv1.StartSignInRequest_WAY_UNSPECIFIED:
		if terminal(a.err) {
			openPage(f.GetUrl())
		}
		a.tell("waiting for the browser to come back to this machine")
	case sheafv1.StartSignInRequest_WAY_PASTE:
		return a.carry(ctx, s, f)
	}
	return s.Remotes.FinishSignIn(ctx, &sheafv1.FinishSignInRequest{Id: f.GetId()})
}

// carry takes what the browser ended at from standard input. At a terminal it may be given again.
func (a *app) carry(ctx context.Context, s *session, f *sheafv1.StartSignInResponse) (*sheafv1.Remote, error) {
	for {
		a.tell("then paste here the address that the browser ends at, or the code in it:")
		pasted, err := a.line(ctx)
		if err != nil {
			return nil, err
		}
		r, err := s.Remotes.FinishSignIn(ctx, &sheafv1.FinishSignInRequest{Id: f.GetId(), Pasted: pasted})
		if err == nil || explain(err).Code != sheafv1.Code_CODE_USAGE || !terminal(a.in) {
			return r, err
		}
		a.tell("%s", printable(explain(err).Error()))
	}
}

// openPage shows a page in the browser of this machine, if it has one that can be told so.
func openPage(page string) {
	var cmd *exec.Cmd
	switch runtime.GOOS {
	case "darwin":
		cmd = exec.Command("open", page) //nolint:noctx // it outlives this command
	case "windows":
		cmd = exec.Command("rundll32", "url.dll,FileProtocolHandler", page) //nolint:noctx // the same
	default:
		if os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
			return
		}
		cmd = exec.Command("xdg-open", page) //nolint:noctx // the same
	}
	cmd.Env = cleanEnv(os.Environ())
	if cmd.Start() == nil {
		go func() { _ = cmd.Wait() }() // what became of it the person sees
	}
}
