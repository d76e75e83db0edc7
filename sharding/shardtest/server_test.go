package shardtest_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/shard-io/shard-controller/generated/clientset/versioned"
	"github.com/shard-io/shard-controller/sharding/shardtest"
)

// TestFaults lets an update meet each fault once: what its caller sees, and how often it has taken effect.
func TestFaults(t *testing.T) {
	says := func(text string) func(error) bool {
		return func(err error) bool { return err != nil && strings.Contains(err.Error(), text) }
	}
	for fault, c := range map[shardtest.Fault]struct {
		sees    func(error) bool
		written bool
	}{
		shardtest.TooManyRequests: {func(err error) bool { return err == nil }, true}, // client-go tries again
		shardtest.InternalError:   {apierrors.IsInternalError, false},
		shardtest.Unavailable:     {apierrors.IsServiceUnavailable, false},
		shardtest.Conflict:        {apierrors.IsConflict, false},
		shardtest.Expired:         {func(err error) bool { return err == nil }, true}, // no fault for an update
		shardtest.Forbidden:       {says(`User "a" cannot update resource "secrets" in API group "" in the namespace "ns"`), false},
		shardtest.Reset:           {says("connection reset"), false},
		shardtest.Hang:            {func(err error) bool { return errors.Is(err, context.DeadlineExceeded) }, false},
		shardtest.LostResponse:    {says("connection reset"), true},
		shardtest.Duplicate:       {apierrors.IsConflict, true},
	} {
		t.Run(string(fault), func(t *testing.T) {
			each(t, func(w *world) {
				secret := w.secret("o", nil)
				w.must(w.server.Actor("a").Fail(fault, 1, func(r shardtest.Request) bool {
					return r.Verb == "update" && r.Resource == secrets && r.Namespace == "ns" && r.Name == "o"
				}))
				client := kubernetes.NewForConfigOrDie(w.server.Config("a")).CoreV1().Secrets("ns")
				ctx, cancel := context.WithTimeout(w.ctx, 2*time.Second)
				defer cancel()
				secret.Data = map[string][]byte{"k": []byte("v")}
				if _, err := client.Update(ctx, secret, metav1.UpdateOptions{}); !c.sees(err) {
					w.Errorf("the caller sees %v", err)
				}
				now, err := client.Get(w.ctx, "o", metav1.GetOptions{})
				w.must(err)
				if written := len(now.Data) > 0; written != c.written {
					w.Errorf("it was written: %v", written)
				}
			})
		})
	}
}

func TestRandomFaultsReplay(t *testing.T) {
	run := func(seed uint64) (seen string) {
		server, err := shardtest.NewServer(shardtest.ServerOptions{Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		err = server.Actor("a").SetFaults(shardtest.Faults{
			Rates: map[shardtest.Fault]float64{shardtest.InternalError: 0.3, shardtest.Unavailable: 0.3},
			Match: func(r shardtest.Request) bool { return r.Verb == "get" },
		})
		if err != nil {
			t.Fatal(err)
		}
		client := kubernetes.NewForConfigOrDie(server.Config("a")).CoreV1().Secrets("ns")
		for range 40 {
			_, err := client.Get(t.Context(), "o", metav1.GetOptions{})
			seen += string(apierrors.ReasonForError(err)[0])
		}
		if _, err := client.List(t.Context(), metav1.ListOptions{}); err != nil {
			t.Errorf("a request that Match excludes: %v", err)
		}
		return seen
	}
	one, again, other := run(1), run(1), run(2)
	if one != again || one == other || !strings.Contains(one, "I") || !strings.Contains(one, "S") || !strings.Contains(one, "N") {
		t.Errorf("seeds 1, 1 and 2 see\n%s\n%s\n%s", one, again, other)
	}
}

func TestFaultMistakes(t *testing.T) {
	server, err := shardtest.NewServer(shardtest.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	a := server.Actor("a")
	for want, err := range map[string]error{
		`no fault "418"`:             a.Fail("418", 1, nil),
		`Rates: there is no fault`:   a.SetFaults(shardtest.Faults{Rates: map[shardtest.Fault]float64{"": 1}}),
		"Rates[500] is 1.5":          a.SetFaults(shardtest.Faults{Rates: map[shardtest.Fault]float64{shardtest.InternalError: 1.5}}),
		"the sum of Rates is 1.2":    a.SetFaults(shardtest.Faults{Rates: map[shardtest.Fault]float64{shardtest.Hang: .6, shardtest.Reset: .6}}),
		"0 <= MinLatency":            a.SetFaults(shardtest.Faults{MinLatency: time.Second}),
		"WatchDrops is -1":           a.SetFaults(shardtest.Faults{WatchDrops: -1}),
		"<nil>":                      a.SetFaults(shardtest.Faults{}),
		"Version, Resource in lower": resourceError(shardtest.Resource{Resource: "widgets", Kind: "Widget"}),
		"Resources[0] is {Group:":    resourceError(shardtest.Resource{Version: "v1", Resource: "Widgets", Kind: "Widget"}),
		"secrets is registered":      resourceError(shardtest.Resource{Version: "v1", Resource: "secrets", Kind: "Secret"}),
	} {
		if err == nil && want != "<nil>" || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func resourceError(r shardtest.Resource) error {
	_, err := shardtest.NewServer(shardtest.ServerOptions{Resources: []shardtest.Resource{r}})
	return err
}

// TestProcesses: what becomes of a write of a process that is cut off, stopped, or killed.
func TestProcesses(t *testing.T) {
	for name, c := range map[string]struct {
		before, after func(a *shardtest.Actor)
		err           bool
		written       bool
	}{
		"cut off, and mended":      {(*shardtest.Actor).Cut, (*shardtest.Actor).Mend, false, true},
		"stopped, and continued":   {(*shardtest.Actor).Freeze, (*shardtest.Actor).Thaw, false, true},
		"killed":                   {(*shardtest.Actor).Crash, func(*shardtest.Actor) {}, true, false},
		"killed after its write":   {func(a *shardtest.Actor) { a.CrashAtWrite(1) }, func(*shardtest.Actor) {}, true, true},
		"killed after the next":    {func(a *shardtest.Actor) { a.CrashAtWrite(2) }, func(*shardtest.Actor) {}, false, true},
		"to be forbidden for good": {func(a *shardtest.Actor) { _ = a.Fail(shardtest.Forbidden, math.MaxInt, nil) }, func(*shardtest.Actor) {}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(w *world) {
				a := w.server.Actor("a")
				c.before(a)
				result := make(chan error, 1)
				go func() {
					_, err := kubernetes.NewForConfigOrDie(w.server.Config("a")).CoreV1().Secrets("ns").
						Create(w.ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "o"}}, metav1.CreateOptions{})
					result <- err
				}()
				time.Sleep(20 * time.Millisecond) // it is on its way, or waits
				c.after(a)
				if err := <-result; (err != nil) != c.err {
					w.Errorf("the write ends with %v", err)
				}
				_, err := w.kube.CoreV1().Secrets("ns").Get(w.ctx, "o", metav1.GetOptions{})
				if written := err == nil; written != c.written {
					w.Errorf("it was written: %v", written)
				}
			})
		})
	}
}

// TestCachesSurvive: an operator sees what was written while its watches were late, broken, or had to begin anew, and the server down.
func TestCachesSurvive(t *testing.T) {
	for name, disturb := range map[string]func(w *world, a *shardtest.Actor){
		"late":      func(_ *world, a *shardtest.Actor) { a.DelayWatches(50 * time.Millisecond) },
		"broken":    func(_ *world, a *shardtest.Actor) { a.DropWatches() },
		"compacted": func(w *world, a *shardtest.Actor) { w.server.Compact(); a.DropWatches() },
		"down": func(w *world, _ *shardtest.Actor) {
			w.server.SetDown(true)
			if _, err := w.kube.CoreV1().Secrets("ns").List(w.ctx, metav1.ListOptions{}); err == nil {
				w.Error("a server that is down answers")
			}
			w.server.SetDown(false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(w *world) {
				_, stop := w.start("a")
				defer stop()
				w.secret("o", nil)
				disturb(w, w.server.Actor("a"))
				w.must(w.ring.Assign(secrets, named("o"), "a"))
				w.await("a: o has 0 at epoch 1")
			})
		})
	}
}

func TestServerWithoutDefinitions(t *testing.T) {
	server, err := shardtest.NewServer(shardtest.ServerOptions{WithoutDefinitions: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = versioned.NewForConfigOrDie(server.Config("a")).ShardV1().ShardConfigs("ns").List(t.Context(), metav1.ListOptions{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("there is an answer for a resource that is not served: %v", err)
	}
	server.Close()
	if _, err := kubernetes.NewForConfigOrDie(server.Config("a")).CoreV1().Secrets("ns").List(t.Context(), metav1.ListOptions{}); err == nil {
		t.Error("a server that is closed answers")
	}
}
