package certaudit

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"time"
)

// Limits that keep the work for one Secret bounded, whatever is in it.
const (
	maxCertificates = 32
	maxNames        = 100
	maxText         = 256 // bytes of a name or of a foreign error message in a report
)

// Bundle is what a Secret of type kubernetes.io/tls contains.
type Bundle struct {
	Certificate []byte // tls.crt: the leaf first, then the rest of its chain, in PEM
	Key         []byte // tls.key: the private key of the leaf, in PEM
	CA          []byte // ca.crt: roots (and perhaps intermediates) in PEM, may be empty
}

// Audit says what there is to say about the bundle at the given time. It is a
// pure function, accepts any bytes and keeps none of them.
func Audit(b Bundle, now time.Time) Report {
	r := Report{Severity: Invalid, Key: KeyUnchecked}
	certs, problems := parse("tls.crt", b.Certificate)
	r.Problems = problems
	if len(certs) == 0 {
		r.problem("tls.crt: no certificate that can be read")
		return r
	}
	authorities, problems := parse("ca.crt", b.CA)
	r.Problems = append(r.Problems, problems...)

	leaf := certs[0]
	r.describe(leaf)
	r.verify(certs, authorities, now)
	r.Severity = SeverityAt(r.ExpiresAt, now)
	r.DaysLeft = DaysLeft(r.ExpiresAt, now)
	r.judge(leaf, now)
	r.compareKey(leaf, b.Key)
	return r
}

func (r *Report) problem(format string, args ...any) {
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

// parse reads the certificates of one entry of the Secret, and says what it
// could not read.
func parse(entry string, data []byte) (certs []*x509.Certificate, problems []string) {
	rest := data
	for n := 1; ; n++ {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		if n > maxCertificates {
			problems = append(problems, fmt.Sprintf("%s: more than %d PEM blocks; the rest was not read", entry, maxCertificates))
			return certs, problems
		}
		if block.Type != "CERTIFICATE" {
			// Not quoted: whoever put a key here must not find it in the report.
			problems = append(problems, fmt.Sprintf("%s: block %d is not a certificate", entry, n))
			clear(block.Bytes)
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s: block %d: %s", entry, n, clean(err.Error())))
			continue
		}
		certs = append(certs, cert)
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		problems = append(problems, entry+": has bytes that are not PEM")
	}
	return certs, problems
}

func (r *Report) describe(leaf *x509.Certificate) {
	sum := sha256.Sum256(leaf.Raw)
	r.Subject, r.Issuer = clean(leaf.Subject.String()), clean(leaf.Issuer.String())
	if leaf.SerialNumber != nil {
		r.Serial = clean(leaf.SerialNumber.Text(16))
	}
	r.Fingerprint = hex.EncodeToString(sum[:])
	r.NotBefore, r.NotAfter = leaf.NotBefore.UTC(), leaf.NotAfter.UTC()
	r.KeyAlgorithm = keyAlgorithm(leaf)
	r.SignatureAlgorithm = leaf.SignatureAlgorithm.String()
	names := make([]string, 0, min(maxNames, len(leaf.DNSNames)+len(leaf.IPAddresses)))
	for _, name := range leaf.DNSNames {
		if len(names) < maxNames {
			names = append(names, clean(name))
		}
	}
	for _, ip := range leaf.IPAddresses {
		if len(names) < maxNames {
			names = append(names, ip.String())
		}
	}
	r.DNSNames = names
}

// judge adds the problems that are neither of the chain nor of the key.
func (r *Report) judge(leaf *x509.Certificate, now time.Time) {
	if now.Before(leaf.NotBefore) {
		r.problem("tls.crt: not valid before %s", r.NotBefore.Format(time.RFC3339))
	}
	if r.Severity == Expired {
		r.problem("tls.crt: expired at %s", r.ExpiresAt.Format(time.RFC3339))
	}
	if leaf.NotAfter.Before(leaf.NotBefore) {
		r.problem("tls.crt: expires before it becomes valid")
	}
	if len(leaf.DNSNames)+len(leaf.IPAddresses) == 0 {
		r.problem("tls.crt: valid for no DNS name and no IP address")
	}
	if leaf.IsCA {
		r.problem("tls.crt: the first certificate is that of an authority")
	}
	if key, ok := leaf.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < 2048 {
		r.problem("tls.crt: an RSA key of %d bits is too short", key.N.BitLen())
	}
	switch leaf.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		r.problem("tls.crt: signed with %s, which is broken", leaf.SignatureAlgorithm)
	}
}

func keyAlgorithm(cert *x509.Certificate) string {
	switch key := cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + key.Curve.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", key.N.BitLen())
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return cert.PublicKeyAlgorithm.String()
}

// clean makes text from a certificate fit for a report: short, valid UTF-8, and
// free of control characters, which could forge lines of a log or a terminal.
func clean(text string) string {
	text = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || (c >= 0x80 && c < 0xa0) {
			return '?'
		}
		return c
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "..."
	}
	return text
}
