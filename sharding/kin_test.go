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

// TestManyHandoversDoNotListEachTime: the children of a shard are listed once, to follow them, and not followed any more when all is done.
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
		if all -= before; all+marks > 3 {
			t.Errorf("%d lists of all children and %d of one for %d hand-overs, want one, to follow them", all, marks, roots)
		}
		kin := a.processors[0].drainer.kin
		wants(s, "followed", kin.now != nil, true)
		s.settle(kinRest)
		wants(s, "followed when all is done", kin.now != nil, false)
	})
}

// TestHandoversOfRootsWithoutChildren: there is nothing to write that would tell how far to follow, so that is asked.
func TestHandoversOfRootsWithoutChildren(t *testing.T) {
	simulate(t, func(s *sim) {
		a := s.manyRoots(100)
		for i := range 100 {
			s.secret(fmt.Sprintf("o-%d", 100+i), "a")
		}
		before, _ := s.childLists()
		s.drain(0, 200)
		s.settle(3 * time.Second)
		s.child("late", "a", s.secret("o-200", "a"))
		s.drain(200, 201)
		s.settle(20 * time.Second)
		for i := range 201 {
			wants(s, "root", s.ownership(secrets, fmt.Sprintf("o-%d", i)), "b@1")
		}
		wants(s, "child", s.ownership(configMaps, "late"), "b")
		all, marks := s.childLists()
		if all -= before; all > 20 || marks < 10 {
			t.Errorf("%d lists of all children and %d of one, want a few and many", all, marks)
		}
		wants(s, "followed", a.processors[0].drainer.kin.now != nil, true)
	})
}

// lateChildren makes that nothing comes by the watch of the children that a follows while it is late.
func (s *sim) lateChildren(late *atomic.Bool) {
	s.wrap = func(who string, next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			answer, err := next.RoundTrip(r)
			if err == nil && who == "a" && r.URL.Query().Get("watch") != "" && strings.Contains(r.URL.Path, "configmaps") &&
				strings.Contains(r.Header.Get("Accept"), "PartialObjectMetadata") {
				answer.Body = lateBody{answer.Body, late}
			}
			return answer, err
		})
	}
}

// TestFollowedChildrenAreAsGoodAsAList: a child that is too new for what a has followed goes with its root all the same.
func TestFollowedChildrenAreAsGoodAsAList(t *testing.T) {
	simulate(t, func(s *sim) {
		var late atomic.Bool
		s.lateChildren(&late)
		a := s.manyRoots(manyChildren + 60)
		s.drain(0, 50)
		s.settle(5 * time.Second)
		wants(s, "followed", a.processors[0].drainer.kin.now != nil, true)
		before, _ := s.childLists()
		s.child("newer", "a", s.server.Get(secrets, "ns", "o-99"))
		s.drain(99, 100)
		s.settle(10 * time.Second)
		wants(s, "root", s.ownership(secrets, "o-99"), "b@1")
		wants(s, "a newer child", s.ownership(configMaps, "newer"), "b")
		if all, _ := s.childLists(); all != before {
			t.Error("the children were listed, although they are followed")
		}
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
		if all, _ := s.childLists(); all == before {
			t.Error("the children were not listed, although what is followed is behind")
		}
	})
}

// TestChildrenThatWentAheadAreNotForgotten: while it can't be found out whether there are others, they are with another shard than their root.
func TestChildrenThatWentAheadAreNotForgotten(t *testing.T) {
	simulate(t, func(s *sim) {
		var late atomic.Bool
		s.lateChildren(&late)
		a := s.manyRoots(manyChildren)
		s.drain(0, 50)
		s.settle(5 * time.Second)
		late.Store(true)
		s.child("second", "a", s.server.Get(secrets, "ns", "o-50"))
		a.client.SetFaults(memapi.Faults{Rates: map[memapi.Fault]float64{memapi.InternalError: 1}, Match: func(r *memapi.Request) bool {
			return r.Verb == "list" && r.Resource == configMaps
		}})
		s.drain(50, 51)
		s.settle(5 * time.Second)
		wants(s, "root", s.ownership(secrets, "o-50"), "a→b")
		wants(s, "child", s.ownership(configMaps, "child-50"), "b")
		wants(s, "child that is not known", s.ownership(configMaps, "second"), "a")
		a.client.SetFaults(memapi.Faults{})
		late.Store(false)
		s.settle(10 * time.Second)
		wants(s, "root, later", s.ownership(secrets, "o-50"), "b@1")
		for _, child := range []string{"child-50", "second"} {
			wants(s, child, s.ownership(configMaps, child), "b")
			awaited := parseVersions(s.server.Get(secrets, "ns", "o-50").GetAnnotations()[ChildrenAnnotation(simRing)])["configmaps"]
			if version := s.server.Get(configMaps, "ns", child).GetResourceVersion(); awaited == "" || newerThan(version, awaited) {
				t.Errorf("the new owner waits for children up to %q, want %s, the version of %s, or newer", awaited, version, child)
			}
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
