package sharding

import (
	"errors"
	"fmt"
	"slices"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/balancer"
	"github.com/shard-io/shard-controller/ring"
)

// claimOf returns what a ShardInstance says about its slots.
func claimOf(instance *shardv1.ShardInstance) (ring.Claim, error) {
	claim := ring.Claim{Member: ring.Member{ID: instance.Name, Weight: float64(max(1, instance.Spec.Weight))}}
	written := instance.Spec.HashRanges
	if len(written) == 0 && instance.Spec.HashRange != nil {
		written = []shardv1.HashRange{*instance.Spec.HashRange}
	}
	for _, w := range written {
		r, err := ring.NewRange(w.Start, w.End)
		if err != nil {
			return claim, fmt.Errorf("ShardInstance %s: hash range: %w", instance.Name, err)
		}
		claim.Ranges = append(claim.Ranges, r)
	}
	return claim, nil
}

// RingOf rebuilds the slot table of a ring from all of its ShardInstances, as a manager does at the beginning of its term. With it anybody who
// can read them predicts where an object will be. The error says what does not fit together, each problem on a line: slots that nobody
// has or that two claim, while a manager writes its table, and ranges that are none. Slots with a problem are free in the table, and
// belong to nobody. Without an error the table is complete; without any ranges it is empty, which is no error. The table is nil only if
// two instances have the same name, or one has none.
func RingOf(instances []*shardv1.ShardInstance) (*ring.Ring, error) {
	var claims []ring.Claim
	var problems []error
	for _, instance := range instances {
		claim, err := claimOf(instance)
		if err != nil {
			problems = append(problems, err)
		} else if len(claim.Ranges) > 0 {
			claims = append(claims, claim)
		}
	}
	table, faults, err := ring.Recover(claims)
	if err != nil {
		return nil, err
	}
	if len(claims) > 0 {
		for i := range faults {
			problems = append(problems, &faults[i])
		}
	}
	return table, errors.Join(problems...)
}

// givenTable returns the table that users have written by hand: hashRange on every member, together covering everything.
// It returns nil if they have not.
func givenTable(members []ring.Member, instances map[string]*shardv1.ShardInstance) *ring.Ring {
	claims := make([]ring.Claim, 0, len(members))
	for _, member := range members {
		instance := instances[member.ID]
		if instance == nil || instance.Spec.HashRange == nil {
			return nil
		}
		r, err := ring.NewRange(instance.Spec.HashRange.Start, instance.Spec.HashRange.End)
		if err != nil {
			return nil
		}
		claims = append(claims, ring.Claim{Member: member, Ranges: []ring.Range{r}})
	}
	if len(claims) == 0 {
		return nil
	}
	table, err := ring.FromRanges(claims)
	if err != nil {
		return nil
	}
	return table
}

// nextTable returns the table for the members. It is prev itself if nothing is to change. slots is asked, if that is needed, for what the
// slots of prev count.
func nextTable(prev *ring.Ring, members []ring.Member, instances map[string]*shardv1.ShardInstance, slots func() []balancer.SlotLoad,
) (*ring.Ring, error) {
	next := givenTable(members, instances)
	if next == nil {
		if slices.Equal(prev.Members(), members) && isWhole(prev) {
			return prev, nil
		}
		var err error
		if next, err = balancer.Regroup(prev, members, slots()); err != nil {
			return prev, err
		}
	}
	if prev != nil && next.Equal(prev) {
		return prev, nil
	}
	return next, nil
}

// writtenRanges returns what spec.hashRanges of a shard should be.
func writtenRanges(table *ring.Ring, shard string) []shardv1.HashRange {
	ranges := table.Ranges(shard)
	if len(ranges) == 0 {
		return nil
	}
	written := make([]shardv1.HashRange, len(ranges))
	for i, r := range ranges {
		written[i] = shardv1.HashRange{Start: int64(r.Start), End: int64(r.End)}
	}
	return written
}

// outdated returns the instances whose hashRanges differ from the table. A hashRange that says the same is left alone.
func outdated(table *ring.Ring, instances map[string]*shardv1.ShardInstance) []*shardv1.ShardInstance {
	var list []*shardv1.ShardInstance
	for id, instance := range instances {
		want := writtenRanges(table, id)
		have := instance.Spec.HashRanges
		if len(have) == 0 && instance.Spec.HashRange != nil && len(want) == 1 && want[0] == *instance.Spec.HashRange {
			continue
		}
		if !slices.Equal(want, have) {
			list = append(list, instance)
		}
	}
	slices.SortFunc(list, func(a, b *shardv1.ShardInstance) int { return compareNames(a, b) })
	return list
}

// newMembers returns the members of next that had no slots in prev.
func newMembers(prev, next *ring.Ring) map[string]bool {
	joined := map[string]bool{}
	for _, member := range next.Members() {
		if !prev.Has(member.ID) {
			joined[member.ID] = true
		}
	}
	return joined
}
