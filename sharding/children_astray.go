package sharding

import (
	"context"
	"errors"
	"maps"
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

// errUnlearned: what other processes of this shard have given away could not be read.
var errUnlearned = errors.New("the children that an earlier process of this shard has handed over are not known yet")

// recall adds to the children that this shard has those that it gave away in earlier attempts to hand the root over, be that this process or one
// before, as they are now.
func (d *drainer) recall(ctx context.Context, root types.UID, children []*childObject) ([]*childObject, error) {
	d.mu.Lock()
	lent := d.lent[root]
	unknown := d.inherited.has(root)
	d.mu.Unlock()
	if unknown {
		return nil, errUnlearned
	}
	lent = slices.DeleteFunc(slices.Clone(lent), func(child *childObject) bool { return slices.ContainsFunc(children, child.is) }) // it is back
	lent, err := d.reread(ctx, root, lent)
	return append(children, lent...), err
}

// reread returns children of a root as they are now, without those that are gone. With an error it returns them as they were.
func (d *drainer) reread(ctx context.Context, root types.UID, children []*childObject) ([]*childObject, error) {
	var now []*childObject
	for _, child := range children {
		meta, err := d.p.w.objects(child.resource, child.meta.Namespace).Get(ctx, child.meta.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && (meta.UID != child.meta.UID || !isChildOf(meta, root)) {
			continue
		}
		if err != nil {
			return children, err
		}
		now = append(now, &childObject{child.resource, meta})
	}
	return now, nil
}

// remember notes the children of a root that an attempt to hand it over, which is to be repeated, has come across, besides those of earlier ones. Any of
// them may have been given away, also one for which the API server has not answered.
func (d *drainer) remember(root types.UID, children []*childObject) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, child := range children {
		if !slices.ContainsFunc(d.lent[root], child.is) {
			d.lent[root] = append(d.lent[root], child)
		}
	}
}

// inheritance are the roots that were on their way when this process began to act, or had been before they were to stay. Another process of this shard
// may have given children of theirs away, to where they were to go then.
type inheritance struct {
	roots map[types.UID]types.NamespacedName
}

func (i *inheritance) has(root types.UID) bool {
	if i == nil {
		return false
	}
	_, has := i.roots[root]
	return has
}

// inheritedRoots returns those of which it is not known yet where their children are.
func (d *drainer) inheritedRoots() []types.NamespacedName {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inherited == nil {
		return nil
	}
	return slices.Collect(maps.Values(d.inherited.roots))
}

// inherit is told, before this process acts, which roots the shard has, and which of them are an inheritance.
func (d *drainer) inherit(ours, moving map[types.UID]types.NamespacedName) {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.lent, func(root types.UID, _ []*childObject) bool {
		_, has := ours[root]
		return !has
	})
	maps.DeleteFunc(d.returned, func(root types.UID, _ versions) bool {
		_, has := ours[root]
		return !has
	})
	d.returning.Store(int64(len(d.returned)))
	d.inherited = nil
	if len(moving) > 0 && len(d.p.target.controlled) > 0 {
		d.inherited = &inheritance{moving}
	}
}

// learn finds out which children of the roots that it inherited other processes of this shard have given away.
func (d *drainer) learn(ctx context.Context) error {
	d.mu.Lock()
	inherited := d.inherited
	d.mu.Unlock()
	if inherited == nil {
		return nil
	}
	away, err := d.away(ctx, inherited.roots)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inherited != inherited {
		return nil // it acts anew, and others may have done so in between
	}
	for uid, children := range away {
		d.lent[uid] = append(d.lent[uid], children...)
	}
	d.inherited = nil
	return nil
}

// away returns the children of roots of this shard that other shards have.
func (d *drainer) away(ctx context.Context, roots map[types.UID]types.NamespacedName) (map[types.UID][]*childObject, error) {
	away, wanted := map[types.UID][]*childObject{}, uidsOf(roots)
	namespace := commonNamespace(slices.Collect(maps.Values(roots)))
	others := ownedByOthers(d.p.w.options.Ring, d.p.w.options.ID).String()
	for _, resource := range d.p.target.controlled {
		if _, err := d.list(ctx, resource, namespace, others, wanted, away); err != nil {
			return nil, err
		}
	}
	return away, nil
}

// cameBack notes that a root stays, and the versions of its children. Some may have been away a moment ago.
func (d *drainer) cameBack(root types.UID, children []*childObject) {
	awaited := versions{}
	for _, child := range children {
		resource := child.resource.GroupResource().String()
		if informer := d.p.target.childInformers[resource]; informer != nil && newerThan(child.meta.ResourceVersion, reached(informer)) {
			awaited.raise(resource, child.meta.ResourceVersion)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if delete(d.returned, root); len(awaited) > 0 {
		d.returned[root] = awaited
	}
	d.returning.Store(int64(len(d.returned)))
}

// isBack says whether the caches show the children of a root that stays.
func (d *drainer) isBack(root types.UID) bool {
	if d.returning.Load() == 0 {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for resource, version := range d.returned[root] {
		if newerThan(version, reached(d.p.target.childInformers[resource])) {
			return false
		}
	}
	delete(d.returned, root)
	d.returning.Store(int64(len(d.returned)))
	return true
}

func (d *drainer) forgetLent(root types.UID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.lent, root)
}

func isChildOf(child metav1.Object, root types.UID) bool {
	controller := metav1.GetControllerOfNoCopy(child)
	return controller != nil && controller.UID == root
}

func (d *drainer) isAway(child *childObject) bool {
	owner, _ := OwnerOf(child.meta, d.p.w.options.Ring)
	return owner != d.p.w.options.ID
}

// homeOf returns the shard that a child has to go back to, if it is astray: neither with its root, nor gone ahead of it.
func (s *ringScope) homeOf(child, root metav1.Object) (owner string, astray bool) {
	at, _ := OwnerOf(child, s.ring)
	owner, owned := OwnerOf(root, s.ring)
	target, draining := DrainTargetOf(root, s.ring)
	return owner, owned && at != owner && !(draining && at == target) && s.placer.load().isLive(owner)
}
