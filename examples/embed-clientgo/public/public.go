// Package public knows what may be told of a TLS Secret to those who may not read Secrets: its certificates, and not its key.
package public

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Suffix is what the name of the ConfigMap has after that of the Secret.
const Suffix = "-public"

// caKey is where Secrets of this type have the certificate of the authority, if they have it.
const caKey = "ca.crt"

// Keys of the ConfigMap, beside tls.crt and ca.crt.
const (
	// SHA256Key has the fingerprint of the certificate, as clients pin it.
	SHA256Key = "sha256"
	// NotAfterKey has the moment at which the certificate expires, in the form of RFC 3339.
	NotAfterKey = "not-after"
)

// ConfigMap returns what is to be published of a Secret: a ConfigMap in its namespace that it controls. It is nil for Secrets that
// are not of type kubernetes.io/tls. An error means that the Secret has no certificate that could be published.
func ConfigMap(secret *corev1.Secret) (*corev1.ConfigMap, error) {
	if secret.Type != corev1.SecretTypeTLS {
		return nil, nil
	}
	chain, leaf, err := certificates(secret.Data[corev1.TLSCertKey])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", corev1.TLSCertKey, err)
	}
	fingerprint := sha256.Sum256(leaf.Raw)
	data := map[string]string{
		corev1.TLSCertKey: chain,
		SHA256Key:         hex.EncodeToString(fingerprint[:]),
		NotAfterKey:       leaf.NotAfter.UTC().Format(time.RFC3339),
	}
	if authority := secret.Data[caKey]; len(authority) > 0 {
		if data[caKey], _, err = certificates(authority); err != nil {
			return nil, fmt.Errorf("%s: %w", caKey, err)
		}
	}
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: secret.Namespace, Name: secret.Name + Suffix,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(secret, corev1.SchemeGroupVersion.WithKind("Secret"))},
		},
		Data: data,
	}, nil
}

// certificates returns those in the PEM text, and the first of them. What else is in the text is left out: some put their key there.
func certificates(text []byte) (chain string, first *x509.Certificate, err error) {
	var out bytes.Buffer
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return "", nil, err
		}
		if first == nil {
			first = certificate
		}
		if err := pem.Encode(&out, &pem.Block{Type: block.Type, Bytes: block.Bytes}); err != nil {
			return "", nil, err
		}
	}
	if first == nil {
		return "", nil, errors.New("there is no certificate in it")
	}
	return out.String(), first, nil
}
