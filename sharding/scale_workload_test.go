package sharding

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/internal/memapi"
)

var (
	deployments = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	autoscalers = schema.GroupVersionResource{Group: "autoscaling", Version: "v1", Resource: "horizontalpodautoscalers"}
)

// scaleServer answers updates of the scale subresource of Deployments, which the in-memory server does not have.
type scaleServer struct {
	server *memapi.Server
	next   http.RoundTripper
}

func (f scaleServer) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, "/scale") {
		return f.next.RoundTrip(r)
	}
	var scale autoscalingv1.Scale
	if err := json.NewDecoder(r.Body).Decode(&scale); err != nil {
		return nil, err
	}
	code, object := http.StatusOK, f.server.Get(deployments, scale.Namespace, scale.Name)
	if scale.ResourceVersion != "" && scale.ResourceVersion != object.GetResourceVersion() {
		code = http.StatusConflict
	} else {
		set(int64(scale.Spec.Replicas), "spec", "replicas")(object)
		if _, err := f.server.Update(deployments, object, ""); err != nil {
			return nil, err
		}
	}
	scale.Kind, scale.APIVersion = "Scale", "autoscaling/v1"
	body, err := json.Marshal(scale)
	return &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body)), Request: r}, err
}

// deployment is a Deployment whose Pods are workers of the sim, and what stands in for its controller.
type deployment struct {
	*sim
	change []func(*WorkerOptions, *Controller)
	pods   map[string]*simWorker
	made   int
	// replicas, removed and desired are what was seen: desired is what the status of the ring said.
	replicas []int64
	removed  []string
	desired  []int32
}

// deploy makes the Deployment, and the ring name it as its workload.
func (s *sim) deploy(replicas int64, change ...func(*WorkerOptions, *Controller)) *deployment {
	s.wrap = func(_ string, next http.RoundTripper) http.RoundTripper { return scaleServer{s.server, next} }
	if err := s.server.Register(memapi.Resource{Group: "autoscaling", Version: "v1", Plural: "horizontalpodautoscalers", Kind: "HorizontalPodAutoscaler"}); err != nil {
		s.Fatal(err)
	}
	s.create(deployments, map[string]any{"apiVersion": "apps/v1", "kind": "Deployment",
		"metadata": map[string]any{"name": "w", "namespace": simNamespace},
		"spec": map[string]any{"replicas": replicas, "selector": map[string]any{"matchLabels": map[string]any{"a": "b"}},
			"template": map[string]any{"metadata": map[string]any{"labels": map[string]any{"a": "b"}}}}})
	s.edit(configs, simNamespace, simRing, set(map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": "w"}, "spec", "workload"))
	d := &deployment{sim: s, change: change, pods: map[string]*simWorker{}}
	s.all.Go(func() {
		for s.ctx.Err() == nil {
			d.sync()
			pause(s.ctx, 500*time.Millisecond)
		}
	})
	return d
}

// sync does what the controllers of Deployments and ReplicaSets do: it creates Pods, and deletes those with the least deletion cost.
func (d *deployment) sync() {
	object := d.server.Get(deployments, simNamespace, "w")
	wanted, _, _ := unstructured.NestedInt64(object.Object, "spec", "replicas")
	if len(d.replicas) == 0 || d.replicas[len(d.replicas)-1] != wanted {
		d.replicas = append(d.replicas, wanted)
	}
	if says := d.configStatus().DesiredShards; len(d.desired) == 0 || d.desired[len(d.desired)-1] != says {
		d.desired = append(d.desired, says)
	}
	for int64(len(d.pods)) < wanted {
		name := fmt.Sprintf("w-%02d", d.made)
		d.made++
		d.create(pods, map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name, "namespace": simNamespace}})
		d.pods[name] = d.worker(name, nil, d.change...)
	}
	for int64(len(d.pods)) > wanted {
		name := d.cheapest()
		d.removed = append(d.removed, name)
		d.pods[name].stop()
		delete(d.pods, name)
		if err := d.server.Delete(pods, simNamespace, name); err != nil {
			d.Error(err)
		}
	}
	object = d.server.Get(deployments, simNamespace, "w")
	n := int64(len(d.pods))
	_ = unstructured.SetNestedMap(object.Object, map[string]any{"observedGeneration": object.GetGeneration(), "replicas": n, "updatedReplicas": n}, "status")
	if _, err := d.server.Update(deployments, object, "status"); err != nil {
		d.Log(err) // somebody has scaled meanwhile
	}
}

func (d *deployment) cheapest() string {
	names := make([]string, 0, len(d.pods))
	for name := range d.pods {
		names = append(names, name)
	}
	cost := func(name string) int {
		n, _ := strconv.Atoi(d.server.Get(pods, simNamespace, name).GetAnnotations()[deletionCost])
		return n
	}
	slices.Sort(names)
	return slices.MinFunc(names, func(a, b string) int { return cost(a) - cost(b) })
}

func TestWorkloadFollowsTheLoad(t *testing.T) {
	simulate(t, func(s *sim) {
		s.scalingSpec(soon)
		s.secrets(60)
		var load dial
		load.set(0.5)
		d := s.deploy(2, load.shard)
		s.runManager("m")
		s.settle(time.Minute)
		wants(s, "condition", s.condition(shardv1.ConditionAbleToScale), "True Following")
		load.set(1)
		s.settle(90 * time.Second) // shards that join have the same load, so it goes on
		if n := len(d.pods); n < 4 {
			t.Errorf("%d Pods at full load, want more than the two that there were: %v", n, d.replicas)
		}
		load.set(0.5)
		s.settle(2 * time.Minute)
		before := len(d.pods)
		d.desired = d.desired[len(d.desired)-1:]
		load.set(0.05)
		var last map[string]int // when nothing was being removed yet
		s.until(5*time.Minute, func(shardv1.ShardConfigStatus) bool {
			if !slices.ContainsFunc(slices.Collect(maps.Keys(d.pods)), func(id string) bool { return s.instance(id).Spec.Draining }) {
				last = s.counts(secrets)
			}
			return len(d.removed) > 0
		})
		wants(s, "Pods", len(d.pods), before-1)
		for shard, n := range last {
			if n < last[d.removed[0]] {
				t.Errorf("%s went with %d objects: %s had fewer, %d", d.removed[0], last[d.removed[0]], shard, n)
			}
		}
		wants(s, "objects without an owner that lives", s.counts(secrets)[d.removed[0]], 0)
		s.settle(15 * time.Minute)
		wants(s, "Pods in the end", len(d.pods), 1)
		wants(s, "ShardInstances in the end", len(s.server.List(instances, "", nil)), 1)
		for i := 1; i < len(d.replicas); i++ {
			if d.replicas[i] < d.replicas[i-1]-1 {
				t.Errorf("replicas went %v: one at a time was promised", d.replicas)
			}
		}
		if falls := slices.IsSortedFunc(d.desired, func(a, b int32) int { return int(b - a) }); !falls || len(d.desired) < 3 {
			t.Errorf("while the ring shrank the status called for %v shards: want fewer and fewer, a removal is no reason to call for more", d.desired)
		}
		wants(s, "unowned", s.counts(secrets)["-"], 0)
	})
}

// TestRemovalThatFailsIsTakenBack: while a shard is being emptied, the only other one stops receiving.
func TestRemovalThatFailsIsTakenBack(t *testing.T) {
	simulate(t, func(s *sim) {
		s.scalingSpec(soon)
		s.secrets(60)
		var load dial
		load.set(0.05)
		d := s.deploy(2, load.shard)
		s.runManager("m")
		s.settle(40 * time.Second)
		for id := range d.pods {
			s.server.Client(id).SetFaults(memapi.Faults{MinLatency: 2 * time.Second, MaxLatency: 2 * time.Second})
		}
		victim := ""
		s.until(5*time.Minute, func(shardv1.ShardConfigStatus) bool {
			for _, id := range []string{"w-00", "w-01"} {
				if s.instance(id).Spec.Draining {
					victim = id
				}
			}
			return victim != ""
		})
		if victim == "" {
			t.Fatal("no removal has begun")
		}
		other := map[string]string{"w-00": "w-01", "w-01": "w-00"}[victim]
		s.edit(instances, simNamespace, other, set(true, "spec", "cordoned"))
		s.settle(2 * time.Minute)
		wants(s, "draining", s.instance(victim).Spec.Draining, false)
		wants(s, "annotation", s.instance(victim).Annotations[removalAnnotation], "")
		wants(s, "the cordon of the user", s.instance(other).Spec.Cordoned, true)
		wants(s, "Pods", len(d.pods), 2)
		wants(s, "Event", len(s.eventNotes("RemovalCancelled")), 1)
		wants(s, "unowned", s.counts(secrets)["-"], 0)
	})
}

// TestRemovalGoesOnUnderTheNextLeader, as all that it goes by is written down.
func TestRemovalGoesOnUnderTheNextLeader(t *testing.T) {
	simulate(t, func(s *sim) {
		s.scalingSpec(soon)
		s.secrets(60)
		var load dial
		load.set(0.05)
		d := s.deploy(2, load.shard)
		m := s.runManager("m1")
		begun := s.until(5*time.Minute, func(shardv1.ShardConfigStatus) bool {
			return slices.ContainsFunc(s.server.List(instances, "", nil), func(o *unstructured.Unstructured) bool { return o.GetAnnotations()[removalAnnotation] != "" })
		})
		wants(s, "a removal has begun", begun < 5*time.Minute, true)
		m.kill()
		s.runManager("m2")
		s.settle(3 * time.Minute)
		wants(s, "Pods", len(d.pods), 1)
		wants(s, "unowned", s.counts(secrets)["-"], 0)
		wants(s, "ShardInstances", len(s.server.List(instances, "", nil)), 1)
	})
}

func TestWorkloadsThatAreNotScaled(t *testing.T) {
	hpa := func(s *sim) {
		s.create(autoscalers, map[string]any{"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
			"metadata": map[string]any{"name": "rival", "namespace": simNamespace},
			"spec":     map[string]any{"maxReplicas": int64(5), "scaleTargetRef": map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": "w"}}})
	}
	for _, c := range []struct {
		name string
		do   func(s *sim)
		want string
	}{
		{"an autoscaler of its own", hpa, "False ConflictingAutoscaler"},
		{"dry run", func(s *sim) { s.edit(configs, simNamespace, simRing, set(true, "spec", "scaling", "dryRun")) }, "False DryRun"},
		{"no such workload", func(s *sim) { s.edit(configs, simNamespace, simRing, set("other", "spec", "workload", "name")) }, "False WorkloadNotFound"},
		{"a kind without Pods", func(s *sim) { s.edit(configs, simNamespace, simRing, set("Job", "spec", "workload", "kind")) }, "False UnsupportedWorkload"},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.scalingSpec(soon)
				s.secrets(20)
				var load dial
				load.set(1)
				d := s.deploy(2, load.shard)
				c.do(s)
				s.runManager("m")
				s.settle(5 * time.Minute)
				wants(s, "condition", s.condition(shardv1.ConditionAbleToScale), c.want)
				wants(s, "replicas", fmt.Sprint(d.replicas), "[2]")
				wants(s, "recommended all the same", s.configStatus().RecommendedShards > 2, true)
			})
		})
	}
}
