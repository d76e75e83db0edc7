package pki

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"
)

func TestIssuedCertificatesWork(t *testing.T) {
	now := time.Now()
	long := Validity{now.Add(-time.Hour), now.Add(1000 * time.Hour)}
	root, err := NewRoot("root", long)
	if err != nil {
		t.Fatal(err)
	}
	middle, err := root.NewIntermediate("middle", long)
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := middle.Issue(Validity{now.Add(-time.Hour), now.Add(time.Hour)}, "a.example", "b.example")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(append(cert, middle.PEM()...), key)
	if err != nil {
		t.Fatal(err)
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM(root.PEM())
	intermediates.AppendCertsFromPEM(middle.PEM())
	chains, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, DNSName: "b.example"})
	if err != nil {
		t.Fatal(err)
	}
	if len(chains) != 1 || len(chains[0]) != 3 {
		t.Errorf("chains = %v, want one of three certificates", chains)
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots}); err == nil {
		t.Error("the certificate verifies without its intermediate")
	}
}

func TestIssueNeedsAName(t *testing.T) {
	root, err := NewRoot("root", Validity{time.Unix(0, 0), time.Unix(1e9, 0)})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := root.Issue(Validity{}); err == nil {
		t.Error("Issue without a name succeeded")
	}
}
