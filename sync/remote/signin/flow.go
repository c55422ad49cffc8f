package signin

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

// A Way is how a person signs in.
type Way int

// The ways.
const (
	Browser Way = iota // a browser on this machine, which comes back to it
	Paste              // a browser anywhere; what it comes back with is carried here by hand
	Device             // a browser anywhere, and a code that is typed there
)

// A Flow is one sign-in under way. Begin makes one; Finish and Close end it.
type Flow struct {
	way    Way
	kind   *remote.Kind
	c      remote.Config
	o      Options
	e      *endpoints
	url    string
	device *oauth2.DeviceAuthResponse

	state, verifier string

	answer chan answer // of the browser; it has room for one
	srv    *http.Server
	served sync.WaitGroup
	once   sync.Once
}

// answer is what a browser came back with.
type answer struct {
	code string
	err  error
}

// Begin begins a sign-in to a remote. Its client id is that of the options. The error wraps remote.ErrMissing if there is none, and
// errors.ErrUnsupported if the kind has no such way.
func Begin(ctx context.Context, way Way, k *remote.Kind, c remote.Config, o Options) (*Flow, error) {
	e, err := endpointsOf(ctx, k, c)
	if err != nil {
		return nil, fmt.Errorf("sign in: %w", err)
	}
	f := &Flow{way: way, kind: k, c: c, o: o, e: e, answer: make(chan answer, 1)}
	if way == Device {
		if e.Endpoint.DeviceAuthURL == "" {
			return nil, fmt.Errorf("sign in: %w: a %s gives no device codes", errors.ErrUnsupported, k.Name)
		}
		if f.device, err = e.DeviceAuth(o.client(ctx)); err != nil {
			return nil, fmt.Errorf("sign in: %w", explain(f.name(), err))
		}
		f.url = f.device.VerificationURI
		return f, nil
	}
	if e.Endpoint.AuthURL == "" {
		return nil, fmt.Errorf("sign in: %w: a %s has no page to sign in at", errors.ErrUnsupported, k.Name)
	}
	if err := f.redirect(ctx); err != nil {
		return nil, fmt.Errorf("sign in: %w", err)
	}
	f.state, f.verifier = random(), oauth2.GenerateVerifier()
	params := append(append([]oauth2.AuthCodeOption{}, e.params...), oauth2.S256ChallengeOption(f.verifier))
	f.url = e.AuthCodeURL(f.state, params...)
	return f, nil
}

func random() string {
	var b [24]byte
	_, _ = rand.Read(b[:]) // it never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func (f *Flow) name() string {
	if f.c.Name == "" {
		return "the " + f.kind.Name + " remote"
	}
	return f.c.Name
}

// redirect decides where the browser comes back to, and listens there if it is to come back to this machine.
func (f *Flow) redirect(ctx context.Context) error {
	at := f.o.Redirect
	if at == "" {
		at = "http://127.0.0.1:0/"
	}
	u, err := url.Parse(at)
	if err != nil || u.Scheme != "http" || !loopback(u.Hostname()) || u.Port() == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("%w: redirect: %q is not of the form http://127.0.0.1:PORT/", remote.ErrOption, at)
	}
	if u.Path == "" {
		u.Path = "/"
	}
	if f.way == Paste && f.o.Redirect != "" {
		f.e.RedirectURL = at
		return nil
	}
	host := u.Hostname()
	if host == "localhost" {
		host = "127.0.0.1" // what a name means is for others to say
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, u.Port()))
	if err != nil {
		return fmt.Errorf("wait for the browser: %w", err)
	}
	if u.Port() == "0" {
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			return errors.Join(err, l.Close())
		}
		u.Host = net.JoinHostPort(u.Hostname(), port)
		at = u.String()
	}
	f.e.RedirectURL = at
	if f.way == Paste {
		return l.Close() // a port that is free: nobody is to answer there
	}
	f.srv = &http.Server{
		Handler: f.handler(u), ReadHeaderTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10,
	}
	f.served.Go(func() {
		if err := f.srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			f.take(answer{err: fmt.Errorf("wait for the browser: %w", err)})
		}
	})
	return nil
}

// take takes the first answer.
func (f *Flow) take(a answer) {
	select {
	case f.answer <- a:
	default:
	}
}

// handler is what the browser comes back to. It believes nobody who does not know the state, and says nothing of what it was sent.
func (f *Flow) handler(at *url.URL) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cache-Control", "no-store")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Type", "text/plain; charset=utf-8")
		a, ok := answer{}, false
		if r.Method == http.MethodGet && r.Host == at.Host && r.URL.Path == at.Path {
			a, ok = f.read(r.URL.Query())
		}
		if !ok {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte("This is not an answer that sheaf waits for.\n"))
			return
		}
		if a.err != nil {
			_, _ = w.Write([]byte("The sign-in was not granted. sheaf says more; this page can be closed.\n"))
		} else {
			_, _ = w.Write([]byte("Signed in, as far as the browser goes. Go back to sheaf; this page can be closed.\n"))
		}
		f.take(a)
	})
}

// read reads the parameters that the browser came back with. They are no answer if the state is not that of this sign-in.
func (f *Flow) read(q url.Values) (answer, bool) {
	if subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(f.state)) != 1 {
		return answer{}, false
	}
	if e := q.Get("error"); e != "" {
		said := strings.ToValidUTF8(strings.TrimSuffix(e+": "+q.Get("error_description"), ": "), "?")
		return answer{err: fmt.Errorf("%w: %.300s", ErrDenied, said)}, true
	}
	if q.Get("code") == "" {
		return answer{}, false
	}
	return answer{code: q.Get("code")}, true
}

// URL is the page at which to sign in.
func (f *Flow) URL() string { return f.url }

// Code is what is to be typed at the page; "" if nothing is.
func (f *Flow) Code() string {
	if f.device == nil {
		return ""
	}
	return f.device.UserCode
}

// Expires is when the sign-in is over at the latest, as the provider says; zero if it does not.
func (f *Flow) Expires() time.Time {
	if f.device == nil {
		return time.Time{}
	}
	return f.device.Expiry
}

// Finish waits until the person has signed in, and keeps the token, durably. With pasted it does not wait: that is the address that the
// browser came back to, or the code in it. The Flow is closed then. After an error that wraps remote.ErrSyntax it may be called again.
// It wraps ErrDenied if the sign-in was not granted.
func (f *Flow) Finish(ctx context.Context, pasted string) error {
	code := ""
	switch {
	case f.way == Device:
	case strings.TrimSpace(pasted) != "":
		a, err := f.pasted(strings.TrimSpace(pasted))
		if err != nil {
			return fmt.Errorf("sign in: %w", err)
		}
		if code = a.code; a.err != nil {
			return errors.Join(fmt.Errorf("sign in: %w", a.err), f.Close())
		}
	case f.way == Paste:
		return fmt.Errorf("sign in: %w: the address that the browser shows, or the code in it, is needed", remote.ErrSyntax)
	default:
		select {
		case a := <-f.answer:
			if code = a.code; a.err != nil {
				return errors.Join(fmt.Errorf("sign in: %w", a.err), f.Close())
			}
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("sign in: %w", ctx.Err()), f.Close())
		}
	}
	err := f.exchange(ctx, code)
	return errors.Join(err, f.Close())
}

// pasted reads what a person carried here.
func (f *Flow) pasted(text string) (answer, error) {
	u, err := url.Parse(text)
	switch {
	case err == nil && u.IsAbs() && u.Host != "":
		a, ok := f.read(u.Query())
		if !ok {
			return answer{}, fmt.Errorf("%w: this address is not the answer to this sign-in", remote.ErrSyntax)
		}
		return a, nil
	case strings.ContainsAny(text, " \t\r\n\"'<>") || len(text) > 4096:
		return answer{}, fmt.Errorf("%w: neither an address nor a code", remote.ErrSyntax)
	}
	// Without a state the code alone has to do: it is good only with the verifier of this sign-in.
	return answer{code: text}, nil
}

// exchange gets the token, and keeps it.
func (f *Flow) exchange(ctx context.Context, code string) error {
	var t *oauth2.Token
	var err error
	hc := f.o.client(ctx)
	if f.way == Device {
		t, err = f.e.DeviceAccessToken(hc, f.device)
	} else {
		t, err = f.e.Exchange(hc, code, oauth2.VerifierOption(f.verifier))
	}
	if err != nil {
		return fmt.Errorf("sign in: %w", explain(f.name(), err))
	}
	text, err := encode(t)
	if err != nil {
		return err
	}
	// A token that was renewed meanwhile must not come after this one.
	ctx = context.WithoutCancel(ctx)
	unlock, err := f.c.Secrets.Lock(ctx)
	if err != nil {
		return fmt.Errorf("sign in: %w", err)
	}
	defer unlock()
	if err := f.c.Secrets.Set(ctx, TokenOption, text); err != nil {
		return fmt.Errorf("sign in: keep the token: %w", err)
	}
	return nil
}

// Close gives up what is under way. More calls do nothing.
func (f *Flow) Close() error {
	var err error
	f.once.Do(func() {
		if f.srv == nil {
			return
		}
		// The browser is to see its answer.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err = f.srv.Shutdown(ctx); err != nil {
			err = f.srv.Close()
		}
		f.served.Wait()
	})
	return err
}
