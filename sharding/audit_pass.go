package sharding

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// auditPass looks once at every object of the ring, a page at a time.
type auditPass struct {
	*auditor
	settings auditSettings
	dwell    auditDwell
	targets  *targetSet
	begun    time.Time
	held     time.Duration // for which it held back
	judge    judge
	live     []string
	served   map[string]map[schema.GroupResource]servedHoldings
	writes   *batch
	result   *auditResult
}

func newAuditPass(a *auditor, settings auditSettings) *auditPass {
	return &auditPass{
		auditor: a, settings: settings, dwell: settings.dwell(), targets: a.c.targets.Load(), begun: time.Now(),
		writes: &batch{gate: a.c.gate}, result: &auditResult{generation: settings.generation, gaps: gapCounts{}},
	}
}

// run returns nil if every object has been looked at.
func (p *auditPass) run(ctx context.Context) error {
	p.suspicions.begin()
	if err := p.shards(ctx); err != nil {
		return err
	}
	err := p.objects(ctx)
	_ = p.writes.wait() // what could not be mended is a gap still
	p.result.at = time.Now()
	p.result.took = p.result.at.Sub(p.begun) - p.held
	p.result.atLeast = p.suspicions.beyond > 0
	return err
}

// shards reads all Leases of the ring.
func (p *auditPass) shards(ctx context.Context) error {
	leases, err := p.leases.Leases(p.c.namespace).List(ctx, metav1.ListOptions{LabelSelector: RingLabel + "=" + p.c.ring})
	if err != nil {
		return fmt.Errorf("list Leases: %w", err)
	}
	now := time.Now()
	p.witness.observe(now, leases.Items)
	p.judge = judge{ring: p.c.ring, lives: func(shard string) liveness { return p.witness.lives(now, shard, p.dwell.grace) }}
	for i := range leases.Items {
		if name := leases.Items[i].Name; p.judge.lives(name) == livenessLive {
			p.live = append(p.live, name)
		}
	}
	return nil
}

// reports reads all ShardInstances of the ring: what the shards report right now.
func (p *auditPass) reports(ctx context.Context) error {
	list, err := p.c.shards.ShardV1().ShardInstances(p.c.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list ShardInstances: %w", err)
	}
	configs, err := p.c.configs.List(labels.Everything())
	if err != nil {
		return err
	}
	p.judge.served, p.served = servedSets{}, map[string]map[schema.GroupResource]servedHoldings{}
	for i := range list.Items {
		if belongsTo(&list.Items[i], p.c.ring, len(configs)) {
			p.listen(&list.Items[i])
		}
	}
	return nil
}

func (p *auditPass) listen(instance *shardv1.ShardInstance) {
	served, speaks := servedBy(instance)
	if !speaks {
		return
	}
	p.judge.served[instance.Name] = map[schema.GroupResource]bool{}
	p.served[instance.Name] = map[schema.GroupResource]servedHoldings{}
	for resource, s := range served {
		p.judge.served[instance.Name][resource] = true
		p.served[instance.Name][resource] = servedHoldings{s.Held, s.Sketch}
	}
}

var errTooManyRoots = errors.New("more roots than can be indexed")

// objects looks at roots and children. If there are too many roots for the index, it goes through the children in parts, and
// lists the roots again for each.
func (p *auditPass) objects(ctx context.Context) error {
	for part := uint64(0); part < p.parts; part++ {
		index := newRootIndex()
		for _, target := range p.targets.roots {
			err := p.roots(ctx, target, index, part)
			if errors.Is(err, errTooManyRoots) {
				p.parts *= 2
			}
			if err != nil {
				return fmt.Errorf("%s: %w", target.resource.GroupResource(), err)
			}
		}
		for _, resource := range p.targets.children {
			if err := p.children(ctx, resource, index, part); err != nil {
				return fmt.Errorf("%s: %w", resource.GroupResource(), err)
			}
		}
	}
	return nil
}

// roots looks at all roots of a target, and adds those of the part to the index. They are judged along with the first part.
func (p *auditPass) roots(ctx context.Context, target *rootTarget, index *rootIndex, part uint64) error {
	visit := func(root *metav1.PartialObjectMetadata, selected bool) error {
		p.index(index, part, selected, root)
		if index.size() > p.indexed {
			return errTooManyRoots
		}
		return nil
	}
	if part > 0 {
		return p.eachRoot(ctx, target, func() {}, visit)
	}
	if err := p.reports(ctx); err != nil {
		return err
	}
	r := p.newHearing(target)
	err := p.eachRoot(ctx, target, r.spoil, func(root *metav1.PartialObjectMetadata, selected bool) error {
		p.result.objects++
		p.look(ctx, target, selected, root)
		r.note(root)
		return visit(root, selected)
	})
	if err != nil {
		return err
	}
	r.close(ctx)
	return nil
}

// eachRoot visits every object that is one of the target's or looks like one. Whether it is selected is not known of all while the
// namespaces are not: those are left out. expired is called when the lists are not of one moment.
func (p *auditPass) eachRoot(ctx context.Context, target *rootTarget, expired func(), visit func(root *metav1.PartialObjectMetadata, selected bool) error) error {
	err := p.each(ctx, target.resource, target.objects.String(), expired, func(root *metav1.PartialObjectMetadata) error {
		selected := p.c.namespaces.selects(target, root.Namespace)
		if !selected && !p.c.namespaces.excludes(target, root.Namespace) {
			return nil
		}
		if _, owned := OwnerOf(root, p.c.ring); !selected && !owned {
			return nil
		}
		return visit(root, selected)
	})
	if err != nil || target.objects.Empty() {
		return err
	}
	// The others are of interest if they have an owner all the same.
	return p.each(ctx, target.resource, AnyShard(p.c.ring).String(), expired, func(root *metav1.PartialObjectMetadata) error {
		if target.objects.Matches(labelsOf(root)) {
			return nil
		}
		return visit(root, false)
	})
}

// each lists objects, no faster than the audit may.
func (p *auditPass) each(ctx context.Context, resource schema.GroupVersionResource, selector string, expired func(), visit func(*metav1.PartialObjectMetadata) error) error {
	list := listing{objects: p.c.client.Resource(resource), selector: selector, expired: expired}
	_, err := list.each(ctx, func(page []metav1.PartialObjectMetadata) error {
		due := time.Now().Add(time.Duration(len(page)) * time.Second / time.Duration(p.rate))
		for i := range page {
			if err := visit(&page[i]); err != nil {
				return err
			}
		}
		if wait := time.Until(due); wait > 0 {
			p.held += wait
			pause(ctx, wait)
		}
		return ctx.Err()
	})
	return err
}

// index adds a root whose children are to be with it.
func (p *auditPass) index(index *rootIndex, part uint64, selected bool, root *metav1.PartialObjectMetadata) {
	object := elementOf(root.UID)
	owner, owned := OwnerOf(root, p.c.ring)
	_, draining := DrainTargetOf(root, p.c.ring)
	if len(p.targets.children) > 0 && uint64(object)%p.parts == part && selected && owned && !draining && p.judge.lives(owner) == livenessLive {
		index.add(object, owner)
	}
}

// look judges one root.
func (p *auditPass) look(ctx context.Context, target *rootTarget, selected bool, root *metav1.PartialObjectMetadata) {
	for _, kind := range p.judge.root(target.resource.GroupResource(), selected, root) {
		ref := auditRef{target.resource, root.Namespace, root.Name}
		if p.suspect(ctx, elementOf(root.UID), kind, p.judge.state(root), ref) {
			p.mend(ctx, kind, target, root)
		}
	}
}

// children looks at all objects of a controlled resource whose roots are in the index.
func (p *auditPass) children(ctx context.Context, resource schema.GroupVersionResource, index *rootIndex, part uint64) error {
	return p.each(ctx, resource, "", func() {}, func(child *metav1.PartialObjectMetadata) error {
		target, controller := p.targets.rootOf(child)
		if target == nil || uint64(elementOf(controller.UID))%p.parts != part {
			return nil
		}
		p.result.children++ // whether or not it can be judged now: an idle ring has the same number every time
		owner, known := index.owner(elementOf(controller.UID))
		if !known {
			return nil // the root is gone, new, in hand-over, or what is wrong with it has been noticed
		}
		kind := p.judge.child(owner, child)
		if kind == "" {
			return nil
		}
		state := suspectState(owner, child.Labels[OwnerLabel(p.c.ring)])
		if p.suspect(ctx, elementOf(child.UID), kind, state, auditRef{resource, child.Namespace, child.Name}) {
			p.mendChild(ctx, target, controller, resource, child)
		}
		return nil
	})
}

// suspect notes that something looks wrong, and answers whether it is proven.
func (p *auditPass) suspect(ctx context.Context, object element, kind gapKind, state uint64, ref auditRef) bool {
	v := p.suspicions.raise(time.Now(), object, kind, state, p.dwell.of(kind))
	if v == suspected {
		return false
	}
	p.proven(ctx, kind, 1, ref.resource.Resource+" "+ref.String(), v)
	return true
}
