package main

import (
	"crypto/x509"
	"errors"
	"os"
	"syscall"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// rootPlaces are where distributions, and Android, keep the certificates of authorities: what crypto/x509 looks for.
var rootPlaces = []string{
	"/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted/pem", "/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem", "/system/etc/security/cacerts",
	"/data/misc/keychain/certs-added",
}

// haveRoots has servers of the web believed as Mozilla does it where the system says nothing about that: in an image of nothing but sheaf. To read its
// list takes some milliseconds, and is done there only. SSL_CERT_FILE and SSL_CERT_DIR go before, as everywhere.
func haveRoots(getenv func(string) string, places []string) error {
	for _, env := range []string{"SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if getenv(env) != "" {
			return nil
		}
	}
	for _, p := range places {
		if all, err := os.ReadDir(p); len(all) > 0 || errors.Is(err, syscall.ENOTDIR) {
			return nil
		}
	}
	pool, err := webRoots()
	if err == nil {
		x509.SetFallbackRoots(pool)
	}
	return err
}

// webRoots returns Mozilla's list.
func webRoots() (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for c := range bundle.Roots() {
		cert, err := x509.ParseCertificate(c.Certificate)
		switch {
		case err != nil:
			return nil, err
		case c.Constraint == nil:
			pool.AddCert(cert)
		default:
			pool.AddCertWithConstraint(cert, c.Constraint)
		}
	}
	return pool, nil
}
