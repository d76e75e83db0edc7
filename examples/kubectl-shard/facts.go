package main

import (
	"context"
	"slices"
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// configs lists the rings of a namespace, or of all.
func (c *cluster) configs(ctx context.Context, namespace string) ([]shardv1.ShardConfig, error) {
	list, err := c.shards.ShardConfigs(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, request{"list", shardResource("shardconfigs"), namespace, ""}.failed(err)
	}
	return list.Items, nil
}

func (c *cluster) config(ctx context.Context, namespace, name string) (*shardv1.ShardConfig, error) {
	config, err := c.shards.ShardConfigs(namespace).Get(ctx, name, metav1.GetOptions{})
	return config, request{"get", shardResource("shardconfigs"), namespace, name}.failed(err)
}

// ringConfig returns the ring that is meant: that of --ring, or the only one of the namespace. Commands that change nothing also look in the
// other namespaces: the objects of a ring are often elsewhere than the ring.
func (s *session) ringConfig(ctx context.Context, elsewhere bool) (*shardv1.ShardConfig, error) {
	in, name, qualified := strings.Cut(s.ring, "/")
	if qualified {
		return s.config(ctx, in, name)
	}
	var wrong error
	for _, namespace := range []string{s.cluster.namespace, ""} {
		list, err := s.configs(ctx, namespace)
		if err != nil {
			if wrong != nil && apierrors.IsForbidden(err) {
				return nil, wrong // it was worth a try
			}
			return nil, err
		}
		if s.ring != "" {
			list = slices.DeleteFunc(list, func(c shardv1.ShardConfig) bool { return c.Name != s.ring })
		}
		if len(list) == 1 {
			return &list[0], nil
		}
		if wrong = s.ambiguous(list); len(list) > 1 || !elsewhere {
			break
		}
	}
	return nil, wrong
}

// ambiguous says why the ring is not clear.
func (s *session) ambiguous(list []shardv1.ShardConfig) error {
	names := make([]string, len(list))
	for i, c := range list {
		names[i] = c.Namespace + "/" + c.Name
	}
	switch {
	case len(list) > 1:
		return usagef("--ring: there are several, choose one of %s", strings.Join(names, ", "))
	case s.ring != "":
		return usagef("--ring: there is no ShardConfig %q in namespace %q", s.ring, s.cluster.namespace)
	}
	return usagef("--namespace: there is no ShardConfig in namespace %q", s.cluster.namespace)
}

// ringFacts are what is known of a ring and its shards.
type ringFacts struct {
	config    *shardv1.ShardConfig
	instances []shardv1.ShardInstance // in order of their names
	leases    map[string]*coordinationv1.Lease
}

// facts reads what there is about a ring. Leases are read only if they are wanted, as few people may.
func (c *cluster) facts(ctx context.Context, config *shardv1.ShardConfig, leases bool) (*ringFacts, error) {
	f := &ringFacts{config: config, leases: map[string]*coordinationv1.Lease{}}
	list, err := c.shards.ShardInstances(config.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, request{"list", shardResource("shardinstances"), config.Namespace, ""}.failed(err)
	}
	rings := 0 // of the namespace; asked for only if it matters
	for _, instance := range list.Items {
		if instance.Spec.Ring == "" && rings == 0 {
			all, err := c.configs(ctx, config.Namespace)
			if err != nil {
				return nil, err
			}
			rings = len(all)
		}
		if instance.Spec.Ring == config.Name || instance.Spec.Ring == "" && rings == 1 {
			f.instances = append(f.instances, instance)
		}
	}
	slices.SortFunc(f.instances, func(a, b shardv1.ShardInstance) int { return strings.Compare(a.Name, b.Name) })
	if !leases {
		return f, nil
	}
	f.leases, err = c.ringLeases(ctx, config)
	return f, err
}

func (c *cluster) ringLeases(ctx context.Context, config *shardv1.ShardConfig) (map[string]*coordinationv1.Lease, error) {
	list, err := c.kube.CoordinationV1().Leases(config.Namespace).List(ctx, metav1.ListOptions{LabelSelector: shardv1.RingLabel + "=" + config.Name})
	if err != nil {
		return nil, request{"list", coordinationv1.Resource("leases"), config.Namespace, ""}.failed(err)
	}
	leases := make(map[string]*coordinationv1.Lease, len(list.Items))
	for i := range list.Items {
		leases[list.Items[i].Name] = &list.Items[i]
	}
	return leases, nil
}

// instance returns a shard by name; nil if there is none.
func (f *ringFacts) instance(name string) *shardv1.ShardInstance {
	i, ok := slices.BinarySearchFunc(f.instances, name, func(i shardv1.ShardInstance, name string) int { return strings.Compare(i.Name, name) })
	if !ok {
		return nil
	}
	return &f.instances[i]
}

// names of the shards, in order.
func (f *ringFacts) names() []string {
	names := make([]string, len(f.instances))
	for i := range f.instances {
		names[i] = f.instances[i].Name
	}
	return names
}
