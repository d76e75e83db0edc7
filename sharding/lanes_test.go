package sharding

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
)

func TestLanes(t *testing.T) {
	for _, c := range []struct{ do, want string }{
		{"a b c", "a b c"},
		{"a b !c", "c a b"},
		{"a b !b", "b a"},
		{"!a b !c d", "a c b d"},
		{"a a !a a b", "a b"},
		{"a !b - a c", "b a c"},    // - takes one
		{"a !a - a b !b", "a b a"}, // a is taken, comes again, and b overtakes it
		{"a b !a - a", "a b a"},    // the old place of a is not its new one
		{"a b !a - !b a", "a b a"},
	} {
		l := newLanes()
		queue := workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[types.NamespacedName]{Queue: l})
		var got []string
		take := func() {
			key, _ := queue.Get()
			queue.Done(key)
			got = append(got, key.Name)
		}
		for step := range strings.FieldsSeq(c.do) {
			if step == "-" {
				take()
				continue
			}
			name, urgent := strings.CutPrefix(step, "!")
			if urgent {
				l.hurry(types.NamespacedName{Name: name})
			}
			queue.Add(types.NamespacedName{Name: name})
		}
		for queue.Len() > 0 {
			take()
		}
		if taken := strings.Join(got, " "); taken != c.want {
			t.Errorf("%s: taken %s, want %s", c.do, taken, c.want)
		}
		if len(l.urgent)+len(l.waiting) > 0 {
			t.Errorf("%s: kept %v %v", c.do, l.urgent, l.waiting)
		}
	}
}

// The goroutines of the informer say what hurries and what does not any more, while others add to the queue and take from it.
func TestLanesFromManyGoroutines(t *testing.T) {
	l := newLanes()
	queue := workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[types.NamespacedName]{Queue: l})
	const rounds = 20000
	key := func(i int) types.NamespacedName { return types.NamespacedName{Name: fmt.Sprint(i % 50)} }
	var all sync.WaitGroup
	for _, do := range []func(i int){
		func(i int) { l.hurry(key(i)) },
		func(i int) { l.calm(key(i)) },
		func(i int) { queue.Add(key(i)) },
		func(i int) { queue.Add(key(i + 25)) },
	} {
		all.Go(func() {
			for i := range rounds {
				do(i)
			}
		})
	}
	taken := make(chan int)
	go func() {
		n := 0
		for {
			key, shutdown := queue.Get()
			if shutdown {
				taken <- n
				return
			}
			n++
			queue.Done(key)
		}
	}()
	all.Wait()
	queue.ShutDownWithDrain()
	if n := <-taken; n < 50 || queue.Len() > 0 {
		t.Errorf("%d taken, %d left", n, queue.Len())
	}
}

// TestAcquiredObjectComesBeforeAQueue gives an object to a shard that has ten thousand in its queue.
func TestAcquiredObjectComesBeforeAQueue(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		const n = 10_000
		for i := range n {
			s.secret(fmt.Sprint("o", i), "a")
		}
		s.secret("late", "")
		begun, late := make(chan struct{}), 0
		done := 0
		s.worker("a", func(_ context.Context, key types.NamespacedName) (Result, error) {
			if done++; done == 1 {
				close(begun)
			}
			if key.Name == "late" {
				late = done
			}
			time.Sleep(time.Millisecond)
			return Result{}, nil
		}, func(_ *WorkerOptions, c *Controller) { c.Concurrency = 1 })
		<-begun
		time.Sleep(10 * time.Millisecond)
		s.label(secrets, "late", OwnerLabel(simRing), "a")
		s.settle(20 * time.Second)
		if late == 0 || late > n/100 {
			t.Errorf("it was number %d of %d", late, done)
		}
	})
}
