package shardtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/sharding"
	"github.com/shard-io/shard-controller/sharding/shardtest"
)

// counters is an operator that counts what it does per object.
type counters struct {
	mu sync.Mutex
	m  map[types.NamespacedName]int
}

func (c *counters) get(object types.NamespacedName) (int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.m[object]
	return n, ok
}

func (c *counters) set(object types.NamespacedName, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.m[object] = n
}

func (c *counters) work(object types.NamespacedName) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.m[object]++
	return nil
}

func (c *counters) forget(object types.NamespacedName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.m, object)
}

func (c *counters) owner() shardtest.StateOwner {
	state := sharding.JSONState[int]{Get: c.get, Set: c.set, Delete: c.forget}
	return shardtest.StateOwner{Work: c.work, Transfer: &sharding.StateTransfer{Exporter: state, Importer: state, Forgetter: state}}
}

func newCounters() *counters { return &counters{m: map[types.NamespacedName]int{}} }

func TestJSONStateConforms(t *testing.T) {
	shardtest.TestState(t, func() shardtest.StateOwner { return newCounters().owner() })
}

type exportFunc func(types.NamespacedName) ([]byte, error)

func (f exportFunc) Export(_ context.Context, object types.NamespacedName) ([]byte, error) {
	return f(object)
}

type importFunc func(types.NamespacedName, sharding.State) error

func (f importFunc) Import(_ context.Context, object types.NamespacedName, state sharding.State) error {
	return f(object, state)
}

type forgetFunc func(types.NamespacedName)

func (f forgetFunc) Forget(object types.NamespacedName) { f(object) }

// TestWhatCheckStateFinds spoils the counters in one way after the other.
func TestWhatCheckStateFinds(t *testing.T) {
	for rule, spoil := range map[string]func(c *counters, o *shardtest.StateOwner){
		"no state": func(c *counters, o *shardtest.StateOwner) {
			o.Transfer.Exporter = exportFunc(func(object types.NamespacedName) ([]byte, error) {
				n, _ := c.get(object)
				return json.Marshal(n)
			})
		},
		"export": func(c *counters, o *shardtest.StateOwner) {
			o.Transfer.Exporter = exportFunc(func(object types.NamespacedName) ([]byte, error) {
				n, ok := c.get(object)
				if c.forget(object); !ok {
					return nil, nil
				}
				return json.Marshal(n)
			})
		},
		"round trip": func(c *counters, o *shardtest.StateOwner) {
			o.Transfer.Importer = importFunc(func(types.NamespacedName, sharding.State) error { return nil })
		},
		"repetition": func(c *counters, o *shardtest.StateOwner) {
			o.Transfer.Importer = importFunc(func(object types.NamespacedName, state sharding.State) error {
				var n int
				err := json.Unmarshal(state.Data, &n)
				had, _ := c.get(object)
				c.set(object, had+n)
				return err
			})
		},
		"garbage": func(c *counters, o *shardtest.StateOwner) {
			o.Transfer.Importer = importFunc(func(object types.NamespacedName, state sharding.State) error {
				c.forget(object)
				var n int
				if err := json.Unmarshal(state.Data, &n); err != nil {
					return err
				}
				c.set(object, n)
				return nil
			})
		},
		"forget": func(c *counters, o *shardtest.StateOwner) {
			o.Transfer.Forgetter = forgetFunc(func(types.NamespacedName) {})
		},
		"aliasing": func(_ *counters, o *shardtest.StateOwner) { // it hands out its own bytes
			var mu sync.Mutex
			kept := map[types.NamespacedName][]byte{}
			o.Work = func(object types.NamespacedName) error {
				mu.Lock()
				defer mu.Unlock()
				kept[object] = append(bytes.Clone(kept[object]), 'x')
				return nil
			}
			o.Transfer.Exporter = exportFunc(func(object types.NamespacedName) ([]byte, error) {
				mu.Lock()
				defer mu.Unlock()
				return kept[object], nil
			})
			o.Transfer.Importer = importFunc(func(object types.NamespacedName, state sharding.State) error {
				mu.Lock()
				defer mu.Unlock()
				kept[object] = bytes.Clone(state.Data)
				return nil
			})
			o.Transfer.Forgetter = nil
		},
		"panics": func(c *counters, o *shardtest.StateOwner) {
			o.Transfer.Exporter = exportFunc(func(types.NamespacedName) ([]byte, error) { panic("no") })
		},
		"work": func(c *counters, o *shardtest.StateOwner) {
			o.Work = func(types.NamespacedName) error { return errors.New("on strike") }
		},
		"required": func(c *counters, o *shardtest.StateOwner) { o.Transfer.Importer = nil },
	} {
		err := shardtest.CheckState(func() shardtest.StateOwner {
			c := newCounters()
			o := c.owner()
			spoil(c, &o)
			return o
		})
		if err == nil || !strings.Contains(err.Error(), rule) {
			t.Errorf("%s: found %v", rule, err)
		}
	}
}

func ExampleCheckState() {
	visits := newCounters() // what the operator keeps per object
	state := sharding.JSONState[int]{Get: visits.get, Set: visits.set, Delete: visits.forget}
	_ = sharding.Controller{State: &sharding.StateTransfer{Exporter: state, Importer: state, Forgetter: state}}

	// In a test of the operator:
	err := shardtest.CheckState(func() shardtest.StateOwner { return newCounters().owner() })
	if err != nil {
		panic(err)
	}
	// Output:
}
