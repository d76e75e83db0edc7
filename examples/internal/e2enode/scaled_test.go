package e2enode

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/sharding"
)

// The ring of the scaled scenarios has so many workers.
const (
	fewest    = 2
	greatest  = 4
	auditTime = 400 * time.Millisecond // of each audit: a worker, which makes four at once, is full with 10 in a second
	changes   = 30                     // Secrets that are changed in a second: as much as three workers can do
	storage   = "6Mi"                  // how much a worker may write to its log before the kubelet evicts it
)

// hasty are the scaled manifests with periods that a test can wait for, and workers for which an audit takes time.
func hasty(objects []*unstructured.Unstructured) []*unstructured.Unstructured {
	objects = withJournal(objects)
	for _, o := range objects {
		switch {
		case o.GetKind() == "Deployment" && o.GetName() == "worker":
			unstructured.RemoveNestedField(o.Object, "spec", "replicas") // which withJournal has set
			containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
			worker := containers[0].(map[string]any)
			worker["args"] = append(worker["args"].([]any), "--audit-time="+auditTime.String())
			_ = unstructured.SetNestedField(worker, storage, "resources", "limits", "ephemeral-storage")
			_ = unstructured.SetNestedSlice(o.Object, containers, "spec", "template", "spec", "containers")
		case o.GetKind() == "ShardConfig":
			_ = unstructured.SetNestedField(o.Object, int64(fewest), "spec", "minShards")
			_ = unstructured.SetNestedField(o.Object, int64(greatest), "spec", "maxShards")
			_ = unstructured.SetNestedMap(o.Object, map[string]any{
				"sustainedPeriod": "5s", "cooldownPeriod": "10s", "upPeriod": "10s", "downPeriod": "10s", "forecast": "None",
			}, "spec", "scaling")
		}
	}
	return objects
}

// scaledByLoad gives the number of workers to the manager. There is work for three, and then for none.
func (s *story) scaledByLoad() {
	s.scaleDeployment(fewest) // who scales by hand owns the number from then on, and the next apply, which has none, leaves it alone
	s.apply(hasty(s.render(filepath.Join(deploy, "worker-deployment-scaled"))))
	s.eventually("the Deployment is rolled out", func(ctx context.Context) error { return s.rolledOut(ctx, "worker") })
	s.eventually("the manager follows", s.condition(shardv1.ConditionAbleToScale, "True", "Following"))
	s.eventually("all Secrets have an owner", s.workersAre(fewest))
	s.eventually("nothing moves any more", s.settled)
	begun := time.Now()
	stop := s.busy()
	defer stop()
	full := s.eventually("there are as many workers as the work needs", s.workersAre(greatest))
	risen := summary(moves(s.line, begun))
	stop()
	s.note(fmt.Sprintf("work for %.0f workers: from %d to %d, each with Secrets", changes*auditTime.Seconds()/4, fewest, greatest), "%.1f s; %s", full.Seconds(), risen)
	again := time.Now()
	departures := s.departures()
	s.eventually("there are as few workers as may be", s.workersAre(fewest))
	s.eventually("nothing moves any more", s.settled)
	s.emptied(departures(), greatest-fewest)
	s.note(fmt.Sprintf("no work: from %d to %d", greatest, fewest), "%.1f s; %s", time.Since(again).Seconds(), summary(moves(s.line, again)))
	s.eventually("all reports are on the certificates", s.reported)
}

// scaleDeployment is kubectl scale.
func (s *story) scaleDeployment(replicas int) {
	s.Helper()
	s.eventually("the Deployment is scaled", func(ctx context.Context) error { // again, if somebody else writes
		scale, err := s.kube.AppsV1().Deployments(namespace).GetScale(ctx, "worker", metav1.GetOptions{})
		if err == nil {
			scale.Spec.Replicas = int32(replicas)
			_, err = s.kube.AppsV1().Deployments(namespace).UpdateScale(ctx, "worker", scale, metav1.UpdateOptions{})
		}
		return err
	})
}

// workersAre is a condition: there are so many workers, and each has Secrets.
func (s *story) workersAre(want int) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := s.running("worker", want)(ctx); err != nil {
			return err
		}
		return s.owned(want)(ctx)
	}
}

// condition is a condition of the ring.
func (s *story) condition(kind, status, reason string) func(context.Context) error {
	return func(ctx context.Context) error {
		config, err := s.shards.ShardV1().ShardConfigs(namespace).Get(ctx, ringName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if c := meta.FindStatusCondition(config.Status.Conditions, kind); c == nil || string(c.Status) != status || c.Reason != reason {
			return fmt.Errorf("the condition %s is %+v", kind, c)
		}
		return nil
	}
}

// busy renews certificates, one after the other, until the function that it returns is called. Each has to be audited.
func (s *story) busy() (stop func()) {
	s.Helper()
	ctx, cancel := context.WithCancel(s.Context())
	list, err := s.meta.Resource(secrets).Namespace(site).List(ctx, metav1.ListOptions{})
	s.must(err)
	var patches [16][]byte
	for n := range patches {
		secret, err := s.issuer.secret(fmt.Sprintf("renewed-%d", n))
		s.must(err)
		patches[n] = patchOf(secret.Data)
	}
	var writing sync.WaitGroup
	const clients = 4
	for client := range clients {
		writing.Go(func() {
			tick := time.NewTicker(clients * time.Second / changes)
			defer tick.Stop()
			for n := client; ; n += clients {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
					name := list.Items[n%len(list.Items)].Name
					_, err := s.kube.CoreV1().Secrets(site).Patch(ctx, name, types.MergePatchType, patches[rand.IntN(len(patches))], metav1.PatchOptions{})
					if err != nil && ctx.Err() == nil {
						s.Error(err)
						return
					}
				}
			}
		})
	}
	return func() {
		cancel()
		writing.Wait()
	}
}

// departure is a worker whose Pod was deleted, and how many Secrets it had at that moment.
type departure struct {
	pod  string
	had  int
	when time.Time
}

// departures watches for Pods that are deleted. The function that it returns ends that, and says which were.
func (s *story) departures() (end func() []departure) {
	ctx, cancel := context.WithCancel(s.Context())
	var looking sync.WaitGroup
	var seen []departure
	looking.Go(func() {
		gone := map[string]bool{}
		for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
			pods, err := s.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=worker"})
			for n := range pods.Items {
				pod := &pods.Items[n]
				if err != nil || pod.DeletionTimestamp == nil || gone[pod.Name] {
					continue
				}
				gone[pod.Name] = true
				list, err := s.meta.Resource(secrets).Namespace(site).List(ctx, metav1.ListOptions{LabelSelector: sharding.ShardSelector(ringName, pod.Name).String()})
				if err == nil {
					seen = append(seen, departure{pod.Name, len(list.Items), time.Now()})
				}
			}
		}
	})
	return func() []departure {
		cancel()
		looking.Wait()
		return seen
	}
}

// emptied wants so many workers to have gone, none before it was emptied.
func (s *story) emptied(gone []departure, want int) {
	s.Helper()
	if len(gone) != want {
		s.Errorf("%d Pods were deleted, want %d: %v", len(gone), want, gone)
	}
	s.must(s.line.Look(s.Context()))
	for _, d := range gone {
		late := 0
		for _, all := range moves(s.line, d.when) {
			for _, m := range all {
				if m.From == d.pod {
					late++
				}
			}
		}
		if d.had+late > 0 {
			s.Errorf("%s had %d Secrets when it was deleted, and handed %d over afterwards; want that it was empty", d.pod, d.had, late)
		}
	}
}

// autoscaled puts a HorizontalPodAutoscaler over the ring, as an autoscaler of Kubernetes sees it: its scale subresource, and the CPU time of the Pods.
func (s *story) autoscaled() {
	s.needsNode()
	defer s.serveMetrics()()
	defer s.fixed()() // where there is no number, the autoscaler takes it for 0 and keeps off
	stop := s.busy()
	defer stop()
	begun := time.Now()
	s.autoscale("ring", autoscalingv2.CrossVersionObjectReference{APIVersion: shardv1.SchemeGroupVersion.String(), Kind: "ShardConfig", Name: ringName}, greatest)
	defer s.unscale("ring")
	s.eventually("the autoscaler has raised the number", s.workersAre(greatest))
	s.note(fmt.Sprintf("HorizontalPodAutoscaler of the ShardConfig, from %d to %d workers with Secrets", fewest, greatest), "%.1f s; %s", time.Since(begun).Seconds(), summary(moves(s.line, begun)))
	stop()
	begun = time.Now()
	departures := s.departures()
	s.eventually("the autoscaler has lowered the number", s.workersAre(fewest))
	s.eventually("nothing moves any more", s.settled)
	s.emptied(departures(), greatest-fewest)
	s.note(fmt.Sprintf("the same without work, back to %d", fewest), "%.1f s; %s", time.Since(begun).Seconds(), summary(moves(s.line, begun)))
	config, err := s.shards.ShardV1().ShardConfigs(namespace).Get(s.Context(), ringName, metav1.GetOptions{})
	s.must(err)
	if config.Spec.Shards == nil || *config.Spec.Shards != fewest {
		s.Errorf("spec.shards is %v, want that the autoscaler has set it", config.Spec.Shards)
	}
}

// fixed makes the number of workers the least one, as kubectl scale of the ring does, whatever their load. The function that it returns
// leaves it to the load again.
func (s *story) fixed() (end func()) {
	s.Helper()
	s.patchRing(fmt.Sprintf(`{"spec":{"shards":%d}}`, fewest))
	s.eventually("there are as few workers as may be", s.workersAre(fewest))
	s.eventually("nothing moves any more", s.settled)
	return func() { s.patchRing(`{"spec":{"shards":null}}`) }
}

func (s *story) patchRing(patch string) {
	s.Helper()
	_, err := s.shards.ShardV1().ShardConfigs(namespace).Patch(s.Context(), ringName, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	s.must(err)
}

// autoscale makes a HorizontalPodAutoscaler that goes by CPU time, and does not wait before it lowers the number.
func (s *story) autoscale(name string, target autoscalingv2.CrossVersionObjectReference, most int32) {
	s.Helper()
	_, err := s.kube.AutoscalingV2().HorizontalPodAutoscalers(namespace).Create(s.Context(), &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: target, MinReplicas: ptr.To[int32](fewest), MaxReplicas: most,
			Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
				Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: ptr.To(cpuTarget.DeepCopy())},
			}}},
			Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: ptr.To[int32](0)}},
		},
	}, metav1.CreateOptions{})
	s.must(err)
}

func (s *story) unscale(name string) {
	s.Helper()
	s.must(s.kube.AutoscalingV2().HorizontalPodAutoscalers(namespace).Delete(s.Context(), name, metav1.DeleteOptions{}))
}

// rival puts a HorizontalPodAutoscaler over the Deployment, which the manager scales as well: the manager says so, and keeps off.
func (s *story) rival() {
	deployment := autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "worker"}
	s.autoscale("rival", deployment, fewest)
	told := s.eventually("the manager has seen it", s.condition(shardv1.ConditionAbleToScale, "False", "ConflictingAutoscaler"))
	hpas := s.kube.AutoscalingV2().HorizontalPodAutoscalers(namespace)
	_, err := hpas.Patch(s.Context(), "rival", types.MergePatchType, []byte(`{"spec":{"minReplicas":3,"maxReplicas":3}}`), metav1.PatchOptions{})
	s.must(err)
	s.eventually("the rival has its way", s.workersAre(fewest+1))
	departures := s.departures()
	time.Sleep(20 * time.Second) // ten rounds of the manager, for which there is one worker too many
	if gone := departures(); len(gone) > 0 {
		s.Errorf("Pods were deleted: %v", gone)
	}
	s.must(s.workersAre(fewest + 1)(s.Context()))
	s.unscale("rival")
	begun := time.Now()
	departures = s.departures()
	s.eventually("the manager scales again", s.workersAre(fewest))
	s.eventually("it says so", s.condition(shardv1.ConditionAbleToScale, "True", "Following"))
	s.emptied(departures(), 1)
	s.note("HorizontalPodAutoscaler of the Deployment: told after; gone, and the manager's number is back", "%.1f s; %.1f s", told.Seconds(), time.Since(begun).Seconds())
}
