package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/sync/trust/pgp"
)

// keyring are the verbs of OpenPGP keys.
func (a *app) keyring() []*cobra.Command {
	return []*cobra.Command{
		a.keyListCmd(), a.keyNewCmd(), a.keyImportCmd(), a.keyExportCmd(), a.keyFindCmd(), a.keyVerifyCmd(), a.keyTrustCmd(), a.keyCertifyCmd(), a.keyRevokeCmd(), a.keyForgetCmd(),
	}
}

func (a *app) keyListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list [KEY|NAME]", Short: "List the OpenPGP keys that are known here, and how valid each is", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.with(ctx, func(s *session) error {
				resp, err := s.Identities.ListKeys(ctx, &sheafv1.ListKeysRequest{Find: strings.Join(args, "")})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", resp)
				}
				if a.quiet {
					return nil
				}
				if n := resp.GetUnread(); n > 0 {
					a.tell("%d more are kept that this version does not read", n)
				}
				return a.keyTable(resp.GetKeys())
			})
		},
	}
}

// keyTable prints keys.
func (a *app) keyTable(all []*sheafv1.Identity) error {
	rows := [][]string{{"fingerprint", "valid", "trust", "compared", "made", "name"}}
	for _, k := range all {
		compared := "no"
		switch {
		case k.GetOwn():
			compared = "your own"
		case k.GetVerified():
			compared = "yes"
		}
		rows = append(rows, []string{k.GetFingerprint(), word(k.GetValidity()), trustWord(k.GetTrust()), compared, clock(k.GetCreated()), keyName(k)})
	}
	return a.table(rows)
}

func keyName(k *sheafv1.Identity) string {
	if len(k.GetNames()) == 0 {
		return "-"
	}
	return printable(k.GetNames()[0])
}

// trustWord is how people call how far an owner is trusted.
func trustWord(t sheafv1.OwnerTrust) string {
	if t == sheafv1.OwnerTrust_OWNER_TRUST_UNSPECIFIED {
		return "unknown"
	}
	return word(t)
}

// ownerTrusts are the words that a person gives.
var ownerTrusts = map[string]sheafv1.OwnerTrust{
	"unknown": sheafv1.OwnerTrust_OWNER_TRUST_UNSPECIFIED, "undefined": sheafv1.OwnerTrust_OWNER_TRUST_UNDEFINED, "never": sheafv1.OwnerTrust_OWNER_TRUST_NEVER,
	"marginal": sheafv1.OwnerTrust_OWNER_TRUST_MARGINAL, "full": sheafv1.OwnerTrust_OWNER_TRUST_FULL,
}

// parseTrust reads such a word; "" is nothing.
func parseTrust(text string) (sheafv1.OwnerTrust, error) {
	t, ok := ownerTrusts[text]
	if !ok && text != "" {
		return 0, usagef("unknown, undefined, never, marginal or full", "%q is none of these", text)
	}
	return t, nil
}

// keySays prints one key.
func (a *app) keySays(k *sheafv1.Identity) {
	a.say("%s  %s", groups(k.GetFingerprint()), keyName(k))
	how := "its owner is trusted to certify others: " + trustWord(k.GetTrust())
	if k.GetVerified() {
		how += "; you have compared its fingerprint"
	}
	a.say("validity: %s; %s", word(k.GetValidity()), how)
	a.path(k)
}

// path prints why a key is valid.
func (a *app) path(k *sheafv1.Identity) {
	for _, l := range k.GetPath() {
		a.say("  %s (%s, trusted %s) certified %s", printable(l.GetFromName()), short(l.GetFrom()), trustWord(l.GetTrust()), printable(l.GetName()))
	}
}

// short is the end of a fingerprint.
func short(f string) string { return f[max(0, len(f)-16):] }

// groups writes a fingerprint as people read it to each other.
func groups(f string) string {
	if print, err := pgp.ParseHex(f); err == nil {
		return pgp.Compare(print)
	}
	return f
}

func (a *app) keyNewCmd() *cobra.Command {
	var email string
	c := &cobra.Command{
		Use:   "new NAME",
		Short: "Make an OpenPGP key of your own, by which others know whose devices yours are",
		Long: `Makes an OpenPGP key of your own, which GnuPG can use too, and certifies this device with it. If you have one already, import it instead: sheaf key import --own.

The secret stays on this device. Keep a copy of it: sheaf key export --private -o FILE.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.with(ctx, func(s *session) error {
				resp, err := s.Identities.MakeKey(ctx, &sheafv1.MakeKeyRequest{Name: args[0], Email: email})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", resp)
				}
				a.keySays(resp.GetKey())
				a.next(false, "sheaf key export --private -o FILE, to keep a copy of it elsewhere")
				return nil
			})
		},
	}
	c.Flags().StringVar(&email, "email", "", "your mail `address`")
	return c
}

func (a *app) keyImportCmd() *cobra.Command {
	var own bool
	c := &cobra.Command{
		Use:   "import FILE|-",
		Short: "Add OpenPGP keys, as gpg --export makes them, or what is new on those that are known",
		Long: `Adds OpenPGP keys, armored or not. What was known of them stays. A key that is imported is trusted for nothing: see sheaf key verify.

With --own it is your own key with its secret, as gpg --export-secret-keys makes it. What opens it is taken from SHEAF_KEY_PASSWORD, or asked for at a terminal.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			b, err := a.keyText(args[0])
			if err != nil {
				return err
			}
			r := &sheafv1.ImportKeysRequest{Keys: b, Own: own}
			if own {
				r.Passphrase = []byte(a.getenv("SHEAF_KEY_PASSWORD"))
			}
			return a.with(ctx, func(s *session) error {
				resp, err := s.Identities.ImportKeys(ctx, r)
				if own && err != nil && explain(err).Code == sheafv1.Code_CODE_WRONG_SECRET && len(r.GetPassphrase()) == 0 {
					if r.Passphrase, err = a.ask(ctx, "passphrase of the OpenPGP key", false); err != nil {
						return usagef("set SHEAF_KEY_PASSWORD", "the passphrase of the OpenPGP key is missing")
					}
					resp, err = s.Identities.ImportKeys(ctx, r)
				}
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", resp)
				}
				a.say("%d keys, %d of them new", len(resp.GetKeys()), resp.GetFresh())
				return a.keyTable(resp.GetKeys())
			})
		},
	}
	c.Flags().BoolVar(&own, "own", false, "it is your own, with its secret")
	return c
}

// keyText reads a file of keys.
func (a *app) keyText(name string) ([]byte, error) {
	in := a.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, usagef("", "read keys: %w", err)
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	const most = pgp.MaxBytes - 64<<10 // it has to fit into one message
	b, err := io.ReadAll(io.LimitReader(in, most+1))
	if err == nil && len(b) > most {
		err = usagef("import them in parts", "%s has more than %d bytes", name, most)
	}
	return b, err
}

func (a *app) keyExportCmd() *cobra.Command {
	var secret bool
	var file string
	c := &cobra.Command{
		Use:   "export [KEY]",
		Short: "Print an OpenPGP key, your own if none is named, as gpg --import reads it",
		Long: `Prints an OpenPGP key, armored, with all certifications on it. With --private it is your own with its secret, under a passphrase that is taken from
SHEAF_KEY_PASSWORD, or asked for at a terminal.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			r := &sheafv1.ExportKeyRequest{Key: strings.Join(args, "")}
			if secret {
				r.SecretPassphrase = []byte(a.getenv("SHEAF_KEY_PASSWORD"))
				if len(r.GetSecretPassphrase()) == 0 {
					var err error
					if r.SecretPassphrase, err = a.ask(ctx, "a passphrase for the exported key", true); err != nil || len(r.GetSecretPassphrase()) == 0 {
						return usagef("set SHEAF_KEY_PASSWORD", "a secret key is exported under a passphrase only")
					}
				}
			}
			return a.with(ctx, func(s *session) error {
				resp, err := s.Identities.ExportKey(ctx, r)
				if err != nil {
					return err
				}
				if file != "" {
					return writeSecret(file, []byte(resp.GetText()))
				}
				if a.json {
					return a.object("", resp)
				}
				_, err = io.WriteString(a.out, resp.GetText())
				return err
			})
		},
	}
	c.Flags().BoolVar(&secret, "private", false, "with its private part; your own key only")
	c.Flags().StringVarP(&file, "output", "o", "", "a `file` that is made, for its owner only, instead of printing it")
	return c
}

// writeSecret writes a file that is not there yet, readable by its owner only.
func writeSecret(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return usagef("", "%w", err)
	}
	_, err = f.Write(b)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

func (a *app) keyFindCmd() *cobra.Command {
	var wkd, add bool
	var server string
	c := &cobra.Command{
		Use:   "find ADDRESS|FINGERPRINT",
		Short: "Look for a key: here, and elsewhere only if you say so",
		Long: `Looks among the keys that are known here. With --wkd it asks the server of the address's domain, with --keyserver a keyserver: whoever is asked hears whom you look for. What is found there is shown, and
imported with --import only. Whose it is, nobody says by that: compare the fingerprint (sheaf key verify).`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.with(ctx, func(s *session) error {
				resp, err := s.Identities.FindKeys(ctx, &sheafv1.FindKeysRequest{Text: args[0], Wkd: wkd, Keyserver: server})
				if err != nil {
					return err
				}
				if add && resp.GetText() != "" {
					if _, err := s.Identities.ImportKeys(ctx, &sheafv1.ImportKeysRequest{Keys: []byte(resp.GetText())}); err != nil {
						return err
					}
				}
				if a.json {
					return a.object("", resp)
				}
				if len(resp.GetHere())+len(resp.GetFound()) == 0 {
					return coded(sheafv1.Code_CODE_NOT_FOUND, "sheaf key find --wkd "+args[0], "no key of %s is known here", args[0])
				}
				if len(resp.GetHere()) > 0 {
					if err := a.keyTable(resp.GetHere()); err != nil {
						return err
					}
				}
				for _, k := range resp.GetFound() {
					a.say("found at %s, not compared by you:\n%s  %s", printable(resp.GetFrom()), groups(k.GetFingerprint()), printable(strings.Join(k.GetNames(), ", ")))
				}
				return nil
			})
		},
	}
	f := c.Flags()
	f.BoolVar(&wkd, "wkd", false, "ask the server of the address's domain")
	f.StringVar(&server, "keyserver", "", "ask this `server`, https://HOST")
	f.BoolVar(&add, "import", false, "import what is found")
	c.MarkFlagsMutuallyExclusive("wkd", "keyserver")
	return c
}

func (a *app) keyVerifyCmd() *cobra.Command {
	var fingerprint string
	c := &cobra.Command{
		Use:   "verify KEY | verify FILE SIGNATURE",
		Short: "Say why a key is valid and note that you compared it, or check a signature on a file",
		Long: `With one argument: says how valid a key is, and why: the certifications from your own key to it. With --fingerprint it notes that you have compared the fingerprint, as its owner has told it to you by a way that
nobody else could alter: by voice, or on paper. Nothing is noted if it is another one.

With two: checks a signature that gpg --detach-sign made, by a key that is known here.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.with(ctx, func(s *session) error {
				if len(args) == 2 {
					return a.verifySignature(ctx, s, args[0], args[1])
				}
				resp, err := s.Identities.VerifyKey(ctx, &sheafv1.VerifyKeyRequest{Key: args[0], Fingerprint: fingerprint})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", resp)
				}
				a.keySays(resp.GetKey())
				a.say("%d certifications on it counted", len(resp.GetCertifications()))
				return nil
			})
		},
	}
	c.Flags().StringVar(&fingerprint, "fingerprint", "", "what its owner has `told` you")
	return c
}

func (a *app) verifySignature(ctx context.Context, s *session, file, sig string) error {
	r := &sheafv1.VerifySignatureRequest{}
	for _, x := range []struct {
		name string
		to   *[]byte
	}{{file, &r.File}, {sig, &r.Signature}} {
		full, err := filepath.Abs(x.name)
		if err != nil {
			return err
		}
		*x.to = []byte(full)
	}
	resp, err := s.Identities.VerifySignature(ctx, r)
	if err != nil {
		return err
	}
	if a.json {
		return a.object("", resp)
	}
	a.say("a good signature, made %s", clock(resp.GetMade()))
	a.keySays(resp.GetKey())
	return nil
}

func (a *app) keyTrustCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "trust KEY unknown|undefined|never|marginal|full",
		Short: "Say how far you trust the owner of a key to certify the keys of others with care",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			t, err := parseTrust(args[1])
			if err != nil {
				return err
			}
			return a.with(ctx, func(s *session) error {
				resp, err := s.Identities.TrustKey(ctx, &sheafv1.TrustKeyRequest{Key: args[0], Trust: t})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", resp)
				}
				a.keySays(resp.GetKey())
				return nil
			})
		},
	}
}

// introducing are the flags by which somebody is made an introducer.
type introducing struct {
	how   string
	depth int32
}

func (i *introducing) flags(c *cobra.Command) {
	c.Flags().StringVar(&i.how, "introducer", "", "`marginal|full`: trust the owner so far to vouch for others, and tell so with the certification")
	c.Flags().Int32Var(&i.depth, "depth", 1, "how many `levels` of introducers that makes")
}

func (i *introducing) read() (sheafv1.OwnerTrust, int32, error) {
	t, err := parseTrust(i.how)
	if err != nil || i.how == "" {
		return t, 0, err
	}
	return t, i.depth, nil
}

func (a *app) keyCertifyCmd() *cobra.Command {
	var r sheafv1.CertifyKeyRequest
	var in introducing
	var life time.Duration
	c := &cobra.Command{
		Use:   "certify KEY",
		Short: "Certify a key as your own, so that others who trust you can rely on it, or take that back",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			ctx := cmd.Context()
			r.Key, r.Seconds = args[0], int64(life/time.Second)
			if r.Introducer, r.Depth, err = in.read(); err != nil {
				return err
			}
			return a.with(ctx, func(s *session) error {
				resp, err := s.Identities.CertifyKey(ctx, &r)
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", resp)
				}
				a.keySays(resp.GetKey())
				return nil
			})
		},
	}
	f := c.Flags()
	f.StringVar(&r.Fingerprint, "fingerprint", "", "what its owner has `told` you, if you have not compared it before")
	f.StringVar(&r.Domain, "domain", "", "an introducer is believed for addresses in this `domain` only")
	f.DurationVar(&life, "for", 0, "how `long` it is good; 0: for ever")
	f.BoolVar(&r.Withdraw, "withdraw", false, "take back what you certified")
	in.flags(c)
	return c
}

func (a *app) keyRevokeCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke FINGERPRINT",
		Short: "Revoke your own key, for good: it was lost, or somebody else may have it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.with(ctx, func(s *session) error {
				resp, err := s.Identities.RevokeKey(ctx, &sheafv1.RevokeKeyRequest{Fingerprint: args[0]})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", resp)
				}
				a.keySays(resp.GetKey())
				a.next(true, "sheaf key export, and let all have it who know your key")
				return nil
			})
		},
	}
}

func (a *app) keyForgetCmd() *cobra.Command {
	return &cobra.Command{
		Use: "forget KEY", Short: "Drop a key of somebody else, with what you said of it", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.with(ctx, func(s *session) error {
				resp, err := s.Identities.ForgetKey(ctx, &sheafv1.ForgetKeyRequest{Key: args[0]})
				if err != nil {
					return err
				}
				if a.json {
					return a.object("", resp)
				}
				a.say("%s", fmt.Sprintf("%s is known no more", printable(args[0])))
				return nil
			})
		},
	}
}
