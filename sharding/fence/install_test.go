package fence_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/internal/controlplane"
	"github.com/shard-io/shard-controller/sharding"
	"github.com/shard-io/shard-controller/sharding/fence"
)

// fencedRing is a ring for the Secrets of a namespace of its own.
func fencedRing(t *testing.T, name string) (kubernetes.Interface, *shardv1.ShardConfig, fence.Options) {
	t.Helper()
	kube := kubernetes.NewForConfigOrDie(controlplane.ForTest(t).Config())
	_, err := kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config := auditor()
	config.Namespace = name
	config.Spec.Targets[0].NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: name}}
	o := fence.Options{Managers: []string{"manager-of-" + name}, Shards: map[string]string{"worker-of-" + name: "a"}}
	return kube, config, o
}

func owned(name string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{sharding.OwnerLabel("auditor"): "a"}}}
}

func TestInstallAndUninstall(t *testing.T) {
	kube, config, o := fencedRing(t, "come-and-go")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	secrets := kube.CoreV1().Secrets(config.Namespace)
	for round := range 3 { // what Install has waited for counts at once, and so it does for Uninstall
		if _, err := secrets.Create(ctx, owned(fmt.Sprintf("before-%d", round)), metav1.CreateOptions{}); err != nil {
			t.Fatalf("round %d: without a fence: %v", round, err)
		}
		for range 2 {
			if err := fence.Install(ctx, kube, config, o); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := secrets.Create(ctx, owned("x"), metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
			t.Fatalf("round %d: with the fence: %v", round, err)
		}
		for range 2 {
			if err := fence.Uninstall(ctx, kube, config.Namespace, config.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestInstallSaysWhatIsWrong(t *testing.T) {
	kube, config, o := fencedRing(t, "goes-wrong")
	if err := fence.Install(t.Context(), kube, config, fence.Options{}); err == nil {
		t.Error("installed without identities")
	}
	config.Namespace = "no-such-namespace"
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := fence.Install(ctx, kube, config, o)
	if !apierrors.IsNotFound(err) {
		t.Errorf("a namespace that does not exist: %v", err)
	}
	_ = kube.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Delete(ctx, fence.Name(config.Namespace, config.Name), metav1.DeleteOptions{})
	_ = kube.AdmissionregistrationV1().ValidatingAdmissionPolicies().Delete(ctx, fence.Name(config.Namespace, config.Name), metav1.DeleteOptions{})
}

// TestRestoreLabels replaces objects without the ring's labels: refused without the policy that restores them, done with it.
func TestRestoreLabels(t *testing.T) {
	kube, config, o := fencedRing(t, "restored")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	secrets := kube.CoreV1().Secrets(config.Namespace)
	full := owned("s")
	full.Labels["drain.shard.io/auditor"], full.Labels["mine"] = "b", "1"
	full.Annotations = map[string]string{"epoch.shard.io/auditor": "7"}
	if _, err := secrets.Create(ctx, full, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	bare := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Data: map[string][]byte{"k": []byte("v")}}
	if err := fence.Install(ctx, kube, config, o); err != nil {
		t.Fatal(err)
	}
	if _, err := secrets.Update(ctx, bare, metav1.UpdateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("replaced without labels: %v", err)
	}
	o.RestoreLabels = true
	if err := fence.Install(ctx, kube, config, o); err != nil {
		t.Fatal(err)
	}
	var got *corev1.Secret
	var err error
	for { // Install waits for what refuses, not for this
		if got, err = secrets.Update(ctx, bare, metav1.UpdateOptions{}); err == nil || ctx.Err() != nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Data["k"]) != "v" || len(got.Labels) != 2 || got.Labels["shard.io/auditor"] != "a" || got.Labels["drain.shard.io/auditor"] != "b" ||
		got.Annotations["epoch.shard.io/auditor"] != "7" {
		t.Errorf("labels %v, annotations %v, data %v", got.Labels, got.Annotations, got.Data)
	}
	wrong := owned("s")
	wrong.Labels[sharding.OwnerLabel("auditor")] = "b"
	if _, err := secrets.Update(ctx, wrong, metav1.UpdateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("replaced with another owner: %v", err)
	}
	o.RestoreLabels = false
	if err := fence.Install(ctx, kube, config, o); err != nil {
		t.Fatal(err)
	}
	if _, err := kube.AdmissionregistrationV1().MutatingAdmissionPolicies().Get(ctx, fence.Name(config.Namespace, config.Name), metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the policy that restores is still there: %v", err)
	}
	if err := fence.Uninstall(ctx, kube, config.Namespace, config.Name); err != nil {
		t.Fatal(err)
	}
}
