package sharding

import (
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/health"
)

// facts joins what the ShardInstances, the Leases and the labels on objects say about shards.
func (c *ringController) facts(instances map[string]*shardv1.ShardInstance) []shardFact {
	c.remember(instances)
	c.expect(instances)
	snapshot := c.tracker.Snapshot()
	ids := map[string]bool{}
	for id := range c.remembered {
		ids[id] = true
	}
	for id := range snapshot.Shards {
		ids[id] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range c.taken {
		if !ids[id] && !c.running[id] {
			delete(c.taken, id)
		}
	}
	facts := make([]shardFact, 0, len(ids))
	for id := range ids {
		known, tracked := snapshot.Shards[id]
		if !tracked {
			known.State = health.Unknown
		}
		if c.taken[id] && (known.State == health.Alive || known.State == health.Silent) && !c.running[id] {
			delete(c.taken, id) // it is back
			delete(c.expected, id)
		}
		_, stray := c.strays[id] // objects have turned up since
		fact := shardFact{
			unheard: known.State == health.Unknown && known.Holder != "" && !strings.HasPrefix(known.Holder, health.ManagerPrefix),
			id:      id, instance: c.remembered[id], deleted: instances[id] == nil, state: known.State, since: known.Since,
			missing: !tracked || known.Missing, stray: stray && !c.running[id], emptied: c.emptied[id],
			member: c.table.Has(id), taken: c.taken[id] && (!stray || c.running[id]), objects: c.objects(id),
		}
		if tracked && fact.isNothing() && !c.running[id] {
			c.tracker.Forget(id)
			continue
		}
		if fact.instance != nil {
			now := time.Now()
			fact.measured = c.loads.measuredAt(fact.instance, known.State == health.Alive, now)
			fact.stale = !isKnown(fact.measured, now, c.staleAfter)
		}
		facts = append(facts, fact)
	}
	return facts
}

// remember keeps the ShardInstance of a live shard that somebody deleted: its worker will create it again.
func (c *ringController) remember(instances map[string]*shardv1.ShardInstance) {
	for id, instance := range instances {
		c.remembered[id] = instance
		// The worker may act on Drained, and be gone, before this manager sees that on the ShardInstance.
		c.emptied[id] = instance.Spec.Draining && (c.emptied[id] || c.drainStateOf(id) == drainDone)
	}
	snapshot := c.tracker.Snapshot()
	for id, instance := range c.remembered {
		if instances[id] != nil {
			continue
		}
		known, tracked := snapshot.Shards[id]
		left := c.emptied[id] || meta.IsStatusConditionTrue(instance.Status.Conditions, conditionDrained)
		gone := !tracked || left && (known.State == health.Unknown || known.State == health.Released)
		if left && gone { // in good order: nothing is to be waited for
			c.tracker.Forget(id)
		}
		if c.isTaken(id) || gone || left {
			delete(c.remembered, id)
			delete(c.expected, id)
			delete(c.reported, id)
			delete(c.emptied, id)
			delete(c.loads, id)
			delete(c.drainingSince, id)
			c.metrics.shardLoad.DeleteLabelValues(c.ring, id)
		}
	}
}

func (c *ringController) isTaken(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.taken[id]
}

// expect tells the tracker who should have a Lease: the members of the table.
func (c *ringController) expect(instances map[string]*shardv1.ShardInstance) {
	var ids []string
	for id := range instances {
		if c.table.Has(id) && !c.expected[id] && !c.isTaken(id) {
			c.expected[id] = true
			ids = append(ids, id)
		}
	}
	if len(ids) > 0 {
		c.tracker.Expect(ids...)
	}
}

// objects returns how many objects a shard has: what it said last, and what it was given since.
func (c *ringController) objects(id string) int64 {
	instance := c.remembered[id]
	if instance == nil {
		return 0
	}
	says := instance.Status.AssignedResourceCount
	before, known := c.reported[id]
	c.reported[id] = says
	return says + c.placer.givenSince(id, known && before != says)
}
