package guard

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// A Keeper asks for passwords at all doors of a device, and lets those wait who guess. It is safe for concurrent use.
type Keeper struct {
	passwords *Passwords
	tries     *tries
}

// NewKeeper returns the Keeper of some passwords.
func NewKeeper(p *Passwords) *Keeper { return &Keeper{passwords: p, tries: newTries()} }

// Ask returns the password of a user and a secret, if there is one. from is the address and the port of who asks. If he guessed too often, the secret is not
// looked at, and he has to wait.
func (k *Keeper) Ask(ctx context.Context, from, user, secret string) (p Password, wait time.Duration, ok bool) {
	if p, ok := k.passwords.known(user, secret); ok {
		return p, 0, true
	}
	at := source(from)
	if wait := k.tries.wait(at); wait > 0 {
		return Password{}, wait, false
	}
	if p, ok = k.passwords.Check(ctx, user, secret); !ok {
		k.tries.failed(at)
		return Password{}, 0, false
	}
	k.tries.passed(at)
	return p, 0, true
}

// source is who tries: an address, or for IPv6 the network that one person has.
func source(remote string) netip.Prefix {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	a := ap.Addr().Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // such a number of bits is legal
	return p
}

// The bounds of guessing: after so many failures in a row, each further one has to wait twice as long as the last.
const (
	freeTries  = 5
	maxWait    = time.Minute
	maxSources = 1000
	forgetting = 15 * time.Minute
)

// tries counts who failed how often.
type tries struct {
	mu  sync.Mutex
	all map[netip.Prefix]failures
}

type failures struct {
	n    int
	last time.Time
}

func newTries() *tries { return &tries{all: map[netip.Prefix]failures{}} }

// wait returns how long somebody has to wait before his next try.
func (t *tries) wait(from netip.Prefix) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.all[from]
	if f.n < freeTries {
		return 0
	}
	return time.Until(f.last.Add(min(time.Second<<min(f.n-freeTries, 10), maxWait)))
}

func (t *tries) failed(from netip.Prefix) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.all[from]
	if time.Since(f.last) > forgetting {
		f.n = 0
	}
	t.all[from] = failures{f.n + 1, time.Now()}
	if len(t.all) <= maxSources {
		return
	}
	// The longest ago is forgotten. To fill this one needs a thousand addresses, each with tries of its own.
	oldest := from
	for p, f := range t.all {
		if f.last.Before(t.all[oldest].last) {
			oldest = p
		}
	}
	delete(t.all, oldest)
}

func (t *tries) passed(from netip.Prefix) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.all, from)
}
