package door

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The life of a certificate that is made here: clients of Apple's take none that lives longer.
const (
	certLife  = 820 * 24 * time.Hour
	certRenew = 30 * 24 * time.Hour // before its end a new one is made
)

// The names of the two files in which it lies.
const (
	CertFile = "webdav.crt" // for clients to trust
	keyFile  = "webdav.key"
)

// Certificate returns the certificate of the doors of a device, for the names and addresses that are given besides those of this machine's
// loopback. It lies in dir, its key readable by the owner only, and is made, or made anew, if it is not there, is about to end, or is for other
// names. Calls for one dir must not overlap.
func Certificate(dir string, names []string, addrs []netip.Addr) (*tls.Certificate, error) {
	names = append([]string{"localhost"}, names...)
	addrs = append([]netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}, addrs...)
	c, err := tls.LoadX509KeyPair(filepath.Join(dir, CertFile), filepath.Join(dir, keyFile))
	switch {
	case err == nil && good(c.Leaf, names, addrs):
		return &c, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read certificate: %w", err)
	case err == nil: // others may have been told to trust it for these
		names = append(names, c.Leaf.DNSNames...)
		for _, ip := range c.Leaf.IPAddresses {
			if a, ok := netip.AddrFromSlice(ip); ok {
				addrs = append(addrs, a.Unmap())
			}
		}
	}
	return makeCert(dir, names, addrs)
}

// good reports whether a certificate lives long enough and is for all these names.
func good(c *x509.Certificate, names []string, addrs []netip.Addr) bool {
	if time.Now().Add(certRenew).After(c.NotAfter) {
		return false
	}
	for _, n := range names {
		if c.VerifyHostname(n) != nil {
			return false
		}
	}
	for _, a := range addrs {
		if !a.IsUnspecified() && c.VerifyHostname(a.String()) != nil {
			return false
		}
	}
	return true
}

func makeCert(dir string, names []string, addrs []netip.Addr) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	now := time.Now()
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "sheaf on this machine"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, DNSNames: distinct(names),
	}
	seen := map[netip.Addr]bool{}
	for _, a := range addrs {
		if !a.IsUnspecified() && !seen[a] {
			seen[a] = true
			c.IPAddresses = append(c.IPAddresses, net.IP(a.AsSlice()))
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	// If only one of the two comes to be, they do not fit, and reading them tells so.
	if err := errors.Join(writeFile(filepath.Join(dir, keyFile), keyPEM), writeFile(filepath.Join(dir, CertFile), certPEM)); err != nil {
		return nil, fmt.Errorf("keep certificate: %w", err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	return &pair, nil
}

// writeFile replaces a file that only its owner can read.
func writeFile(name string, b []byte) (err error) {
	f, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Chmod(0o600)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// distinct returns names without those that are there twice.
func distinct(names []string) []string {
	var out []string
	seen := map[string]bool{}
	for _, n := range names {
		if !seen[n] {
			seen[n] = true
			out = append(out, n)
		}
	}
	return out
}

// Fingerprint returns the SHA-256 of a certificate, as browsers show it.
func Fingerprint(c *tls.Certificate) string {
	sum := sha256.Sum256(c.Certificate[0])
	h := strings.ToUpper(hex.EncodeToString(sum[:]))
	var b strings.Builder
	for i := 0; i < len(h); i += 2 {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(h[i : i+2])
	}
	return b.String()
}
