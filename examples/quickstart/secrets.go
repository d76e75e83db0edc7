//go:build unix

package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shard-io/shard-controller/examples/internal/pki"
)

// day is a day of a certificate's validity.
const day = 24 * time.Hour

// wantedLabel is on the Secrets that the ring shards: a cluster has others.
const wantedLabel = "quickstart.shard.io/audit"

// lifetimes are what is left of the certificates, in turn: most are fine, some
// are near a threshold, few are expired, as in life.
var lifetimes = []time.Duration{
	365 * day, 90 * day, 200 * day, 25 * day, 60 * day, 300 * day, 5 * day, 75 * day, 12 * time.Hour, -3 * day,
}

// secretName is the name of the i-th Secret.
func secretName(i int) string { return fmt.Sprintf("site-%03d", i) }

// issuer is the PKI of the tour: a root, and an intermediate that signs.
type issuer struct{ root, intermediate *pki.Authority }

func newIssuer(now time.Time) (*issuer, error) {
	v := pki.Validity{NotBefore: now.Add(-400 * day), NotAfter: now.Add(4000 * day)}
	root, err := pki.NewRoot("Quickstart Root", v)
	if err != nil {
		return nil, err
	}
	intermediate, err := root.NewIntermediate("Quickstart Issuing", v)
	if err != nil {
		return nil, err
	}
	return &issuer{root, intermediate}, nil
}

// secret makes the i-th Secret: a real certificate with its chain and key.
func (s *issuer) secret(i int, now time.Time) (*corev1.Secret, error) {
	name := secretName(i)
	v := pki.Validity{NotBefore: now.Add(-90 * day), NotAfter: now.Add(lifetimes[i%len(lifetimes)])}
	cert, key, err := s.intermediate.Issue(v, name+".example", "www."+name+".example")
	if err != nil {
		return nil, err
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{wantedLabel: "true"}},
		Type:       corev1.SecretTypeTLS,
		Data: map[string][]byte{
			corev1.TLSCertKey: append(cert, s.intermediate.PEM()...), corev1.TLSPrivateKeyKey: key, "ca.crt": s.root.PEM(),
		},
	}, nil
}

// createSecrets creates n Secrets, several at a time.
func createSecrets(ctx context.Context, n int, create func(context.Context, *corev1.Secret) error) error {
	now := time.Now()
	from, err := newIssuer(now)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	next, errs := make(chan int), make(chan error)
	const hands = 8
	for range hands {
		go func() {
			var first error
			for i := range next {
				secret, err := from.secret(i, now)
				if err == nil {
					err = create(ctx, secret)
				}
				if err != nil && first == nil {
					first = fmt.Errorf("creating the Secret %s: %w", secretName(i), err)
					cancel()
				}
			}
			errs <- first
		}()
	}
	for i := 0; i < n && ctx.Err() == nil; i++ {
		next <- i
	}
	close(next)
	var first error
	for range hands {
		if err := <-errs; first == nil {
			first = err
		}
	}
	if first == nil {
		first = context.Cause(ctx)
	}
	return first
}
