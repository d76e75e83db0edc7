//go:build unix

package deploy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/generated/clientset/versioned"
)

// people asks the API server what those may do with rings who have one of the cluster's own roles. No controller runs here that would add
// the shipped roles to those, so what their selectors select is bound instead.
func people(c *cluster) {
	const read, write = "get list watch", "create update patch delete"
	allowed := map[string]map[string]string{ // by role and resource
		"view": {
			"shardconfigs": read, "shardconfigs/scale": read, "shardconfigs/status": read, "shardinstances": read, "shardinstances/status": read,
			"shardmigrations": read, "shardmigrations/status": read, "leases": read,
		},
		"edit":  {"shardmigrations": write, "shardinstances": "update patch", "shardconfigs/scale": "update patch"},
		"admin": {"shardconfigs": write, "shardinstances": "create delete"},
	}
	maps.Copy(allowed["edit"], merged(allowed["view"], allowed["edit"]))
	maps.Copy(allowed["admin"], merged(allowed["edit"], allowed["admin"]))
	all, err := c.kube.RbacV1().ClusterRoles().List(c.Context(), metav1.ListOptions{})
	c.must(err)
	for name, resources := range allowed {
		role, err := c.kube.RbacV1().ClusterRoles().Get(c.Context(), name, metav1.GetOptions{})
		c.must(err)
		if role.AggregationRule == nil {
			c.Fatalf("the cluster's role %s is not made of others", name)
		}
		granted := map[string]bool{}
		for i := range all.Items {
			if !strings.HasPrefix(all.Items[i].Name, "shard-") || !selected(c, role.AggregationRule, &all.Items[i]) {
				continue
			}
			for _, rule := range all.Items[i].Rules {
				for _, resource := range rule.Resources {
					for _, verb := range rule.Verbs {
						granted[verb+" "+resource] = true
					}
				}
			}
		}
		want := map[string]bool{}
		for resource, verbs := range resources {
			for _, verb := range strings.Fields(verbs) {
				want[verb+" "+resource] = true
			}
		}
		if !maps.Equal(granted, want) {
			c.Errorf("%s: granted is %v, want %v", name, slices.Sorted(maps.Keys(granted)), slices.Sorted(maps.Keys(want)))
		}
	}
}

// merged has the verbs of both for each resource.
func merged(a, b map[string]string) map[string]string {
	sum := maps.Clone(a)
	for resource, verbs := range b {
		sum[resource] = strings.TrimSpace(sum[resource] + " " + verbs)
	}
	return sum
}

// selected says whether the cluster adds a role to the one with this rule.
func selected(c *cluster, rule *rbacv1.AggregationRule, role *rbacv1.ClusterRole) bool {
	return slices.ContainsFunc(rule.ClusterRoleSelectors, func(s metav1.LabelSelector) bool {
		selector, err := metav1.LabelSelectorAsSelector(&s)
		c.must(err)
		return selector.Matches(labels.Set(role.Labels))
	})
}

// strangers holds a worker, whose credential somebody else has, to its own Lease and ShardInstance.
func strangers(c *cluster) {
	for _, name := range []string{"worker-0", "worker-1", "shard-manager"} {
		_, err := c.kube.CoordinationV1().Leases("audit").Create(c.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		c.must(err)
		defer func() {
			c.must(c.kube.CoordinationV1().Leases("audit").Delete(c.Context(), name, metav1.DeleteOptions{}))
		}()
	}
	cfg, err := c.plane.PodConfig(c.Context(), "audit", "worker", "worker-0")
	c.must(err)
	kube, err := kubernetes.NewForConfig(cfg)
	c.must(err)
	shards, err := versioned.NewForConfig(cfg)
	c.must(err)
	leases, dry := kube.CoordinationV1().Leases("audit"), []string{metav1.DryRunAll}
	get := func(name string) error {
		_, err := leases.Get(c.Context(), name, metav1.GetOptions{})
		return err
	}
	remove := func(name string) error {
		return leases.Delete(c.Context(), name, metav1.DeleteOptions{DryRun: dry})
	}
	createLease := func(name string) error {
		_, err := leases.Create(c.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{DryRun: dry})
		return err
	}
	createInstance := func(name string) error {
		_, err := shards.ShardV1().ShardInstances("audit").Create(c.Context(), &shardv1.ShardInstance{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: shardv1.ShardInstanceSpec{ShardID: name, Ring: ringName},
		}, metav1.CreateOptions{DryRun: dry})
		return err
	}
	list := func(string) error {
		_, err := leases.List(c.Context(), metav1.ListOptions{})
		return err
	}
	c.eventually("the fence is in force", func() error {
		if err := createLease("any"); !apierrors.IsForbidden(err) {
			return fmt.Errorf("creating a Lease: %w", err)
		}
		return nil
	})
	const rbac, fence = "cannot", "[OtherShard]"
	for _, tc := range []struct {
		what    string
		do      func(string) error
		name    string
		refused string // by what; empty: it is done
	}{
		{"read its own Lease", get, "worker-0", ""},
		{"read that of another worker", get, "worker-1", ""}, // one Role for all: docs/install.md
		{"read that of the managers", get, "shard-manager", rbac},
		{"list Leases", list, "", rbac},
		{"delete its own Lease", remove, "worker-0", ""},
		{"delete that of another worker", remove, "worker-1", fence},
		{"delete that of the managers", remove, "shard-manager", rbac},
		{"create the Lease of another worker", createLease, "worker-2", fence},
		{"create a Lease of any name", createLease, "any", fence},
		{"create its own ShardInstance", createInstance, "worker-0", ""},
		{"create that of another", createInstance, "worker-1", fence},
	} {
		err := tc.do(tc.name)
		if tc.refused == "" && err != nil || tc.refused != "" && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), tc.refused)) {
			c.Errorf("worker-0 is to %s: error %v, want %q", tc.what, err, tc.refused)
		}
	}
	c.forget()
}
