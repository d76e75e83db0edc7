package e2e

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A manager must not hold what it has assigned: 2,500 objects with metadata of
// 8 KiB each would be seen, in an informer, as 20 MiB and more. What it has
// allocated and let go of again is not counted: the goal of the garbage
// collector is twice what was in use when it last ran.
func TestMemoryOfTheManager(t *testing.T) {
	t.Parallel()
	s := newSystem(t, config(func(c *v1Spec) { c.Targets[0].Controlled = nil }), withLocalWorkersOnly)
	manager := s.startManager("manager-0")
	s.startLocal("w-1", s.secretsOnly(doNothing))
	s.startLocal("w-2", s.secretsOnly(doNothing))
	s.eventually("w-1 runs", s.phase("w-1", "Running"))
	s.eventually("w-2 runs", s.phase("w-2", "Running"))
	held := func(n int64) float64 {
		s.eventually("all have an owner", func() error { // a list of them would be a burden
			first, second := s.instance("w-1"), s.instance("w-2")
			if first == nil || second == nil {
				return errors.New("the shards have not joined")
			}
			sum := first.Status.AssignedResourceCount + second.Status.AssignedResourceCount
			return want(sum == n, "%d of %d", sum, n)
		})
		return manager.metric("go_memstats_next_gc_bytes") / 2 / (1 << 20)
	}
	s.createFat(0, 500)
	before := held(500)
	s.createFat(500, 2500)
	after := held(2500)
	t.Logf("the manager holds %.1f MiB with 500 objects, %.1f MiB with 2,500", before, after)
	if after > before+12 {
		t.Errorf("the manager holds %.1f MiB more with 2,000 objects more", after-before)
	}
}

// createFat creates objects with much metadata and no data.
func (s *system) createFat(from, to int) {
	s.t.Helper()
	var all sync.WaitGroup
	const writers = 4
	for w := range writers {
		all.Go(func() {
			for i := from + w; i < to; i += writers {
				_, err := s.kube.CoreV1().Secrets(s.ns).Create(s.t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
					Name: fmt.Sprintf("fat-%04d", i), Annotations: map[string]string{"fat": strings.Repeat("x", 8<<10)},
				}}, metav1.CreateOptions{})
				if err != nil {
					s.t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// After shards have come and gone, in all ways, the processes are as they were.
func TestNothingGrows(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	manager, workers := s.start("w-1", "w-2")
	s.createSecrets("tls", 60)
	s.settled("w-1", "w-2")
	goroutines := func() map[string]float64 {
		return map[string]float64{"manager": manager.metric("go_goroutines"), "w-1": workers["w-1"].metric("go_goroutines")}
	}
	cycle := func(end func(p *process)) {
		p := s.startWorker("w-3")
		s.settled("w-1", "w-2", "w-3")
		end(p)
		s.settled("w-1", "w-2")
	}
	cycle((*process).terminate) // the first one may start what stays
	before := goroutines()
	cycle(func(p *process) { p.Kill() })
	cycle((*process).terminate)
	cycle((*process).terminate)
	for name, was := range before {
		s.eventually(name+" is as before", func() error {
			is := goroutines()[name]
			return want(is <= was+5, "it has %v goroutines, and had %v", is, was)
		})
	}
}
