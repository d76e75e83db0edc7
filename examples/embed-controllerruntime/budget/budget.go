// Package budget knows which PodDisruptionBudget a Deployment wants.
package budget

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Annotation of a Deployment says how many of its Pods may be away at a time: "1", or "25%".
const Annotation = "budgets.example.com/max-unavailable"

// For returns the budget of a Deployment: its namespace, name and spec. It is nil if there should be none: if the Deployment does not ask for
// one, or has less than two replicas, as its budget would keep a node from being drained for ever. An error means that the
// annotation is not of its form.
func For(d *appsv1.Deployment) (*policyv1.PodDisruptionBudget, error) {
	value := d.Annotations[Annotation]
	if value == "" {
		return nil, nil
	}
	away := intstr.Parse(value)
	pods, err := intstr.GetScaledValueFromIntOrPercent(&away, 100, true)
	if err != nil {
		return nil, fmt.Errorf("annotation %s: %w", Annotation, err)
	}
	if pods < 1 {
		return nil, fmt.Errorf("annotation %s: %q leaves no Pod to evict, must be at least 1 or 1%%", Annotation, value)
	}
	if d.Spec.Replicas == nil || *d.Spec.Replicas < 2 {
		return nil, nil
	}
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: d.Namespace, Name: d.Name},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: d.Spec.Selector.DeepCopy(), MaxUnavailable: &away},
	}, nil
}
