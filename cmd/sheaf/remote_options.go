package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// optionFlags are those of commands that set options.
type optionFlags struct{ fromFile []string }

func (o *optionFlags) add(c *cobra.Command) {
	c.Flags().StringArrayVar(&o.fromFile, "from-file", nil, "`key=file`: take the value of an option from the first line of a file, or of standard input (key=-)")
}

// values reads key=value arguments and --from-file.
func (o *optionFlags) values(a *app, args []string) ([]*sheafv1.OptionValue, error) {
	var all []*sheafv1.OptionValue
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok || key == "" {
			return nil, usagef("", "%q is not of the form key=value", key)
		}
		all = append(all, &sheafv1.OptionValue{Name: key, Value: value})
	}
	for _, arg := range o.fromFile {
		key, name, ok := strings.Cut(arg, "=")
		if !ok || key == "" || name == "" {
			return nil, usagef("", "--from-file %q is not of the form key=file", arg)
		}
		var p []byte
		var err error
		if name == "-" {
			p, err = readSecret(a.in, "standard input")
		} else {
			p, err = secretFile(name)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, &sheafv1.OptionValue{Name: key, Value: string(p)})
	}
	return all, nil
}

// kindNamed returns one kind.
func kindNamed(ctx context.Context, s *session, name string) (*sheafv1.RemoteKind, error) {
	r, err := s.Remotes.Kinds(ctx, &sheafv1.KindsRequest{Name: name})
	if err != nil {
		return nil, err
	}
	return r.GetKinds()[0], nil
}

// optionFor reports whether an option is one for this value of "provider".
func optionFor(o *sheafv1.KindOption, provider string) bool {
	r := remote.Option{Only: o.GetOnly()}
	return r.For(provider)
}

// missing returns the options that a remote of a kind needs and that neither the values nor the environment have.
func (a *app) missing(k *sheafv1.RemoteKind, name string, values []*sheafv1.OptionValue) []*sheafv1.KindOption {
	has := func(key string) string {
		if v := a.getenv(remote.Variable(name, key)); v != "" {
			return v
		}
		for _, v := range values {
			if v.GetName() == key {
				return v.GetValue()
			}
		}
		return ""
	}
	var all []*sheafv1.KindOption
	for _, o := range k.GetOptions() {
		if o.GetRequired() && o.GetDefault() == "" && has(o.GetName()) == "" && optionFor(o, has("provider")) {
			all = append(all, o)
		}
	}
	return all
}

// complete asks for what is missing where a person can be asked, or says what it is.
func (a *app) complete(ctx context.Context, k *sheafv1.RemoteKind, name string, values []*sheafv1.OptionValue) ([]*sheafv1.OptionValue, error) {
	for {
		lack := a.missing(k, name, values)
		if len(lack) == 0 {
			return values, nil
		}
		if !terminal(a.in) {
			var keys []string
			for _, o := range lack {
				keys = append(keys, o.GetName())
			}
			return nil, usagef("sheaf remote kinds "+k.GetName(), "a %s needs %s", k.GetName(), strings.Join(keys, ", "))
		}
		v, err := a.askOption(ctx, lack[0], values)
		if err != nil {
			return nil, err
		}
		values = append(values, &sheafv1.OptionValue{Name: lack[0].GetName(), Value: v})
	}
}

// askOption asks for one option at the terminal.
func (a *app) askOption(ctx context.Context, o *sheafv1.KindOption, values []*sheafv1.OptionValue) (string, error) {
	provider := ""
	for _, v := range values {
		if v.GetName() == "provider" {
			provider = v.GetValue()
		}
	}
	help, _, _ := strings.Cut(o.GetHelp(), "\n")
	for _, e := range o.GetExamples() {
		if r := (remote.Example{Only: e.GetOnly()}); r.For(provider) {
			first, _, _ := strings.Cut(e.GetHelp(), "\n")
			_, _ = fmt.Fprintf(a.err, "  %s  %s\n", printable(e.GetValue()), printable(first))
		}
	}
	for {
		var v string
		if o.GetSecret() {
			p, err := a.ask(ctx, printable(o.GetName()+" ("+help+")"), false)
			if err != nil {
				return "", err
			}
			v = string(p)
		} else {
			_, _ = fmt.Fprintf(a.err, "%s: ", printable(o.GetName()+" ("+help+")"))
			var err error
			if v, err = a.line(ctx); err != nil {
				return "", err
			}
		}
		if v != "" {
			return v, nil
		}
		_, _ = fmt.Fprintln(a.err, "it is needed")
	}
}

// line reads one line of standard input, without blanks at its ends. The read itself cannot be broken off: when ctx is done it is left to the end of the process.
func (a *app) line(ctx context.Context) (string, error) {
	type line struct {
		text string
		err  error
	}
	read := make(chan line, 1)
	go func() {
		var b []byte
		one := make([]byte, 1) // what comes after it is for others
		for {
			n, err := a.in.Read(one)
			switch {
			case n == 1 && one[0] == '\n', err != nil && len(b) > 0:
				read <- line{string(b), nil}
				return
			case err != nil:
				read <- line{"", err}
				return
			case n == 1:
				b = append(b, one[0])
			}
			if len(b) > maxLine {
				read <- line{"", usagef("", "a line of more than %d bytes", maxLine)}
				return
			}
		}
	}()
	select {
	case l := <-read:
		if errors.Is(l.err, io.EOF) {
			l.err = usagef("", "nothing more came from standard input")
		}
		return strings.TrimSpace(l.text), l.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// maxLine is the longest line that is read of a person, in bytes.
const maxLine = 8192
