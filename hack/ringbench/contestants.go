// Ringbench measures the ring of this module against three rings that many Go programs use, and against the hash alone,
// which is the limit for all of them.
//
//	go run .                       the table of docs/ring.md: all contestants in turn, medians
//	go test -bench . -count 10     the same lookups for benchstat
package main

import (
	"fmt"

	"github.com/buraksezer/consistent"
	"github.com/cespare/xxhash/v2"
	"github.com/dgryski/go-rendezvous"
	"github.com/golang/groupcache/consistenthash"

	"github.com/shard-io/shard-controller/ring"
)

// contestant is a ring of some members. Lookups take the position of one of a million objects.
type contestant struct {
	name   string
	lookup func(i int) string
	// run looks up the objects of a turn, in a loop of its own without calls through variables.
	run func(from, to int) int
	// join adds a member and takes it away again, as far as that changes the ring; nil if the ring can't.
	join func()
	// joined returns the owner of object i with one member more.
	joined func(i int) string
}

// objects are a million distinct objects whose keys have 41 bytes.
type objects struct {
	prefix                  ring.Prefix
	namespaces, names, keys []string
	bytes                   [][]byte
}

const million = 1_000_000

func newObjects() *objects {
	o := &objects{prefix: ring.NewPrefix("", "Secret")}
	for i := range million {
		namespace, name := fmt.Sprintf("customer-%05d", i%10_000), fmt.Sprintf("tls-%014d", i*7919)
		key := o.prefix.Key(namespace, name)
		o.namespaces, o.names = append(o.namespaces, namespace), append(o.names, name)
		o.keys, o.bytes = append(o.keys, key), append(o.bytes, []byte(key))
	}
	return o
}

func id(i int) string { return fmt.Sprintf("shard-%03d", i) }

// contestants returns all rings of n members. Options are those that the projects recommend: 271 partitions are the
// default of consistent, but it refuses to start with more members than that gives room for, so it gets 65,537.
func contestants(o *objects, n int) []contestant {
	return []contestant{
		hashAlone(o),
		byKey(o, n),
		byName(o, n),
		buraksezer(o, n),
		groupcache(o, n),
		rendezvousHash(o, n),
	}
}

func hashAlone(o *objects) contestant {
	return contestant{name: limit, run: func(from, to int) int {
		sum := uint64(0)
		for _, key := range o.keys[from:to] {
			sum += xxhash.Sum64String(key)
		}
		return int(sum)
	}}
}

const (
	limit = "xxhash alone (the limit)"
	slow  = "dgryski/go-rendezvous"
)

func byKey(o *objects, n int) contestant {
	small, large, members := slotTables(n)
	return contestant{
		name:   "this ring, by key",
		lookup: func(i int) string { return small.Lookup(o.keys[i]) },
		joined: func(i int) string { return large.Lookup(o.keys[i]) },
		run: func(from, to int) (sum int) {
			for _, key := range o.keys[from:to] {
				sum += len(small.Lookup(key))
			}
			return sum
		},
		join: func() { must(large.Assign(must(small.Assign(members)).Members()[:n])) },
	}
}

func byName(o *objects, n int) contestant {
	small, _, _ := slotTables(n)
	return contestant{
		name:   "this ring, by namespace and name",
		lookup: func(i int) string { return small.Owner(o.prefix.Hash(o.namespaces[i], o.names[i])) },
		run: func(from, to int) (sum int) {
			names, prefix := o.names[from:to], o.prefix
			for i, namespace := range o.namespaces[from:to] {
				sum += len(small.Owner(prefix.Hash(namespace, names[i])))
			}
			return sum
		},
	}
}

func slotTables(n int) (small, large *ring.Ring, members []ring.Member) {
	members = make([]ring.Member, n+1)
	for i := range members {
		members[i].ID = id(i)
	}
	small = must(ring.New(members[:n]))
	return small, must(small.Assign(members)), members
}

func must(r *ring.Ring, err error) *ring.Ring {
	if err != nil {
		panic(err)
	}
	return r
}

// member is a member of github.com/buraksezer/consistent.
type member string

func (m member) String() string { return string(m) }

type hasher struct{}

func (hasher) Sum64(data []byte) uint64 { return xxhash.Sum64(data) }

func buraksezer(o *objects, n int) contestant {
	config := consistent.Config{PartitionCount: 65_537, ReplicationFactor: 20, Load: 1.25, Hasher: hasher{}}
	var members []consistent.Member
	for i := range n {
		members = append(members, member(id(i)))
	}
	small := consistent.New(members, config)
	large := consistent.New(append(members, member(id(n))), config)
	changing := consistent.New(members, config)
	return contestant{
		name:   "buraksezer/consistent v0.10.0",
		lookup: func(i int) string { return small.LocateKey(o.bytes[i]).String() },
		joined: func(i int) string { return large.LocateKey(o.bytes[i]).String() },
		run: func(from, to int) (sum int) {
			for _, key := range o.bytes[from:to] {
				sum += len(small.LocateKey(key).String())
			}
			return sum
		},
		join: func() {
			changing.Add(member(id(n)))
			changing.Remove(id(n))
		},
	}
}

// groupcache has no removal: a new ring is made.
func groupcache(o *objects, n int) contestant {
	build := func(n int) *consistenthash.Map {
		m := consistenthash.New(100, func(data []byte) uint32 { return uint32(xxhash.Sum64(data)) })
		for i := range n {
			m.Add(id(i))
		}
		return m
	}
	small, large := build(n), build(n+1)
	return contestant{
		name:   "golang/groupcache, 100 replicas",
		lookup: func(i int) string { return small.Get(o.keys[i]) },
		joined: func(i int) string { return large.Get(o.keys[i]) },
		run: func(from, to int) (sum int) {
			for _, key := range o.keys[from:to] {
				sum += len(small.Get(key))
			}
			return sum
		},
	}
}

// rendezvousHash has a removal, but it panics for a node that was added last; so joins are not timed.
func rendezvousHash(o *objects, n int) contestant {
	build := func(n int) *rendezvous.Rendezvous {
		r := rendezvous.New(nil, xxhash.Sum64String)
		for i := range n {
			r.Add(id(i))
		}
		return r
	}
	small, large := build(n), build(n+1)
	return contestant{
		name:   slow,
		lookup: func(i int) string { return small.Lookup(o.keys[i]) },
		joined: func(i int) string { return large.Lookup(o.keys[i]) },
		run: func(from, to int) (sum int) {
			for _, key := range o.keys[from:to] {
				sum += len(small.Lookup(key))
			}
			return sum
		},
	}
}
