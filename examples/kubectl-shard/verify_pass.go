package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/health"
	"github.com/shard-io/shard-controller/sharding"
)

// timesOf returns the intervals of a ring.
func timesOf(config *shardv1.ShardConfig) (health.Timing, time.Duration, error) {
	c := config.DeepCopy()
	c.SetDefaults()
	timing, err := health.TimingFor(c.Spec.HealthCheckInterval.Duration)
	if err != nil {
		return timing, 0, found("spec.healthCheckInterval: %v", err)
	}
	return timing, c.Spec.Handover.DrainTimeout.Duration, nil
}

// verifyPass looks at every object of a ring.
type verifyPass struct {
	*session
	ring     string
	config   *shardv1.ShardConfig
	facts    *ringFacts
	targets  []*target
	witness  *witness
	suspects *suspects
	index    int

	heard                     time.Time // when the Leases were read last
	objects, children, moving int64
}

func (p *verifyPass) judge() judgement {
	return judgement{ring: p.ring, facts: p.facts, witness: p.witness, now: p.heard}
}

// listen reads the Leases.
func (p *verifyPass) listen(ctx context.Context) error {
	leases, err := p.ringLeases(ctx, p.config)
	if err == nil {
		p.heard = time.Now()
		p.witness.observe(p.heard, recordsOf(leases))
	}
	return err
}

// run finds out who is alive, and looks at everything once.
func (p *verifyPass) run(ctx context.Context, timing health.Timing) error {
	if err := p.hear(ctx, timing); err != nil {
		return err
	}
	p.objects, p.children, p.moving = 0, 0, 0
	for _, t := range p.targets {
		if err := p.learnNamespaces(ctx, t); err != nil {
			return err
		}
	}
	// More roots than the index may have are looked at in parts, for which they are listed again: those whose hash leaves a certain rest. A
	// part that turns out to be too large is divided on the way.
	for parts := []part{{1, 0}}; len(parts) > 0; {
		this := &rootIndex{part: parts[0], most: p.index, owners: map[uint64]string{}}
		first := this.rest == 0
		if err := p.roots(ctx, this, first); err != nil {
			return err
		}
		parts = append(this.divided, parts[1:]...)
		if err := p.childrenOf(ctx, this); err != nil {
			return err
		}
	}
	return nil
}

// hear reads the Leases until all that may be renewed have been, or one lease duration has passed.
func (p *verifyPass) hear(ctx context.Context, timing health.Timing) error {
	for begun := time.Now(); ; {
		if err := p.listen(ctx); err != nil {
			return err
		}
		if !p.witness.undecided(p.heard) || time.Since(begun) > timing.LeaseDuration {
			return nil
		}
		p.progress.say("waiting for the shards to renew their Leases, %s at most", timing.LeaseDuration)
		if err := pause(ctx, timing.RetryPeriod()/2); err != nil {
			return err
		}
	}
}

func recordsOf(leases map[string]*coordinationv1.Lease) map[string]leaseRecord {
	records := make(map[string]leaseRecord, len(leases))
	for name, lease := range leases {
		var r leaseRecord
		if lease.Spec.HolderIdentity != nil {
			r.holder = *lease.Spec.HolderIdentity
		}
		if lease.Spec.RenewTime != nil {
			r.renewed = lease.Spec.RenewTime.String()
		}
		records[name] = r
	}
	return records
}

// roots lists all roots, and adds those of the part to the index. They are judged when they are listed first.
func (p *verifyPass) roots(ctx context.Context, index *rootIndex, first bool) error {
	j := p.judge()
	names := map[string]string{} // so that all roots of a shard share one string
	controlling := slices.ContainsFunc(p.targets, func(t *target) bool { return len(t.children) > 0 })
	for _, t := range p.targets {
		visit := func(root *metav1.PartialObjectMetadata) error {
			if owner, ok := j.settled(t, root); ok && controlling {
				if names[owner] == "" {
					names[owner] = owner
				}
				index.add(root.UID, names[owner])
			}
			if first {
				p.look(j, t, root)
			}
			return nil
		}
		if err := p.each(ctx, t.resource, "", t.objects.String(), visit); err != nil {
			return err
		}
		if t.objects.Empty() || !first {
			continue
		}
		// What is not selected by its labels is of interest if it has an owner all the same.
		err := p.each(ctx, t.resource, "", sharding.AnyShard(p.ring).String(), func(root *metav1.PartialObjectMetadata) error {
			if !t.objects.Matches(labelSet(root)) {
				p.look(j, t, root)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *verifyPass) look(j judgement, t *target, root *metav1.PartialObjectMetadata) {
	if t.selects(root) {
		p.objects++
		if to, draining := sharding.DrainTargetOf(root, p.ring); draining && to != root.Labels[sharding.OwnerLabel(p.ring)] {
			p.moving++
		}
	}
	for _, f := range j.root(t, root) {
		p.suspects.add(suspect{finding: f, ref: objectRef{t.resource, root.Namespace, root.Name}, uid: root.UID, state: stateOf(root, p.ring)})
	}
	p.progress.say("%s and %s looked at, %s to be looked at again", plural(p.objects, "object"), children(p.children), plural(p.suspects.total, "object"))
}

// childrenOf lists all objects of the controlled resources, and judges those whose roots are in the index.
func (p *verifyPass) childrenOf(ctx context.Context, index *rootIndex) error {
	j := p.judge()
	done := map[schema.GroupVersionResource]bool{}
	for _, t := range p.targets {
		for _, resource := range t.children {
			if done[resource] || targetFor(p.targets, resource.GroupResource()) != nil {
				continue
			}
			done[resource] = true
			err := p.each(ctx, resource, "", "", func(child *metav1.PartialObjectMetadata) error {
				of, controller := rootOf(p.targets, child)
				if of == nil || !index.has(hashOf(controller.UID)) {
					return nil
				}
				p.children++
				owner, settled := index.owners[hashOf(controller.UID)]
				if !settled {
					return nil // the root is gone, new, or on its way, or what is wrong with it is known
				}
				for _, f := range j.child(owner, child) {
					p.suspects.add(suspect{finding: f, ref: objectRef{resource, child.Namespace, child.Name}, uid: child.UID, state: stateOf(child, p.ring), rootOwner: owner})
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// report says what is left.
func (p *verifyPass) report(left []suspect, missing []string, shown int) verifyReport {
	r := verifyReport{
		Namespace: p.config.Namespace, Name: p.config.Name, Objects: p.objects, Children: p.children, Moving: p.moving,
		Live: []string{}, Gaps: []gap{}, Total: int64(len(left)) + p.suspects.beyond(), Missing: missing,
	}
	for _, name := range p.facts.names() {
		if p.witness.lives(p.heard, name) {
			r.Live = append(r.Live, name)
		}
	}
	for _, s := range left[:min(shown, len(left))] {
		r.Gaps = append(r.Gaps, gap{s.kind, s.ref.String(), s.owner(), s.text})
	}
	if c := meta.FindStatusCondition(p.config.Status.Conditions, shardv1.ConditionDoublyOwned); c != nil && c.Status == metav1.ConditionTrue {
		r.Gaps = append(r.Gaps, gap{gapDoublyOwned, "", "", c.Message})
		r.Total++
	}
	if c := meta.FindStatusCondition(p.config.Status.Conditions, shardv1.ConditionCovered); c != nil {
		r.Audit = fmt.Sprintf("%s=%s, %s", c.Type, c.Status, c.Message)
	}
	return r
}
