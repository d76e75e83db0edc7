// Benchmarks of the ring against rings of others. A module of its own, so that nobody who uses the ring needs them.
module github.com/shard-io/shard-controller/hack/ringbench

go 1.26.0

require (
	github.com/buraksezer/consistent v0.10.0
	github.com/cespare/xxhash/v2 v2.3.0
	github.com/dgryski/go-rendezvous v0.0.0-20200823014737-9f7001d12a5f
	github.com/golang/groupcache v0.0.0-20241129210726-2c02b8208cf8
	github.com/shard-io/shard-controller v0.0.0
)

replace github.com/shard-io/shard-controller => ../..
