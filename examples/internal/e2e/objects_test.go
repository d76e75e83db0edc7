package e2e

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/examples/internal/pki"
	"github.com/shard-io/shard-controller/examples/worker/certaudit"
	"github.com/shard-io/shard-controller/sharding"

	"github.com/shard-io/shard-controller/internal/timeline"
)

// certificate issues one that is valid for a year: a report, and no Event.
var certificate = sync.OnceValues(func() (map[string][]byte, error) {
	now := time.Now()
	root, err := pki.NewRoot("e2e", pki.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(2, 0, 0)})
	if err != nil {
		return nil, err
	}
	cert, key, err := root.Issue(pki.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0)}, "e2e.example.com")
	return map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key, "ca.crt": root.PEM()}, err
})

func (s *system) newSecret(name string) *corev1.Secret {
	s.t.Helper()
	data, err := certificate()
	s.must(err)
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.ns, Labels: map[string]string{"app": "e2e"}}, Type: corev1.SecretTypeTLS, Data: data,
	}
}

// createSecrets creates n Secrets with certificates, called prefix-000 and so on.
func (s *system) createSecrets(prefix string, n int) {
	s.t.Helper()
	for i := range n {
		s.create(s.newSecret(fmt.Sprintf("%s-%03d", prefix, i)))
	}
}

func (s *system) create(secret *corev1.Secret) *corev1.Secret {
	s.t.Helper()
	created, err := s.kube.CoreV1().Secrets(secret.Namespace).Create(s.t.Context(), secret, metav1.CreateOptions{})
	s.must(err)
	return created
}

// owners counts the roots of each shard; "" are those without an owner, and those in hand-over count as "moving".
func (s *system) owners() (map[string]int, error) {
	list, err := s.meta.Resource(s.roots).List(s.t.Context(), metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	count := map[string]int{}
	for i := range list.Items {
		root := &list.Items[i]
		if !s.concerns(root) {
			continue
		}
		owner, _ := sharding.OwnerOf(root, s.ring)
		if _, moving := sharding.DrainTargetOf(root, s.ring); moving {
			owner = "moving"
		}
		count[owner]++
	}
	return count, nil
}

// ownedBy says whether exactly these shards own all roots, each some, and none is on its way.
func (s *system) ownedBy(shards ...string) func() error {
	return func() error {
		count, err := s.owners()
		if err != nil {
			return err
		}
		got, wanted := slices.Sorted(maps.Keys(count)), slices.Sorted(slices.Values(shards))
		return want(slices.Equal(got, wanted), "owners are %v, want %v", count, wanted)
	}
}

// audited says whether every Secret has its report, on the same shard, and the
// shards have done so.
func (s *system) audited() error {
	roots, err := s.kube.CoreV1().Secrets(s.ns).List(s.t.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	reports, err := s.kube.CoreV1().ConfigMaps(s.ns).List(s.t.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	owner := map[string]string{}
	for i := range reports.Items {
		owner[reports.Items[i].Name], _ = sharding.OwnerOf(&reports.Items[i], s.ring)
	}
	for i := range roots.Items {
		root := &roots.Items[i]
		if root.Type != corev1.SecretTypeTLS {
			continue
		}
		on, _ := sharding.OwnerOf(root, s.ring)
		if report, exists := owner[certaudit.ReportName(root.Name)]; !exists || report != on {
			return fmt.Errorf("Secret %s is on %q; its report: %v, on %q", root.Name, on, exists, report)
		}
	}
	return nil
}

// settled waits until exactly these shards have all roots and their reports.
func (s *system) settled(shards ...string) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("all is with %v", shards), s.ownedBy(shards...))
	s.eventually("everything is where the table has it", s.placed)
	s.eventually("everything is audited", s.audited)
}

// onlyMoves fails the test unless the roots that moved since then all did so as allowed.
func (s *system) onlyMoves(start time.Time, what string, allowed func(m timeline.Move) bool) []timeline.Move {
	s.t.Helper()
	moves := timeline.Since(timeline.BetweenShards(s.line.Moves(s.roots.Resource)), start)
	for _, m := range moves {
		if !allowed(m) {
			s.t.Errorf("%s moved from %s to %s; want only those %s", m.Name, m.From, m.To, what)
		}
	}
	return moves
}

// instance returns a ShardInstance, nil if there is none.
func (s *system) instance(id string) *v1.ShardInstance {
	s.t.Helper()
	i, err := s.shards.ShardV1().ShardInstances(s.ns).Get(s.t.Context(), id, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	s.must(err)
	return i
}

// ringConfig returns the ShardConfig, nil if there is none.
func (s *system) ringConfig(name string) *v1.ShardConfig {
	s.t.Helper()
	c, err := s.shards.ShardV1().ShardConfigs(s.ns).Get(s.t.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	s.must(err)
	return c
}

// condition returns the status and the reason of a condition: "True/Because".
func condition(conditions []metav1.Condition, kind string) string {
	for _, c := range conditions {
		if c.Type == kind {
			return string(c.Status) + "/" + c.Reason
		}
	}
	return ""
}

// phase says whether a shard is in this phase.
func (s *system) phase(id, phase string) func() error {
	return func() error {
		instance := s.instance(id)
		if instance == nil {
			return fmt.Errorf("there is no ShardInstance %s", id)
		}
		return want(instance.Status.Phase == phase, "phase of %s is %q, want %q", id, cmp.Or(instance.Status.Phase, "none"), phase)
	}
}

func ignoreExists(err error) error {
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// lease returns a Lease, nil if there is none.
func (s *system) lease(name string) *coordinationv1.Lease {
	s.t.Helper()
	l, err := s.kube.CoordinationV1().Leases(s.ns).Get(s.t.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	s.must(err)
	return l
}

func encode(data []byte) string { return base64.StdEncoding.EncodeToString(data) }
