// Package signin is OAuth: how one signs in to a remote, with a browser or a device code, and how
// the tokens that come of it are renewed. It opens no remote, and is no OAuth server.
//
// It has no client ids of its own: who signs in brings one (the options client_id and client_secret), for a client that everybody shares
// can be shut for everybody. A token is kept as the secret "token", in the form in which rclone keeps it.
package signin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// TokenOption is the secret that holds the token.
const TokenOption = "token"

// ErrDenied says that who was asked for the sign-in did not grant it.
var ErrDenied = errors.New("the sign-in was not granted")

// Options say how a provider is spoken to. The zero value works.
type Options struct {
	// Client speaks to the provider. It must not follow redirects: what is sent are secrets. nil: one that waits for 30 seconds.
	Client *http.Client
	// Redirect is where the browser comes back to, "http://127.0.0.1:PORT/PATH" or the same with localhost, if the provider was told an exact
	// address for this client; "": a free port of 127.0.0.1.
	Redirect string
}

func (o *Options) client(ctx context.Context) context.Context {
	c := o.Client
	if c == nil {
		c = defaultClient
	}
	return context.WithValue(ctx, oauth2.HTTPClient, c)
}

// defaultClient sends secrets where it is told, and nowhere else.
var defaultClient = &http.Client{
	Timeout:       30 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// Needed reports whether the remote cannot be opened before somebody has signed in.
func Needed(ctx context.Context, k *remote.Kind, c remote.Config) (bool, error) {
	if k.OAuth == nil {
		return false, nil
	}
	for _, name := range append([]string{TokenOption}, k.OAuth.Instead...) {
		switch v, err := c.Get(ctx, name); {
		case err != nil:
			return false, err
		case v != "" && v != "false":
			return false, nil
		}
	}
	return true, nil
}

// endpoints is what a sign-in of one remote is made of.
type endpoints struct {
	oauth2.Config
	params []oauth2.AuthCodeOption
}

// endpointsOf reads the options of the remote. The error wraps remote.ErrMissing if there is no client id.
func endpointsOf(ctx context.Context, k *remote.Kind, c remote.Config) (*endpoints, error) {
	if k.OAuth == nil {
		return nil, fmt.Errorf("%w: a %s has no sign-in", errors.ErrUnsupported, k.Name)
	}
	e := &endpoints{Config: oauth2.Config{Scopes: k.OAuth.Scopes, Endpoint: oauth2.Endpoint{
		AuthURL: k.OAuth.AuthURL, TokenURL: k.OAuth.TokenURL, DeviceAuthURL: k.OAuth.DeviceURL, AuthStyle: oauth2.AuthStyleInParams,
	}}}
	if k.OAuth.Basic {
		e.Endpoint.AuthStyle = oauth2.AuthStyleInHeader
	}
	for _, o := range []struct {
		name string
		to   *string
	}{
		{"client_id", &e.ClientID},
		{"client_secret", &e.ClientSecret},
		{"auth_url", &e.Endpoint.AuthURL},
		{"token_url", &e.Endpoint.TokenURL},
		{"device_url", &e.Endpoint.DeviceAuthURL},
	} {
		switch v, err := c.Get(ctx, o.name); {
		case err != nil:
			return nil, err
		case v != "":
			*o.to = v
		}
	}
	for name, v := range k.OAuth.Params {
		e.params = append(e.params, oauth2.SetAuthURLParam(name, v))
	}
	if e.ClientID == "" {
		return nil, fmt.Errorf("%w: client_id: register a client with the provider of %s, and set client_id and client_secret", remote.ErrMissing, k.Name)
	}
	for name, v := range map[string]string{"token_url": e.Endpoint.TokenURL, "auth_url": e.Endpoint.AuthURL, "device_url": e.Endpoint.DeviceAuthURL} {
		if err := checkURL(v); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", remote.ErrOption, name, err)
		}
	}
	return e, nil
}

// checkURL refuses addresses over which others could read secrets.
func checkURL(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("not an address")
	case u.Scheme == "https" && u.Host != "", u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	}
	return errors.New("not an address of https")
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// explain turns what came of asking a provider for a token into the errors of this package. Nothing of an answer is in them but the
// fields that are made for people.
func explain(name string, err error) error {
	var r *oauth2.RetrieveError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case !errors.As(err, &r):
		var ue *url.Error
		if errors.As(err, &ue) {
			return fmt.Errorf("%w: the server of the sign-in: %w", blob.ErrTemporary, ue.Err)
		}
		return fmt.Errorf("%w: the server of the sign-in gave no token", blob.ErrTemporary)
	}
	said := r.ErrorCode
	if r.ErrorDescription != "" {
		said += ": " + r.ErrorDescription
	}
	if len(said) > 300 {
		said = said[:300] + "…"
	}
	said = strings.ToValidUTF8(said, "?")
	switch status := r.Response.StatusCode; {
	case slices.Contains([]string{"access_denied", "authorization_declined"}, r.ErrorCode):
		return fmt.Errorf("%w: %s", ErrDenied, said)
	case r.ErrorCode == "expired_token":
		return fmt.Errorf("%w: nobody entered the code in time", ErrDenied)
	case r.ErrorCode == "invalid_grant":
		return fmt.Errorf("%s: %w: the provider takes what was granted no more (%s)", name, remote.ErrSignIn, said)
	case slices.Contains([]string{"invalid_client", "unauthorized_client"}, r.ErrorCode):
		return fmt.Errorf("%s: %w: client_id or client_secret is wrong (%s)", name, blob.ErrUnauthorized, said)
	case status == http.StatusTooManyRequests, status >= 500:
		return blob.Later(fmt.Errorf("%w: the server of the sign-in: status %d", blob.ErrTemporary, status), remote.RetryAfter(r.Response.Header))
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return fmt.Errorf("%s: %w: status %d %s", name, remote.ErrSignIn, status, said)
	default:
		return fmt.Errorf("%s: the server of the sign-in refused: status %d %s", name, status, said)
	}
}

// encode returns a token as rclone keeps it.
func encode(t *oauth2.Token) (string, error) {
	b, err := json.Marshal(&oauth2.Token{AccessToken: t.AccessToken, TokenType: t.TokenType, RefreshToken: t.RefreshToken, Expiry: t.Expiry})
	return string(b), err
}

// decode reads a token. What it says in an error is nothing of the token.
func decode(s string) (*oauth2.Token, error) {
	var t oauth2.Token
	if json.Unmarshal([]byte(s), &t) != nil || t.AccessToken == "" && t.RefreshToken == "" {
		return nil, fmt.Errorf("%w: token: it is not of the form {\"access_token\":…,\"refresh_token\":…,\"expiry\":…}", remote.ErrOption)
	}
	return &t, nil
}
