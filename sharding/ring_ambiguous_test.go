package sharding

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

func TestInstanceThatNamesNoneOfSeveralRings(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		other := s.server.Get(configs, simNamespace, simRing).DeepCopy().Object
		other["metadata"] = map[string]any{"name": "other", "namespace": simNamespace}
		s.create(configs, other)
		s.create(instances, map[string]any{"apiVersion": "shard.io/v1", "kind": "ShardInstance",
			"metadata": map[string]any{"name": "x", "namespace": simNamespace}, "spec": map[string]any{"shardId": "x"}})
		s.runManager("m")
		s.settle(10 * time.Second)
		stalled := meta.FindStatusCondition(s.instance("x").Status.Conditions, shardv1.ConditionStalled)
		if stalled == nil || stalled.Reason != reasonRingAmbiguous || !strings.Contains(stalled.Message, "other, r") {
			t.Fatalf("condition Stalled: %+v", stalled)
		}
		wants(s, "slots", len(s.instance("x").Spec.HashRanges), 0)
		written := func() (n int64) {
			for kind, times := range s.writes("m") {
				if strings.Contains(kind, "shardinstances") {
					n += times
				}
			}
			return n
		}
		before := written()
		s.settle(10 * time.Minute)
		wants(s, "that there were writes to ShardInstances", before > 0, true)
		wants(s, "writes to ShardInstances after a while in which nothing happened", written(), before)

		if err := s.server.Delete(configs, simNamespace, "other"); err != nil {
			t.Fatal(err)
		}
		s.settle(10 * time.Second)
		for _, c := range s.instance("x").Status.Conditions {
			t.Errorf("condition %s %s when there is one ring only, and no worker", c.Type, c.Reason)
		}
	})
}
