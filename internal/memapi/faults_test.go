package memapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/shard-io/shard-controller/internal/memapi"
)

func mapsOf(s *memapi.Server, actor string) typedcorev1.ConfigMapInterface {
	return kubernetes.NewForConfigOrDie(s.Config(actor)).CoreV1().ConfigMaps("ns")
}

func named(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// TestFaults injects each fault into one create: what the caller sees, whether the write was done, and
// how long it took.
func TestFaults(t *testing.T) {
	cases := []struct {
		fault   memapi.Fault
		done    bool
		took    time.Duration
		correct func(error) bool
	}{
		{memapi.NoFault, true, 0, func(err error) bool { return err == nil }},
		// The REST client waits as it is told, and succeeds.
		{memapi.TooManyRequests, true, time.Second, func(err error) bool { return err == nil }},
		{memapi.InternalError, false, 0, apierrors.IsInternalError},
		{memapi.Unavailable, false, 0, apierrors.IsServiceUnavailable},
		{memapi.ServerTimeout, false, 0, apierrors.IsTimeout},
		{memapi.ConnectionReset, false, 0, hasText("connection reset")},
		{memapi.Hang, false, 10 * time.Second, isDeadline},
		{memapi.LostResponse, true, 0, hasText("connection reset")},
		{memapi.LateResponse, true, 10 * time.Second, isDeadline},
		{memapi.Duplicate, true, 0, apierrors.IsAlreadyExists},
		{memapi.Forbidden, false, 0, hasText(`User "a" cannot create resource "configmaps" in API group "" in the namespace "ns"`)},
	}
	for _, c := range cases {
		t.Run(c.fault.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				s.Client("a").Inject(c.fault, 1, func(r *memapi.Request) bool { return r.Verb == "create" })
				ctx, cancel := context.WithTimeout(quiet(), 10*time.Second)
				defer cancel()
				start := time.Now()
				_, err := mapsOf(s, "a").Create(ctx, named("x"), metav1.CreateOptions{})
				if !c.correct(err) {
					t.Errorf("error: %v", err)
				}
				if took := time.Since(start); took != c.took {
					t.Errorf("took %v, want %v", took, c.took)
				}
				if done := s.Get(configMaps, "ns", "x") != nil; done != c.done {
					t.Errorf("stored: %v, want %v", done, c.done)
				}
				if _, err := mapsOf(s, "b").List(ctx, metav1.ListOptions{}); ctx.Err() == nil && err != nil {
					t.Errorf("another actor: %v", err)
				}
			})
		})
	}
}

func hasText(text string) func(error) bool {
	return func(err error) bool { return err != nil && strings.Contains(err.Error(), text) }
}

func isDeadline(err error) bool { return errors.Is(err, context.DeadlineExceeded) }

// TestLinks says for each state of the link whether a write takes effect, and whether one hears of it.
func TestLinks(t *testing.T) {
	for _, c := range []struct {
		link        memapi.Link
		done, heard bool
	}{
		{memapi.Connected, true, true}, {memapi.RequestsLost, false, false},
		{memapi.ResponsesLost, true, false}, {memapi.Partitioned, false, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(t)
			w, err := mapsOf(s, "a").Watch(quiet(), metav1.ListOptions{ResourceVersion: "1"})
			if err != nil {
				t.Fatal(err)
			}
			s.Client("a").SetLink(c.link)
			start := time.Now()
			_, err = mapsOf(s, "a").Create(quiet(), named("x"), metav1.CreateOptions{})
			if heard := err == nil; heard != c.heard || (!heard && time.Since(start) != 30*time.Second) {
				t.Errorf("link %d: %v after %v", c.link, err, time.Since(start))
			}
			if done := s.Get(configMaps, "ns", "x") != nil; done != c.done {
				t.Errorf("link %d: stored: %v", c.link, done)
			}
			for e := range w.ResultChan() { // The watch of a cut link breaks after 45 s.
				if c.link == memapi.Connected && e.Object.(metav1.Object).GetName() == "x" {
					s.Client("a").DropWatches()
				}
			}
			if took := time.Since(start); c.link != memapi.Connected && took != 45*time.Second {
				t.Errorf("link %d: the watch broke after %v", c.link, took)
			}
		})
	}
}

// TestLateEvents holds back the events of one actor in three ways; the other gets them at once.
func TestLateEvents(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(*memapi.Client)
		want time.Duration
	}{
		"delay": {func(c *memapi.Client) { c.DelayWatches(7 * time.Second) }, 7 * time.Second},
		"stall": {func(c *memapi.Client) { c.StallWatches(9 * time.Second) }, 9 * time.Second},
		"mended link": {func(c *memapi.Client) {
			c.SetLink(memapi.ResponsesLost)
			time.AfterFunc(20*time.Second, func() { c.SetLink(memapi.Connected) })
		}, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				late, err := mapsOf(s, "late").Watch(quiet(), metav1.ListOptions{ResourceVersion: "1"})
				if err != nil {
					t.Fatal(err)
				}
				prompt, err := mapsOf(s, "prompt").Watch(quiet(), metav1.ListOptions{ResourceVersion: "1"})
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				c.set(s.Client("late"))
				put(t, s, "x", nil)
				if <-prompt.ResultChan(); time.Since(start) != 0 {
					t.Errorf("the prompt watch waited %v", time.Since(start))
				}
				if <-late.ResultChan(); time.Since(start) != c.want {
					t.Errorf("the event came after %v, want %v", time.Since(start), c.want)
				}
				late.Stop()
				prompt.Stop()
			})
		})
	}
}

func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		w, err := mapsOf(s, "a").Watch(quiet(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s.SetDown(true)
		if _, open := <-w.ResultChan(); open {
			t.Error("the watch survived")
		}
		if _, err := mapsOf(s, "a").List(quiet(), metav1.ListOptions{}); !hasText("connection refused")(err) {
			t.Errorf("list while down: %v", err)
		}
		s.SetDown(false)
		if _, err := mapsOf(s, "a").List(quiet(), metav1.ListOptions{}); err != nil {
			t.Errorf("list after the outage: %v", err)
		}
	})
}

// TestStaleReads holds that only reads that allow it are stale, and that a watch from a stale list's
// revision misses nothing.
func TestStaleReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		put(t, s, "old", nil)
		time.Sleep(time.Minute)
		put(t, s, "new", nil)
		s.Client("a").StaleReads(30 * time.Second)
		stale, err := mapsOf(s, "a").List(quiet(), metav1.ListOptions{ResourceVersion: "0"})
		if err != nil || len(stale.Items) != 1 || stale.Items[0].Name != "old" {
			t.Errorf("stale list: %v, %v", stale, err)
		}
		if now, err := mapsOf(s, "a").List(quiet(), metav1.ListOptions{}); err != nil || len(now.Items) != 2 {
			t.Errorf("current list: %v, %v", now, err)
		}
		if _, err := mapsOf(s, "a").Get(quiet(), "new", metav1.GetOptions{ResourceVersion: "0"}); !apierrors.IsNotFound(err) {
			t.Errorf("stale get: %v", err)
		}
		if _, err := mapsOf(s, "a").Get(quiet(), "new", metav1.GetOptions{}); err != nil {
			t.Errorf("current get: %v", err)
		}
		fresh, err := mapsOf(s, "a").List(quiet(), metav1.ListOptions{ResourceVersion: fmt.Sprint(s.Revision())})
		if err != nil || len(fresh.Items) != 2 {
			t.Errorf("list not older than now: %v, %v", fresh, err)
		}
		w, err := mapsOf(s, "a").Watch(quiet(), metav1.ListOptions{ResourceVersion: stale.ResourceVersion})
		if err != nil {
			t.Fatal(err)
		}
		if e := <-w.ResultChan(); e.Object.(metav1.Object).GetName() != "new" {
			t.Errorf("watch: %v", e)
		}
		w.Stop()
	})
}

// TestReplay holds that a seed gives the same faults and the same objects again, whatever other actors
// do in between, and that another seed gives others.
func TestReplay(t *testing.T) {
	run := func(seed uint64, noise int) (out []string) {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(t, func(o *memapi.Options) { o.Seed = seed })
			s.Client("a").SetFaults(memapi.Faults{Rates: map[memapi.Fault]float64{memapi.InternalError: .2,
				memapi.LostResponse: .2, memapi.ConnectionReset: .1}, MaxLatency: time.Second})
			for i := range 50 {
				for range noise {
					_, _ = mapsOf(s, "b").List(quiet(), metav1.ListOptions{})
					_, _ = mapsOf(s, "a").Get(quiet(), "unrelated", metav1.GetOptions{})
				}
				_, err := mapsOf(s, "a").Create(quiet(), named(fmt.Sprintf("c%d", i%10)), metav1.CreateOptions{})
				out = append(out, fmt.Sprint(err))
			}
			for _, o := range s.List(configMaps, "", nil) {
				out = append(out, o.GetName()+" "+string(o.GetUID()))
			}
		})
		return out
	}
	withoutNumber := func(in []string) []string {
		for i, text := range in {
			text, _, _ = strings.Cut(text, "injected into request")
			in[i] = text
		}
		return in
	}
	first := withoutNumber(run(1, 0))
	if again := withoutNumber(run(1, 3)); !slices.Equal(first, again) {
		t.Errorf("the same seed, another run:\n%s\n%s", strings.Join(first, "\n"), strings.Join(again, "\n"))
	}
	if other := withoutNumber(run(2, 0)); slices.Equal(first, other) {
		t.Error("another seed, the same run")
	}
}

func TestRetryAfterHeader(t *testing.T) {
	s := newServer(t)
	s.Client("a").SetFaults(memapi.Faults{Rates: map[memapi.Fault]float64{memapi.TooManyRequests: 1}, RetryAfter: 1500 * time.Millisecond})
	req, err := http.NewRequest(http.MethodGet, "http://memapi/version", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Client("a").RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "2" {
		t.Errorf("%v %v", resp.Status, resp.Header)
	}
}

// TestSilentOutage: a server that is down and silent is waited for, for as long as a dial takes or until it is there.
func TestSilentOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.SetSilent()
		if _, err := mapsOf(s, "a").List(quiet(), metav1.ListOptions{}); err != nil {
			t.Errorf("list while up: %v", err)
		}
		for _, back := range []time.Duration{10 * time.Second, 40 * time.Second} {
			s.SetDown(true)
			s.SetSilent()
			begun := time.Now()
			time.AfterFunc(back, func() { s.SetDown(false) })
			_, err := mapsOf(s, "a").List(quiet(), metav1.ListOptions{})
			if took := time.Since(begun); took != min(back, 30*time.Second) || (err == nil) != (back < 30*time.Second) {
				t.Errorf("back after %s: answered after %s with %v", back, took, err)
			}
			time.Sleep(time.Minute)
		}
	})
}
