package sharding

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shard-io/shard-controller/internal/memapi"
)

// manyRoots makes so many roots of a with one child each, and a and b.
func (s *sim) manyRoots(n int) (a *simWorker) {
	s.config()
	for i := range n {
		s.child(fmt.Sprintf("child-%d", i), "a", s.secret(fmt.Sprintf("o-%d", i), "a"))
	}
	a = s.worker("a", nil)
	s.worker("b", nil)
	s.settle(20 * time.Second)
	a.client.SetFaults(memapi.Faults{MinLatency: 2 * time.Millisecond, MaxLatency: 20 * time.Millisecond})
	return a
}

func (s *sim) drain(from, to int) {
	for i := from; i < to; i++ {
		s.label(secrets, fmt.Sprintf("o-%d", i), DrainLabel(simRing), "b")
	}
}

// childLists counts the lists of children that a has asked for: of all, and of one to learn how far the server is.
func (s *sim) childLists() (all, marks int) {
	for _, r := range s.server.Requests() {
		switch {
		case r.Actor != "a" || r.Verb != "list" || r.Resource != configMaps:
		case r.Query.Get("limit") == "1":
			marks++
		default:
			all++
		}
	}
	return all, marks
}

// TestManyHandoversDoNotListEachTime: the children of a shard are listed a few times and then followed, and not any more when all is done.
func TestManyHandoversDoNotListEachTime(t *testing.T) {
	simulate(t, func(s *sim) {
		const roots = 400
		a := s.manyRoots(roots)
		before, _ := s.childLists()
		s.drain(0, roots)
		s.settle(20 * time.Second)
		for i := range roots {
			wants(s, "root", s.ownership(secrets, fmt.Sprintf("o-%d", i)), "b@1")
			wants(s, "child", s.ownership(configMaps, fmt.Sprintf("child-%d", i)), "b")
		}
		all, marks := s.childLists()
		if all -= before; all > 10 || marks < 10 {
			t.Errorf("%d lists of all children and %d of one for %d hand-overs, want a few and many", all, marks, roots)
		}
		kin := a.processors[0].drainer.kin
		wants(s, "followed", kin.informers != nil, true)
		s.settle(kinRest)
		wants(s, "followed when all is done", kin.informers != nil, false)
	})
}

// TestFollowedChildrenAreAsGoodAsAList: a child that is too new for what a has followed goes with its root all the same.
func TestFollowedChildrenAreAsGoodAsAList(t *testing.T) {
	simulate(t, func(s *sim) {
		var late atomic.Bool // nothing comes by the watch of the children
		s.wrap = func(who string, next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				answer, err := next.RoundTrip(r)
				if err == nil && who == "a" && r.URL.Query().Get("watch") != "" && strings.Contains(r.URL.Path, "configmaps") &&
					strings.Contains(r.Header.Get("Accept"), "PartialObjectMetadata") {
					answer.Body = lateBody{answer.Body, &late}
				}
				return answer, err
			})
		}
		a := s.manyRoots(manyChildren + 60)
		s.drain(0, 50)
		s.settle(5 * time.Second)
		wants(s, "followed", a.processors[0].drainer.kin.informers != nil, true)
		_, before := s.childLists()
		s.child("new", "a", s.server.Get(secrets, "ns", "o-100"))
		late.Store(true)
		s.child("newest", "a", s.server.Get(secrets, "ns", "o-100"))
		s.drain(100, 101)
		s.settle(10 * time.Second)
		late.Store(false)
		wants(s, "root", s.ownership(secrets, "o-100"), "b@1")
		for _, child := range []string{"child-100", "new", "newest"} {
			wants(s, child, s.ownership(configMaps, child), "b")
		}
		if _, marks := s.childLists(); marks == before {
			t.Error("the children were not looked for among those that are followed")
		}
	})
}

// lateBody delivers nothing while it is late.
type lateBody struct {
	io.ReadCloser
	late *atomic.Bool
}

func (b lateBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	for b.late.Load() {
		time.Sleep(10 * time.Millisecond)
	}
	return n, err
}
