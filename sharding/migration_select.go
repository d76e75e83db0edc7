package sharding

import (
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/ring"
)

// chosen says which roots of the source a migration moves.
type chosen struct {
	objects labels.Selector // never nil
	ranges  []ring.Range
	named   map[namedObject]bool // nil: all
	count   int64                // 0: all
}

type namedObject struct {
	resource        schema.GroupResource
	namespace, name string
}

// planError is why a migration makes no sense; nobody but the user can mend it.
type planError struct{ reason, message string }

func (e *planError) Error() string { return e.message }

func badPlan(reason, format string, args ...any) error {
	return &planError{reason, clip(fmt.Sprintf(format, args...))}
}

// selectionOf reads a selection. An error is a planError.
func selectionOf(spec *shardv1.MigrationSelection, targets *targetSet) (*chosen, error) {
	s := &chosen{objects: labels.Everything()}
	if spec == nil {
		return s, nil
	}
	if spec.LabelSelector != nil {
		var err error
		if s.objects, err = metav1.LabelSelectorAsSelector(spec.LabelSelector); err != nil {
			return nil, badPlan("InvalidSelector", "spec.selection.labelSelector: %v", err)
		}
	}
	for i, written := range spec.HashRanges {
		r, err := ring.NewRange(written.Start, written.End)
		if err != nil {
			return nil, badPlan("InvalidSelection", "spec.selection.hashRanges[%d]: %v", i, err)
		}
		s.ranges = append(s.ranges, r)
	}
	if spec.Count != nil {
		s.count = *spec.Count
	}
	for i, object := range spec.Objects {
		resource := schema.GroupResource{Group: object.Group, Resource: object.Resource}
		switch {
		case resource.Resource == "" && len(targets.roots) == 1:
			resource = targets.roots[0].resource.GroupResource()
		case resource.Resource == "":
			return nil, badPlan("InvalidSelection", "spec.selection.objects[%d].resource: must be given, as the ring has %d targets", i, len(targets.roots))
		case targets.root(resource) == nil:
			return nil, badPlan("InvalidSelection", "spec.selection.objects[%d]: %s is no target of the ring", i, resource)
		}
		if s.named == nil {
			s.named = map[namedObject]bool{}
		}
		s.named[namedObject{resource, object.Namespace, object.Name}] = true
	}
	return s, nil
}

func (s *targetSet) root(resource schema.GroupResource) *rootTarget {
	for _, root := range s.roots {
		if root.resource.GroupResource() == resource {
			return root
		}
	}
	return nil
}

// selects says whether the migration moves a root of the source. The count is not looked at.
func (s *chosen) selects(target *rootTarget, root metav1.Object) bool {
	if s.named != nil && !s.named[namedObject{target.resource.GroupResource(), root.GetNamespace(), root.GetName()}] {
		return false
	}
	if !s.objects.Matches(labelsOf(root)) {
		return false
	}
	if len(s.ranges) == 0 {
		return true
	}
	position := int64(target.prefix.Hash(root.GetNamespace(), root.GetName()) >> 32)
	for _, r := range s.ranges {
		if int64(r.Start) <= position && position <= int64(r.End) {
			return true
		}
	}
	return false
}

// nameOf is how a root is called in a status.
func nameOf(target *rootTarget, root metav1.Object) string {
	return strings.Join([]string{target.resource.GroupResource().String(), root.GetNamespace(), root.GetName()}, "/")
}

// checkNamed returns a planError that names the objects that are not where the plan takes them to be.
func (m *migrator) checkNamed(ctx context.Context, source string, s *chosen) error {
	var wrong []string
	for named := range s.named {
		target := m.c.targets.Load().root(named.resource)
		root, err := m.c.get(ctx, target.resource, named.namespace, named.name)
		problem := ""
		if err != nil {
			problem = err.Error()
		} else if owner, owned := OwnerOf(root, m.c.ring); !owned {
			problem = "is no object of the ring"
		} else if owner != source {
			problem = "is owned by " + owner
		}
		if problem != "" {
			wrong = append(wrong, fmt.Sprintf("%s/%s/%s: %s", named.resource, named.namespace, named.name, problem))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return badPlan("ObjectsNotAtSource", "%d of the named objects can't be moved from %s: %s", len(wrong), source, strings.Join(wrong[:min(3, len(wrong))], "; "))
}
