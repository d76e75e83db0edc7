// Package pki issues real certificates for the quickstart and for tests: small
// authorities with ECDSA P-256 keys that exist in memory only.
//
// It is not for production: authorities are not constrained, their keys are not
// protected, and nothing is ever revoked.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Validity is the time in which a certificate is valid, both ends included.
// Certificates store whole seconds.
type Validity struct{ NotBefore, NotAfter time.Time }

// Authority is a certificate that signs others. It is safe for concurrent use.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewRoot makes a self-signed authority.
func NewRoot(name string, v Validity) (*Authority, error) { return newAuthority(name, v, nil) }

// NewIntermediate makes an authority that a signs.
func (a *Authority) NewIntermediate(name string, v Validity) (*Authority, error) {
	return newAuthority(name, v, a)
}

// PEM is the authority's certificate.
func (a *Authority) PEM() []byte { return encode("CERTIFICATE", a.cert.Raw) }

func newAuthority(name string, v Validity, issuer *Authority) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("pki: authority %q: %w", name, err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name},
		NotBefore: v.NotBefore, NotAfter: v.NotAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if issuer == nil {
		issuer = &Authority{cert: template, key: key}
	}
	cert, err := issuer.sign(template, key)
	if err != nil {
		return nil, fmt.Errorf("pki: authority %q: %w", name, err)
	}
	return &Authority{cert: cert, key: key}, nil
}

// Issue makes a key and a certificate for the DNS names, in PEM. The first name
// is also the subject's common name.
func (a *Authority) Issue(v Validity, names ...string) (cert, key []byte, err error) {
	if len(names) == 0 {
		return nil, nil, errors.New("pki: names: at least one is needed")
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("pki: certificate for %q: %w", names[0], err)
	}
	signed, err := a.sign(&x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: v.NotBefore, NotAfter: v.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, private)
	if err != nil {
		return nil, nil, fmt.Errorf("pki: certificate for %q: %w", names[0], err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("pki: certificate for %q: %w", names[0], err)
	}
	return encode("CERTIFICATE", signed.Raw), encode("PRIVATE KEY", der), nil
}

func (a *Authority) sign(template *x509.Certificate, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// serial is a positive random number of 127 bits, which is never zero.
func serial() *big.Int {
	buf := make([]byte, 16)
	_, _ = rand.Read(buf) // never fails
	buf[0] = buf[0]&0x7f | 0x40
	return new(big.Int).SetBytes(buf)
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
