package e2enode

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/shard-io/shard-controller/sharding"
)

const (
	managers = 2
	shipped  = 3 // workers, in the manifests
)

// install applies the manifests as they are.
func (s *story) install() {
	begun := time.Now()
	s.apply(s.render(filepath.Join(deploy, "worker-statefulset")))
	applied := time.Since(begun)
	s.eventually("all Pods are ready", func(ctx context.Context) error {
		if err := s.running("manager", managers)(ctx); err != nil {
			return err
		}
		return s.running("worker", shipped)(ctx)
	})
	ready := time.Since(begun)
	s.eventually("all Secrets have an owner", s.owned(shipped))
	owned := time.Since(begun)
	s.eventually("all Secrets have a report", s.reported)
	s.note("apply of all manifests", "%.1f s", applied.Seconds())
	s.note("from apply to all Pods ready", "%.1f s", ready.Seconds())
	s.note(fmt.Sprintf("from apply to all %d Secrets owned", *count), "%.1f s", owned.Seconds())
	s.note("from apply to all reports written", "%.1f s", time.Since(begun).Seconds())
	s.eventually("nothing moves any more", s.settled)
	owners, err := s.owners(s.Context())
	s.must(err)
	s.note("Secrets of each worker", "%s", share(owners))
}

// definitionsAgain is what an upgrade does to the definitions: nothing that exists is lost, and nothing is written where nothing changes.
func (s *story) definitionsAgain() {
	objects := s.render("../../../apis/crd")
	inventory := func() string {
		configs, err := s.shards.ShardV1().ShardConfigs("").List(s.Context(), metav1.ListOptions{})
		s.must(err)
		instances, err := s.shards.ShardV1().ShardInstances("").List(s.Context(), metav1.ListOptions{})
		s.must(err)
		text := fmt.Sprintf("%d rings", len(configs.Items))
		for _, i := range instances.Items {
			text += fmt.Sprintf(", %s %v", i.Name, i.Spec)
		}
		return text
	}
	before := inventory()
	begun := time.Now()
	for _, o := range objects {
		first := s.applyOne(o.DeepCopy())
		if second := s.applyOne(o.DeepCopy()); second.GetGeneration() != first.GetGeneration() || second.GetResourceVersion() != first.GetResourceVersion() {
			s.Errorf("%s is written again although nothing has changed", o.GetName())
		}
	}
	if after := inventory(); after != before {
		s.Errorf("the objects are others afterwards:\n%s\n%s", before, after)
	}
	s.eventually("all Secrets have an owner", s.owned(*workers))
	if _, total := most(moves(s.line, begun)); total > 0 {
		s.Errorf("%d Secrets have moved", total)
	}
}

// witnesses asks those who have watched all the time.
func (s *story) witnesses() {
	s.must(s.line.Look(s.Context()))
	for _, violation := range s.line.Violations(secrets.Resource) {
		s.Error(violation)
	}
	result, err := s.journals.verdict()
	s.must(err)
	for _, overlap := range result.Overlaps {
		s.Errorf("two at once: %s", overlap)
	}
	for _, r := range result.Regressions {
		s.Errorf("the epoch of %s goes back: %s, then %s", r.Key, r.Earlier, r.Later)
	}
	if result.Objects < *count || result.Acts == 0 {
		s.Errorf("the journals have %d objects and %d writes: they are no witnesses", result.Objects, result.Acts)
	}
	_, total := most(moves(s.line, time.Time{}))
	s.note("reconciles, writes, moves", "%d, %d, %d", result.Runs, result.Acts, total)
	s.note("two shards at one object, epochs that went back", "%d, %d", len(result.Overlaps), len(result.Regressions))
}

// uninstall does it in the order that docs/install.md gives.
func (s *story) uninstall() {
	begun := time.Now()
	s.must(s.shards.ShardV1().ShardConfigs(namespace).Delete(s.Context(), ringName, metav1.DeleteOptions{}))
	s.eventually("the ring is gone", func(ctx context.Context) error {
		_, err := s.shards.ShardV1().ShardConfigs(namespace).Get(ctx, ringName, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("the ShardConfig is there: %v", err)
	})
	s.clean()
	ring := time.Since(begun)
	objects := s.render(filepath.Join(deploy, "worker-deployment-scaled")) // which has all that was applied
	for n := len(objects) - 1; n >= 0; n-- {
		resource, err := s.resource(objects[n])
		s.must(err)
		policy := metav1.DeletePropagationForeground
		if err := resource.Delete(s.Context(), objects[n].GetName(), metav1.DeleteOptions{PropagationPolicy: &policy}); err != nil && !apierrors.IsNotFound(err) {
			s.Fatalf("%s %s: %v", objects[n].GetKind(), objects[n].GetName(), err)
		}
	}
	s.eventually("nothing is left", s.nothingLeft)
	s.note("ring deleted, rest deleted", "%.1f s, %.1f s", ring.Seconds(), (time.Since(begun) - ring).Seconds())
}

// clean wants no trace of the ring on the objects.
func (s *story) clean() {
	for _, resource := range []string{"secrets", "configmaps"} {
		gvr := secrets
		gvr.Resource = resource
		list, err := s.meta.Resource(gvr).Namespace(site).List(s.Context(), metav1.ListOptions{})
		s.must(err)
		if len(list.Items) < *count {
			s.Errorf("%d %s are left, want at least %d", len(list.Items), resource, *count)
		}
		for _, o := range list.Items {
			for _, trace := range []map[string]string{o.Labels, o.Annotations} {
				for key := range trace {
					if strings.Contains(key, "shard.io/"+ringName) {
						s.Fatalf("%s %s has %s", resource, o.Name, key)
					}
				}
			}
			for _, finalizer := range o.Finalizers {
				s.Errorf("%s %s has the finalizer %s", resource, o.Name, finalizer)
			}
		}
	}
	if sharding.OwnerLabel(ringName) != "shard.io/"+ringName {
		s.Fatal("the names of the labels have changed")
	}
}

// nothingLeft is a condition: what was applied is gone, with all that came of it.
func (s *story) nothingLeft(ctx context.Context) error {
	for _, o := range append(s.render(filepath.Join(deploy, "worker-deployment-scaled")), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": map[string]any{"name": "worker", "namespace": namespace},
	}}) {
		resource, err := s.resource(o)
		if err != nil {
			continue // its definition is gone
		}
		if _, err := resource.Get(ctx, o.GetName(), metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
		}
	}
	leases, err := s.kube.CoordinationV1().Leases(namespace).List(ctx, metav1.ListOptions{})
	if err == nil && len(leases.Items) > 0 {
		err = fmt.Errorf("%d Leases are left, among them %s", len(leases.Items), leases.Items[0].Name)
	}
	return err
}
