package sftp

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
)

// keyFile is the name of the file of the host key.
const keyFile = "sftp_host_key"

// HostKey returns the key by which clients know this device. It lies in dir, in OpenSSH's format, readable by the owner only, and is made if it is
// not there. One that is damaged is an error, and no reason for another: clients would take that for an attack. Calls for one dir must not overlap.
func HostKey(dir string) (ssh.Signer, error) {
	path := filepath.Join(dir, keyFile)
	b, err := os.ReadFile(path)
	switch {
	case err == nil:
		k, err := ssh.ParsePrivateKey(b)
		if err != nil {
			return nil, fmt.Errorf("read host key %s: %w", path, err)
		}
		return k, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read host key: %w", err)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make host key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return nil, fmt.Errorf("make host key: %w", err)
	}
	if err := writeFile(path, pem.EncodeToMemory(block)); err != nil {
		return nil, fmt.Errorf("keep host key: %w", err)
	}
	return ssh.NewSignerFromKey(key)
}

// Fingerprint returns how ssh shows a key.
func Fingerprint(k ssh.Signer) string { return ssh.FingerprintSHA256(k.PublicKey()) }

// writeFile makes a file that only its owner can read, whole or not at all.
func writeFile(path string, b []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
