//go:build unix

package conversion

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/ring"
	"github.com/shard-io/shard-controller/sharding"
)

// placed says whether every root is where the ring's table has it: nothing is left to be moved then.
func (s *stage) placed() error {
	table, err := s.table()
	if err != nil {
		return err
	}
	list, err := s.meta.Resource(s.Roots).Namespace(s.Name).List(s.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	keys := ring.NewPrefix(s.Roots.Group, s.Kind)
	for i := range list.Items {
		root := &list.Items[i]
		owner, _ := sharding.OwnerOf(root, s.Name)
		if wanted := table.Owner(keys.Hash(root.Namespace, root.Name)); owner != wanted {
			return fmt.Errorf("%s is on %q, the table has it on %s", root.Name, owner, wanted)
		}
	}
	return nil
}

// table is what the ShardInstances describe together.
func (s *stage) table() (*ring.Ring, error) {
	instances, err := s.shards.ShardV1().ShardInstances(s.Name).List(s.Context(), metav1.ListOptions{LabelSelector: sharding.RingLabel + "=" + s.Name})
	if err != nil {
		return nil, err
	}
	all := make([]*shardv1.ShardInstance, len(instances.Items))
	for i := range instances.Items {
		all[i] = &instances.Items[i]
	}
	return sharding.RingOf(all)
}
