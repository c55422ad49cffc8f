// Package lookup asks for the OpenPGP keys of an address: at the server of its domain, by the Web Key Directory (draft-koch-openpgp-webkey-service), or at a keyserver (HKP). Whoever is asked hears who is looked for, so nobody is
// asked unless a person wants it. What comes is a key that somebody has put there, and no more: the web of trust has to say whose it is.
package lookup

import (
	"context"
	"crypto/sha1" //nolint:gosec // the draft has it so: it is the name of a file, and guards nothing
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/sync/trust/pgp"
)

// The errors of looking.
var (
	ErrNone    = errors.New("no OpenPGP key was found")
	ErrAddress = errors.New("that is no mail address")
	ErrServer  = errors.New("a keyserver is named by https://HOST")
)

// wait is how long one server is asked.
const wait = 20 * time.Second

// zbase32 is Zimmermann's alphabet.
var zbase32 = base32.NewEncoding("ybndrfg8ejkmcpqxot1uwisza345h769").WithPadding(base32.NoPadding)

// A Finder asks by a client, which is to use HTTPS with the certificates that the system trusts; nil is such a one. It may be used by several goroutines.
type Finder struct{ Client *http.Client }

// Found is what came.
type Found struct {
	Keys []*pgp.Certificate // those that name the address, or have the fingerprint
	From string             // the URL
}

// URLs returns where the Web Key Directory has the keys of an address: the one to be asked first comes first.
func URLs(address string) ([]string, error) {
	local, domain, err := split(address)
	if err != nil {
		return nil, err
	}
	sum := sha1.Sum([]byte(strings.ToLower(local))) //nolint:gosec // see above
	name := zbase32.EncodeToString(sum[:]) + "?l=" + url.QueryEscape(local)
	return []string{
		"https://openpgpkey." + domain + "/.well-known/openpgpkey/" + domain + "/hu/" + name,
		"https://" + domain + "/.well-known/openpgpkey/hu/" + name,
	}, nil
}

// split takes an address apart. The domain is in small letters, and can stand in a URL.
func split(address string) (local, domain string, err error) {
	at := strings.LastIndexByte(address, '@')
	if at < 1 || len(address) > 320 {
		return "", "", fmt.Errorf("%w: %q", ErrAddress, address)
	}
	local, domain = address[:at], strings.ToLower(address[at+1:])
	if domain == "" || strings.HasPrefix(domain, ".") || strings.ContainsFunc(domain, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.'
	}) {
		return "", "", fmt.Errorf("%w: %q has no domain that a server can be asked of", ErrAddress, address)
	}
	return local, domain, nil
}

// WKD asks the server of an address's domain. Only keys with a user ID of that address are returned: the domain has a say over no other. The error wraps ErrNone if there are none.
func (f Finder) WKD(ctx context.Context, address string) (Found, error) {
	urls, err := URLs(address)
	if err != nil {
		return Found{}, err
	}
	var errs []error
	for _, u := range urls {
		all, err := f.get(ctx, u)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if all = named(all, address); len(all) > 0 {
			return Found{all, u}, nil
		}
		errs = append(errs, fmt.Errorf("%s has keys of others only", u))
	}
	return Found{}, fmt.Errorf("%w: %s: %w", ErrNone, address, errors.Join(errs...))
}

// Keyserver asks a keyserver for an address or a fingerprint. Anybody can put a key with any name there.
func (f Finder) Keyserver(ctx context.Context, server, text string) (Found, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "" {
		return Found{}, fmt.Errorf("%w: %q", ErrServer, server)
	}
	want, search := text, text
	print, perr := pgp.ParseHex(text)
	if perr == nil {
		search = "0x" + pgp.Hex(print)
	} else if _, _, err := split(text); err != nil {
		return Found{}, err
	}
	u.Path, u.RawQuery = "/pks/lookup", url.Values{"op": {"get"}, "options": {"mr"}, "search": {search}}.Encode()
	all, err := f.get(ctx, u.String())
	if err != nil {
		return Found{}, fmt.Errorf("%w: %s: %w", ErrNone, text, err)
	}
	var out []*pgp.Certificate
	if perr == nil {
		for _, c := range all {
			if c.Fingerprint() == print {
				out = append(out, c)
			}
		}
	} else {
		out = named(all, want)
	}
	if len(out) == 0 {
		return Found{}, fmt.Errorf("%w: %s has others only", ErrNone, u.Host)
	}
	return Found{out, u.String()}, nil
}

// named returns the keys with a user ID of an address.
func named(all []*pgp.Certificate, address string) (out []*pgp.Certificate) {
	for _, c := range all {
		for _, n := range c.UserIDs() {
			if strings.EqualFold(n, address) || strings.HasSuffix(strings.ToLower(n), "<"+strings.ToLower(address)+">") {
				out = append(out, c)
				break
			}
		}
	}
	return out
}

// get fetches keys.
func (f Finder) get(ctx context.Context, at string) ([]*pgp.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, http.NoBody)
	if err != nil {
		return nil, err
	}
	base := f.Client
	if base == nil {
		base = &http.Client{}
	}
	c := *base
	c.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if len(via) > 3 || r.URL.Scheme != "https" || r.URL.Host != via[0].URL.Host {
			return errors.New("it sends elsewhere")
		}
		return nil
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s says %s", req.URL.Host, resp.Status)
	}
	return pgp.Read(io.LimitReader(resp.Body, pgp.MaxBytes+1))
}
