package certaudit

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// FuzzAudit feeds any bytes: there must be a report, the same one each time,
// small, valid, with a severity that fits to its problems, and the bytes of the
// Secret must stay what they were.
func FuzzAudit(f *testing.F) {
	w := newWorld(f, valid(-9, 900), valid(-9, 900), valid(-9, 80))
	f.Add(join(w.leaf, w.middle.PEM()), w.key, w.root.PEM())
	f.Add(w.leaf, w.leaf, w.leaf)
	f.Add(w.key, w.key, w.key)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), []byte{}, []byte{0})
	f.Fuzz(func(t *testing.T, crt, key, ca []byte) {
		b := Bundle{Certificate: crt, Key: key, CA: ca}
		copies := Bundle{Certificate: bytes.Clone(crt), Key: bytes.Clone(key), CA: bytes.Clone(ca)}
		r := Audit(b, now)
		if !bytes.Equal(b.Certificate, copies.Certificate) || !bytes.Equal(b.Key, copies.Key) || !bytes.Equal(b.CA, copies.CA) {
			t.Fatal("Audit changed the Secret")
		}
		if diff := cmp.Diff(r, Audit(copies, now)); diff != "" {
			t.Fatalf("a second audit differs:\n%s", diff)
		}
		if r.Severity == Invalid && (len(r.Problems) == 0 || r.Verified || r.Key != KeyUnchecked) {
			t.Fatalf("an invalid certificate, but %+v", r)
		}
		if r.Severity != Invalid && (r.Fingerprint == "" || len(r.Chain) == 0 || r.ExpiresAt.After(r.NotAfter)) {
			t.Fatalf("severity %s without a certificate behind it: %+v", r.Severity, r)
		}
		if next, ok := r.NextChange(now); ok && !next.After(now) {
			t.Fatalf("the next change is at %v, not after %v", next, now)
		}
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > 256<<10 || !utf8.Valid(text) {
			t.Fatalf("the report has %d bytes, valid UTF-8: %t", len(text), utf8.Valid(text))
		}
	})
}
