package guard

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/webdav"
)

// Hosts are the names by which a door may be called.
type Hosts struct {
	// Addr is where it listens. If the address is unspecified, each address is one of its names.
	Addr netip.AddrPort
	// Names are further ones, in lower case, without a port.
	Names []string
	// TLS says that a Host without a port means 443, and not 80.
	TLS bool
}

// Allow reports whether the Host of a request is one of the door's. It has to be equal, port and all, and what is to be an
// address is read as one: "127.0.0.1.evil.com" is a name.
func (h Hosts) Allow(host string) bool {
	name, port := host, "80"
	if h.TLS {
		port = "443"
	}
	if n, p, err := net.SplitHostPort(host); err == nil {
		name, port = n, p
	} else if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		name = host[1 : len(host)-1]
	}
	if port != strconv.Itoa(int(h.Addr.Port())) {
		return false
	}
	at := h.Addr.Addr().Unmap()
	if a, err := netip.ParseAddr(name); err == nil {
		return a.Zone() == "" && (a.Unmap() == at || at.IsUnspecified())
	}
	name = strings.ToLower(name)
	if name == "localhost" {
		return at.IsLoopback() || at.IsUnspecified()
	}
	for _, n := range h.Names {
		if n == name && n != "" {
			return true
		}
	}
	return false
}

// Options are what a guard needs.
type Options struct {
	Hosts  Hosts
	Keeper *Keeper
	// Log takes who was refused and why; nil discards it.
	Log *slog.Logger
}

// New returns a handler that hands on to next what may pass, with the webdav.Scope of the password.
func New(next http.Handler, o Options) http.Handler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &guard{next: next, o: o, cross: http.NewCrossOriginProtection(), audit: audit{log: o.Log}}
}

type guard struct {
	next  http.Handler
	o     Options
	cross *http.CrossOriginProtection
	audit audit
}

// contentPolicy keeps a page that somebody has stored from doing anything: no scripts, no forms, and it is of no site.
const contentPolicy = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"

// ServeHTTP implements http.Handler.
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	if !g.o.Hosts.Allow(r.Host) {
		g.refuse(w, r, http.StatusMisdirectedRequest, "host")
		return
	}
	if g.foreign(r) {
		g.refuse(w, r, http.StatusForbidden, "origin")
		return
	}
	user, secret, ok := r.BasicAuth()
	if !ok {
		h.Set("Www-Authenticate", `Basic realm="sheaf", charset="UTF-8"`)
		http.Error(w, "a password is needed", http.StatusUnauthorized)
		return
	}
	p, wait, ok := g.o.Keeper.Ask(r.Context(), r.RemoteAddr, user, secret)
	switch {
	case ok:
	case wait > 0:
		h.Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
		g.refuse(w, r, http.StatusTooManyRequests, "guessing")
		return
	default:
		h.Set("Www-Authenticate", `Basic realm="sheaf", charset="UTF-8"`)
		g.refuse(w, r, http.StatusUnauthorized, "password")
		return
	}
	g.next.ServeHTTP(w, r.WithContext(webdav.WithScope(r.Context(), webdav.Scope{User: p.ID, Root: p.Folder, ReadOnly: p.ReadOnly})))
}

// foreign reports whether a page of another site sent the request, also if it only reads.
func (g *guard) foreign(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
	default:
		return true
	}
	if len(r.Header.Values("Origin")) > 1 {
		return true
	}
	if o := r.Header.Get("Origin"); o != "" {
		u, err := url.Parse(o)
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		if err != nil || u.Scheme != scheme || !strings.EqualFold(u.Host, r.Host) {
			return true
		}
	}
	return g.cross.Check(r) != nil
}

func (g *guard) refuse(w http.ResponseWriter, r *http.Request, code int, why string) {
	g.audit.tell(r, code, why)
	http.Error(w, strings.ToLower(http.StatusText(code)), code)
}

// linesPerMinute bounds what somebody can make us write.
const linesPerMinute = 30

// audit tells a log who was refused.
type audit struct {
	log *slog.Logger

	mu     sync.Mutex
	minute time.Time
	lines  int
	more   int
}

func (a *audit) tell(r *http.Request, code int, why string) {
	a.mu.Lock()
	now := time.Now().Truncate(time.Minute)
	more := 0
	if !now.Equal(a.minute) {
		more = a.more
		a.minute, a.lines, a.more = now, 0, 0
	}
	a.lines++
	if a.lines > linesPerMinute {
		a.more++
		a.mu.Unlock()
		return
	}
	a.mu.Unlock()
	if more > 0 {
		a.log.Warn("more requests were refused", "count", more)
	}
	a.log.Warn("a request was refused", "reason", why, "status", code, "from", source(r.RemoteAddr).Addr().String())
}
