package e2enode

import (
	"bufio"
	"cmp"
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

var next = flag.String("next", "", "tag of another image of the manager that the cluster has; empty: the two are not run side by side")

// twoVersions stops the rollout of another version of the manager half way, so that both run, and makes each of them lead. Then it goes on, and
// back again.
func (s *story) twoVersions() {
	if *next == "" {
		s.Skip("-next names no other version of the manager")
	}
	s.patchRing(`{"spec":{"rebalance":{"dryRun":true}}}`) // what is new may make the ring uneven
	defer s.patchRing(`{"spec":{"rebalance":null}}`)
	begun := time.Now()
	terms := s.terms()
	old := s.version(s.leader())
	s.upgrade(*next)
	s.eventually("the first manager of the next version comes", func(ctx context.Context) error {
		pods, err := s.pods(ctx, "manager")
		if err == nil && !slices.ContainsFunc(pods, func(pod corev1.Pod) bool { return s.version(&pod) == *next }) {
			err = fmt.Errorf("%d managers are of version %s", len(pods), old)
		}
		return err
	})
	s.patchManager(`{"spec":{"paused":true}}`) // before it is ready, and an old one is removed
	defer s.patchManager(`{"spec":{"paused":null}}`)
	s.eventually("it is ready", func(ctx context.Context) error { return s.managersOf(ctx, *next) })
	for _, version := range []string{*next, old, *next} {
		s.lead(version)
		s.newcomers("by-"+version+fmt.Sprint(time.Since(begun).Milliseconds()), *workers)
		for _, both := range []string{old, *next} {
			s.must(s.managersOf(s.Context(), both))
		}
	}
	s.patchManager(`{"spec":{"paused":null}}`)
	s.eventually("the managers are rolled out", func(ctx context.Context) error { return s.rolledOut(ctx, "manager") })
	s.newcomers("after", *workers)
	if now := s.version(s.leader()); now != *next {
		s.Errorf("the leader is of version %s, want %s", now, *next)
	}
	s.upgrade(old) // and back
	s.eventually("the managers are rolled back", func(ctx context.Context) error { return s.rolledOut(ctx, "manager") })
	s.newcomers("back", *workers)
	s.still("two versions of the manager led in turn", begun)
	all := terms()
	for n := 1; n < len(all); n++ {
		if before := all[n-1]; before.end.IsZero() || before.end.After(all[n].begin) {
			s.Errorf("two managers led at once: %s from %s to %s, %s from %s", before.pod, before.begin, before.end, all[n].pod, all[n].begin)
		}
	}
	if len(all) < 4 {
		s.Errorf("there were %d terms, want at least 4: %v", len(all), all)
	}
	s.note(fmt.Sprintf("managers %s and %s side by side", old, *next), "%.1f s; %d terms, one after the other; 0 Secrets moved", time.Since(begun).Seconds(), len(all))
}

// upgrade begins the rollout of a version of the manager.
func (s *story) upgrade(version string) {
	s.Helper()
	s.patchManager(fmt.Sprintf(`{"spec":{"template":{"spec":{"containers":[{"name":"manager","image":"registry.local/shard-controller/manager:%s"}]}}}}`, version))
}

func (s *story) patchManager(patch string) {
	s.Helper()
	_, err := s.kube.AppsV1().Deployments(namespace).Patch(s.Context(), "manager", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	s.must(err)
}

// version is the tag of the image of a Pod.
func (s *story) version(pod *corev1.Pod) string {
	_, tag, _ := strings.Cut(pod.Spec.Containers[0].Image, ":")
	return tag
}

// managersOf returns nil if there is a manager of this version that is ready.
func (s *story) managersOf(ctx context.Context, version string) error {
	pods, err := s.pods(ctx, "manager")
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(pods, func(pod corev1.Pod) bool { return ready(&pod) && s.version(&pod) == version }) {
		return fmt.Errorf("of %d managers none is ready and of version %s", len(pods), version)
	}
	return nil
}

// lead deletes leaders until one of this version leads; others of theirs come in their place.
func (s *story) lead(version string) {
	s.Helper()
	for range 20 {
		pod := s.leader()
		if s.version(pod) == version {
			return
		}
		s.must(s.kube.CoreV1().Pods(namespace).Delete(s.Context(), pod.Name, metav1.DeleteOptions{}))
		s.eventually("another one leads", func(context.Context) error {
			if s.leader().UID == pod.UID {
				return fmt.Errorf("it is %s still", pod.Name)
			}
			return nil
		})
		s.eventually("all managers are ready", func(ctx context.Context) error {
			pods, err := s.pods(ctx, "manager")
			if err == nil && len(readyOf(pods)) < managers+1 {
				err = fmt.Errorf("%d are", len(readyOf(pods)))
			}
			return err
		})
	}
	s.Fatalf("no manager of version %s has led", version)
}

// term is what a manager says about its lead, by the clock of the node.
type term struct {
	pod        string
	begin, end time.Time // no end: it leads
}

// terms reads the logs of the managers from now on. The function that it returns ends that, and says who has led, in order.
func (s *story) terms() (end func() []term) {
	ctx, cancel := context.WithCancel(s.Context())
	var mu sync.Mutex
	var all []term
	var reading sync.WaitGroup
	read := func(pod string) {
		log, err := s.kube.CoreV1().Pods(namespace).GetLogs(pod, &corev1.PodLogOptions{Follow: true, Timestamps: true}).Stream(ctx)
		if err != nil {
			return
		}
		defer log.Close()
		current := -1
		for lines := bufio.NewScanner(log); lines.Scan(); {
			stamp, text, _ := strings.Cut(lines.Text(), " ")
			at, err := time.Parse(time.RFC3339Nano, stamp)
			mu.Lock()
			switch {
			case err != nil:
			case strings.Contains(text, `"Leading"`) || strings.Contains(text, "msg=Leading"):
				current = len(all)
				all = append(all, term{pod: pod, begin: at})
			case strings.Contains(text, "Not leading any more") && current >= 0:
				all[current].end = at
			}
			mu.Unlock()
		}
	}
	reading.Go(func() {
		seen := map[types.UID]bool{}
		for ; ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
			pods, err := s.pods(ctx, "manager")
			for _, pod := range pods {
				if err == nil && !seen[pod.UID] && len(pod.Status.ContainerStatuses) > 0 && ptr.Deref(pod.Status.ContainerStatuses[0].Started, false) {
					seen[pod.UID] = true
					reading.Go(func() { read(pod.Name) })
				}
			}
		}
	})
	return func() []term {
		time.Sleep(time.Second) // until what was said has come
		cancel()
		reading.Wait()
		mu.Lock()
		defer mu.Unlock()
		slices.SortFunc(all, func(a, b term) int { return cmp.Compare(a.begin.UnixNano(), b.begin.UnixNano()) })
		return all
	}
}
