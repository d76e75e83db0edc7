//go:build unix

package embed

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/shard-io/shard-controller/examples/embed-clientgo/public"
	"github.com/shard-io/shard-controller/examples/internal/conversion"
	"github.com/shard-io/shard-controller/examples/internal/pki"
	"github.com/shard-io/shard-controller/internal/controlplane"
)

func TestMain(m *testing.M) { os.Exit(controlplane.Main(m)) }

// TestDocumented: with -update it writes the difference into the documentation.
func TestDocumented(t *testing.T) {
	conversion.Documented(t, "examples/embed-clientgo", "../../docs/embedding.md",
		[]string{"main.go", "rbac.yaml"}, []string{"leader.go"}, []string{"manager.yaml", "ring.yaml"})
}

func TestPublicCerts(t *testing.T) {
	conversion.Run(t, &conversion.Example{
		Name: "public-certs", Root: "../..", Witnessed: []string{"func run(", "func (c *controller) sync("},
		Kind:     "Secret",
		Roots:    corev1.SchemeGroupVersion.WithResource("secrets"),
		Children: corev1.SchemeGroupVersion.WithResource("configmaps"),
		Change:   renew, Done: published,
	})
}

// certificates are two that Secrets have in turn.
var certificates = sync.OnceValues(func() ([]map[string][]byte, error) {
	valid := pki.Validity{NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0)}
	root, err := pki.NewRoot("embed", valid)
	if err != nil {
		return nil, err
	}
	var both []map[string][]byte
	for range 2 {
		certificate, key, err := root.Issue(valid, "embed.example.com")
		if err != nil {
			return nil, err
		}
		both = append(both, map[string][]byte{corev1.TLSCertKey: certificate, corev1.TLSPrivateKeyKey: key, "ca.crt": root.PEM()})
	}
	return both, nil
})

// renew creates a Secret, or gives it another certificate, as who rotates certificates does.
func renew(ctx context.Context, kube kubernetes.Interface, namespace, name string, n int) error {
	both, err := certificates()
	if err != nil {
		return err
	}
	data := both[n%len(both)]
	secrets := kube.CoreV1().Secrets(namespace)
	for {
		secret, err := secrets.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			secret = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Type: corev1.SecretTypeTLS, Data: data}
			_, err = secrets.Create(ctx, secret, metav1.CreateOptions{})
			return err
		}
		if err != nil {
			return err
		}
		secret.Data = data
		if _, err = secrets.Update(ctx, secret, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
			return err
		}
	}
}

// published says whether every Secret has its ConfigMap, with the present certificate and without the key.
func published(ctx context.Context, kube kubernetes.Interface, namespace string) error {
	secrets, err := kube.CoreV1().Secrets(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := range secrets.Items {
		secret := &secrets.Items[i]
		want, err := public.ConfigMap(secret)
		if err != nil {
			return err
		}
		have, err := kube.CoreV1().ConfigMaps(namespace).Get(ctx, want.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if !maps.Equal(have.Data, want.Data) || !metav1.IsControlledBy(have, secret) {
			return fmt.Errorf("ConfigMap %s is not that of the Secret", have.Name)
		}
		for _, value := range have.Data {
			if bytes.Contains([]byte(value), secret.Data[corev1.TLSPrivateKeyKey]) {
				return fmt.Errorf("ConfigMap %s has the key", have.Name)
			}
		}
	}
	return nil
}
