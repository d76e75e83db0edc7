//go:build unix

package conversion

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shard-io/shard-controller/internal/timeline"
	"github.com/shard-io/shard-controller/sharding"
	"github.com/shard-io/shard-controller/sharding/fence"
)

// Run has the example play on a real control plane. The test's package needs controlplane.Main. There must be one such test in a
// package: the operator before looks at all namespaces.
func Run(t *testing.T, e *Example) {
	if testing.Short() {
		t.Skip("runs a control plane")
	}
	p := e.build(t)
	t.Run("from one leader to shards and back", func(t *testing.T) { e.newStage(t, p).rollOver() })
	t.Run("join, stop, kill", func(t *testing.T) { e.newStage(t, p).joinStopKill() })
}

// rollOver rolls the operator over to shards while it is busy, and back. No two processes act on an object at once, whichever version
// they are of.
func (s *stage) rollOver() {
	s.apply("before/rbac.yaml")
	s.must(s.change(s.Context(), 0, 0))
	s.operator(s.programs.before, "old-1", "old-2")
	s.eventually("the old version has done its work", s.done)
	stop := s.churn()

	s.apply("after/rbac.yaml", "after/manager.yaml", "after/ring.yaml")
	s.record()
	s.manager("--election-lease="+s.Name, "--election-lease-duration=15s")
	s.operator(s.programs.after, "new-1", "new-2")
	s.eventually("the shards have joined", func() error {
		list, err := s.shards.ShardV1().ShardInstances(s.Name).List(s.Context(), metav1.ListOptions{})
		return firstError(err, want(len(list.Items) == 2, "%d have", len(list.Items)))
	})
	s.throughout(2*time.Second, "nobody owns anything while the old version works", s.ownedBy(""))
	s.stop("old-1") // now the other one leads, or the ring's manager
	s.stop("old-2")
	s.settled("new-1", "new-2")
	stop()
	s.eventually("the shards have done their work", s.done)
	s.judgeLabels()

	rings := s.shards.ShardV1().ShardConfigs(s.Name)
	stop = s.churn()
	s.operator(s.programs.before, "old-3")
	s.must(rings.Delete(s.Context(), s.Name, metav1.DeleteOptions{}))
	s.eventually("the ring is gone", func() error {
		_, err := rings.Get(s.Context(), s.Name, metav1.GetOptions{})
		return firstError(ignoreNotFound(err), want(err != nil, "it is still there"))
	})
	s.must(s.ownedBy("")())
	s.stop("new-1")
	s.stop("new-2")
	if n := s.judgeJournals("old-3").Runs; n > 0 {
		s.Errorf("the old version has made %d reconciles while the ring's manager had its Lease", n)
	}
	s.stop("manager")
	s.eventually("the old version works again", func() error {
		return want(s.judgeJournals("old-3").Acts > 0, "it has written nothing")
	})
	stop()
	s.eventually("the old version has done its work again", s.done)
	all, shards := s.judgeJournals(), s.judgeJournals("new-1", "new-2")
	if shards.Objects != objects {
		s.Errorf("the shards have reconciled %d objects, want %d", shards.Objects, objects)
	}
	s.Logf("%d reconciles with %d writes, by the old version and by shards", all.Runs, all.Acts)
}

// joinStopKill has three shards share the objects, and another one join; then one is stopped, and one is killed. All the time they have work.
func (s *stage) joinStopKill() {
	s.apply("after/rbac.yaml", "after/manager.yaml", "after/ring.yaml")
	s.fence()
	s.must(s.change(s.Context(), 0, 0))
	s.record()
	s.manager()
	s.operator(s.programs.after, "shard-1", "shard-2", "shard-3")
	s.settled("shard-1", "shard-2", "shard-3")
	stop := s.churn()

	begun := time.Now()
	s.operator(s.programs.after, "shard-4")
	s.settled("shard-1", "shard-2", "shard-3", "shard-4")
	s.onlyMoves(begun, "to shard-4", func(m timeline.Move) bool { return m.To == "shard-4" && !m.Asked.IsZero() })
	begun = time.Now()
	s.stop("shard-3")
	s.must(s.ownedBy("shard-1", "shard-2", "shard-4")()) // when the process is gone, so are its objects
	s.onlyMoves(begun, "from shard-3, by request", func(m timeline.Move) bool { return m.From == "shard-3" && !m.Asked.IsZero() })
	begun = time.Now()
	s.processes["shard-2"].Kill()
	s.settled("shard-1", "shard-4")
	s.onlyMoves(begun, "from shard-2, as it is dead", func(m timeline.Move) bool { return m.From == "shard-2" && m.Asked.IsZero() })

	stop()
	s.eventually("every object was reconciled as it is now", s.done)
	s.judgeLabels()
	result := s.judgeJournals()
	for _, r := range result.Regressions {
		s.Errorf("epoch of %s goes back: %s, then %s", r.Key, r.Earlier, r.Later)
	}
	if result.Objects != objects {
		s.Errorf("the journals know %d objects, want %d", result.Objects, objects)
	}
	s.Logf("%d reconciles with %d writes, %d moves; two at once: %d", result.Runs, result.Acts,
		len(timeline.BetweenShards(s.line.Moves(s.Roots.Resource))), len(result.Overlaps))
}

// fence makes the API server refuse what a shard may not write.
func (s *stage) fence() {
	s.Helper()
	config, err := s.shards.ShardV1().ShardConfigs(s.Name).Get(s.Context(), s.Name, metav1.GetOptions{})
	s.must(err)
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	s.must(fence.Install(ctx, s.kube, config, fence.Options{
		Managers: []string{fence.ServiceAccount(s.Name, "manager")}, Workers: []string{fence.ServiceAccount(s.Name, s.Name)},
	}))
}

// settled waits until exactly these shards own all roots, each some, and the children are with them.
func (s *stage) settled(shards ...string) {
	s.Helper()
	s.eventually(fmt.Sprintf("all is with %v", shards), s.ownedBy(shards...))
	s.eventually("everything is where the table has it", s.placed)
	s.eventually("every root has its child on its shard", s.together)
}

// ownedBy says whether exactly these own all roots, each some, and none is on its way. The empty name is that of nobody.
func (s *stage) ownedBy(shards ...string) func() error {
	return func() error {
		list, err := s.meta.Resource(s.Roots).Namespace(s.Name).List(s.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		count := map[string]int{}
		for i := range list.Items {
			owner, _ := sharding.OwnerOf(&list.Items[i], s.Name)
			if _, moving := sharding.DrainTargetOf(&list.Items[i], s.Name); moving {
				owner = "moving"
			}
			count[owner]++
		}
		got, wanted := slices.Sorted(maps.Keys(count)), slices.Sorted(slices.Values(shards))
		return want(len(list.Items) == objects && slices.Equal(got, wanted), "owners of %d are %v, want %v", len(list.Items), count, wanted)
	}
}

// together says whether every root has a child, and that the owner of the root.
func (s *stage) together() error {
	children, err := s.meta.Resource(s.Children).Namespace(s.Name).List(s.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	owners := map[string]string{}
	for i := range children.Items {
		if root := metav1.GetControllerOf(&children.Items[i]); root != nil {
			owners[root.Name], _ = sharding.OwnerOf(&children.Items[i], s.Name)
		}
	}
	roots, err := s.meta.Resource(s.Roots).Namespace(s.Name).List(s.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := range roots.Items {
		root := &roots.Items[i]
		owner, _ := sharding.OwnerOf(root, s.Name)
		if child, exists := owners[root.Name]; !exists || child != owner {
			return fmt.Errorf("%s is on %q; its child exists: %t, on %q", root.Name, owner, exists, child)
		}
	}
	return nil
}

func (s *stage) done() error { return s.Done(s.Context(), s.kube, s.Name) }

// onlyMoves fails the test unless there were moves since then, and all of them are allowed.
func (s *stage) onlyMoves(since time.Time, what string, allowed func(timeline.Move) bool) {
	s.Helper()
	moves := timeline.Since(timeline.BetweenShards(s.line.Moves(s.Roots.Resource)), since)
	if len(moves) == 0 {
		s.Errorf("nothing moved; want moves %s", what)
	}
	for _, m := range moves {
		if !allowed(m) {
			s.Errorf("%s moved from %s to %s; want only moves %s", m.Name, m.From, m.To, what)
		}
	}
}

// want makes an error of a condition that does not hold.
func want(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
