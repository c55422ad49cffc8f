package meeting

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/durable"
)

// OwnCertificate returns the certificate of a server that has none that systems trust: the one in a file, PEM, which is made if it is not there. It says nothing but its key.
func OwnCertificate(path string) (tls.Certificate, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if b, err = newCertificate(); err == nil {
			err = durable.WriteFile(path, b)
		}
	}
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate of the server: %w", err)
	}
	c, err := tls.X509KeyPair(b, b)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate of the server, %s: %w", path, err)
	}
	return c, nil
}

func newCertificate() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "sheaf rendezvous"}, DNSNames: []string{"rendezvous"},
		NotBefore: time.Unix(1577836800, 0), NotAfter: time.Unix(253370764800, 0), // of 2020, of 9999: the key is what counts
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for _, x := range []pem.Block{{Type: "CERTIFICATE", Bytes: der}, {Type: "PRIVATE KEY", Bytes: private}} {
		if err := pem.Encode(&b, &x); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// PinOf returns the hash of the key of a certificate, as it is in the address of a server.
func PinOf(c tls.Certificate) (*[sha256.Size]byte, error) {
	x, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("certificate of the server: %w", err)
	}
	sum := sha256.Sum256(x.RawSubjectPublicKeyInfo)
	return &sum, nil
}
