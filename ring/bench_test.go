package ring

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// objects are a million distinct objects whose keys have 41 bytes.
type objects struct {
	prefix     Prefix
	namespaces []string
	names      []string
	keys       []string
}

var million = sync.OnceValue(func() objects {
	const n = 1_000_000
	o := objects{NewPrefix("", "Secret"), make([]string, n), make([]string, n), make([]string, n)}
	for i := range n {
		o.namespaces[i] = fmt.Sprintf("customer-%05d", i%10_000)
		o.names[i] = fmt.Sprintf("tls-%014d", i*7919)
		o.keys[i] = o.prefix.Key(o.namespaces[i], o.names[i])
	}
	if len(o.keys[0]) != 41 {
		panic(fmt.Sprintf("keys have %d bytes", len(o.keys[0])))
	}
	return o
})

// bench calls f with positions in the million, in order.
func bench(b *testing.B, f func(i int)) {
	million()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		f(i)
		if i++; i == 1_000_000 {
			i = 0
		}
	}
}

var (
	hashSink   uint64
	stringSink string
)

func BenchmarkHash(b *testing.B) {
	keys := million().keys
	bench(b, func(i int) { hashSink = Hash(keys[i]) })
}

func BenchmarkLookup(b *testing.B) {
	keys := million().keys
	for _, n := range []int{10, 100, 1000, 10_000} {
		r := mustNew(b, ids(n))
		b.Run(fmt.Sprintf("N=%d", n), func(b *testing.B) { bench(b, func(i int) { stringSink = r.Lookup(keys[i]) }) })
	}
}

func BenchmarkLookupByName(b *testing.B) {
	o := million()
	for _, n := range []int{10, 100, 1000} {
		r := mustNew(b, ids(n))
		b.Run(fmt.Sprintf("N=%d", n), func(b *testing.B) {
			bench(b, func(i int) { stringSink = r.Owner(o.prefix.Hash(o.namespaces[i], o.names[i])) })
		})
	}
}

// BenchmarkOwners looks up 1,000 hashes at a time; the time is per batch.
func BenchmarkOwners(b *testing.B) {
	hashes := make([]uint64, 1000)
	for i := range hashes {
		hashes[i] = Hash(million().keys[i])
	}
	r, owners := mustNew(b, ids(100)), make([]string, 0, len(hashes))
	for b.Loop() {
		owners = r.Owners(owners[:0], hashes)
	}
}

// BenchmarkHolder looks up on all CPUs, alone and while a writer stores rings without pause.
func BenchmarkHolder(b *testing.B) {
	keys := million().keys
	rings := []*Ring{mustNew(b, ids(100)), mustNew(b, ids(101))}
	for _, writing := range []bool{false, true} {
		b.Run(fmt.Sprintf("writer=%v", writing), func(b *testing.B) {
			var h Holder
			h.Store(rings[0])
			var stop atomic.Bool
			var wg sync.WaitGroup
			if writing {
				wg.Go(func() {
					for i := 0; !stop.Load(); i++ {
						h.Store(rings[i%2])
					}
				})
			}
			b.RunParallel(func(p *testing.PB) {
				owner := ""
				for i := 0; p.Next(); i++ {
					owner = h.Load().Lookup(keys[i%len(keys)])
				}
				_ = owner
			})
			stop.Store(true)
			wg.Wait()
		})
	}
}

// BenchmarkChange computes the ring after a join or a leave, on a ring that has seen 50 changes.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		walk := &churn{members: ids(n), next: n, ring: mustNew(b, ids(n))}
		for i := range 50 {
			walk.members = append(without(walk.members, walk.members[i*7%n].ID), Member{ID: fmt.Sprintf("later-%d", i)})
			walk.ring = mustAssign(b, walk.ring, walk.members)
		}
		joined := append(walk.members[:n:n], Member{ID: "new"})
		for name, members := range map[string][]Member{"join": joined, "leave": walk.members[1:]} {
			b.Run(fmt.Sprintf("%s/N=%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					mustAssign(b, walk.ring, members)
				}
			})
		}
	}
}

func BenchmarkStateless(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("N=%d", n), func(b *testing.B) {
			for b.Loop() {
				mustStateless(b, ids(n))
			}
		})
	}
}

// TestNoAllocation checks that looking up does not allocate, whatever the length of the key.
func TestNoAllocation(t *testing.T) {
	r, p := mustNew(t, ids(10)), NewPrefix("networking.k8s.io", "Ingress")
	long := string(make([]byte, 253))
	var h Holder
	h.Store(r)
	for name, f := range map[string]func(){
		"by key":                 func() { stringSink = h.Load().Lookup("/Secret/default/tls") },
		"by a long key":          func() { stringSink = r.Lookup(long) },
		"by namespace and name":  func() { stringSink = r.Owner(p.Hash("default", "tls")) },
		"by a long name":         func() { stringSink = r.Owner(p.Hash("default", long)) },
		"without any ring":       func() { stringSink = (*Ring)(nil).Lookup(long) },
		"without a stored ring":  func() { stringSink = empty.Load().Lookup("x") },
		"in a batch with a home": func() { owners = r.Owners(owners[:0], hashes) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("looking up %s allocates %v times", name, n)
		}
	}
}

var (
	empty  Holder
	owners = make([]string, 0, 8)
	hashes = []uint64{1, 1 << 63, 1<<64 - 1}
)

// TestReadersUnderWriter reads while a writer changes the members at full speed: each reader sees whole rings, and rings
// only get newer. Run it with -race.
func TestReadersUnderWriter(t *testing.T) {
	var h Holder
	h.Store(mustNew(t, ids(1), Slots(256)))
	const changes = 200
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for last := 0; last < changes; {
				r := h.Load()
				if r.Len() < last {
					t.Errorf("a reader saw %d members after %d", r.Len(), last)
					return
				}
				last = r.Len()
				if owner := r.Lookup("/Secret/default/tls"); !r.Has(owner) {
					t.Errorf("a reader saw the owner %q, who is no member", owner)
					return
				}
			}
		})
	}
	for n := 2; n <= changes; n++ {
		h.Store(mustAssign(t, h.Load(), ids(n)))
	}
	readers.Wait()
}
