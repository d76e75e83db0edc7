package sharding

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"

	"github.com/shard-io/shard-controller/internal/memapi"
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

// TestWorkerLosesItsRightWhenTheChildrenHaveGone: the request is withdrawn, and the root rests until its child is back, also when its owner could not act in
// between, and whatever is written to the root.
func TestWorkerLosesItsRightWhenTheChildrenHaveGone(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.afterPatch("a", "configmaps", func() { s.label(secrets, "o", DrainLabel(simRing), "") })
		s.child("child", "a", s.secret("o", "a"))
		a := s.worker("a", nil)
		s.settle(20 * time.Second)
		s.took()
		s.label(secrets, "o", DrainLabel(simRing), "b")
		s.settle(20 * time.Second)
		a.client.SetLink(memapi.Partitioned)
		s.settle(5 * simLease)
		wants(s, "acts without a connection", a.Active(), false)
		a.client.SetLink(memapi.Connected)
		s.settle(5 * simLease)
		wants(s, "acts", a.Active(), true)
		for i := range 50 {
			s.label(secrets, "o", "some", fmt.Sprint(i))
			s.settle(100 * time.Millisecond)
		}
		wants(s, "reconciles while the child is away", s.took(), "")
		s.label(configMaps, "child", OwnerLabel(simRing), "a")
		s.settle(20 * time.Second)
		wants(s, "reconciles when the child is back", s.tookOnce(), "a o")
	})
}

// endsWhenTheChildHasGone lets the process of shard a end between giving the child of its root to b and giving the root.
func (s *sim) endsWhenTheChildHasGone() {
	var first *simWorker
	s.afterPatch("first", "configmaps", func() { first.kill() })
	s.child("child", "a", s.secret("o", "a"))
	first = s.process("first", "a", nil)
	s.settle(20 * time.Second)
	s.label(secrets, "o", DrainLabel(simRing), "b")
	s.settle(20 * time.Second)
	wants(s, "root when the process has ended", s.ownership(secrets, "o"), "a→b")
	wants(s, "child when the process has ended", s.ownership(configMaps, "child"), "b")
}

// TestProcessThatEndsWhenTheChildrenHaveGone: the next process of the shard hands the root over, and knows of children that it has never seen. If the
// manager has named another target meanwhile, the root rests until they are back.
func TestProcessThatEndsWhenTheChildrenHaveGone(t *testing.T) {
	for _, then := range []string{"b", "c"} {
		t.Run("then to "+then, func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.config()
				s.endsWhenTheChildHasGone()
				s.label(secrets, "o", DrainLabel(simRing), then)
				s.process("second", "a", nil)
				s.settle(time.Minute)
				if then != "b" {
					wants(s, "root while its child is away", s.ownership(secrets, "o"), "a→"+then)
					s.label(configMaps, "child", OwnerLabel(simRing), "a")
					s.settle(20 * time.Second)
				}
				wants(s, "root", s.ownership(secrets, "o"), then+"@1")
				wants(s, "child", s.ownership(configMaps, "child"), then)
				awaited := parseVersions(s.server.Get(secrets, "ns", "o").GetAnnotations()[ChildrenAnnotation(simRing)])["configmaps"]
				wants(s, "version of the children that the new owner waits for", awaited, s.server.Get(configMaps, "ns", "child").GetResourceVersion())
			})
		})
	}
}

// TestProcessThatEndsBeforeTheRequestIsWithdrawn: the next process of the shard does not reconcile the root before its child is back.
func TestProcessThatEndsBeforeTheRequestIsWithdrawn(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.endsWhenTheChildHasGone()
		s.took()
		root := s.server.Get(secrets, "ns", "o")
		patch := drainPatch(root, simRing, "")
		client, err := metadata.NewForConfig(s.connect("m"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Resource(secrets).Namespace("ns").Patch(s.ctx, "o", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		s.process("second", "a", nil)
		s.settle(time.Minute)
		wants(s, "root while its child is away", s.ownership(secrets, "o"), "a")
		wants(s, "reconciles while the child is away", s.took(), "")
		s.label(configMaps, "child", OwnerLabel(simRing), "a")
		s.settle(20 * time.Second)
		wants(s, "reconciles when the child is back", s.tookOnce(), "second o")
		s.label(secrets, "o", DrainLabel(simRing), "c")
		s.settle(20 * time.Second)
		wants(s, "root", s.ownership(secrets, "o"), "c@1")
		_, left := s.server.Get(secrets, "ns", "o").GetAnnotations()[withdrawnAnnotation(simRing)]
		wants(s, "the new owner still hears of it", left, false)
	})
}

// TestAnswerIsLostWhenAChildGoes: the child has gone, but who gave it away does not know.
func TestAnswerIsLostWhenAChildGoes(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.child("child", "a", s.secret("o", "a"))
		a := s.worker("a", nil)
		s.settle(20 * time.Second)
		a.client.Inject(memapi.LostResponse, 1, func(r *memapi.Request) bool { return r.Verb == "patch" && r.Resource == configMaps })
		s.label(secrets, "o", DrainLabel(simRing), "b")
		s.settle(20 * time.Second)
		wants(s, "root", s.ownership(secrets, "o"), "b@1")
		wants(s, "child", s.ownership(configMaps, "child"), "b")
		awaited := parseVersions(s.server.Get(secrets, "ns", "o").GetAnnotations()[ChildrenAnnotation(simRing)])["configmaps"]
		wants(s, "version of the children that the new owner waits for", awaited, s.server.Get(configMaps, "ns", "child").GetResourceVersion())
	})
}

// TestTakeOverFetchesChildrenThatHaveGone: the dead shard was about to hand its roots over, and their children went when they were to go elsewhere.
func TestTakeOverFetchesChildrenThatHaveGone(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		for i, root := range s.secrets(60) {
			s.child(fmt.Sprintf("c%02d", i), "", root)
		}
		s.runManager("m")
		s.worker("a", nil)
		s.worker("b", nil)
		c := s.worker("c", nil)
		s.settle(time.Minute)
		c.kill()
		s.settle(simLease * 3 / 4)   // soon it is dead, and until then the manager has no reason to look
		at := map[types.UID]string{} // where the child of a root is
		for _, child := range s.server.List(configMaps, "", ShardSelector(simRing, "c")) {
			at[metav1.GetControllerOf(child).UID] = "a"
			s.label(configMaps, child.GetName(), OwnerLabel(simRing), "a")
		}
		roots := s.server.List(secrets, "", ShardSelector(simRing, "c"))
		for _, root := range roots {
			s.label(secrets, root.GetName(), DrainLabel(simRing), "b")
		}
		moved := 0
		s.server.OnCommit(func(e memapi.Event) {
			if e.New == nil || e.Resource != configMaps && e.Resource != secrets {
				return
			}
			owner, _ := OwnerOf(e.New, simRing)
			if controller := metav1.GetControllerOf(e.New); controller != nil {
				at[controller.UID] = owner
				return
			}
			if before, _ := OwnerOf(e.Old, simRing); before == "c" && owner != before {
				if moved++; at[e.New.GetUID()] != owner {
					s.Errorf("%s goes to %s, and its child is on %s", e.New.GetName(), owner, at[e.New.GetUID()])
				}
			}
		})
		s.settle(2 * simLease)
		if moved != len(roots) || moved < 10 {
			t.Errorf("%d of %d roots were taken over", moved, len(roots))
		}
	})
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
		if got := f.wasRedirected([]*rootTarget{{resource: secrets}}); got != want {
			t.Errorf("%s: got %t, want %t", when, got, want)
		}
	}
	expect("what is in hand-over is not known", true)
	f.found(secrets, watch.Added, root, "b", false)
	f.prune(secrets, time.Time{})
	expect("what was before the first is not known", true)
	f.leave("u")
	expect("nothing is in hand-over", false)
	_ = f.board(t.Context(), secrets, "u")
	f.found(secrets, watch.Added, root, "b", false)
	f.found(secrets, watch.Modified, root, "b", false)
	expect("the same target", false)
	f.found(secrets, watch.Modified, root, "c", false)
	expect("another target", true)
	expect("still on its way", true)
	f.found(secrets, watch.Deleted, root, "c", false)
	expect("it has arrived", false)
	f.found(secrets, watch.Added, root, "b", true)
	expect("it was to go somewhere, and to stay, before", true)
}

// TestRequestIsWithdrawnAndMadeAgain: the child has gone ahead, the manager takes the request back, brings the child home, and makes the request again, all
// before its owner gives the root. It gives the child again.
func TestRequestIsWithdrawnAndMadeAgain(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.afterPatch("a", "configmaps", func() {
			s.label(secrets, "o", DrainLabel(simRing), "")
			s.label(configMaps, "child", OwnerLabel(simRing), "a")
			s.label(secrets, "o", DrainLabel(simRing), "b")
		})
		s.child("child", "a", s.secret("o", "a"))
		s.worker("a", nil)
		s.settle(20 * time.Second)
		s.label(secrets, "o", DrainLabel(simRing), "b")
		s.settle(20 * time.Second)
		wants(s, "root", s.ownership(secrets, "o"), "b@1")
		wants(s, "child", s.ownership(configMaps, "child"), "b")
	})
}

// TestRootRestsUntilTheCacheShowsThatItsChildIsBack: the API server says that the child is back before the cache does.
func TestRootRestsUntilTheCacheShowsThatItsChildIsBack(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.afterPatch("a", "configmaps", func() { s.label(secrets, "o", DrainLabel(simRing), "") })
		s.child("child", "a", s.secret("o", "a"))
		a := s.worker("a", nil)
		s.settle(20 * time.Second)
		s.label(secrets, "o", DrainLabel(simRing), "b")
		s.settle(20 * time.Second)
		wants(s, "child", s.ownership(configMaps, "child"), "b")
		s.took()
		a.client.DelayWatches(20 * time.Second)
		s.label(configMaps, "child", OwnerLabel(simRing), "a")
		s.settle(15 * time.Second)
		wants(s, "reconciles while the cache does not show the child", s.took(), "")
		s.settle(10 * time.Second)
		wants(s, "reconciles when it does", s.tookOnce(), "a o")
	})
}

// TestHandOverOfARootThatHasJustCome: when its children were looked for, the cache did not have the root, and now it does. Then nothing is known of them.
func TestHandOverOfARootThatHasJustCome(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		a := s.worker("a", nil)
		uid := s.secret("o", "a").GetUID()
		s.settle(20 * time.Second)
		listing := &childListing{done: make(chan struct{})}
		close(listing.done)
		for looked, again := range map[types.UID]bool{"": true, "another": true, uid: false} {
			job := handoverJob{key: types.NamespacedName{Namespace: "ns", Name: "o"}, root: looked, family: family{listing: listing}}
			if got := a.processors[0].drainer.handOver(s.ctx, job).retry; got != again {
				t.Errorf("looked for children of %q: tried again %t, want %t", looked, got, again)
			}
		}
	})
}
