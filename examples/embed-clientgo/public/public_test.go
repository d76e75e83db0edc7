package public

import (
	"bytes"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shard-io/shard-controller/examples/internal/pki"
)

func secret(kind corev1.SecretType, data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u"}, Type: kind, Data: data}
}

func issue(t *testing.T, expires time.Time) (certificate, key, authority []byte) {
	t.Helper()
	validity := pki.Validity{NotBefore: expires.AddDate(-1, 0, 0), NotAfter: expires}
	root, err := pki.NewRoot("test", validity)
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err = root.Issue(validity, "web.example.com")
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key, root.PEM()
}

func TestConfigMap(t *testing.T) {
	certificate, key, authority := issue(t, time.Date(2031, 5, 1, 12, 0, 0, 0, time.UTC))
	both := append(bytes.Clone(key), certificate...)
	got, err := ConfigMap(secret(corev1.SecretTypeTLS, map[string][]byte{"tls.crt": both, "tls.key": key, "ca.crt": authority}))
	if err != nil {
		t.Fatal(err)
	}
	if got.Namespace != "shop" || got.Name != "web-public" || !metav1.IsControlledBy(got, secret("", nil)) {
		t.Errorf("%s/%s, controlled by %v", got.Namespace, got.Name, got.OwnerReferences)
	}
	if got.Data["tls.crt"] != string(certificate) || got.Data["ca.crt"] != string(authority) {
		t.Errorf("certificates are not those of the Secret: %v", got.Data)
	}
	if got.Data[NotAfterKey] != "2031-05-01T12:00:00Z" || len(got.Data[SHA256Key]) != 64 {
		t.Errorf("expires %q, fingerprint %q", got.Data[NotAfterKey], got.Data[SHA256Key])
	}
	for name, value := range got.Data {
		if strings.Contains(value, "PRIVATE KEY") {
			t.Errorf("%s has a private key", name)
		}
	}
}

func TestConfigMapOfWhatHasNoCertificate(t *testing.T) {
	certificate, key, _ := issue(t, time.Now().AddDate(1, 0, 0))
	broken := []byte("-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n")
	for name, tc := range map[string]struct {
		secret *corev1.Secret
		want   string // in the error; empty: nothing is to be published
	}{
		"another type":     {secret(corev1.SecretTypeOpaque, map[string][]byte{"tls.crt": certificate}), ""},
		"nothing":          {secret(corev1.SecretTypeTLS, nil), "tls.crt: there is no certificate"},
		"a key only":       {secret(corev1.SecretTypeTLS, map[string][]byte{"tls.crt": key}), "tls.crt: there is no certificate"},
		"a broken one":     {secret(corev1.SecretTypeTLS, map[string][]byte{"tls.crt": broken}), "tls.crt: x509: malformed certificate"},
		"a broken root's":  {secret(corev1.SecretTypeTLS, map[string][]byte{"tls.crt": certificate, "ca.crt": broken}), "ca.crt: x509: malformed certificate"},
		"not PEM at all":   {secret(corev1.SecretTypeTLS, map[string][]byte{"tls.crt": []byte("hello")}), "tls.crt: there is no certificate"},
		"a root, not PEM ": {secret(corev1.SecretTypeTLS, map[string][]byte{"tls.crt": certificate, "ca.crt": []byte("x")}), "ca.crt: there is no certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ConfigMap(tc.secret)
			if got != nil {
				t.Errorf("published %v", got.Data)
			}
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}
