package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/ring"
	"github.com/shard-io/shard-controller/sharding"
)

// placed says whether every root is where the ring's table has it: the table as
// the ShardInstances have it, which anybody can read. Then there is nothing
// left to move.
func (s *system) placed() error {
	table, err := s.table()
	if err != nil {
		return err
	}
	list, err := s.meta.Resource(s.roots).List(s.t.Context(), metav1.ListOptions{LabelSelector: sharding.AnyShard(s.ring).String()})
	if err != nil {
		return err
	}
	keys := ring.NewPrefix(s.roots.Group, s.rootKind)
	for i := range list.Items {
		root := &list.Items[i]
		owner, _ := sharding.OwnerOf(root, s.ring)
		if wanted := table.Owner(keys.Hash(root.Namespace, root.Name)); owner != wanted {
			return fmt.Errorf("%s/%s is on %s, the table has it on %s", root.Namespace, root.Name, owner, wanted)
		}
	}
	return nil
}

// table is the slot table that the ShardInstances describe together.
func (s *system) table() (*ring.Ring, error) {
	instances, err := s.shards.ShardV1().ShardInstances(s.ns).List(s.t.Context(), metav1.ListOptions{LabelSelector: sharding.RingLabel + "=" + s.ring})
	if err != nil {
		return nil, err
	}
	all := make([]*v1.ShardInstance, len(instances.Items))
	for i := range instances.Items {
		all[i] = &instances.Items[i]
	}
	return sharding.RingOf(all)
}

// churn keeps the workers busy: it goes on replacing certificates, some twenty
// a second, so that reports have to be written anew, until the function that it
// returns is called.
func (s *system) churn(prefix string, n int) (stop func()) {
	s.t.Helper()
	data, err := certificate()
	s.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	var busy sync.WaitGroup
	busy.Go(func() {
		for ctx.Err() == nil {
			name := fmt.Sprintf("%s-%03d", prefix, rand.IntN(n))
			// A chain with the root in it, or without: the report says which.
			patch := fmt.Sprintf(`{"data":{"ca.crt":%q}}`, encode(data["ca.crt"][:rand.IntN(2)*len(data["ca.crt"])]))
			_, _ = s.kube.CoreV1().Secrets(s.ns).Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	stop = sync.OnceFunc(func() { cancel(); busy.Wait() })
	s.t.Cleanup(stop)
	return stop
}
