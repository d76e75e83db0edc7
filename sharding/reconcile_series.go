package sharding

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// reconcileSeries are the time series that every reconcile of one controller adds to: to look them up by their labels each time would cost
// as much as the rest of what is done around a reconcile. They come into being when there is something to count. The zero value is ready
// for use.
type reconcileSeries struct {
	mu      sync.Mutex
	seconds prometheus.Observer
	results map[reconcileResult]prometheus.Counter
}

func (s *reconcileSeries) observe(p *processor, took time.Duration) {
	s.mu.Lock()
	if s.seconds == nil {
		s.seconds = p.w.metrics.reconcileSeconds.WithLabelValues(p.w.options.Ring, p.target.name())
	}
	seconds := s.seconds
	s.mu.Unlock()
	seconds.Observe(took.Seconds())
}

func (s *reconcileSeries) count(p *processor, result reconcileResult) {
	s.mu.Lock()
	counter := s.results[result]
	if counter == nil {
		if s.results == nil {
			s.results = map[reconcileResult]prometheus.Counter{}
		}
		counter = p.w.metrics.reconciles.WithLabelValues(p.w.options.Ring, p.target.name(), string(result))
		s.results[result] = counter
	}
	s.mu.Unlock()
	counter.Inc()
}
