package e2e

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shard-io/shard-controller/sharding"

	"github.com/shard-io/shard-controller/internal/timeline"
)

func TestGenerateName(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.start("w-1", "w-2")
	for range 30 {
		secret := s.newSecret("")
		secret.GenerateName = "generated-"
		s.create(secret)
	}
	s.settled("w-1", "w-2")
}

func TestNamespaceDeleted(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	manager, _ := s.start("w-1", "w-2")
	second := s.ns + "-2"
	s.createNamespace(second)
	s.createSecrets("stays", 20)
	for i := range 20 {
		secret := s.newSecret(fmt.Sprintf("goes-%03d", i))
		secret.Namespace = second
		s.create(secret)
	}
	s.settled("w-1", "w-2")
	s.startWorker("w-3") // some are on their way meanwhile
	s.must(s.plane.FinalizeNamespace(t.Context(), second))
	s.createSecrets("new", 20)
	s.settled("w-1", "w-2", "w-3")
	for _, p := range s.processes {
		if !p.Running() {
			t.Errorf("%s has ended", p.name)
		}
	}
	s.eventually("the manager has nothing to do", func() error {
		unowned, moving := manager.metric("shard_controller_unowned_objects"), manager.metric("shard_controller_moves_in_flight")
		return want(unowned == 0 && moving == 0, "%v unowned, %v moving", unowned, moving)
	})
}

// Somebody has restored objects of another time, or edited the label: it names
// a shard that does not exist, or could not.
func TestOwnerThatDoesNotExist(t *testing.T) {
	t.Parallel()
	s := newSystem(t, unfenced)
	s.start("w-1", "w-2")
	s.createSecrets("tls", 10)
	s.settled("w-1", "w-2")
	created := time.Now()
	for i, owner := range []string{"ghost", "ghost", "Not.A_Shard"} {
		secret := s.newSecret(fmt.Sprintf("stray-%d", i))
		secret.Labels[sharding.OwnerLabel(s.ring)] = owner
		s.create(secret)
	}
	s.settled("w-1", "w-2")
	for _, m := range timeline.Since(s.line.Moves("secrets"), created) {
		if m.From == "ghost" && m.At.Sub(created) < lease-time.Second {
			t.Errorf("%s was taken from an unknown shard after %s; it might have been about to join", m.Name, m.At.Sub(created))
		}
	}
}

func TestChildrenWithoutLabelAreAdopted(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	early := s.create(s.newSecret("early"))
	s.createChild("early-child", "Secret", early.ObjectMeta) // from before the ring
	s.start("w-1", "w-2")
	s.createSecrets("tls", 20)
	s.settled("w-1", "w-2")
	late, err := s.kube.CoreV1().Secrets(s.ns).Get(t.Context(), "tls-000", metav1.GetOptions{})
	s.must(err)
	s.createChild("late-child", "Secret", late.ObjectMeta) // from code that forgot the label
	account, err := s.kube.CoreV1().ServiceAccounts(s.ns).Get(t.Context(), "worker", metav1.GetOptions{})
	s.must(err)
	s.createChild("foreign-child", "ServiceAccount", account.ObjectMeta) // of what is no target
	for _, name := range []string{"early", "late"} {
		s.eventually("the "+name+" child is with its root", func() error {
			child, err := s.kube.CoreV1().ConfigMaps(s.ns).Get(t.Context(), name+"-child", metav1.GetOptions{})
			if err != nil {
				return err
			}
			root, err := s.kube.CoreV1().Secrets(s.ns).Get(t.Context(), child.OwnerReferences[0].Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			on, _ := sharding.OwnerOf(child, s.ring)
			wanted, _ := sharding.OwnerOf(root, s.ring)
			return want(on != "" && on == wanted, "it is on %q, its root on %q", on, wanted)
		})
	}
	foreign, err := s.kube.CoreV1().ConfigMaps(s.ns).Get(t.Context(), "foreign-child", metav1.GetOptions{})
	s.must(err)
	if on, labelled := sharding.OwnerOf(foreign, s.ring); labelled {
		t.Errorf("the child of what is no target of the ring was given to %s", on)
	}
}

// createChild makes a ConfigMap that is controlled by the owner, and has no label.
func (s *system) createChild(name, kind string, owner metav1.ObjectMeta) {
	s.t.Helper()
	controller := metav1.NewControllerRef(&owner, schema.GroupVersionKind{Version: "v1", Kind: kind})
	_, err := s.kube.CoreV1().ConfigMaps(s.ns).Create(s.t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: []metav1.OwnerReference{*controller}},
	}, metav1.CreateOptions{})
	s.must(err)
}
