// Package rcloneconf reads the remotes of an rclone.conf, encrypted or not. It writes none, and knows nothing of what the
// options mean.
package rcloneconf

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/nacl/secretbox"
)

// The errors of this package.
var (
	ErrSyntax   = errors.New("not a configuration of rclone")
	ErrPassword = errors.New("the configuration of rclone is encrypted")
)

// A Section is one remote.
type Section struct {
	Name   string
	Kind   string            // its type; "" if it has none
	Values map[string]string // all else, obscured as it is there
}

// maxSections is the most remotes that are read.
const maxSections = 1000

// encryptedMark is the line before the base64 text of an encrypted configuration.
const encryptedMark = "RCLONE_ENCRYPT_V0:"

// Parse reads a configuration. The password is used if it is encrypted: the error wraps ErrPassword if it does not open it. An error
// that wraps ErrSyntax names a line, and shows nothing that is in it.
func Parse(b []byte, password string) ([]Section, error) {
	b, err := open(b, password)
	if err != nil {
		return nil, err
	}
	var all []Section
	seen := map[string]bool{}
	for n, line := range strings.Split(strings.TrimPrefix(string(b), "\ufeff"), "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[':
			name, ok := strings.CutSuffix(line[1:], "]")
			if !ok || name == "" || seen[name] {
				return nil, fmt.Errorf("%w: line %d: the name of a remote is wrong, or there twice", ErrSyntax, n+1)
			}
			if len(all) >= maxSections {
				return nil, fmt.Errorf("%w: more than %d remotes", ErrSyntax, maxSections)
			}
			seen[name] = true
			all = append(all, Section{Name: name, Values: map[string]string{}})
		default:
			key, value, ok := strings.Cut(line, "=")
			key, value = strings.TrimSpace(key), strings.TrimSpace(value)
			if !ok || key == "" || len(all) == 0 {
				return nil, fmt.Errorf("%w: line %d: not of the form: key = value", ErrSyntax, n+1)
			}
			if len(value) >= 2 && value[0] == '`' && value[len(value)-1] == '`' {
				value = value[1 : len(value)-1]
			}
			if s := &all[len(all)-1]; key == "type" {
				s.Kind = value
			} else {
				s.Values[key] = value
			}
		}
	}
	return all, nil
}

// open returns the text of a configuration that may be encrypted: base64 of a nonce and a box under the hash of the password.
func open(b []byte, password string) ([]byte, error) {
	rest := b
	for {
		line, after, more := bytes.Cut(rest, []byte("\n"))
		line = bytes.TrimSpace(line)
		if string(line) == encryptedMark {
			rest = after
			break
		}
		if !more || len(line) > 0 && line[0] != '#' && line[0] != ';' {
			return b, nil
		}
		rest = after
	}
	if password == "" {
		return nil, fmt.Errorf("%w: its password is needed", ErrPassword)
	}
	box := make([]byte, base64.StdEncoding.DecodedLen(len(rest)))
	n, err := base64.StdEncoding.Decode(box, bytes.TrimSpace(rest))
	if err != nil || n < 24+secretbox.Overhead {
		return nil, fmt.Errorf("%w: what is encrypted is damaged", ErrSyntax)
	}
	key := sha256.Sum256([]byte("[" + password + "][rclone-config]"))
	plain, ok := secretbox.Open(nil, box[24:n], (*[24]byte)(box[:24]), &key)
	if !ok {
		return nil, fmt.Errorf("%w: its password is another one", ErrPassword)
	}
	return plain, nil
}

// obscureKey is the key under which rclone hides passwords from who looks over a shoulder. It is public.
var obscureKey = [32]byte{
	0x9c, 0x93, 0x5b, 0x48, 0x73, 0x0a, 0x55, 0x4d, 0x6b, 0xfd, 0x7c, 0x63, 0xc8, 0x86, 0xa9, 0x2b,
	0xd3, 0x90, 0x19, 0x8e, 0xb8, 0x12, 0x8a, 0xfb, 0xf4, 0xde, 0x16, 0x2b, 0x8b, 0x95, 0xf6, 0x38,
}

// Reveal returns a password that rclone obscured. The error shows nothing of it.
func Reveal(s string) (string, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) < aes.BlockSize {
		return "", fmt.Errorf("%w: a password is not obscured as it should be", ErrSyntax)
	}
	block, err := aes.NewCipher(obscureKey[:])
	if err != nil {
		return "", err
	}
	cipher.NewCTR(block, b[:aes.BlockSize]).XORKeyStream(b[aes.BlockSize:], b[aes.BlockSize:])
	return string(b[aes.BlockSize:]), nil
}
