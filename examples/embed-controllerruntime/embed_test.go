//go:build unix

package embed

import (
	"context"
	"fmt"
	"os"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/shard-io/shard-controller/examples/embed-controllerruntime/budget"
	"github.com/shard-io/shard-controller/examples/internal/conversion"
	"github.com/shard-io/shard-controller/internal/controlplane"
)

func TestMain(m *testing.M) { os.Exit(controlplane.Main(m)) }

// TestDocumented: with -update it writes the difference into the documentation.
func TestDocumented(t *testing.T) {
	conversion.Documented(t, "examples/embed-controllerruntime", "../../docs/embedding.md",
		[]string{"main.go", "rbac.yaml"}, nil, []string{"manager.yaml", "ring.yaml"})
}

func TestBudgets(t *testing.T) {
	conversion.Run(t, &conversion.Example{
		Name: "budgets", Root: "../..", Witnessed: []string{"func run(", "func (r *reconciler) Reconcile("},
		Flags:    []string{"--probe-address=127.0.0.1:0", "--metrics-address=0"},
		Kind:     "Deployment",
		Roots:    appsv1.SchemeGroupVersion.WithResource("deployments"),
		Children: policyv1.SchemeGroupVersion.WithResource("poddisruptionbudgets"),
		Change:   ask, Done: budgeted,
	})
}

// ask creates a Deployment, or changes what it asks for.
func ask(ctx context.Context, kube kubernetes.Interface, namespace, name string, n int) error {
	away := fmt.Sprintf("%d%%", 10+n%50)
	deployments := kube.AppsV1().Deployments(namespace)
	for {
		d, err := deployments.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			_, err = deployments.Create(ctx, newDeployment(name, away), metav1.CreateOptions{})
			return err
		}
		if err != nil {
			return err
		}
		metav1.SetMetaDataAnnotation(&d.ObjectMeta, budget.Annotation, away)
		if _, err = deployments.Update(ctx, d, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
			return err
		}
	}
}

func newDeployment(name, away string) *appsv1.Deployment {
	labels, replicas := map[string]string{"app": name}, int32(3)
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{budget.Annotation: away}}}
	d.Spec.Replicas, d.Spec.Selector, d.Spec.Template.Labels = &replicas, &metav1.LabelSelector{MatchLabels: labels}, labels
	d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "app", Image: "example.com/app:1"}}
	return d
}

// budgeted says whether every Deployment has the budget that it asks for.
func budgeted(ctx context.Context, kube kubernetes.Interface, namespace string) error {
	deployments, err := kube.AppsV1().Deployments(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := range deployments.Items {
		d := &deployments.Items[i]
		want, err := budget.For(d)
		if err != nil {
			return err
		}
		have, err := kube.PolicyV1().PodDisruptionBudgets(namespace).Get(ctx, want.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if !equality.Semantic.DeepEqual(have.Spec, want.Spec) || !metav1.IsControlledBy(have, d) {
			return fmt.Errorf("PodDisruptionBudget %s is not that of the Deployment", have.Name)
		}
	}
	return nil
}
