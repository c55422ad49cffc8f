package sftp

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// A Store keeps the host key. Its calls do not overlap.
type Store interface {
	// Load returns what Save was given last; nil if it never was.
	Load(ctx context.Context) ([]byte, error)
	// Save replaces it, whole or not at all, and returns when it is durable. Only the owner can read it.
	Save(ctx context.Context, key []byte) error
}

// HostKey returns the key by which clients know this device. A store has it in OpenSSH's format, and gets it if it has none. One that is damaged is an
// error, and no reason for another: clients would take that for an attack.
func HostKey(ctx context.Context, store Store) (ssh.Signer, error) {
	b, err := store.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("load host key: %w", err)
	}
	if len(b) > 0 {
		k, err := ssh.ParsePrivateKey(b)
		if err != nil {
			return nil, fmt.Errorf("load host key: %w", err)
		}
		return k, nil
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make host key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return nil, fmt.Errorf("make host key: %w", err)
	}
	if err := store.Save(ctx, pem.EncodeToMemory(block)); err != nil {
		return nil, fmt.Errorf("keep host key: %w", err)
	}
	return ssh.NewSignerFromKey(key)
}

// Fingerprint returns how ssh shows a key.
func Fingerprint(k ssh.Signer) string { return ssh.FingerprintSHA256(k.PublicKey()) }
