package sharding

import (
	"context"
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// ask asks a shard whether it has taken over what it has been given by now.
func (s *sim) ask(shard string) {
	s.Helper()
	newest := versions{}
	for _, object := range s.server.List(secrets, "ns", ShardSelector(simRing, shard)) {
		newest.raise("secrets", object.GetResourceVersion())
	}
	instance := s.server.Get(instances, simNamespace, shard).DeepCopy()
	annotations := instance.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[verifyAnnotation] = newest.String()
	instance.SetAnnotations(annotations)
	if _, err := s.server.Update(instances, instance, ""); err != nil {
		s.Fatal(err)
	}
}

// answers reports whether a shard has answered what it was asked, and what.
func (s *sim) answers(shard string) (verified, bool) {
	instance := s.instance(shard)
	v, ok := verifiedOf(instance)
	return v, ok && v.covers(verifyRequest(instance))
}

func TestShardAnswersWhenItHasTakenObjectsOver(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secret("quick", "a")
		s.secret("slow", "a")
		s.secret("hopeless", "a")
		s.worker("a", nil)
		s.worker("b", func(ctx context.Context, key types.NamespacedName) (Result, error) {
			switch key.Name {
			case "slow":
				time.Sleep(10 * time.Second)
			case "hopeless":
				return Result{}, TerminalError(errors.New("it is beyond help"))
			}
			return Result{}, nil
		})
		s.settle(5 * time.Second)
		before := s.writes("b")
		s.label(secrets, "quick", DrainLabel(simRing), "b")
		s.settle(time.Second)
		s.ask("b")
		s.settle(100 * time.Millisecond)
		v, ok := s.answers("b")
		wants(s, "b has answered for the quick one", ok, true)
		wants(s, "failures", v.Failed, 0)
		s.label(secrets, "slow", DrainLabel(simRing), "b")
		s.label(secrets, "hopeless", DrainLabel(simRing), "b")
		s.settle(time.Second)
		s.ask("b")
		s.settle(5 * time.Second)
		_, ok = s.answers("b")
		wants(s, "b answers while it is at the slow one", ok, false)
		s.settle(5 * time.Second)
		v, ok = s.answers("b")
		wants(s, "b has answered", ok, true)
		wants(s, "failures", v.Failed, 1)
		wants(s, "what has failed", v.Objects[0].Name+": "+v.Objects[0].Message, "hopeless: it is beyond help")
		s.settle(time.Minute)
		wants(s, "answers that were written", s.writes("b")["patch shardinstances "]-before["patch shardinstances "], 2)
	})
}

// A cache shows an object before the handlers are called with it. Who answered in between would say of an object that it has been taken over, of which
// nothing is known but that it is there.
func TestShardAnswersForWhatItsHandlersHaveHeard(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secret("o", "a")
		w := s.worker("a", func(_ context.Context, key types.NamespacedName) (Result, error) {
			if key.Name == "late" {
				return Result{}, TerminalError(errors.New("it is beyond help"))
			}
			return Result{}, nil
		})
		s.settle(5 * time.Second)
		p, verifier := w.processors[0], newVerifier(w.Worker)
		want := versions{"secrets": s.server.Get(secrets, "ns", "o").GetResourceVersion()}
		wants(s, "answers", verifier.done(want), true)

		late := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "late", ResourceVersion: "1000000", Labels: map[string]string{OwnerLabel(simRing): "a"}}}
		if err := w.cache.GetStore().Add(late); err != nil {
			s.Fatal(err)
		}
		w.cache.GetStore().Bookmark("1000000")
		want["secrets"] = "1000000"
		wants(s, "the cache is complete up to", reached(w.cache), "1000000")
		wants(s, "answers before the handlers were called", verifier.done(want), false)
		p.OnAdd(late, false)
		s.settle(time.Second)
		wants(s, "answers then", verifier.done(want), true)
		if failures := p.arrivals.failures(); len(failures) != 1 || failures[0].Name != "late" {
			s.Errorf("failures: %+v", failures)
		}
	})
}
