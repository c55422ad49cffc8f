package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/durable"
)

// What bounds a token.
const (
	secretPrefix = "sheaf_" // by which scanners find one that lies where it should not
	maxLife      = 10 * 366 * 24 * time.Hour
	maxLabel     = 100         // bytes
	maxTokens    = 1000        // of one device
	usedEvery    = time.Minute // how exactly it is kept when a token was used
)

// The errors of a Store.
var (
	ErrToken   = errors.New("no such token")
	ErrInvalid = errors.New("no valid token")
	ErrTooMany = errors.New("too many tokens")
)

// A Token is what is known of a token.
type Token struct {
	ID       string    `json:"id"`
	Label    string    `json:"label,omitempty"`
	ReadOnly bool      `json:"read_only,omitempty"`
	Folder   string    `json:"folder,omitempty"` // as Grant has it
	Services []string  `json:"services,omitempty"`
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires"`
	Used     time.Time `json:"used,omitzero"`
	Hash     string    `json:"hash"` // SHA-256 of the secret, in hexadecimal
}

// A Store keeps tokens in a file that its owner alone reads. A token has 256 bits of chance, so that its hash says nothing of it. A Store
// is safe for concurrent use; one process at a time may use the file.
type Store struct {
	path string
	now  func() time.Time

	mu     sync.Mutex // guards the rest
	loaded bool
	all    []*Token
	gone   map[string]chan struct{} // closed when the token of that ID is revoked
}

// NewStore returns the Store in a file, which need not be there. It is read when it is needed first.
func NewStore(file string) *Store {
	return &Store{path: file, now: time.Now, gone: map[string]chan struct{}{}}
}

// load reads the file. s.mu is held.
func (s *Store) load() error {
	if s.loaded {
		return nil
	}
	b, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		s.loaded = true
		return nil
	}
	if err == nil {
		err = json.Unmarshal(b, &s.all)
	}
	if err != nil {
		s.all = nil
		return fmt.Errorf("read tokens: %w", err)
	}
	s.loaded = true
	return nil
}

// save writes all. s.mu is held.
func (s *Store) save(all []*Token) error {
	b, err := json.MarshalIndent(all, "", "\t")
	if err == nil {
		err = durable.MkdirAll(filepath.Dir(s.path))
	}
	if err == nil {
		err = durable.WriteFile(s.path, b)
	}
	if err != nil {
		return fmt.Errorf("write tokens: %w", err)
	}
	s.all = all
	return nil
}

// Create makes a token that ends after life, and returns it with its text, which is kept nowhere. Of t it takes Label, ReadOnly, Folder and
// Services. Errors wrap fs.ErrInvalid or ErrTooMany.
func (s *Store) Create(t Token, life time.Duration) (_ Token, secret string, err error) {
	switch {
	case life <= 0 || life > maxLife:
		return Token{}, "", fmt.Errorf("a token ends after a second to some ten years, not %s: %w", life, fs.ErrInvalid)
	case len(t.Label) > maxLabel:
		return Token{}, "", fmt.Errorf("a label has at most %d bytes: %w", maxLabel, fs.ErrInvalid)
	}
	for _, name := range t.Services {
		if !slices.Contains(Services(), name) {
			return Token{}, "", fmt.Errorf("no service %q that tokens may call: %w", name, fs.ErrInvalid)
		}
	}
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	secret = secretPrefix + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return Token{}, "", err
	}
	if len(s.all) >= maxTokens {
		return Token{}, "", fmt.Errorf("%w: revoke some of %d", ErrTooMany, len(s.all))
	}
	t.ID, t.Hash = strings.ToLower(rand.Text()[:10]), hash(secret)
	t.Created, t.Used = s.now().UTC().Truncate(time.Second), time.Time{}
	t.Expires = t.Created.Add(life)
	if err := s.save(append(slices.Clone(s.all), &t)); err != nil {
		return Token{}, "", err
	}
	return t, secret, nil
}

func hash(secret string) string {
	h := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(h[:])
}

// List returns all tokens, in the order in which they were made.
func (s *Store) List() ([]Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return nil, err
	}
	var all []Token
	for _, t := range s.all {
		all = append(all, *t)
	}
	return all, nil
}

// Revoke ends tokens, and what they do at the moment. It fails with ErrToken, and does nothing, if one of them is not there.
func (s *Store) Revoke(ids ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return err
	}
	for _, id := range ids {
		if !slices.ContainsFunc(s.all, func(t *Token) bool { return t.ID == id }) {
			return fmt.Errorf("%w: %q", ErrToken, id)
		}
	}
	left := slices.DeleteFunc(slices.Clone(s.all), func(t *Token) bool { return slices.Contains(ids, t.ID) })
	if err := s.save(left); err != nil {
		return err
	}
	for _, id := range ids {
		if c := s.gone[id]; c != nil {
			close(c)
			delete(s.gone, id)
		}
	}
	return nil
}

// Admit returns ctx with the Grant of the token with that text. The context is done when the token ends, by time or by Revoke; cancel frees
// what that takes. It fails with ErrInvalid if there is no such token, or it has ended: which of them is not told.
func (s *Store) Admit(ctx context.Context, secret string) (_ context.Context, cancel func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return nil, nil, err
	}
	// The hash is looked up and not the secret, so that the time it takes tells nothing.
	h, now := hash(secret), s.now()
	i := slices.IndexFunc(s.all, func(t *Token) bool { return t.Hash == h })
	if i < 0 || !now.Before(s.all[i].Expires) {
		return nil, nil, ErrInvalid
	}
	t := s.all[i]
	if now.Sub(t.Used) >= usedEvery {
		used := *t
		used.Used = now.UTC().Truncate(time.Second)
		all := slices.Clone(s.all)
		all[i] = &used
		if err := s.save(all); err != nil {
			return nil, nil, err
		}
	}
	gone := s.gone[t.ID]
	if gone == nil {
		gone = make(chan struct{})
		s.gone[t.ID] = gone
	}
	ctx, end := context.WithDeadline(ctx, t.Expires)
	left := make(chan struct{})
	go func() {
		select {
		case <-gone:
			end()
		case <-left:
		}
	}()
	ctx = With(ctx, &Grant{ID: t.ID, ReadOnly: t.ReadOnly, Folder: t.Folder, Services: slices.Clone(t.Services)})
	return ctx, sync.OnceFunc(func() { close(left); end() }), nil
}

// Services returns the services that a token may be made for, in order.
func Services() []string {
	var all []string
	for procedure, need := range Needs {
		if !need.Socket && !need.Anyone {
			all = append(all, serviceOf(procedure))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
