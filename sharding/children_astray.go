package sharding

import (
	"context"
	"errors"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Children go ahead of their root. When the manager names another target after they went, or takes the request back, they are on a shard
// that does not get the root, and their former owner can't fetch them: they are not its own any more. The manager brings
// them home; until then the root rests, for whoever reconciled it would not see them.

// errAstray: a child went to a shard that is not to have its root any more.
var errAstray = errors.New("a child is on a shard that does not get its root; waiting until the manager brings it back")

// recall adds to the children that this shard has those that it gave away in earlier attempts to hand the root over, as they are now.
func (d *drainer) recall(ctx context.Context, root types.UID, children []*childObject) ([]*childObject, error) {
	d.mu.Lock()
	lent := d.lent[root]
	d.mu.Unlock()
	for _, child := range lent {
		isIt := func(other *childObject) bool { return other.meta.UID == child.meta.UID }
		if slices.ContainsFunc(children, isIt) {
			continue // it is back
		}
		meta, err := d.p.w.objects(child.resource, child.meta.Namespace).Get(ctx, child.meta.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && meta.UID != child.meta.UID {
			continue
		}
		if err != nil {
			return nil, err
		}
		children = append(children, &childObject{child.resource, meta})
	}
	return children, nil
}

// remember notes which children of a root are not on this shard after an attempt to hand it over that is to be repeated.
func (d *drainer) remember(root types.UID, children []*childObject) {
	var lent []*childObject
	for _, child := range children {
		if !d.isOurs(child) {
			lent = append(lent, child)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if delete(d.lent, root); len(lent) > 0 {
		d.lent[root] = lent
	}
}

func (d *drainer) forgetLent(root types.UID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.lent, root)
}

func (d *drainer) isOurs(child *childObject) bool {
	owner, _ := OwnerOf(child.meta, d.p.w.options.Ring)
	return owner == d.p.w.options.ID
}

// homeOf returns the shard that a child has to go back to, if it is astray: neither with its root, nor gone ahead of it.
func (s *ringScope) homeOf(child, root metav1.Object) (owner string, astray bool) {
	at, _ := OwnerOf(child, s.ring)
	owner, owned := OwnerOf(root, s.ring)
	target, draining := DrainTargetOf(root, s.ring)
	return owner, owned && at != owner && !(draining && at == target) && s.placer.load().isLive(owner)
}
