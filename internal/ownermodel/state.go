package ownermodel

// Sizes of the model.
const (
	Shards   = 3
	Objects  = 2
	Managers = 2
)

// View is what a shard's cache shows it of an object. NotMine is also what it has given away, whatever the cache shows.
type View uint8

// The views.
const (
	NotMine View = iota
	Mine
	MineDraining
)

// Phase is what a shard does with an object.
type Phase uint8

// The phases.
const (
	Idle Phase = iota
	Reconciling
	Writing // the hand-over, decided upon what the object is now
	Retry   // the hand-over, when the object has changed since or the answer was lost
)

// Holder of a Lease: nobody, the shard itself, or manager number Holder-ByManager.
type Holder uint8

// The holders.
const (
	Nobody Holder = iota
	ByShard
	ByManager
)

// Age of the record in a Lease.
type Age uint8

// The ages.
const (
	Fresh    Age = iota
	Deadline     // its holder may not act any more
	Dead         // others may take it
)

// Intent is a write of a manager's take-over that is on its way. Every write of the object in between removes it: it would be refused.
type Intent struct {
	Object uint8
	To     uint8 // shard, from 1; 0: there is none
}

// Object as the API server has it. Shards count from 1; 0 is none.
type Object struct{ Owner, Drain uint8 }

// Shard is a shard with its Lease. A process that has crashed is one that does nothing for a while, and then begins anew.
type Shard struct {
	Active bool
	Holder Holder
	Age    Age
	View   [Objects]View // NotMine while it is not active
	Phase  [Objects]Phase
}

// Manager is a manager. It remembers nothing, so one that is replaced or crashes is the same as one that does nothing for a while.
type Manager struct {
	Intent Intent // outlives the process
}

// State is everything. It is comparable.
type State struct {
	Object  [Objects]Object
	Shard   [Shards]Shard
	Manager [Managers]Manager
}

// Violation says what must never be and is; "" if all is well.
func (s *State) Violation() string {
	for o := range s.Object {
		acting := 0
		for i := range s.Shard {
			shard := &s.Shard[i]
			if shard.Phase[o] != Reconciling {
				continue
			}
			if acting++; acting > 1 {
				return "two shards reconcile an object"
			}
			if int(s.Object[o].Owner) != i+1 {
				return "a shard reconciles an object that it does not own"
			}
		}
	}
	for i := range s.Shard {
		if shard := &s.Shard[i]; shard.Active && shard.Holder != ByShard {
			return "a shard acts without its Lease"
		}
	}
	return ""
}

// Settled says whether every object has an owner that acts, and rests there.
func (s *State) Settled() bool {
	for _, o := range s.Object {
		if o.Owner == 0 || o.Drain != 0 || !s.Shard[o.Owner-1].Active {
			return false
		}
	}
	return true
}
