package fence_test

import (
	"context"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/shard-io/shard-controller/apis/crd"
	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/generated/clientset/versioned"
	"github.com/shard-io/shard-controller/internal/controlplane"
	"github.com/shard-io/shard-controller/sharding/fence"
	"github.com/shard-io/shard-controller/sharding/internal/fencing"
)

// member is somebody who writes to Leases and ShardInstances. All that it asks for is a dry run.
type member struct {
	kube   kubernetes.Interface
	shards versioned.Interface
}

func newMember(t *testing.T, cfg *rest.Config) member {
	t.Helper()
	return member{kubernetes.NewForConfigOrDie(cfg), versioned.NewForConfigOrDie(cfg)}
}

var dry = []string{metav1.DryRunAll}

// The writes that workers and managers make, each to something of this name.
var shardWrites = map[string]func(ctx context.Context, m member, ns, name string) error{
	"create lease": func(ctx context.Context, m member, ns, name string) error {
		lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}}
		_, err := m.kube.CoordinationV1().Leases(ns).Create(ctx, lease, metav1.CreateOptions{DryRun: dry})
		return err
	},
	"update lease": func(ctx context.Context, m member, ns, name string) error {
		lease, err := m.kube.CoordinationV1().Leases(ns).Get(ctx, name, metav1.GetOptions{})
		if err == nil {
			lease.Annotations = map[string]string{"x": "y"}
			_, err = m.kube.CoordinationV1().Leases(ns).Update(ctx, lease, metav1.UpdateOptions{DryRun: dry})
		}
		return err
	},
	"patch lease": func(ctx context.Context, m member, ns, name string) error {
		_, err := m.kube.CoordinationV1().Leases(ns).Patch(ctx, name, types.MergePatchType, []byte(`{"spec":{"holderIdentity":"x"}}`), metav1.PatchOptions{DryRun: dry})
		return err
	},
	"delete lease": func(ctx context.Context, m member, ns, name string) error {
		return m.kube.CoordinationV1().Leases(ns).Delete(ctx, name, metav1.DeleteOptions{DryRun: dry})
	},
	"delete leases": func(ctx context.Context, m member, ns, name string) error {
		return m.kube.CoordinationV1().Leases(ns).DeleteCollection(ctx, metav1.DeleteOptions{DryRun: dry}, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	},
	"create instance": func(ctx context.Context, m member, ns, name string) error {
		_, err := m.shards.ShardV1().ShardInstances(ns).Create(ctx, instanceOf(name), metav1.CreateOptions{DryRun: dry})
		return err
	},
	"patch instance": func(ctx context.Context, m member, ns, name string) error {
		_, err := m.shards.ShardV1().ShardInstances(ns).Patch(ctx, name, types.MergePatchType, []byte(`{"spec":{"draining":true}}`), metav1.PatchOptions{DryRun: dry})
		return err
	},
	"patch status": func(ctx context.Context, m member, ns, name string) error {
		_, err := m.shards.ShardV1().ShardInstances(ns).Patch(ctx, name, types.MergePatchType, []byte(`{"status":{"version":"x"}}`), metav1.PatchOptions{DryRun: dry}, "status")
		return err
	},
	"delete instance": func(ctx context.Context, m member, ns, name string) error {
		return m.shards.ShardV1().ShardInstances(ns).Delete(ctx, name, metav1.DeleteOptions{DryRun: dry})
	},
}

func instanceOf(name string) *shardv1.ShardInstance {
	return &shardv1.ShardInstance{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: shardv1.ShardInstanceSpec{ShardID: name, Ring: "auditor"}}
}

// TestWorkersKeepToTheirShard wants workers, who may write all Leases and ShardInstances as far as RBAC is concerned, refused where
// those are not of their shard, and nobody else hindered.
func TestWorkersKeepToTheirShard(t *testing.T) {
	plane := controlplane.ForTest(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(crd.Install(ctx, plane.Config()))
	admin := newMember(t, plane.Config())
	var names [2]string
	for i := range names {
		made, err := admin.kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "members-"}}, metav1.CreateOptions{})
		must(err)
		name := made.Name
		names[i] = name
		for _, shard := range []string{"w-0", "w-1", "outside", "shard-manager"} {
			_, err := admin.kube.CoordinationV1().Leases(name).Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: shard}}, metav1.CreateOptions{})
			must(err)
			_, err = admin.shards.ShardV1().ShardInstances(name).Create(ctx, instanceOf(shard), metav1.CreateOptions{})
			must(err)
		}
	}
	ns, elsewhere := names[0], names[1]
	members := map[string]member{"admin": admin}
	for _, pod := range []string{"w-0", "w-new"} {
		cfg, err := plane.PodConfig(ctx, ns, "worker", pod)
		must(err)
		members[pod] = newMember(t, cfg)
	}
	for user, groups := range map[string][]string{
		"members-outside": {"system:masters"}, "members-unbound": {"system:masters"}, "members-manager": {"system:masters"},
	} {
		cfg, err := plane.UserConfig(user, groups...)
		must(err)
		members[strings.TrimPrefix(user, "members-")] = newMember(t, cfg)
	}
	_, err := admin.kube.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: ns + "-do-anything"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: ns, Name: "worker"}},
	}, metav1.CreateOptions{})
	must(err)
	must(wait.PollUntilContextCancel(ctx, 20*time.Millisecond, true, func(ctx context.Context) (bool, error) { // the API server hears of it by a watch
		_, err := members["w-0"].kube.CoordinationV1().Leases(ns).Get(ctx, "w-0", metav1.GetOptions{})
		return err == nil, nil
	}))

	config := auditor()
	config.Namespace = ns
	options := fence.Options{
		Managers: []string{"members-manager"}, Workers: []string{fence.ServiceAccount(ns, "worker"), "members-unbound"},
		Shards: map[string]string{"members-outside": "outside"},
	}
	existing := []string{"update lease", "patch lease", "delete lease", "delete leases", "patch instance", "patch status", "delete instance"}
	creating := []string{"create lease", "create instance"}
	tests := []struct {
		who, ns, name string
		writes        []string
		want          string
	}{
		{"w-0", ns, "w-0", existing, ""},
		{"w-0", ns, "w-1", existing, "OtherShard"},
		{"w-0", ns, "shard-manager", existing, "OtherShard"},
		{"w-0", ns, "nobody-yet", creating, "OtherShard"},
		{"w-new", ns, "w-new", creating, ""},
		{"w-0", elsewhere, "w-1", existing, ""}, // RBAC's affair
		{"outside", ns, "outside", existing, ""},
		{"outside", ns, "w-0", existing, "OtherShard"},
		{"unbound", ns, "w-0", existing, "Unbound"},
		{"unbound", ns, "nobody-yet", creating, "Unbound"},
		{"manager", ns, "w-0", existing, ""},
		{"manager", ns, "nobody-yet", creating, ""},
		{"admin", ns, "shard-manager", existing, ""},
		{"admin", ns, "nobody-yet", creating, ""},
	}
	done := map[string]bool{}
	play := func(fenced bool) {
		t.Helper()
		for _, tc := range tests {
			for _, write := range tc.writes {
				done[write] = true
				err := shardWrites[write](ctx, members[tc.who], tc.ns, tc.name)
				switch {
				case !fenced || tc.want == "":
					if err != nil {
						t.Errorf("fenced: %t: %s: %s %s/%s: %v", fenced, tc.who, write, tc.ns, tc.name, err)
					}
				case err == nil || !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `fence of ring "auditor" [`+tc.want+"]: "):
					t.Errorf("%s: %s %s/%s: error %v, want %s", tc.who, write, tc.ns, tc.name, err, tc.want)
				}
			}
		}
	}
	play(false)
	if len(done) != len(shardWrites) {
		t.Fatalf("%d kinds of writes were tried of %d", len(done), len(shardWrites))
	}
	must(fence.Install(ctx, admin.kube, config, options))
	defer func() {
		if err := fence.Uninstall(context.Background(), admin.kube, ns, config.Name); err != nil {
			t.Error(err)
		}
	}()
	play(true)

	// What a worker asks the fence with gets the fence's answer, whichever policy is evaluated first.
	for range 10 {
		_, err := members["w-0"].kube.CoordinationV1().Leases(ns).Create(ctx, fencing.ProbeLease("auditor", "shard.io/auditor"), metav1.CreateOptions{DryRun: dry})
		if err == nil || !strings.Contains(err.Error(), fencing.ProbeAnswer("auditor", "w-0")) {
			t.Errorf("the probe: %v", err)
		}
	}
	_, err = members["w-0"].kube.CoordinationV1().Leases(ns).Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "fence-probe.another"}}, metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("a Lease that is named like a probe, and no dry run: %v", err)
	}
}
