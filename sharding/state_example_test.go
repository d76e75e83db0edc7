package sharding_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/sharding"
)

// An operator that counts the visits of every object, wherever it is. The count is all it knows of an object, and goes with it.
func ExampleJSONState() {
	var mu sync.Mutex
	visits := map[types.NamespacedName]int{}
	state := sharding.JSONState[int]{
		Get: func(object types.NamespacedName) (int, bool) {
			mu.Lock()
			defer mu.Unlock()
			n, ok := visits[object]
			return n, ok
		},
		Set: func(object types.NamespacedName, n int) {
			mu.Lock()
			defer mu.Unlock()
			visits[object] = n
		},
		Delete: func(object types.NamespacedName) {
			mu.Lock()
			defer mu.Unlock()
			delete(visits, object)
		},
	}
	controller := sharding.Controller{State: &sharding.StateTransfer{
		Exporter: state, Importer: state, Forgetter: state, Checkpoint: 30 * time.Second,
	}}
	// What a worker does when an object comes from another shard, and when it goes:
	object := types.NamespacedName{Namespace: "shop", Name: "web"}
	err := controller.State.Importer.Import(context.Background(), object, sharding.State{From: "shard-001", Version: 1, Data: []byte("41")})
	visits[object]++
	data, _ := controller.State.Exporter.Export(context.Background(), object)
	fmt.Println(string(data), err)
	// Output: 42 <nil>
}
