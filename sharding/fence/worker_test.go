package fence_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/shard-io/shard-controller/apis/crd"
	"github.com/shard-io/shard-controller/generated/clientset/versioned"
	"github.com/shard-io/shard-controller/internal/controlplane"
	"github.com/shard-io/shard-controller/sharding"
	"github.com/shard-io/shard-controller/sharding/fence"
	"github.com/shard-io/shard-controller/sharding/internal/fencing"
)

// TestWorkerMissesAPolicy runs workers where a part of the fence was taken away, one that requires the fence and one that does not.
func TestWorkerMissesAPolicy(t *testing.T) {
	plane := controlplane.ForTest(t)
	if err := crd.Install(t.Context(), plane.Config()); err != nil {
		t.Fatal(err)
	}
	for what, tc := range map[string]struct {
		removed func(namespace, ring string) string // name of the policy that goes
		probe   *coordinationv1.Lease               // what it refuses
		want    string                              // status and reason of the condition
	}{
		"nothing":         {nil, nil, "True InForce"},
		"for-objects":     {fencing.Policy, fencing.ProbeLease("auditor", sharding.OwnerLabel("auditor")), "False NotInForce"},
		"for-shards":      {fencing.Shards, fencing.StrangersLease(), "False ShardsNotInForce"},
		"binding-shards":  {fencing.Shards, fencing.StrangersLease(), "False ShardsNotInForce"},
		"binding-objects": {fencing.Policy, fencing.ProbeLease("auditor", sharding.OwnerLabel("auditor")), "False NotInForce"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := newGuardedRing(t, plane, "misses-"+what+"-"+strings.ToLower(rand.Text()[:8])) // it can be repeated
			missing := ""
			if tc.removed != nil {
				missing = tc.removed(r.namespace, "auditor")
				r.remove(missing, strings.HasPrefix(what, "binding"), tc.probe)
			}
			if tc.removed == nil {
				r.run("w-0", true)
				r.eventually("the condition "+tc.want, func() error { return r.condition("w-0", tc.want, "") })
				return
			}
			r.run("w-0", false)
			select {
			case err := <-r.run("w-1", true):
				if !errors.Is(err, sharding.ErrUnfenced) || !strings.Contains(err.Error(), missing) {
					t.Errorf("Start returned %v", err)
				}
			case <-time.After(patience):
				t.Error("a worker that requires the fence goes on without")
			}
			r.eventually("the condition "+tc.want, func() error { return r.condition("w-0", tc.want, missing) })
		})
	}
}

// patience bounds the waits: a worker looks every 30 s whether there is something to report.
const patience = 2 * time.Minute

// guardedRing is a ring with a fence, and an account of its workers that may do anything.
type guardedRing struct {
	*testing.T
	plane     *controlplane.ControlPlane
	kube      kubernetes.Interface
	shards    versioned.Interface
	namespace string
}

func newGuardedRing(t *testing.T, plane *controlplane.ControlPlane, namespace string) *guardedRing {
	t.Helper()
	r := &guardedRing{T: t, plane: plane, namespace: namespace, shards: versioned.NewForConfigOrDie(plane.Config())}
	kube, config, o := fencedRing(t, namespace)
	config.Spec.Targets[0].Controlled = nil
	r.kube = kube
	_, err := kube.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: namespace}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: "worker"}},
	}, metav1.CreateOptions{})
	r.must(err)
	_, err = r.shards.ShardV1().ShardConfigs(namespace).Create(t.Context(), config, metav1.CreateOptions{})
	r.must(err)
	o.Workers = []string{fence.ServiceAccount(namespace, "worker")}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r.must(fence.Install(ctx, kube, config, o))
	t.Cleanup(func() { r.must(fence.Uninstall(context.Background(), kube, namespace, config.Name)) })
	return r
}

func (r *guardedRing) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *guardedRing) eventually(what string, condition func() error) {
	r.Helper()
	for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		err := condition()
		if err == nil {
			return
		}
		if time.Since(begun) > patience {
			r.Fatalf("never: %s: %v", what, err)
		}
	}
}

func (r *guardedRing) pod(name string) *rest.Config {
	r.Helper()
	cfg, err := r.plane.PodConfig(r.Context(), r.namespace, "worker", name)
	r.must(err)
	return cfg
}

// remove deletes a policy, or only its binding, and waits until the API server has noticed.
func (r *guardedRing) remove(policy string, binding bool, refused *coordinationv1.Lease) {
	r.Helper()
	if api := r.kube.AdmissionregistrationV1(); binding {
		r.must(api.ValidatingAdmissionPolicyBindings().Delete(r.Context(), policy, metav1.DeleteOptions{}))
	} else {
		r.must(api.ValidatingAdmissionPolicies().Delete(r.Context(), policy, metav1.DeleteOptions{}))
	}
	worker := kubernetes.NewForConfigOrDie(r.pod("w-0"))
	r.eventually("what "+policy+" has refused is accepted", func() error {
		_, err := worker.CoordinationV1().Leases(r.namespace).Create(r.Context(), refused, metav1.CreateOptions{DryRun: dry})
		return err
	})
}

// run runs a worker until the end of the test; its error is sent.
func (r *guardedRing) run(pod string, required bool) <-chan error {
	r.Helper()
	cfg := r.pod(pod)
	worker, err := sharding.NewWorker(cfg, sharding.WorkerOptions{Ring: "auditor", Namespace: r.namespace, ID: pod, RequireFence: required, StopTimeout: time.Second})
	r.must(err)
	factory := informers.NewSharedInformerFactoryWithOptions(kubernetes.NewForConfigOrDie(cfg), 0, informers.WithTweakListOptions(worker.TweakListOptions))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	done := make(chan struct{})
	r.Cleanup(func() {
		cancel()
		<-done
	})
	go func() {
		defer close(done)
		nothing := func(context.Context, types.NamespacedName) (sharding.Result, error) { return sharding.Result{}, nil }
		ended <- worker.Run(ctx, factory.Core().V1().Secrets().Informer(), nothing)
	}()
	return ended
}

// condition wants this status and reason of the condition of a shard, and the name of the policy that is missing in its message.
func (r *guardedRing) condition(shard, want, missing string) error {
	instance, err := r.shards.ShardV1().ShardInstances(r.namespace).Get(r.Context(), shard, metav1.GetOptions{})
	if err != nil {
		return err
	}
	c := meta.FindStatusCondition(instance.Status.Conditions, "FenceEnforced")
	if c == nil || string(c.Status)+" "+c.Reason != want || !strings.Contains(c.Message, missing) {
		return fmt.Errorf("the condition is %+v", c)
	}
	return nil
}
