package certaudit

import (
	"bytes"
	"crypto/x509"
	"errors"
	"time"
)

// verify builds and verifies the chain of the leaf and sets Chain, Verified and
// ExpiresAt. Roots are the certificates of ca.crt and the self-signed ones of
// tls.crt. Whether they are expired is not asked here: an expired chain is still
// a chain, and its age is graded apart.
func (r *Report) verify(certs, authorities []*x509.Certificate, now time.Time) {
	leaf := certs[0]
	chain, err := bestChain(certs, authorities, now)
	if err != nil {
		r.problem("chain: %s", clean(err.Error()))
		chain = certs
		r.ExpiresAt = leaf.NotAfter.UTC()
	} else {
		r.Verified = true
		r.ExpiresAt = earliest(chain)
		if r.ExpiresAt.Before(r.NotAfter) {
			r.problem("chain: an issuer expires at %s, before the certificate itself", r.ExpiresAt.Format(time.RFC3339))
		}
	}
	for _, c := range chain {
		r.Chain = append(r.Chain, Link{Subject: clean(c.Subject.String()), NotAfter: c.NotAfter.UTC()})
	}
}

// bestChain returns the verified chain that lasts longest.
func bestChain(certs, authorities []*x509.Certificate, now time.Time) ([]*x509.Certificate, error) {
	leaf := certs[0]
	// An empty pool, unlike none, keeps the roots of the system out.
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	found := false
	for _, c := range authorities {
		roots.AddCert(c)
		found = true
	}
	for _, c := range certs {
		if selfSigned(c) {
			roots.AddCert(c)
			found = true
		} else {
			intermediates.AddCert(c)
		}
	}
	if !found {
		return nil, errNoRoot
	}
	options := x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	var chains [][]*x509.Certificate
	var err error
	for _, at := range moments(now, certs, authorities) {
		options.CurrentTime = at
		chains, err = leaf.Verify(options)
		if invalid := (x509.CertificateInvalidError{}); !errors.As(err, &invalid) || invalid.Reason != x509.Expired {
			break // it is good, or bad for another reason than its age
		}
	}
	if err != nil {
		return nil, err
	}
	best := chains[0]
	for _, c := range chains[1:] {
		if earliest(c).After(earliest(best)) {
			best = c
		}
	}
	return best, nil
}

// errNoRoot is why a chain cannot be verified if the Secret has no root at all.
var errNoRoot = errors.New("no root certificate in tls.crt or ca.crt to verify the chain against")

// maxMoments bounds the number of verifications of one chain.
const maxMoments = 16

// moments are the times at which to verify: now, and if something is expired or
// not valid yet, the limits of the certificates' validity. If there is a time at
// which a whole chain is valid, then the latest notBefore in it is one.
func moments(now time.Time, certs, authorities []*x509.Certificate) []time.Time {
	leaf := certs[0]
	list := []time.Time{now}
	for _, c := range append(append([]*x509.Certificate(nil), certs...), authorities...) {
		for _, t := range []time.Time{c.NotAfter, c.NotBefore} {
			if !t.After(leaf.NotAfter) && !t.Before(leaf.NotBefore) && len(list) < maxMoments {
				list = append(list, t)
			}
		}
	}
	return list
}

func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

func earliest(chain []*x509.Certificate) time.Time {
	first := chain[0].NotAfter
	for _, c := range chain[1:] {
		if c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	return first.UTC()
}
