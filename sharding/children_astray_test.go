package sharding

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// afterPatch calls do once, after the first successful PATCH of actor to a path with the given part.
func (s *sim) afterPatch(actor, part string, do func()) {
	var done atomic.Bool
	s.wrap = func(who string, next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			answer, err := next.RoundTrip(r)
			if err == nil && answer.StatusCode == http.StatusOK && who == actor && r.Method == http.MethodPatch &&
				strings.Contains(r.URL.Path, part) && done.CompareAndSwap(false, true) {
				do()
			}
			return answer, err
		})
	}
}

// TestRequestThatChangesWhenTheChildrenHaveGone: the children are on their way to b when the manager names c instead, or nobody. The root
// rests until they are back.
func TestRequestThatChangesWhenTheChildrenHaveGone(t *testing.T) {
	for _, test := range []struct{ name, then, meanwhile, root, child string }{
		{"another target", "c", "a→c", "c@1", "c"},
		{"withdrawn", "", "a", "a", "a"},
	} {
		t.Run(test.name, func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.config()
				s.afterPatch("a", "configmaps", func() { s.label(secrets, "o", DrainLabel(simRing), test.then) })
				s.child("child", "a", s.secret("o", "a"))
				s.worker("a", nil)
				s.settle(20 * time.Second)
				s.took()
				s.label(secrets, "o", DrainLabel(simRing), "b")
				s.settle(20 * time.Second)
				wants(s, "root while its child is away", s.ownership(secrets, "o"), test.meanwhile)
				wants(s, "child while it is away", s.ownership(configMaps, "child"), "b")
				wants(s, "reconciles while the child is away", s.took(), "")
				s.label(configMaps, "child", OwnerLabel(simRing), "a")
				s.settle(20 * time.Second)
				wants(s, "root", s.ownership(secrets, "o"), test.root)
				wants(s, "child", s.ownership(configMaps, "child"), test.child)
				if test.root == "a" {
					wants(s, "reconciles when the child is back", s.took(), "a o")
				}
			})
		})
	}
}

// TestChildrenThatAreGone: what is not there any more is not waited for.
func TestChildrenThatAreGone(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.afterPatch("a", "configmaps", func() { s.label(secrets, "o", DrainLabel(simRing), "c") })
		s.child("child", "a", s.secret("o", "a"))
		s.worker("a", nil)
		s.settle(20 * time.Second)
		s.label(secrets, "o", DrainLabel(simRing), "b")
		s.settle(20 * time.Second)
		wants(s, "root while its child is away", s.ownership(secrets, "o"), "a→c")
		if err := s.server.Delete(configMaps, "ns", "child"); err != nil {
			s.Fatal(err)
		}
		s.settle(20 * time.Second)
		wants(s, "root", s.ownership(secrets, "o"), "c@1")
	})
}

// TestManagerBringsChildrenHomeDuringAHandOver: a root waits to be handed over, and its child is neither with it nor with its target.
func TestManagerBringsChildrenHomeDuringAHandOver(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.runManager("m")
		var waiting atomic.Bool
		release := make(chan struct{})
		for _, id := range []string{"a", "b", "c"} {
			s.worker(id, func(context.Context, types.NamespacedName) (Result, error) {
				if waiting.Load() {
					<-release
				}
				return Result{}, nil
			})
		}
		s.settle(30 * time.Second)
		root := s.secret("o", "")
		s.settle(5 * time.Second)
		home, _, _ := strings.Cut(s.ownership(secrets, "o"), "@")
		others := map[string][2]string{"a": {"b", "c"}, "b": {"a", "c"}, "c": {"a", "b"}}[home]
		s.child("child", home, root)
		s.settle(time.Second)
		waiting.Store(true)
		s.label(secrets, "o", "touched", "yes") // a reconcile begins that does not end
		s.settle(time.Second)
		s.label(secrets, "o", DrainLabel(simRing), others[1])
		s.label(configMaps, "child", OwnerLabel(simRing), others[1])
		s.label(secrets, "o", DrainLabel(simRing), others[0], PinLabel(simRing), others[0])
		s.worker("d", nil) // so that the manager looks at all roots
		s.settle(20 * time.Second)
		wants(s, "root during its reconcile", s.ownership(secrets, "o"), home+"→"+others[0]+"@1")
		wants(s, "child, which was astray", s.ownership(configMaps, "child"), home)
		waiting.Store(false)
		close(release)
		s.settle(20 * time.Second)
		wants(s, "root", s.ownership(secrets, "o"), others[0]+"@2")
		wants(s, "child", s.ownership(configMaps, "child"), others[0])
	})
}

func TestFlightNoticesAChangeOfTarget(t *testing.T) {
	f := newFlight(func(int) {})
	root := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{UID: "u"}}
	expect := func(when string, want bool) {
		t.Helper()
		if got := f.wasRedirected(); got != want {
			t.Errorf("%s: got %t, want %t", when, got, want)
		}
	}
	f.found(secrets, watch.Added, root, "b")
	expect("what was before the first is not known", true)
	f.leave("u")
	expect("nothing is in hand-over", false)
	_ = f.board(t.Context(), secrets, "u")
	f.found(secrets, watch.Added, root, "b")
	f.found(secrets, watch.Modified, root, "b")
	expect("the same target", false)
	f.found(secrets, watch.Modified, root, "c")
	expect("another target", true)
	expect("still on its way", true)
	f.found(secrets, watch.Deleted, root, "c")
	expect("it has arrived", false)
}
