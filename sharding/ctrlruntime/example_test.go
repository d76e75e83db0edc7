package ctrlruntime_test

import (
	"context"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/shard-io/shard-controller/sharding"
	"github.com/shard-io/shard-controller/sharding/ctrlruntime"
)

// reporter is a reconciler as any other: it writes a report for each Secret. CopyOwner is what it does for the ring.
type reporter struct{ client.Client }

func (r *reporter) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	var secret corev1.Secret
	if err := r.Get(ctx, request.NamespacedName, &secret); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	report := &corev1.ConfigMap{}
	report.Namespace, report.Name = secret.Namespace, secret.Name+"-report"
	if err := ctrl.SetControllerReference(&secret, report, r.Scheme()); err != nil {
		return reconcile.Result{}, err
	}
	sharding.CopyOwner(report, &secret, "auditor")
	return reconcile.Result{}, client.IgnoreAlreadyExists(r.Create(ctx, report))
}

// A whole operator. What sharding adds are the lines with w.
func Example() {
	run := func(ctx context.Context, cfg *rest.Config) error {
		w, err := sharding.NewWorker(cfg, sharding.WorkerOptions{Ring: "auditor", Namespace: "audit", ID: os.Getenv("POD_NAME")})
		if err != nil {
			return err
		}
		mgr, err := ctrl.NewManager(w.FencedConfig(cfg), ctrl.Options{
			Cache: cache.Options{ByObject: ctrlruntime.ByObject(w, &corev1.Secret{}, &corev1.ConfigMap{})},
		})
		if err != nil {
			return err
		}
		err = ctrlruntime.NewControllerManagedBy(mgr, w).
			For(&corev1.Secret{}).
			Owns(&corev1.ConfigMap{}).
			Complete(&reporter{mgr.GetClient()})
		if err != nil {
			return err
		}
		if err := ctrlruntime.AddToManager(mgr, w); err != nil {
			return err
		}
		return mgr.Start(ctx)
	}
	os.Unsetenv("POD_NAME")
	fmt.Println(run(context.Background(), &rest.Config{Host: "http://127.0.0.1:1"}) != nil)
	// Output: true
}
