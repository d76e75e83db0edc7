package balancer

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"

	"github.com/shard-io/shard-controller/ring"
)

// Object is what is to be placed.
type Object struct {
	// Key is the key of the object: "group/kind/namespace/name".
	Key string
	// Hash is ring.Hash(Key). Strategies use it without checking it.
	Hash uint64
	// Owner is the shard that has the object now, "" if none has.
	Owner string
}

// Shard is what a strategy knows about a shard.
type Shard struct {
	// ID is the name of the shard, as in the ring. It must not be empty, and must be unique in a view.
	ID string
	// Weight is the share of the work the shard is to get, relative to the others. 0 means 1.
	Weight float64
	// Load is how busy the shard is; 1 is full. It counts only when LoadKnown is set.
	Load float64
	// LoadKnown says that the shard has reported its load.
	LoadKnown bool
	// Objects is the number of objects the shard owned when the view was made, those just assigned included.
	Objects int64
	// Cordoned: the shard keeps what it has and gets nothing new.
	Cordoned bool
	// Draining: the shard is to lose everything it has.
	Draining bool
	// Silent: the shard has not been heard of lately.
	Silent bool
	// Full: the shard can't take more.
	Full bool
}

// Eligible says whether the shard may receive objects: not when it is cordoned, draining, silent or full.
func (s Shard) Eligible() bool { return !s.Cordoned && !s.Draining && !s.Silent && !s.Full }

// Keeps says whether the shard may keep the objects it has. Only a draining shard may not: a silent one keeps them until
// its lease has expired and it is no longer in the view.
func (s Shard) Keeps() bool { return !s.Draining }

// View is what a strategy sees: the ring and the shards at one moment. It is immutable.
type View struct {
	ring     *ring.Ring
	shards   []Shard  // sorted by ID
	eligible []Shard  // sorted by ID
	seeds    []uint64 // hashes of the IDs of eligible
}

// NewView returns the view of the shards, with their effective weights, or an error that names the wrong field. A nil ring
// is a ring without members. Members of the ring that are not among the shards are not eligible.
func NewView(r *ring.Ring, shards []Shard) (*View, error) {
	v := &View{ring: r, shards: slices.Clone(shards)}
	for i := range v.shards {
		s := &v.shards[i]
		switch {
		case s.ID == "":
			return nil, fmt.Errorf("balancer: Shards[%d].ID: must not be empty", i)
		case math.IsNaN(s.Weight) || math.IsInf(s.Weight, 0) || s.Weight < 0:
			return nil, fmt.Errorf("balancer: Shards[%d].Weight (%s): %v, must be a positive number, or 0 for 1", i, s.ID, s.Weight)
		case s.LoadKnown && (math.IsNaN(s.Load) || math.IsInf(s.Load, 0) || s.Load < 0):
			return nil, fmt.Errorf("balancer: Shards[%d].Load (%s): %v, must be a number from 0", i, s.ID, s.Load)
		case s.Objects < 0:
			return nil, fmt.Errorf("balancer: Shards[%d].Objects (%s): %d, must not be negative", i, s.ID, s.Objects)
		case s.Weight == 0:
			s.Weight = 1
		}
	}
	slices.SortFunc(v.shards, func(a, b Shard) int { return strings.Compare(a.ID, b.ID) })
	for i, s := range v.shards {
		if i > 0 && s.ID == v.shards[i-1].ID {
			return nil, fmt.Errorf("balancer: Shards: %q is there twice, IDs must be unique", s.ID)
		}
		if s.Eligible() {
			v.eligible = append(v.eligible, s)
			v.seeds = append(v.seeds, ring.Hash(s.ID))
		}
	}
	return v, nil
}

// Ring returns the ring, which may be nil.
func (v *View) Ring() *ring.Ring { return v.ring }

// Shard returns the shard with the ID, and whether there is one.
func (v *View) Shard(id string) (Shard, bool) {
	if i, ok := find(v.shards, id); ok {
		return v.shards[i], true
	}
	return Shard{}, false
}

// eligibleAt returns the position of the shard among the eligible ones, and whether it is one.
func (v *View) eligibleAt(id string) (int, bool) { return find(v.eligible, id) }

func find(sorted []Shard, id string) (int, bool) {
	i := sort.Search(len(sorted), func(i int) bool { return sorted[i].ID >= id })
	return i, i < len(sorted) && sorted[i].ID == id
}

// Shards returns all shards sorted by ID. The slice is shared and must not be changed.
func (v *View) Shards() []Shard { return v.shards }

// Eligible returns the shards that may receive objects, sorted by ID. The slice is shared and must not be changed.
func (v *View) Eligible() []Shard { return v.eligible }
