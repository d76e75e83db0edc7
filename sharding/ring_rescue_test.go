package sharding

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// ownerships is what the ring has written on each Secret.
func (s *sim) ownerships() map[string]string {
	all := map[string]string{}
	for _, object := range s.server.List(secrets, "", nil) {
		all[object.GetName()] = s.ownership(secrets, object.GetName())
	}
	return all
}

// TestShardConfigDeletedByMistakeIsPutBack does what the manual says: the manager is stopped before it has cleaned up, the finalizer is taken off, and the
// ShardConfig is created again. The owners are the labels, and these are there.
func TestShardConfigDeletedByMistakeIsPutBack(t *testing.T) {
	simulate(t, func(s *sim) {
		create := func() {
			s.config()
			s.edit(configs, simNamespace, simRing, set(true, "spec", "rebalance", "dryRun")) // else it may be evened out some time
		}
		create()
		s.secrets(30)
		m := s.runManager("m1")
		s.worker("a", nil)
		s.worker("b", nil)
		s.settle(time.Minute)
		before := s.ownerships()
		m.kill()
		s.settle(20 * time.Second)
		s.took()
		if err := s.server.Delete(configs, simNamespace, simRing); err != nil {
			t.Fatal(err)
		}
		s.settle(time.Hour)
		wants(s, "reconciles of a ring that is being deleted", s.took(), "")
		s.edit(configs, simNamespace, simRing, func(config *unstructured.Unstructured) { config.SetFinalizers(nil) })
		wants(s, "ShardConfig without a finalizer is there", s.server.Get(configs, simNamespace, simRing) != nil, false)
		create()
		s.runManager("m2")
		s.settle(5 * time.Minute)
		for name, now := range s.ownerships() {
			wants(s, name, now, before[name])
		}
		wants(s, "each is reconciled", len(s.took()) > 0, true)
		s.secret("later", "")
		s.settle(time.Minute)
		wants(s, "what is created later has an owner", s.ownership(secrets, "later") != "", true)
	})
}
