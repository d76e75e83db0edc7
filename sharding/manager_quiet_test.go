package sharding

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"

	"github.com/shard-io/shard-controller/internal/memapi"
)

var eventsResource = schema.GroupVersionResource{Group: "events.k8s.io", Version: "v1", Resource: "events"}

// logbook collects what is logged at the default verbosity.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// take returns the messages since it was called last, each with its severity: "I Leading".
func (l *logbook) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var messages []string
	for line := range strings.Lines(l.text.String()) {
		head, rest, ok := strings.Cut(line, "] ")
		if ok && len(head) > 0 {
			messages = append(messages, head[:1]+" "+strings.TrimSpace(rest))
		}
	}
	l.text.Reset()
	return messages
}

func (s *sim) logTo(l *logbook) context.Context {
	return klog.NewContext(s.ctx, textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(l))))
}

// TestManagerLogsWhatMatters: what an operator reads of a manager in a quiet life, in which shards join, leave, are killed, and
// nothing goes wrong.
func TestManagerLogsWhatMatters(t *testing.T) {
	for _, latency := range []time.Duration{0, 2 * time.Millisecond, 100 * time.Millisecond} {
		t.Run(latency.String(), func(t *testing.T) {
			simulate(t, func(s *sim) { s.liveQuietly(latency) })
		})
	}
}

func (s *sim) liveQuietly(latency time.Duration) {
	s.config()
	s.edit(configs, simNamespace, simRing, set([]any{map[string]any{
		"resource":          "secrets",
		"namespaceSelector": map[string]any{"matchLabels": map[string]any{"team": "x"}},
		"controlled":        []any{map[string]any{"resource": "configmaps"}},
	}}, "spec", "targets"))
	s.create(namespaces, map[string]any{"apiVersion": "v1", "kind": "Namespace",
		"metadata": map[string]any{"name": "ns", "labels": map[string]any{"team": "x"}}})
	for i, root := range s.secrets(120) {
		s.child(fmt.Sprintf("c%03d", i), "", root)
	}
	log := &logbook{}
	expect := func(when string, want ...string) {
		s.Helper()
		got := log.take()
		same := slices.EqualFunc(got, want, strings.HasPrefix)
		if !same {
			s.Errorf("log when %s:\n%s\nwant\n%s", when, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	quiet := s.ctx
	s.ctx = s.logTo(log)
	m := s.runManager("m")
	s.ctx = quiet
	m.client.SetFaults(memapi.Faults{MinLatency: latency, MaxLatency: latency})
	a := s.worker("a", nil) // at the same moment
	s.settle(time.Minute)
	expect("a manager starts", `I "Attempting to acquire leader lease..."`, `I "Successfully acquired lease"`, `I "Leading"`)
	b, c := s.worker("b", nil), s.worker("c", nil)
	s.settle(time.Minute)
	expect("shards join")
	b.stop()
	<-b.ended
	s.settle(2 * time.Minute)
	expect("a shard leaves")
	wants(s, "Events when nothing has happened but shards that join and leave", len(s.server.List(eventsResource, "", nil)), 0)
	c.kill()
	s.settle(2 * time.Minute)
	expect("a shard dies", `I "Took over a dead shard" ring="r" shard="c"`)
	wants(s, "Events when a shard has died", len(s.server.List(eventsResource, "", nil)), 1)
	wants(s, "owner of everything", s.counts(secrets)["a"], 120)
	wants(s, "what a is", a.Active(), true)
	m.stop()
	<-m.ended
	expect("the manager stops", `I "Not leading any more"`)
}
