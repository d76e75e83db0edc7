package sharding

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
)

func keyNamed(name string) types.NamespacedName { return types.NamespacedName{Name: name} }

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
		{"b ^a a", "a b"},    // ^ hurries it before it comes
		{"^a ~a b a", "b a"}, // ~ calms
		{"~a a", "a"},
	} {
		l := newLanes()
		var got []string
		take := func() {
			key, _ := l.get()
			l.done(key)
			got = append(got, key.Name)
		}
		for step := range strings.FieldsSeq(c.do) {
			key := keyNamed(strings.TrimLeft(step, "!^~"))
			switch {
			case step == "-":
				take()
				continue
			case step[0] == '^':
				l.hurry(key)
				continue
			case step[0] == '~':
				l.calm(key)
				continue
			case step[0] == '!':
				l.hurry(key)
			}
			l.add(key)
		}
		for l.size() > 0 {
			take()
		}
		if taken := strings.Join(got, " "); taken != c.want {
			t.Errorf("%s: taken %s, want %s", c.do, taken, c.want)
		}
		if len(l.items) > 0 {
			t.Errorf("%s: kept %v", c.do, l.items)
		}
	}
}

// TestOrderOfAWorkqueue does the same to lanes and to a workqueue of client-go, at random. Both have to give out the same keys in the same order.
func TestOrderOfAWorkqueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(7, 7))
		l, queue := newLanes(), workqueue.NewTypedDelayingQueue[types.NamespacedName]()
		defer queue.ShutDown()
		var taken []types.NamespacedName
		for step := range 20000 {
			key := keyNamed(fmt.Sprint(random.IntN(20)))
			switch random.IntN(6) {
			case 0:
				l.add(key)
				queue.Add(key)
			case 1:
				d := time.Duration(random.IntN(1000))*time.Microsecond + time.Duration(step) // no two at once
				l.addAfter(key, d)
				queue.AddAfter(key, d)
				synctest.Wait()
			case 2, 3:
				if queue.Len() == 0 {
					continue
				}
				want, _ := queue.Get()
				if got, ok := l.get(); got != want || !ok {
					t.Fatalf("step %d: got %s, %v, the workqueue has %s", step, got, ok, want)
				}
				taken = append(taken, want)
			case 4:
				if len(taken) == 0 {
					continue
				}
				n := random.IntN(len(taken))
				key = taken[n]
				taken = slices.Delete(taken, n, n+1)
				if random.IntN(2) == 0 {
					l.done(key)
				} else {
					d := time.Duration(random.IntN(1000))*time.Microsecond + time.Duration(step)
					l.doneUntil(key, d)
					queue.AddAfter(key, d)
					synctest.Wait()
				}
				queue.Done(key)
			case 5:
				time.Sleep(time.Duration(random.IntN(300)) * time.Microsecond)
				synctest.Wait()
			}
			if n, _ := l.look(time.Now()); n != queue.Len() {
				t.Fatalf("step %d: %d wait, %d in the workqueue", step, n, queue.Len())
			}
		}
	})
}

// TestWhoWaitsIsWoken has goroutines wait for what is due later, also for several at once, and while one of them works.
func TestWhoWaitsIsWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, begun := newLanes(), time.Now()
		var mu sync.Mutex
		var got []string
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() {
				for {
					key, ok := l.get()
					if !ok {
						return
					}
					mu.Lock()
					got = append(got, fmt.Sprint(key.Name, " at ", time.Since(begun)))
					mu.Unlock()
					time.Sleep(3 * time.Second)
					if key.Name == "again" {
						l.doneUntil(key, 10*time.Second)
					} else {
						l.done(key)
					}
				}
			})
		}
		l.addAfter(keyNamed("c"), 9*time.Second)
		l.addAfter(keyNamed("a"), time.Second)
		l.addAfter(keyNamed("c"), 8*time.Second)
		l.addAfter(keyNamed("c"), 20*time.Second)
		l.addAfter(keyNamed("b"), 2*time.Second)
		l.addAfter(keyNamed("d"), 2*time.Second+1) // nobody is free
		synctest.Wait()
		l.add(keyNamed("again"))
		time.Sleep(20 * time.Second)
		synctest.Wait()
		l.addAfter(keyNamed("never"), time.Second)
		l.shutDown()
		all.Wait()
		want := "again at 0s, a at 1s, b at 3s, d at 4s, c at 8s, again at 13s"
		if text := strings.Join(got, ", "); text != want {
			t.Errorf("got  %s\nwant %s", text, want)
		}
		if len(l.items) > 0 {
			t.Errorf("kept %v", l.items)
		}
	})
}

func TestLanesShutDown(t *testing.T) {
	l := newLanes()
	l.add(keyNamed("a"))
	l.add(keyNamed("b"))
	l.add(keyNamed("c"))
	l.addAfter(keyNamed("d"), math.MaxInt64)
	if keys := l.collect(nil, 2); len(keys) != 2 || keys[0].Name != "a" || keys[1].Name != "b" {
		t.Errorf("collected %v, want a and b", keys)
	}
	l.shutDown()
	l.shutDown()
	l.add(keyNamed("e"))
	l.addAfter(keyNamed("e"), time.Nanosecond)
	l.doneUntil(keyNamed("a"), time.Nanosecond)
	l.done(keyNamed("b"))
	l.done(keyNamed("b")) // does nothing
	l.doneUntil(keyNamed("b"), 0)
	for _, want := range []string{"c ", ""} {
		key, ok := l.get()
		if key.Name != strings.TrimSpace(want) || ok != (want != "") {
			t.Errorf("got %q, %v, want %q", key.Name, ok, want)
		}
		l.done(key)
	}
	if len(l.items) > 0 {
		t.Errorf("kept %v", l.items)
	}
}

// The goroutines of the informer say what hurries and what does not any more, while others add to the queue and take from it.
func TestLanesFromManyGoroutines(t *testing.T) {
	l := newLanes()
	const rounds = 20000
	key := func(i int) types.NamespacedName { return keyNamed(fmt.Sprint(i % 50)) }
	var adding, taking sync.WaitGroup
	for _, do := range []func(i int){
		func(i int) { l.hurry(key(i)) },
		func(i int) { l.calm(key(i)) },
		func(i int) { l.add(key(i)) },
		func(i int) { l.addAfter(key(i+25), time.Duration(i%7)*time.Microsecond) },
	} {
		adding.Go(func() {
			for i := range rounds {
				do(i)
			}
		})
	}
	var taken atomic.Int64
	var working [50]atomic.Bool
	for range 3 {
		taking.Go(func() {
			for {
				key, ok := l.get()
				if !ok {
					return
				}
				n, _ := strconv.Atoi(key.Name)
				if working[n].Swap(true) {
					t.Errorf("%s is given out twice", key.Name)
				}
				taken.Add(1)
				working[n].Store(false)
				if n%2 == 0 {
					l.done(key)
				} else {
					l.doneUntil(key, time.Duration(n%3)*time.Microsecond)
				}
			}
		})
	}
	adding.Wait()
	l.shutDown()
	taking.Wait()
	if n := taken.Load(); n < 50 || l.size() > 0 {
		t.Errorf("%d taken, %d left", n, l.size())
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
