package ctrlruntime

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/shard-io/shard-controller/sharding"
)

func TestBuilderSaysWhatIsMissing(t *testing.T) {
	s := newWorld(t)
	cfg := s.server.Config("a")
	w, err := sharding.NewWorker(cfg, sharding.WorkerOptions{Ring: ring, Namespace: namespace, ID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	mgr := s.manager(cfg, "a", false, nil)
	reconciler := reconcile.Func(func(context.Context, reconcile.Request) (reconcile.Result, error) { return reconcile.Result{}, nil })
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"no worker":     {NewControllerManagedBy(mgr, nil).For(&corev1.Secret{}).Complete(reconciler), "the worker is required"},
		"no kind":       {NewControllerManagedBy(mgr, w).Complete(reconciler), "For is required"},
		"no reconciler": {NewControllerManagedBy(mgr, w).For(&corev1.Secret{}).Complete(nil), "the reconciler is required"},
		"unknown kind":  {NewControllerManagedBy(mgr, w).For(&unknown{}).Complete(reconciler), "unknown"},
	} {
		if tc.err == nil || !strings.Contains(tc.err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, tc.err, tc.want)
		}
	}
	if err := NewControllerManagedBy(mgr, w).For(&corev1.Secret{}).Complete(reconciler); err != nil {
		t.Errorf("with everything: %v", err)
	}
}

// unknown is of no scheme.
type unknown struct{ corev1.Secret }
