package e2enode

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/examples/internal/pki"
	"github.com/shard-io/shard-controller/examples/worker/certaudit"
	"github.com/shard-io/shard-controller/internal/timeline"
	"github.com/shard-io/shard-controller/sharding"
)

var (
	secrets    = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
)

// issuer makes certificates; they are real.
type issuer struct{ authority *pki.Authority }

func newIssuer() (*issuer, error) {
	authority, err := pki.NewRoot("end-to-end", pki.Validity{NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(400 * 24 * time.Hour)})
	return &issuer{authority}, err
}

func (i *issuer) secret(name string) (*corev1.Secret, error) {
	cert, key, err := i.authority.Issue(pki.Validity{NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour)}, name+".example")
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: site}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key},
	}, err
}

// createSecrets creates TLS Secrets PREFIX-000 and so on.
func (c *cluster) createSecrets(i *issuer, prefix string, count int) {
	c.Helper()
	for n := range count {
		secret, err := i.secret(fmt.Sprintf("%s-%03d", prefix, n))
		c.must(err)
		_, err = c.kube.CoreV1().Secrets(site).Create(c.Context(), secret, metav1.CreateOptions{})
		c.must(err)
	}
}

// owners counts the Secrets of each shard; those without one are under "".
func (c *cluster) owners(ctx context.Context) (map[string]int, error) {
	list, err := c.meta.Resource(secrets).Namespace(site).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	owners := map[string]int{}
	for n := range list.Items {
		owner, _ := sharding.OwnerOf(&list.Items[n], ringName)
		owners[owner]++
	}
	return owners, nil
}

// owned is a condition: every Secret belongs to a worker whose Pod is ready, and, if that is said, each of these workers has some.
func (c *cluster) owned(workers int) func(context.Context) error {
	return func(ctx context.Context) error {
		pods, err := c.pods(ctx, "worker")
		if err != nil {
			return err
		}
		live := map[string]bool{}
		for _, pod := range pods {
			if ready(&pod) {
				live[pod.Name] = true
			}
		}
		owners, err := c.owners(ctx)
		if err != nil {
			return err
		}
		for owner := range owners {
			if !live[owner] {
				return fmt.Errorf("%d Secrets belong to %q, which is not ready", owners[owner], owner)
			}
		}
		if len(owners) != workers {
			return fmt.Errorf("%d workers have Secrets, want %d: %v", len(owners), workers, owners)
		}
		return nil
	}
}

// reported is a condition: there is a report on the certificate that is in each Secret now, and it belongs to the same shard.
func (c *cluster) reported(ctx context.Context) error {
	roots, err := c.kube.CoreV1().Secrets(site).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	children, err := c.kube.CoreV1().ConfigMaps(site).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	byController := map[types.UID]*corev1.ConfigMap{}
	for n := range children.Items {
		if controller := metav1.GetControllerOf(&children.Items[n]); controller != nil {
			byController[controller.UID] = &children.Items[n]
		}
	}
	wrong := map[string]int{}
	for n := range roots.Items {
		if what := misreported(&roots.Items[n], byController[roots.Items[n].UID]); what != "" {
			wrong[what]++
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("of the reports on %d Secrets %v", len(roots.Items), wrong)
	}
	return nil
}

// misreported says what is wrong with the report on a Secret.
func misreported(secret *corev1.Secret, report *corev1.ConfigMap) string {
	if report == nil {
		return "missing"
	}
	owner, _ := sharding.OwnerOf(secret, ringName)
	if with, _ := sharding.OwnerOf(report, ringName); with != owner {
		return "with another owner"
	}
	var r certaudit.Report
	block, _ := pem.Decode(secret.Data[corev1.TLSCertKey])
	if err := json.Unmarshal([]byte(report.Data[certaudit.ReportKey]), &r); err != nil || block == nil {
		return "unreadable"
	}
	if sum := sha256.Sum256(block.Bytes); r.Fingerprint != hex.EncodeToString(sum[:]) {
		return "on a former certificate"
	}
	return ""
}

// share says who has how many.
func share(owners map[string]int) string {
	var parts []string
	for _, owner := range slices.Sorted(maps.Keys(owners)) {
		parts = append(parts, fmt.Sprintf("%s %d", owner, owners[owner]))
	}
	return strings.Join(parts, ", ")
}

// moves are the changes of owner of Secrets from one shard to another since a moment, by the name of the Secret.
func moves(line *timeline.Recorder, since time.Time) map[string][]timeline.Move {
	byName := map[string][]timeline.Move{}
	for _, m := range timeline.BetweenShards(timeline.Since(line.Moves(secrets.Resource), since)) {
		byName[m.Name.Name] = append(byName[m.Name.Name], m)
	}
	return byName
}

// most is the largest number of moves of one Secret, and how many moves there are of all.
func most(byName map[string][]timeline.Move) (largest, total int) {
	for _, m := range byName {
		largest, total = max(largest, len(m)), total+len(m)
	}
	return largest, total
}

// summary says what has moved.
func summary(byName map[string][]timeline.Move) string {
	largest, total := most(byName)
	return fmt.Sprintf("%d moves of %d Secrets, %d of one at most", total, len(byName), largest)
}

// settled is a condition: nothing is to be handed over, and nothing has moved in the last seconds.
func (s *story) settled(ctx context.Context) error {
	list, err := s.meta.Resource(secrets).Namespace(site).List(ctx, metav1.ListOptions{LabelSelector: sharding.DrainLabel(ringName)})
	if err != nil {
		return err
	}
	_, recent := most(moves(s.line, time.Now().Add(-5*time.Second)))
	if len(list.Items)+recent > 0 {
		return fmt.Errorf("%d Secrets are to be handed over, and %d have moved in the last seconds", len(list.Items), recent)
	}
	return nil
}
