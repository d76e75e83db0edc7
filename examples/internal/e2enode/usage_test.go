package e2enode

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// usage is what the Pods of a component have used.
type usage struct {
	cpu    float64 // mean of all Pods over a time, in millicores
	peak   float64 // the largest of a Pod
	memory float64 // largest working set of a Pod, in MiB
}

func (u usage) String() string {
	return fmt.Sprintf("%.0f MiB, CPU %.0fm (most of a Pod: %.0fm)", u.memory, u.cpu, u.peak)
}

// sample is what the kubelet says of a Pod: see https://kubernetes.io/docs/reference/config-api/kubelet-stats.v1alpha1/
type sample struct {
	PodRef struct {
		Namespace string `json:"namespace"`
		UID       string `json:"uid"`
	} `json:"podRef"`
	CPU struct {
		Time                 time.Time `json:"time"`
		UsageCoreNanoSeconds uint64    `json:"usageCoreNanoSeconds"`
	} `json:"cpu"`
	Memory struct {
		WorkingSetBytes uint64 `json:"workingSetBytes"`
	} `json:"memory"`
}

// samples are the statistics of all Pods of a component, by the UIDs of the Pods.
func (c *cluster) samples(ctx context.Context, component string) (map[string]sample, error) {
	pods, err := c.pods(ctx, component)
	if err != nil {
		return nil, err
	}
	all, err := c.statistics(ctx, pods)
	if err == nil && len(all) != len(pods) {
		err = fmt.Errorf("the kubelet knows %d of %d Pods of %s", len(all), len(pods), component)
	}
	return all, err
}

// statistics asks the kubelets of the nodes on which the Pods are. Of a Pod that has just come they know nothing.
func (c *cluster) statistics(ctx context.Context, pods []corev1.Pod) (map[string]sample, error) {
	nodes, of := map[string]bool{}, map[string]bool{}
	for _, pod := range pods {
		if pod.Spec.NodeName != "" {
			nodes[pod.Spec.NodeName], of[string(pod.UID)] = true, true
		}
	}
	all := map[string]sample{}
	for node := range nodes {
		data, err := c.kube.CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes", node, "proxy/stats/summary").DoRaw(ctx)
		if err != nil {
			return nil, err
		}
		var summary struct {
			Pods []sample `json:"pods"`
		}
		if err := json.Unmarshal(data, &summary); err != nil {
			return nil, err
		}
		for _, s := range summary.Pods {
			if of[s.PodRef.UID] && s.CPU.UsageCoreNanoSeconds > 0 {
				all[s.PodRef.UID] = s
			}
		}
	}
	return all, nil
}

// measure returns what the Pods of the components use while f runs; f takes long enough, and ends nobody's Pod.
func (c *cluster) measure(f func(), components ...string) map[string]usage {
	c.Helper()
	before := map[string]map[string]sample{}
	for _, component := range components {
		c.eventually("the kubelet's statistics", func(ctx context.Context) (err error) {
			before[component], err = c.samples(ctx, component)
			return err
		})
	}
	f()
	result := map[string]usage{}
	for _, component := range components {
		after, err := c.samples(c.Context(), component)
		c.must(err)
		var u usage
		for uid, s := range after {
			b, ok := before[component][uid]
			period := s.CPU.Time.Sub(b.CPU.Time)
			if !ok || period < time.Second {
				c.Fatalf("%s: there is one sample of a Pod only, or %s between two", component, period)
			}
			millicores := 1000 * float64(s.CPU.UsageCoreNanoSeconds-b.CPU.UsageCoreNanoSeconds) / float64(period)
			u.cpu += millicores / float64(len(after))
			u.peak = max(u.peak, millicores)
			u.memory = max(u.memory, float64(s.Memory.WorkingSetBytes)/(1<<20))
		}
		result[component] = u
	}
	return result
}
