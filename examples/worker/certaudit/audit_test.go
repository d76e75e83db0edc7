package certaudit

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shard-io/shard-controller/examples/internal/pki"
)

// now is the time of all audits here; days counts from it.
var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func days(n int) time.Time { return now.Add(time.Duration(n) * Day) }

func valid(from, to int) pki.Validity { return pki.Validity{NotBefore: days(from), NotAfter: days(to)} }

// world is a small PKI: a root, an intermediate below it, another root, and a
// leaf of the intermediate for a.example.
type world struct {
	root, middle, stranger *pki.Authority
	leaf, key              []byte
}

func newWorld(t testing.TB, root, middle, leaf pki.Validity) world {
	t.Helper()
	var w world
	var err error
	check := func() {
		if err != nil {
			t.Fatal(err)
		}
	}
	w.root, err = pki.NewRoot("root", root)
	check()
	w.stranger, err = pki.NewRoot("stranger", root)
	check()
	w.middle, err = w.root.NewIntermediate("middle", middle)
	check()
	w.leaf, w.key, err = w.middle.Issue(leaf, "a.example", "b.example")
	check()
	return w
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestAudit(t *testing.T) {
	w := newWorld(t, valid(-100, 1000), valid(-50, 500), valid(-10, 80))
	other := newWorld(t, valid(-100, 1000), valid(-50, 500), valid(-10, 80))
	good := Bundle{Certificate: join(w.leaf, w.middle.PEM()), Key: w.key, CA: w.root.PEM()}
	tests := []struct {
		name     string
		bundle   func(b *Bundle)
		severity Severity
		verified bool
		key      KeyState
		chain    []string
		problems []string // the beginnings
	}{
		{
			name: "all is well", bundle: func(*Bundle) {},
			severity: OK, verified: true, key: KeyMatches, chain: []string{"CN=a.example", "CN=middle", "CN=root"},
		}, {
			name:     "the root comes in tls.crt",
			bundle:   func(b *Bundle) { b.Certificate, b.CA = join(w.leaf, w.middle.PEM(), w.root.PEM()), nil },
			severity: OK, verified: true, key: KeyMatches, chain: []string{"CN=a.example", "CN=middle", "CN=root"},
		}, {
			name:     "the intermediate is the trust anchor",
			bundle:   func(b *Bundle) { b.Certificate, b.CA = w.leaf, w.middle.PEM() },
			severity: OK, verified: true, key: KeyMatches, chain: []string{"CN=a.example", "CN=middle"},
		}, {
			name:     "no root at all, although the system has some",
			bundle:   func(b *Bundle) { b.CA = nil },
			severity: OK, key: KeyMatches, chain: []string{"CN=a.example", "CN=middle"},
			problems: []string{"chain: no root certificate in tls.crt or ca.crt"},
		}, {
			name:     "the intermediate is missing",
			bundle:   func(b *Bundle) { b.Certificate = w.leaf },
			severity: OK, key: KeyMatches, chain: []string{"CN=a.example"},
			problems: []string{"chain: x509: certificate signed by unknown authority"},
		}, {
			name:     "the root of somebody else",
			bundle:   func(b *Bundle) { b.CA = w.stranger.PEM() },
			severity: OK, key: KeyMatches, chain: []string{"CN=a.example", "CN=middle"},
			problems: []string{"chain: x509: certificate signed by unknown authority"},
		}, {
			name:     "same names, other keys",
			bundle:   func(b *Bundle) { b.CA = other.root.PEM() },
			severity: OK, key: KeyMatches, chain: []string{"CN=a.example", "CN=middle"},
			problems: []string{"chain: x509: certificate signed by unknown authority"},
		}, {
			name:     "the key of another certificate",
			bundle:   func(b *Bundle) { b.Key = other.key },
			severity: OK, verified: true, key: KeyDiffers, chain: []string{"CN=a.example", "CN=middle", "CN=root"},
			problems: []string{"tls.key: is not the key"},
		}, {
			name:     "no key",
			bundle:   func(b *Bundle) { b.Key = nil },
			severity: OK, verified: true, key: KeyAbsent, chain: []string{"CN=a.example", "CN=middle", "CN=root"},
			problems: []string{"tls.key: is empty"},
		}, {
			name:     "a key that is none",
			bundle:   func(b *Bundle) { b.Key = []byte("swordfish") },
			severity: OK, verified: true, key: KeyUnreadable, chain: []string{"CN=a.example", "CN=middle", "CN=root"},
			problems: []string{"tls.key: no private key that can be read"},
		}, {
			name:     "nothing",
			bundle:   func(b *Bundle) { *b = Bundle{} },
			severity: Invalid, key: KeyUnchecked, problems: []string{"tls.crt: no certificate that can be read"},
		}, {
			name:     "text instead of PEM",
			bundle:   func(b *Bundle) { b.Certificate = []byte("hello") },
			severity: Invalid, key: KeyUnchecked,
			problems: []string{"tls.crt: has bytes that are not PEM", "tls.crt: no certificate that can be read"},
		}, {
			name: "PEM around garbage",
			bundle: func(b *Bundle) {
				b.Certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("hello")})
			},
			severity: Invalid, key: KeyUnchecked,
			problems: []string{"tls.crt: block 1: x509: malformed certificate", "tls.crt: no certificate that can be read"},
		}, {
			name:     "a key among the certificates",
			bundle:   func(b *Bundle) { b.Certificate = join(w.leaf, w.key, w.middle.PEM()) },
			severity: OK, verified: true, key: KeyMatches, chain: []string{"CN=a.example", "CN=middle", "CN=root"},
			problems: []string{"tls.crt: block 2 is not a certificate"},
		}, {
			name:     "the chain in the wrong order",
			bundle:   func(b *Bundle) { b.Certificate = join(w.middle.PEM(), w.leaf) },
			severity: OK, verified: true, key: KeyDiffers, chain: []string{"CN=middle", "CN=root"},
			problems: []string{"tls.crt: valid for no DNS name", "tls.crt: the first certificate is that of an authority", "tls.key: is not the key"},
		}, {
			name:     "forty certificates",
			bundle:   func(b *Bundle) { b.Certificate = bytes.Repeat(w.leaf, 40) },
			severity: OK, key: KeyMatches, chain: slices.Repeat([]string{"CN=a.example"}, 32),
			problems: []string{"tls.crt: more than 32 PEM blocks", "chain: x509: certificate signed by unknown authority"},
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			b := good
			tc.bundle(&b)
			r := Audit(b, now)
			if r.Severity != tc.severity || r.Verified != tc.verified || r.Key != tc.key {
				t.Errorf("severity, verified, key = %s, %t, %s, want %s, %t, %s",
					r.Severity, r.Verified, r.Key, tc.severity, tc.verified, tc.key)
			}
			var chain []string
			for _, link := range r.Chain {
				chain = append(chain, link.Subject)
			}
			if diff := cmp.Diff(tc.chain, chain); diff != "" {
				t.Errorf("chain (-want +got):\n%s", diff)
			}
			checkProblems(t, r, tc.problems)
		})
	}
}

func checkProblems(t *testing.T, r Report, beginnings []string) {
	t.Helper()
	matches := slices.EqualFunc(beginnings, r.Problems, func(want, got string) bool { return strings.HasPrefix(got, want) })
	if !matches {
		t.Errorf("problems:\n  %s\nwant these beginnings:\n  %s", strings.Join(r.Problems, "\n  "), strings.Join(beginnings, "\n  "))
	}
}

func TestAuditOverTime(t *testing.T) {
	tests := []struct {
		name               string
		root, middle, leaf pki.Validity
		severity           Severity
		expires            time.Time
		daysLeft           int
		next               time.Time // zero: never
		problems           []string
	}{
		{
			name: "young", root: valid(-9, 900), middle: valid(-9, 900), leaf: valid(-9, 80),
			severity: OK, expires: days(80), daysLeft: 80, next: days(50),
		}, {
			name: "a month left", root: valid(-9, 900), middle: valid(-9, 900), leaf: valid(-9, 30),
			severity: Notice, expires: days(30), daysLeft: 30, next: days(23),
		}, {
			name: "the intermediate goes first", root: valid(-9, 900), middle: valid(-9, 5), leaf: valid(-9, 80),
			severity: Warning, expires: days(5), daysLeft: 5, next: days(4),
			problems: []string{"chain: an issuer expires at 2026-03-06T12:00:00Z"},
		}, {
			name: "a day left", root: valid(-9, 900), middle: valid(-9, 900), leaf: valid(-9, 1),
			severity: Critical, expires: days(1), daysLeft: 1, next: days(1).Add(1),
		}, {
			name: "the last moment", root: valid(-9, 900), middle: valid(-9, 900), leaf: valid(-9, 0),
			severity: Critical, expires: days(0), daysLeft: 0, next: days(0).Add(1),
		}, {
			name: "expired, and still a chain", root: valid(-90, 900), middle: valid(-90, 900), leaf: valid(-9, -2),
			severity: Expired, expires: days(-2), daysLeft: -2,
			problems: []string{"tls.crt: expired at 2026-02-27T12:00:00Z"},
		}, {
			name: "the whole chain is expired", root: valid(-90, -1), middle: valid(-80, -3), leaf: valid(-70, -2),
			severity: Expired, expires: days(-3), daysLeft: -3,
			problems: []string{"chain: an issuer expires", "tls.crt: expired at 2026-02-26T12:00:00Z"},
		}, {
			name: "not valid yet", root: valid(-90, 900), middle: valid(-90, 900), leaf: valid(3, 60),
			severity: OK, expires: days(60), daysLeft: 60, next: days(3),
			problems: []string{"tls.crt: not valid before 2026-03-04T12:00:00Z"},
		}, {
			name: "the issuer is not valid yet", root: valid(-90, 900), middle: valid(3, 900), leaf: valid(-9, 60),
			severity: OK, expires: days(60), daysLeft: 60, next: days(30),
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, tc.root, tc.middle, tc.leaf)
			r := Audit(Bundle{Certificate: join(w.leaf, w.middle.PEM()), Key: w.key, CA: w.root.PEM()}, now)
			if !r.Verified {
				t.Error("the chain was not verified")
			}
			if r.Severity != tc.severity || !r.ExpiresAt.Equal(tc.expires) || r.DaysLeft != tc.daysLeft {
				t.Errorf("%s, expires %v, %d days left; want %s, %v, %d", r.Severity, r.ExpiresAt, r.DaysLeft, tc.severity, tc.expires, tc.daysLeft)
			}
			next, ok := r.NextChange(now)
			if !next.Equal(tc.next) || ok == tc.next.IsZero() {
				t.Errorf("NextChange = %v, %t, want %v", next, ok, tc.next)
			}
			checkProblems(t, r, tc.problems)
		})
	}
}

func TestAuditDescribes(t *testing.T) {
	w := newWorld(t, valid(-9, 900), valid(-9, 900), valid(-9, 80))
	r := Audit(Bundle{Certificate: join(w.leaf, w.middle.PEM()), Key: w.key, CA: w.root.PEM()}, now)
	block, _ := pem.Decode(w.leaf)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	want := Report{
		Severity: OK, ExpiresAt: days(80), DaysLeft: 80,
		Subject: "CN=a.example", Issuer: "CN=middle", Serial: cert.SerialNumber.Text(16), Fingerprint: r.Fingerprint,
		DNSNames: []string{"a.example", "b.example"}, NotBefore: days(-9), NotAfter: days(80),
		KeyAlgorithm: "ECDSA P-256", SignatureAlgorithm: "ECDSA-SHA256",
		Chain:    []Link{{"CN=a.example", days(80)}, {"CN=middle", days(900)}, {"CN=root", days(900)}},
		Verified: true, Key: KeyMatches,
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	if len(r.Fingerprint) != 64 {
		t.Errorf("fingerprint %q is not that of SHA-256", r.Fingerprint)
	}
}

func TestKeyForms(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecDER, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edDER, err := x509.MarshalPKCS8PrivateKey(ed)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, block, algorithm string
		public                 any
		der                    []byte
		problems               []string
	}{
		{name: "SEC 1", block: "EC PRIVATE KEY", algorithm: "ECDSA P-256", public: ec.Public(), der: ecDER},
		{name: "PKCS 1", block: "RSA PRIVATE KEY", algorithm: "RSA 1024", public: short.Public(),
			der: x509.MarshalPKCS1PrivateKey(short), problems: []string{"tls.crt: an RSA key of 1024 bits"}},
		{name: "PKCS 8", block: "PRIVATE KEY", algorithm: "Ed25519", public: ed.Public(), der: edDER},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			template := &x509.Certificate{NotBefore: days(-1), NotAfter: days(90), DNSNames: []string{"a"}, SerialNumber: big.NewInt(7)}
			der, err := x509.CreateCertificate(rand.Reader, template, template, tc.public, ec)
			if err != nil {
				t.Fatal(err)
			}
			crt := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
			key := pem.EncodeToMemory(&pem.Block{Type: tc.block, Bytes: tc.der})
			before := bytes.Clone(key)
			r := Audit(Bundle{Certificate: crt, Key: key, CA: crt}, now)
			if r.Key != KeyMatches || r.KeyAlgorithm != tc.algorithm {
				t.Errorf("key %s, algorithm %s, want %s, %s", r.Key, r.KeyAlgorithm, KeyMatches, tc.algorithm)
			}
			if !bytes.Equal(key, before) {
				t.Error("the Secret's own bytes were changed")
			}
			checkProblems(t, r, tc.problems)
		})
	}
}

// TestReportsHideKeys puts the key into every place of a Secret that it can be
// put into by mistake, and looks for any of its lines in what Audit says.
func TestReportsHideKeys(t *testing.T) {
	w := newWorld(t, valid(-9, 900), valid(-9, 900), valid(-9, 80))
	block, _ := pem.Decode(w.key)
	mislabelled := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes})
	headers := pem.EncodeToMemory(&pem.Block{Type: string(w.key[30:60]), Headers: map[string]string{"k": "v"}, Bytes: block.Bytes})
	for _, b := range []Bundle{
		{Certificate: w.key}, {Certificate: mislabelled}, {Certificate: headers},
		{Certificate: join(w.leaf, w.key), Key: w.key, CA: w.key},
		{Certificate: w.leaf, Key: mislabelled, CA: mislabelled},
		{Certificate: w.leaf, Key: w.key[:len(w.key)/2], CA: w.key[len(w.key)/2:]},
	} {
		text, err := json.Marshal(Audit(b, now))
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(w.key) {
			line = bytes.TrimSpace(line)
			for from := 0; from+16 <= len(line) && line[0] != '-'; from++ {
				if bytes.Contains(text, line[from:from+16]) {
					t.Fatalf("16 characters of the key are in the report:\n%s", text)
				}
			}
		}
	}
}

func TestCleanText(t *testing.T) {
	tests := []struct{ in, want string }{
		{"CN=a.example", "CN=a.example"},
		{"CN=\x1b[2Jboo\nforged line", "CN=?[2Jboo?forged line"},
		{"\xff\xfe", "?"},
		{"\u0085", "?"},
		{strings.Repeat("ä", 200), strings.Repeat("ä", 128) + "..."},
		{"x" + strings.Repeat("ä", 200), "x" + strings.Repeat("ä", 127) + "..."},
	}
	for _, tc := range tests {
		if got := clean(tc.in); got != tc.want {
			t.Errorf("clean(%q) = %q, want %q", tc.in, got, tc.want)
		}
	}
}
