package guard

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/argon2"
)

// A Store keeps the passwords of a device, sealed: it has hashes of them, and the keys that sign. Its calls do not overlap.
type Store interface {
	// Load returns what Save was given last; nil if it never was.
	Load(ctx context.Context) ([]byte, error)
	// Save replaces it, whole or not at all, and returns when it is durable. Only the owner can read it.
	Save(ctx context.Context, passwords []byte) error
}

// A Password is what lets one client in. Its secret is nowhere but with that client.
type Password struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"` // what it is for, for people
	User     string    `json:"user"`
	Folder   string    `json:"folder,omitempty"` // all that it may see, absolute in the tree; "" is everything
	ReadOnly bool      `json:"read_only,omitempty"`
	Created  time.Time `json:"created"`
	Used     time.Time `json:"used,omitzero"` // to the minute

	Salt   []byte `json:"salt"`
	Hash   []byte `json:"hash"`
	Chosen bool   `json:"chosen,omitempty"` // by a person, so that it may be guessed, and is hashed slowly
	// Key is the secret itself, of one that signs requests, for a signature cannot be looked at by a hash. "" for all others.
	Key string `json:"key,omitempty"`
}

// The bounds of passwords.
const (
	maxPasswords = 200
	maxSecret    = 1024 // bytes
	minChosen    = 12   // bytes of a secret that somebody chose
	cacheSize    = 1000
	usedEvery    = time.Minute
)

// The errors of Passwords.
var (
	ErrWeak    = fmt.Errorf("a password has at least %d characters", minChosen)
	ErrTooMany = errors.New("there are too many passwords")
)

// Passwords are all of a device. It is safe for concurrent use.
type Passwords struct {
	store Store
	key   [32]byte // of this process, for cache

	slow sync.Mutex // held while a slow hash is computed: one at a time

	mu    sync.Mutex // guards the rest
	all   []Password // in the order in which they were made
	cache map[[32]byte]string
}

// OpenPasswords returns the passwords that a store has.
func OpenPasswords(ctx context.Context, store Store) (*Passwords, error) {
	p := &Passwords{store: store, cache: map[[32]byte]string{}}
	_, _ = rand.Read(p.key[:]) // never fails
	b, err := store.Load(ctx)
	if err == nil && len(b) > 0 {
		err = json.Unmarshal(b, &p.all)
	}
	if err != nil {
		return nil, fmt.Errorf("load passwords: %w", err)
	}
	return p, nil
}

// CreateKey is Create of one that signs requests, with a secret that chance makes.
func (p *Passwords) CreateKey(ctx context.Context, what Password) (Password, string, error) {
	return p.create(ctx, what, "", true)
}

// Create makes a password as what says, of which Name, User, Folder and ReadOnly count, and returns it with its secret. With chosen, that is
// the secret (else ErrWeak), and it takes the place of a chosen one of that user.
func (p *Passwords) Create(ctx context.Context, what Password, chosen string) (Password, string, error) {
	return p.create(ctx, what, chosen, false)
}

func (p *Passwords) create(ctx context.Context, what Password, chosen string, signs bool) (Password, string, error) {
	if what.User == "" || strings.ContainsAny(what.User, ":\x00\r\n") || len(what.User) > maxSecret {
		return Password{}, "", fmt.Errorf("user %q: a name without a colon: %w", what.User, fs.ErrInvalid)
	}
	if chosen != "" && len(chosen) < minChosen {
		return Password{}, "", ErrWeak
	}
	if len(chosen) > maxSecret {
		return Password{}, "", fmt.Errorf("a password of more than %d bytes: %w", maxSecret, fs.ErrInvalid)
	}
	one := Password{
		ID: strings.ToLower(rand.Text()[:8]), Name: what.Name, User: what.User, ReadOnly: what.ReadOnly,
		Created: time.Now().Truncate(time.Second), Salt: make([]byte, 16), Chosen: chosen != "",
	}
	if what.Folder != "" && path.Clean("/"+what.Folder) != "/" {
		one.Folder = path.Clean("/" + what.Folder)
	}
	_, _ = rand.Read(one.Salt) // never fails
	secret := chosen
	if secret == "" {
		secret = one.ID + "-" + strings.ToLower(rand.Text())
	}
	one.Hash = p.hash(one, secret)
	if signs {
		one.Key = secret
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.all
	p.all = slices.Clone(old)
	if one.Chosen {
		p.all = slices.DeleteFunc(p.all, func(o Password) bool { return o.Chosen && o.User == one.User })
	}
	if len(p.all) >= maxPasswords {
		p.all = old
		return Password{}, "", ErrTooMany
	}
	p.all = append(p.all, one)
	if err := p.save(ctx); err != nil {
		p.all = old
		return Password{}, "", err
	}
	clear(p.cache)
	return one, secret, nil
}

// save makes the passwords of now durable. p.mu is held.
func (p *Passwords) save(ctx context.Context) error {
	b, err := json.Marshal(p.all)
	if err == nil {
		err = p.store.Save(ctx, b)
	}
	if err != nil {
		return fmt.Errorf("save passwords: %w", err)
	}
	return nil
}

// List returns all, in the order in which they were made.
func (p *Passwords) List() []Password {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.all)
}

// Valid reports whether there is a password of that ID: a connection that was let in with one that was revoked has to end.
func (p *Passwords) Valid(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.all, func(o Password) bool { return o.ID == id })
}

// Key returns the password of that ID that signs requests, if there is one, and notes that it was used.
func (p *Passwords) Key(id string) (Password, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.all, func(o Password) bool { return o.ID == id && o.Key != "" })
	if i < 0 {
		return Password{}, false
	}
	p.used(i)
	return p.all[i], true
}

// Revoke takes a password away: the next request with it is refused. If there is none of that ID it is fs.ErrNotExist.
func (p *Passwords) Revoke(ctx context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.all
	p.all = slices.DeleteFunc(slices.Clone(old), func(o Password) bool { return o.ID == id })
	if len(p.all) == len(old) {
		return fmt.Errorf("password %s: %w", id, fs.ErrNotExist)
	}
	clear(p.cache) // at once, whatever becomes of the file
	if err := p.save(ctx); err != nil {
		p.all = old
		return err
	}
	return nil
}

// hash returns the hash of a secret. One that chance has made needs no slow one: there are 2^130 of them.
func (p *Passwords) hash(of Password, secret string) []byte {
	if !of.Chosen {
		sum := sha256.Sum256(append(slices.Clone(of.Salt), secret...))
		return sum[:]
	}
	p.slow.Lock()
	defer p.slow.Unlock()
	return argon2.IDKey([]byte(secret), of.Salt, 2, 19<<10, 1, 32)
}

// cacheKey is how a user and his secret are called in the cache, of which nobody learns them.
func (p *Passwords) cacheKey(user, secret string) (k [32]byte) {
	m := hmac.New(sha256.New, p.key[:])
	m.Write([]byte(user))
	m.Write([]byte{0})
	m.Write([]byte(secret))
	m.Sum(k[:0])
	return k
}

// known is Check for what passed it before. It is quick.
func (p *Passwords) known(user, secret string) (Password, bool) {
	k := p.cacheKey(user, secret)
	p.mu.Lock()
	defer p.mu.Unlock()
	id, ok := p.cache[k]
	if !ok {
		return Password{}, false
	}
	for i := range p.all {
		if p.all[i].ID == id {
			p.used(i)
			return p.all[i], true
		}
	}
	return Password{}, false
}

// Check returns the password of a user and a secret. It takes as long for a user that there is not.
func (p *Passwords) Check(ctx context.Context, user, secret string) (Password, bool) {
	if len(user) > maxSecret || len(secret) > maxSecret {
		return Password{}, false
	}
	id, _, _ := strings.Cut(secret, "-")
	var of []Password
	p.mu.Lock()
	for _, o := range p.all {
		if o.ID == id && !o.Chosen || o.Chosen && o.User == user {
			of = append(of, o)
		}
	}
	p.mu.Unlock()
	if !slices.ContainsFunc(of, func(o Password) bool { return o.Chosen }) {
		of = append(of, Password{Chosen: true, Salt: make([]byte, 16), Hash: make([]byte, 32)}) // nobody's
	}
	found := ""
	for _, o := range of {
		if ctx.Err() != nil {
			return Password{}, false
		}
		same := subtle.ConstantTimeCompare(p.hash(o, secret), o.Hash) & subtle.ConstantTimeCompare([]byte(user), []byte(o.User))
		if same == 1 {
			found = o.ID
			break
		}
	}
	if found == "" {
		return Password{}, false
	}
	k := p.cacheKey(user, secret)
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.all {
		if p.all[i].ID == found { // it may have been revoked meanwhile
			if len(p.cache) >= cacheSize {
				clear(p.cache)
			}
			p.cache[k] = found
			p.used(i)
			return p.all[i], true
		}
	}
	return Password{}, false
}

// used notes that a password was used. That it is not durable does no harm, so the next who saves does it. p.mu is held.
func (p *Passwords) used(i int) {
	now := time.Now()
	if now.Sub(p.all[i].Used) < usedEvery {
		return
	}
	p.all[i].Used = now.Truncate(usedEvery)
	_ = p.save(context.Background())
}
