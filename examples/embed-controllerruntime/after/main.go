// Budgets keeps a PodDisruptionBudget for every Deployment that says in an annotation how many of its Pods may be away at a time
// (package budget). Any number of replicas may run.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/shard-io/shard-controller/examples/embed-controllerruntime/budget"
	"github.com/shard-io/shard-controller/sharding"
	"github.com/shard-io/shard-controller/sharding/ctrlruntime"
)

const operator = "budgets"

type options struct{ namespace, id, probes, metrics string }

func main() {
	var o options
	flag.StringVar(&o.namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace of this Pod; default $POD_NAMESPACE")
	flag.StringVar(&o.id, "id", os.Getenv("POD_NAME"), "name of this Pod; default $POD_NAME")
	flag.StringVar(&o.probes, "probe-address", ":8081", "host:port that serves /healthz and /readyz; 0: none")
	flag.StringVar(&o.metrics, "metrics-address", ":8080", "host:port that serves /metrics; 0: none")
	flag.Parse() // with --kubeconfig of controller-runtime
	ctrl.SetLogger(zap.New())
	cfg, err := ctrl.GetConfig()
	if err == nil {
		err = run(ctrl.SetupSignalHandler(), cfg, o)
	}
	if err != nil {
		ctrl.Log.Error(err, "Stopped by an error")
		os.Exit(1)
	}
}

func run(ctx context.Context, cfg *rest.Config, o options) error {
	shard, err := sharding.NewWorker(cfg, sharding.WorkerOptions{Ring: operator, Namespace: o.namespace, ID: o.id})
	if err != nil {
		return err
	}
	mgr, err := ctrl.NewManager(shard.FencedConfig(cfg), ctrl.Options{
		Cache:                  cache.Options{ByObject: ctrlruntime.ByObject(shard, &appsv1.Deployment{}, &policyv1.PodDisruptionBudget{})},
		HealthProbeBindAddress: o.probes, Metrics: server.Options{BindAddress: o.metrics},
	})
	if err != nil {
		return err
	}
	err = ctrlruntime.NewControllerManagedBy(mgr, shard).
		For(&appsv1.Deployment{}).
		Owns(&policyv1.PodDisruptionBudget{}).
		Complete(&reconciler{mgr.GetClient()})
	if err != nil {
		return err
	}
	if err := ctrlruntime.AddToManager(mgr, shard); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

type reconciler struct{ client.Client }

// Reconcile gives a Deployment its budget.
func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var deployment appsv1.Deployment
	if err := r.Get(ctx, request.NamespacedName, &deployment); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err) // the garbage collector deletes the budget
	}
	want, err := budget.For(&deployment)
	if err != nil {
		return ctrl.Result{}, reconcile.TerminalError(err)
	}
	have := &policyv1.PodDisruptionBudget{}
	err = r.Get(ctx, request.NamespacedName, have)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, err
	}
	if exists := err == nil; exists {
		return ctrl.Result{}, r.correct(ctx, &deployment, have, want)
	}
	if want == nil {
		return ctrl.Result{}, nil
	}
	sharding.CopyOwner(want, &deployment, operator)
	if err := ctrl.SetControllerReference(&deployment, want, r.Scheme()); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, r.Create(ctx, want)
}

// correct makes the budget what is wanted.
func (r *reconciler) correct(ctx context.Context, deployment *appsv1.Deployment, have, want *policyv1.PodDisruptionBudget) error {
	switch {
	case !metav1.IsControlledBy(have, deployment):
		return fmt.Errorf("PodDisruptionBudget %s is in the way: the Deployment does not control it", have.Name)
	case want == nil:
		return client.IgnoreNotFound(r.Delete(ctx, have, client.Preconditions{UID: &have.UID}))
	case equality.Semantic.DeepEqual(have.Spec, want.Spec):
		return nil
	}
	have.Spec = want.Spec
	return r.Update(ctx, have)
}
