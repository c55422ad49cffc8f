// Package gate stands before everything that the daemon serves on a TCP port of this machine. Any web page in a browser of this user
// can reach that port, and so can every other user: the gate lets in who names the port by its own address, does not come from another
// page, and has a token.
package gate

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/sheaf-drive/sheaf/api/access"
	"github.com/sheaf-drive/sheaf/api/ws"
)

// Options are what a gate is made of. All are needed.
type Options struct {
	// Addr is the address that is listened on, "127.0.0.1:8474".
	Addr string
	// Tokens say who is let in.
	Tokens *access.Store
	// Log takes who is not, without what they came with.
	Log *slog.Logger
	// Next serves who is let in, with the access.Grant of the token in the context, which is done when the token ends.
	Next http.Handler
}

// New returns the handler of a gate. It fails if Addr is not an IP address and a port.
func New(o Options) (http.Handler, error) {
	addr, err := netip.ParseAddrPort(o.Addr)
	if err != nil {
		return nil, err
	}
	g := &gate{Options: o, addr: netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), cross: http.NewCrossOriginProtection()}
	return g, nil
}

type gate struct {
	Options
	addr  netip.AddrPort
	cross *http.CrossOriginProtection
}

// headers go with every answer. Nothing that is served here is a page.
var headers = map[string]string{
	"Cache-Control":                "no-store",
	"Content-Security-Policy":      "default-src 'none'; frame-ancestors 'none'; sandbox",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Referrer-Policy":              "no-referrer",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for name, value := range headers {
		w.Header().Set(name, value)
	}
	if !g.own(r.Host) {
		g.Log.Warn("refused", "why", "the host is another")
		Refuse(w, http.StatusMisdirectedRequest, "forbidden", "this is not the host that was asked for", "use http://"+g.addr.String())
		return
	}
	if g.foreign(r) {
		g.Log.Warn("refused", "why", "the request comes from another page")
		Refuse(w, http.StatusForbidden, "forbidden", "requests of web pages of another origin are refused", "")
		return
	}
	secret := bearer(r)
	if secret == "" {
		unauthorized(w, "a token is needed", "sheaf token create, and then: Authorization: Bearer TOKEN")
		return
	}
	ctx, cancel, err := g.Tokens.Admit(r.Context(), secret)
	switch {
	case errors.Is(err, access.ErrInvalid):
		g.Log.Warn("refused", "why", "the token is not valid")
		unauthorized(w, "the token is not valid", "sheaf token list")
		return
	case err != nil: // without the list of tokens nobody is let in
		g.Log.Error("tokens cannot be read", "error", err)
		Refuse(w, http.StatusServiceUnavailable, "temporary", "the tokens cannot be read", "sheaf token list")
		return
	}
	defer cancel()
	g.Next.ServeHTTP(w, r.WithContext(ctx))
}

// bearer returns the token of a request, "" if it has none.
func bearer(r *http.Request) string {
	if a := r.Header.Get("Authorization"); a != "" {
		kind, secret, _ := strings.Cut(a, " ")
		if !strings.EqualFold(kind, "Bearer") {
			return ""
		}
		return strings.TrimSpace(secret)
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return ""
	}
	// A page can give a WebSocket no header but this one. It is in no URL, so that no log and no history has it.
	for _, list := range r.Header.Values("Sec-Websocket-Protocol") {
		for p := range strings.SplitSeq(list, ",") {
			if secret, ok := strings.CutPrefix(strings.TrimSpace(p), ws.TokenPrefix); ok {
				return secret
			}
		}
	}
	return ""
}

// own reports whether a host, as a request names it, is exactly the address that is listened on. "localhost" is, with
// that port, for no page can give that name another address.
func (g *gate) own(host string) bool {
	name, port, err := net.SplitHostPort(host)
	if err != nil || port != strconv.Itoa(int(g.addr.Port())) {
		return false
	}
	if addr, err := netip.ParseAddr(name); err == nil {
		return addr.Unmap() == g.addr.Addr()
	}
	return strings.EqualFold(name, "localhost") && g.addr.Addr().IsLoopback()
}

// foreign reports whether a browser says that a request comes from a page of another origin, whatever its method: what is read here is not for pages
// either.
func (g *gate) foreign(r *http.Request) bool {
	if g.cross.Check(r) != nil {
		return true
	}
	for _, origin := range r.Header.Values("Origin") {
		host, ok := strings.CutPrefix(origin, "http://")
		if !ok || !g.own(host) {
			return true
		}
	}
	site := r.Header.Get("Sec-Fetch-Site")
	return site == "cross-site" || site == "same-site"
}

func unauthorized(w http.ResponseWriter, text, hint string) {
	w.Header().Set("WWW-Authenticate", "Bearer")
	Refuse(w, http.StatusUnauthorized, "forbidden", text, hint)
}

// Problem is how an error is told in JSON.
type Problem struct {
	Code  string `json:"code"`  // its kind in the contract, in lower case
	Error string `json:"error"` // for people
	Hint  string `json:"hint"`  // what to do about it; may be empty
}

// Refuse answers with an error.
func Refuse(w http.ResponseWriter, status int, code, text, hint string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(Problem{code, text, hint}) // whoever asked may be gone
}
