package fence_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/shard-io/shard-controller/internal/controlplane"
	"github.com/shard-io/shard-controller/sharding"
	"github.com/shard-io/shard-controller/sharding/fence"
)

// BenchmarkFence measures what the fence adds to a write, by the API server's own metric of the time in the admission plugin for
// validating policies. The writes are those of an owner, of a manager, of a user to an owned object, and of a user to an
// object of no ring.
func BenchmarkFence(b *testing.B) {
	plane := controlplane.ForTest(b)
	admin := kubernetes.NewForConfigOrDie(plane.Config())
	const ns = "cost"
	_, err := admin.CoreV1().Namespaces().Create(b.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{})
	if err != nil {
		b.Fatal(err)
	}
	config := auditor()
	config.Namespace = ns
	o := fence.Options{Managers: []string{"cost-manager"}, Shards: map[string]string{"cost-worker": "a"}}
	owner := map[string]string{sharding.OwnerLabel("auditor"): "a", "app": "x", "tier": "y"}
	for name, labels := range map[string]map[string]string{"owned": owner, "free": {"app": "x"}} {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels,
			Annotations: map[string]string{sharding.EpochAnnotation("auditor"): "1"}}, Data: map[string][]byte{"k": make([]byte, 2048)}}
		if _, err := admin.CoreV1().Secrets(ns).Create(b.Context(), secret, metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	for _, fenced := range []bool{false, true} {
		if fenced {
			if err := fence.Install(b.Context(), admin, config, o); err != nil {
				b.Fatal(err)
			}
			defer func() { _ = fence.Uninstall(context.Background(), admin, ns, "auditor") }()
		}
		for _, w := range []struct{ name, user, object, patch string }{
			{"owner", "cost-worker", "owned", `{"data":{"n":"%s"}}`},
			{"manager", "cost-manager", "owned", `{"metadata":{"annotations":{"x.shard.io/auditor":"%s"}}}`},
			{"user", "cost-user", "owned", `{"data":{"n":"%s"}}`},
			{"unrelated", "cost-user", "free", `{"data":{"n":"%s"}}`},
		} {
			cfg, err := plane.UserConfig(w.user, "system:masters")
			if err != nil {
				b.Fatal(err)
			}
			client := kubernetes.NewForConfigOrDie(cfg)
			b.Run(fmt.Sprintf("fenced=%t/%s", fenced, w.name), func(b *testing.B) {
				sum, count, cpu := validating(b, admin)
				for i := 0; b.Loop(); i++ {
					n := fmt.Sprintf(w.patch, fmt.Sprintf("%08d", i)) // eight digits are base64 as well
					if _, err := client.CoreV1().Secrets(ns).Patch(b.Context(), w.object, types.MergePatchType, []byte(n), metav1.PatchOptions{}); err != nil {
						b.Fatal(err)
					}
				}
				afterSum, afterCount, afterCPU := validating(b, admin)
				b.ReportMetric((afterSum-sum)/(afterCount-count)*1e6, "µs-admission/write")
				b.ReportMetric((afterCPU-cpu)/(afterCount-count)*1e6, "µs-cpu/write")
			})
		}
	}
}

// validating reads the time that updates have spent in the plugin, in seconds, their number, and the CPU time of the API server, which
// is meaningful on a busy machine too.
func validating(b *testing.B, client kubernetes.Interface) (sum, count, cpu float64) {
	b.Helper()
	data, err := client.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	const metric = "apiserver_admission_controller_admission_duration_seconds_"
	for scanner := bufio.NewScanner(bytes.NewReader(data)); scanner.Scan(); {
		line := scanner.Text()
		if rest, ok := strings.CutPrefix(line, "process_cpu_seconds_total "); ok {
			cpu, _ = strconv.ParseFloat(rest, 64)
		}
		if !strings.HasPrefix(line, metric) || !strings.Contains(line, `name="ValidatingAdmissionPolicy"`) || !strings.Contains(line, `operation="UPDATE"`) {
			continue
		}
		value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			b.Fatal(err)
		}
		switch {
		case strings.HasPrefix(line, metric+"sum"):
			sum += value
		case strings.HasPrefix(line, metric+"count"):
			count += value
		}
	}
	return sum, count, cpu
}
