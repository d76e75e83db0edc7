package loadsim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/shard-io/shard-controller/balancer"
	"github.com/shard-io/shard-controller/ring"
	"github.com/shard-io/shard-controller/sharding/scaling"
)

// shard is a process that works.
type shard struct {
	id      string
	speed   float64
	ready   time.Duration // when it has started
	joined  bool          // it is in the ring
	leaving bool          // it is to be emptied
	share   float64       // of the demand
	backlog float64       // in full shards × seconds
	load    float64       // smoothed, as it reports it
	done    float64       // items per second
}

// cluster is the ring and its shards.
type cluster struct {
	scenario Scenario
	now      time.Duration
	rng      *rand.Rand
	shards   []*shard // in the order in which they were wanted
	named    int
	ring     *ring.Ring
	objects  []int64   // of each slot
	work     []float64 // of each slot: its share of the demand
	owners   []*shard  // of each slot
	next     *ring.Ring
	until    time.Duration // when the plan in flight has been carried out, and next is in force
	moved    int64
	wanted   int
	largest  float64 // load of the largest slot, as the planner has seen it
}

var epoch = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

func newCluster(s Scenario) (*cluster, error) {
	c := &cluster{scenario: s, rng: rand.New(rand.NewPCG(s.Seed, 21)), objects: make([]int64, slots), work: make([]float64, slots), owners: make([]*shard, slots), wanted: s.Shards}
	for range s.Shards {
		c.start(0)
	}
	for _, member := range c.shards {
		member.joined = true
	}
	var err error
	if c.ring, err = ring.New(c.members(), ring.Slots(slots)); err != nil {
		return nil, err
	}
	sum := 0.0
	for i := range s.Objects {
		share := 1.0
		if s.Share != nil {
			share = s.Share(i)
		}
		slot := c.ring.Slot(ring.Hash(fmt.Sprintf("/Secret/default/tls-%d", i)))
		c.objects[slot]++
		c.work[slot] += share
		sum += share
	}
	for slot := range c.work {
		c.work[slot] /= sum
	}
	c.divide()
	for _, member := range c.shards { // it has been going on like this for a while
		member.load = min(1, s.Demand(0)*member.share/member.speed)
	}
	return c, nil
}

func (c *cluster) start(ready time.Duration) {
	s := &shard{id: fmt.Sprintf("shard-%03d", c.named), speed: 1, ready: ready}
	if speed, ok := c.scenario.Speed[c.named]; ok {
		s.speed = speed
	}
	c.named++
	c.shards = append(c.shards, s)
}

// members are those that the ring should have now.
func (c *cluster) members() []ring.Member {
	var members []ring.Member
	for _, s := range c.shards {
		if s.joined && !s.leaving {
			members = append(members, ring.Member{ID: s.id})
		}
	}
	return members
}

// divide gives each shard its share of the demand, by the ring. What waits goes along with the objects.
func (c *cluster) divide() {
	byID := make(map[string]*shard, len(c.shards))
	before := make(map[*shard]shard, len(c.shards))
	for _, s := range c.shards {
		byID[s.id], before[s] = s, *s
		s.share = 0
	}
	for slot, work := range c.work {
		to := byID[c.ring.Owner(uint64(slot)<<slotShift)]
		to.share += work
		if from := c.owners[slot]; from != nil && from != to && work > 0 {
			moved := before[from].backlog * work / before[from].share
			from.backlog = max(0, from.backlog-moved)
			to.backlog += moved
		}
		c.owners[slot] = to
	}
}

// works lets a tick pass: items arrive and are done.
func (c *cluster) works() {
	c.now += Tick
	demand, seconds := c.scenario.Demand(c.now), Tick.Seconds()
	kept := math.Exp2(-seconds / halfLife.Seconds())
	for _, s := range c.shards {
		s.backlog += demand * s.share * seconds
		done := min(s.backlog, s.speed*seconds)
		s.backlog -= done
		s.done = done / seconds * itemsPerShard
		busy := done / (s.speed * seconds)
		if c.scenario.Noise > 0 {
			busy *= 1 + c.scenario.Noise*(2*c.rng.Float64()-1)
		}
		s.load = kept*s.load + (1-kept)*max(busy, s.backlog*itemsPerShard/queueLimit)
	}
}

// inFlight says whether objects are being moved.
func (c *cluster) inFlight() bool { return c.next != nil }

// proceed finishes the plan in flight when its time has come, removes shards that are empty, and begins to move what belongs elsewhere because shards
// have started or are to leave.
func (c *cluster) proceed() error {
	if c.next != nil && c.now >= c.until {
		c.ring, c.next = c.next, nil
		c.divide()
		c.shards = slices.DeleteFunc(c.shards, func(s *shard) bool { return s.leaving && !c.ring.Has(s.id) })
	}
	if c.next != nil {
		return nil
	}
	changed := false
	for _, s := range c.shards {
		if !s.joined && !s.leaving && c.now >= s.ready {
			s.joined, changed = true, true
		}
		changed = changed || s.leaving
	}
	if !changed {
		return nil
	}
	_, loads := c.round()
	next, err := balancer.Regroup(c.ring, c.members(), loads)
	if err != nil {
		return err
	}
	c.begin(next)
	return nil
}

// begin sets the ring in force after the time that it takes to move the objects.
func (c *cluster) begin(next *ring.Ring) {
	moves := int64(0)
	for _, d := range ring.Diff(c.ring, next) {
		for slot := c.ring.Slot(uint64(d.Range.Start) << 32); slot <= c.ring.Slot(uint64(d.Range.End)<<32); slot++ {
			moves += c.objects[slot]
		}
	}
	c.moved += moves
	c.next = next
	c.until = c.now + planTime + time.Duration(float64(moves)/movesPerSecond*float64(time.Second))
}

// want changes the number of shards: more are started; fewer means that the last ones leave.
func (c *cluster) want(shards int) {
	c.wanted = shards
	startup := c.scenario.Startup
	if startup == 0 {
		startup = defaultStartup
	}
	staying := 0
	for _, s := range c.shards {
		if !s.leaving {
			staying++
		}
	}
	for ; staying < shards; staying++ {
		c.start(c.now + startup)
	}
	for i := len(c.shards) - 1; i >= 0 && staying > shards; i-- {
		if s := c.shards[i]; !s.leaving {
			s.leaving = true
			staying--
		}
	}
	c.shards = slices.DeleteFunc(c.shards, func(s *shard) bool { return s.leaving && !s.joined })
}

// input is what the decider sees.
func (c *cluster) input() scaling.Input {
	in := scaling.Input{Now: epoch.Add(c.now), Shards: c.wanted, LargestLoad: c.largest, Blocked: scaling.Blocks{PlanInFlight: c.inFlight()}}
	for _, s := range c.shards {
		l := scaling.ShardLoad{ID: s.id, Load: s.load, At: in.Now, Queued: s.backlog * itemsPerShard, Done: s.done, Starting: !s.joined}
		if !s.joined {
			l.At = time.Time{}
		}
		in.Loads = append(in.Loads, l)
	}
	return in
}

// round is what the planner sees.
func (c *cluster) round() (balancer.Round, []balancer.SlotLoad) {
	in := balancer.Round{Now: epoch.Add(c.now), Blocked: balancer.Blocks{PlanInFlight: c.inFlight()}}
	for _, s := range c.shards {
		if s.joined {
			in.Shards = append(in.Shards, balancer.Shard{ID: s.id, Load: s.load, LoadKnown: true, Draining: s.leaving})
		}
	}
	loads := make([]balancer.SlotLoad, slots)
	for i := range loads {
		loads[i] = balancer.SlotLoad{Objects: c.objects[i], Work: c.work[i]}
	}
	return in, loads
}
