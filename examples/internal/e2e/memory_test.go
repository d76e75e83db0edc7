package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A manager must not hold what it has assigned: 4,000 objects with metadata of
// 8 KiB each would be seen, in an informer, as 32 MiB and more.
func TestMemoryOfTheManager(t *testing.T) {
	t.Parallel()
	s := newSystem(t, config(func(c *v1Spec) { c.Targets[0].Controlled = nil }), withLocalWorkersOnly)
	manager := s.startManager("manager-0")
	s.startLocal("w-1", s.secretsOnly(doNothing))
	s.startLocal("w-2", s.secretsOnly(doNothing))
	s.createFat(0, 500)
	s.eventually("all have an owner", s.ownedBy("w-1", "w-2"))
	before, err := manager.Memory()
	s.must(err)
	s.createFat(500, 4000)
	s.eventually("all have an owner", s.ownedBy("w-1", "w-2"))
	after, err := manager.Memory()
	s.must(err)
	t.Logf("peak %d MiB with 500 objects, %d MiB with 4000", before.Peak>>20, after.Peak>>20)
	if after.Peak > before.Peak+20<<20 {
		t.Errorf("the manager's memory has grown by %d MiB", (after.Peak-before.Peak)>>20)
	}
}

// createFat creates objects with much metadata and no data.
func (s *system) createFat(from, to int) {
	s.t.Helper()
	var all sync.WaitGroup
	const writers = 8
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
