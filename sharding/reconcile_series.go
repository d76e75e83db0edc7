package sharding

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// reconcileSeries are the time series that every reconcile of one controller adds to: to look them up by their labels each time would cost
// as much as the rest of what is done around a reconcile. They come into being when there is something to count. The zero value is ready
// for use.
type reconcileSeries struct {
	seconds atomic.Pointer[prometheus.Observer]
	results atomic.Pointer[map[reconcileResult]prometheus.Counter] // replaced, never changed

	mu    sync.Mutex
	shown atomic.Int64 // what aside shows, plus one
}

func (s *reconcileSeries) observe(p *processor, took time.Duration) {
	seconds := s.seconds.Load()
	if seconds == nil {
		found := p.w.metrics.reconcileSeconds.WithLabelValues(p.w.options.Ring, p.target.name())
		seconds = &found
		s.seconds.Store(seconds)
	}
	(*seconds).Observe(took.Seconds())
}

func (s *reconcileSeries) count(p *processor, result reconcileResult) {
	if results := s.results.Load(); results != nil {
		if counter := (*results)[result]; counter != nil {
			counter.Inc()
			return
		}
	}
	s.add(p, result).Inc()
}

func (s *reconcileSeries) add(p *processor, result reconcileResult) prometheus.Counter {
	s.mu.Lock()
	defer s.mu.Unlock()
	more := map[reconcileResult]prometheus.Counter{}
	if results := s.results.Load(); results != nil {
		maps.Copy(more, *results)
	}
	more[result] = p.w.metrics.reconciles.WithLabelValues(p.w.options.Ring, p.target.name(), string(result))
	s.results.Store(&more)
	return more[result]
}

// aside shows how many objects are set aside.
func (s *reconcileSeries) aside(p *processor) {
	if int64(p.failures.setAside())+1 == s.shown.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := p.failures.setAside()
	p.w.metrics.setAside.WithLabelValues(p.w.options.Ring, p.target.name()).Set(float64(n))
	s.shown.Store(int64(n) + 1)
}
