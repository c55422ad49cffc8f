//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/localdir"
	"github.com/sheaf-drive/sheaf/sync/remote/signin"
	"github.com/sheaf-drive/sheaf/sync/remote/signin/signintest"
)

// cloud is a kind for the scripts: a folder that one has to sign in for, at an OAuth provider of the test.
func cloud(url string) remote.Kind {
	k := remote.Kind{
		Name: "cloud", Title: "A folder behind a sign-in", Can: localdir.Kind.Can,
		OAuth: &remote.OAuth{
			AuthURL: url + "/auth", TokenURL: url + "/token", DeviceURL: url + "/device", Scopes: []string{signintest.Scope},
			Params: map[string]string{"access_type": "offline"},
		},
		Options: []remote.Option{
			{Name: "root", Help: "The folder", Required: true},
			{Name: "color", Help: "Of the folder\nNot looked at.", Required: true, Examples: []remote.Example{{Value: "blue", Help: "Like the sea"}}},
			{Name: "pass", Help: "Of the folder", Required: true, Secret: true, Obscured: true},
			{Name: "client_id"},
			{Name: "client_secret", Secret: true},
			{Name: "token", Secret: true, Advanced: true},
		},
	}
	open := k
	k.Bucket = func(ctx context.Context, c remote.Config) (blob.Bucket, error) {
		text, err := signin.NewSource(&open, c, signin.Options{}).Token(ctx)
		if err != nil {
			return nil, err
		}
		var token struct {
			Access string `json:"access_token"`
		}
		if err := json.Unmarshal([]byte(text), &token); err != nil {
			return nil, err
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/files", nil)
		if err != nil {
			return nil, err
		}
		r.Header.Set("Authorization", "Bearer "+token.Access)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", blob.ErrTemporary, err)
		}
		_ = resp.Body.Close()
		if pass, err := c.Get(ctx, "pass"); err != nil || pass != "open sesame" || resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%w: status %d", blob.ErrUnauthorized, resp.StatusCode)
		}
		c.Options = map[string]string{"root": c.Options["root"]}
		return localdir.Kind.Bucket(ctx, c)
	}
	return k
}

// providerKey is where a script has its provider. The kind "cloud" is there in scripts that have one.
const providerKey = "provider"

// startProvider: provider SECONDS starts the OAuth provider of a script, with tokens that last so long.
func startProvider(t *testing.T) func(ts *testscript.TestScript, neg bool, args []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 1 {
			ts.Fatalf("usage: provider LASTS")
		}
		lasts, err := time.ParseDuration(args[0])
		ts.Check(err)
		p, _ := ts.Value(providerKey).(**signintest.Provider)
		if *p != nil {
			(*p).Set(signintest.Settings{Lasts: lasts})
			return
		}
		*p = signintest.New(t, signintest.Settings{Lasts: lasts})
		ts.Setenv("CLOUD", (*p).URL)
	}
}

// revoke: revoke ends all that the provider granted.
func revoke(ts *testscript.TestScript, _ bool, _ []string) {
	p, _ := ts.Value(providerKey).(**signintest.Provider)
	(*p).Revoke()
}

// renewed: renewed N holds that the provider has renewed N tokens.
func renewed(ts *testscript.TestScript, _ bool, args []string) {
	p, _ := ts.Value(providerKey).(**signintest.Provider)
	if got := fmt.Sprint((*p).Count("refresh_token")); got != args[0] {
		ts.Fatalf("%s tokens were renewed, want %s", got, args[0])
	}
}

var pageForm = regexp.MustCompile(`(?m)^  (http://\S+)\n`)

// visit: visit FILE [TO] waits for the page that a command prints into a file, signs in there, and writes where the browser ended into TO.
func visit(t *testing.T) func(ts *testscript.TestScript, neg bool, args []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		for end := time.Now().Add(20 * time.Second); ; {
			b, err := os.ReadFile(ts.MkAbs(args[0]))
			if m := pageForm.FindSubmatch(b); err == nil && m != nil {
				came := signintest.Visit(t, string(m[1]))
				if len(args) > 1 {
					f, err := os.OpenFile(ts.MkAbs(args[1]), os.O_WRONLY, 0)
					ts.Check(err)
					_, err = f.WriteString(came + "\n")
					ts.Check(err)
					ts.Check(f.Close())
				}
				return
			}
			if time.Now().After(end) {
				ts.Fatalf("no page in %q", b)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// sheafForScripts is the command with the kind of the scripts.
func sheafForScripts() {
	holdToSchema()
	if url := os.Getenv("CLOUD"); strings.HasPrefix(url, "http://127.0.0.1:") {
		remoteKinds = append(remoteKinds, cloud(url))
	}
	main()
}
