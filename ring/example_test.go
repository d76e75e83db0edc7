package ring_test

import (
	"fmt"

	"github.com/shard-io/shard-controller/ring"
)

// A ring of three shards, and what a fourth one takes from them.
func Example() {
	three, _ := ring.New([]ring.Member{{ID: "shard-a"}, {ID: "shard-b"}, {ID: "shard-c"}})
	secrets := ring.NewPrefix("", "Secret")
	fmt.Println(three.Owner(secrets.Hash("default", "tls")))

	four, _ := three.Assign(append(three.Members(), ring.Member{ID: "shard-d"}))
	moved := 0.0
	for _, m := range ring.Diff(three, four) {
		fmt.Println(m.From, "→", m.To, m.Range)
		moved += m.Share()
	}
	fmt.Printf("%.2f %% moved\n", 100*moved)
	// Output:
	// shard-c
	// shard-a → shard-d 1060765696-1431699455
	// shard-b → shard-d 1431699456-1783103487
	// shard-c → shard-d 2863333376-3214737407
	// 25.00 % moved
}

// The ranges of the API, written by hand: a quarter for each of four shards.
func ExampleFromRanges() {
	claim := func(id string, start, end int64) ring.Claim {
		g, err := ring.NewRange(start, end)
		if err != nil {
			panic(err)
		}
		return ring.Claim{Member: ring.Member{ID: id}, Ranges: []ring.Range{g}}
	}
	r, err := ring.FromRanges([]ring.Claim{
		claim("shard-001", 0, 1073741823),
		claim("shard-002", 1073741824, 2147483647),
		claim("shard-003", 2147483648, 3221225471),
		claim("shard-004", 3221225472, 4294967295),
	})
	fmt.Println(r.Share("shard-002"), r.Ranges("shard-002")[0].Span(), err)

	_, err = ring.FromRanges([]ring.Claim{claim("shard-001", 0, 2147483647), claim("shard-002", 1073741824, 4294967295)})
	fmt.Println(err)
	// Output:
	// 0.25 0x4000000000000000-0x8000000000000000 <nil>
	// ring: Ranges: 1073741824-2147483647 is claimed by both "shard-001" and "shard-002"
}

// A manager that crashed after it had written the ranges of the newcomer, but not those of the shard they came from.
func ExampleRecover() {
	half := ring.Range{Start: 2147483648, End: 4294967295}
	r, faults, _ := ring.Recover([]ring.Claim{
		{Member: ring.Member{ID: "old"}, Ranges: []ring.Range{{Start: 0, End: 4294967295}}},
		{Member: ring.Member{ID: "new"}, Ranges: []ring.Range{half}},
	})
	fmt.Println(faults[0].Error())
	fmt.Printf("old owns %v, new owns %v\n", r.Share("old"), r.Share("new"))
	next, _ := r.Assign(r.Members())
	fmt.Printf("old owns %v, new owns %v\n", next.Share("old"), next.Share("new"))
	// Output:
	// ring: Ranges: 2147483648-4294967295 is claimed by both "old" and "new"
	// old owns 0.5, new owns 0
	// old owns 0.5, new owns 0.5
}

// Many readers, one writer, no lock.
func ExampleHolder() {
	var holder ring.Holder
	fmt.Printf("%q\n", holder.Load().Lookup("/Secret/default/tls")) // nothing stored yet: nobody owns anything

	r, _ := ring.New([]ring.Member{{ID: "shard-a"}})
	holder.Store(r)
	fmt.Printf("%q\n", holder.Load().Lookup("/Secret/default/tls"))
	// Output:
	// ""
	// "shard-a"
}

// Two clients that know the members only, in different order, agree.
func ExampleStateless() {
	one, _ := ring.Stateless([]ring.Member{{ID: "a"}, {ID: "b"}, {ID: "c", Weight: 2}})
	other, _ := ring.Stateless([]ring.Member{{ID: "c", Weight: 2}, {ID: "a"}, {ID: "b"}})
	fmt.Println(one.Equal(other))
	fmt.Printf("%.2f\n", one.Share("c"))
	// Output:
	// true
	// 0.50
}
