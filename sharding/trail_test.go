package sharding

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/shard-io/shard-controller/internal/memapi"
	"github.com/shard-io/shard-controller/sharding/internal/fencing"
)

// auditLog keeps records, rendered without their time and uid.
type auditLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *auditLog) add(r AuditRecord) {
	l.mu.Lock()
	defer l.mu.Unlock()
	by, _, _ := strings.Cut(r.By, "_")
	line := fmt.Sprintf("%s %s %s %s: %s>%s@%d", by, r.Action, r.Resource, r.Object, r.From, r.To, r.Epoch)
	if r.Uncertain {
		line += " perhaps"
	}
	if r.Time.IsZero() {
		line += " without a time"
	}
	l.lines = append(l.lines, line)
}

func (l *auditLog) took() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

func (l *auditLog) worker(o *WorkerOptions, _ *Controller) { o.AuditLog = l.add }

func TestAuditLogHasEveryChangeOfOwner(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		log := &auditLog{}
		s.runManager("m", func(o *ManagerOptions) { o.AuditLog = log.add })
		a := s.worker("a", nil, log.worker)
		s.settle(time.Minute)
		s.child("c", "", s.secret("o", ""))
		s.settle(10 * time.Second)
		expect := func(what string, want ...string) {
			s.Helper()
			if diff := cmp.Diff(want, log.took()); diff != "" {
				s.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		expect("assigned, and its child is not told of", "m Assigned secrets ns/o: >a@1")

		s.worker("b", nil, log.worker)
		s.settle(10 * time.Second)
		log.took() // whether it moves by itself is up to the strategy
		from := s.ownership(secrets, "o")[:1]
		to := map[string]string{"a": "b", "b": "a"}[from]
		epoch := EpochOf(s.server.Get(secrets, "ns", "o"), simRing)
		s.label(secrets, "o", DrainLabel(simRing), to, PinLabel(simRing), to)
		s.settle(time.Second)
		if got := log.took(); len(got) == 0 || got[0] != fmt.Sprintf("%s HandedOver secrets ns/o: %s>%s@%d", from, from, to, epoch+1) {
			s.Errorf("handed over: %q", got)
		}

		s.edit(secrets, "ns", "o", set(map[string]any{OwnerLabel(simRing): "a"}, "metadata", "labels"))
		s.settle(time.Second)
		log.took()
		epoch = EpochOf(s.server.Get(secrets, "ns", "o"), simRing)
		a.kill()
		s.settle(2 * time.Minute)
		expect("taken over", fmt.Sprintf("m TakenOver secrets ns/o: a>b@%d", epoch+1))
	})
}

// TestAuditLogSaysWhatIsUncertain loses the answer to a hand-over.
func TestAuditLogSaysWhatIsUncertain(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		log := &auditLog{}
		s.secret("o", "a")
		a := s.worker("a", nil, log.worker)
		s.settle(10 * time.Second)
		a.client.Inject(memapi.LostResponse, 1, func(r *memapi.Request) bool { return r.Resource == secrets && r.Verb == "patch" })
		s.label(secrets, "o", DrainLabel(simRing), "b")
		s.settle(5 * time.Second)
		wants(s, "owner", s.ownership(secrets, "o"), "b@1")
		if diff := cmp.Diff([]string{"a HandedOver secrets ns/o: a>b@1 perhaps"}, log.took()); diff != "" {
			s.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestAuditLogHasRefusals: one write is refused in the process, another by the fence of the server, a third by somebody else.
func TestAuditLogHasRefusals(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secret("mine", "a")
		s.secret("theirs", "b")
		var mu sync.Mutex
		var records []AuditRecord
		a := s.worker("a", nil, func(o *WorkerOptions, _ *Controller) {
			o.AuditLog = func(r AuditRecord) {
				mu.Lock()
				defer mu.Unlock()
				records = append(records, r)
			}
		})
		s.settle(10 * time.Second)
		policy := fencing.Policy(simNamespace, simRing)
		s.server.Admit(func(ad memapi.Admission) error {
			switch {
			case ad.Request.Resource == secrets && ad.New != nil && ad.New.GetAnnotations()["by"] == "fence":
				return policyRefusal(policy, `fence of ring "r" [Stale]: no`)
			case ad.Request.Resource == secrets && ad.New != nil && ad.New.GetAnnotations()["by"] == "rbac":
				return forbidden("secrets is forbidden")
			}
			return nil
		})
		kube := kubernetes.NewForConfigOrDie(a.FencedConfig(s.connect("a")))
		write := func(name, by string) error {
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Annotations: map[string]string{"by": by},
				Labels: map[string]string{OwnerLabel(simRing): "a"}}}
			_, err := kube.CoreV1().Secrets("ns").Update(context.Background(), secret, metav1.UpdateOptions{})
			return err
		}
		for _, c := range []struct{ name, by, cause string }{
			{"theirs", "", "fenced"},
			{"mine", "fence", "the API server refused PUT /api/v1/namespaces/ns/secrets/mine: ValidatingAdmissionPolicy '" + policy + "'"},
			{"mine", "rbac", ""},
			{"mine", "", ""},
		} {
			records = nil
			err := write(c.name, c.by)
			if (err == nil) != (c.by == "" && c.name == "mine") {
				s.Errorf("%v: error %v", c, err)
			}
			if c.by == "fence" && (err == nil || !strings.Contains(err.Error(), "[Stale]")) {
				s.Errorf("the client does not get the answer any more: %v", err)
			}
			if c.cause == "" && len(records) > 0 || c.cause != "" && (len(records) != 1 || !strings.HasPrefix(records[0].Cause, c.cause) ||
				records[0].Action != AuditRefused || records[0].Object != "ns/"+c.name || records[0].Resource != "secrets" || records[0].By != "a") {
				s.Errorf("%v: records %+v", c, records)
			}
		}
	})
}

func TestOwnerChange(t *testing.T) {
	root := func(owner string, epoch string) metav1.Object {
		o := &metav1.ObjectMeta{Namespace: "ns", Name: "o", ResourceVersion: "1", Labels: map[string]string{}, Annotations: map[string]string{}}
		if owner != "" {
			o.Labels[OwnerLabel("r")] = owner
		}
		if epoch != "" {
			o.Annotations[EpochAnnotation("r")] = epoch
		}
		return o
	}
	tests := []struct {
		name   string
		before metav1.Object
		patch  []byte
		want   string
	}{
		{"first owner", root("", ""), ownPatch(root("", ""), "r", "a", nil), "Assigned >a@1"},
		{"another owner", root("a", "3"), ownPatch(root("a", "3"), "r", "b", nil), "TakenOver a>b@4"},
		{"asked for a hand-over", root("a", "3"), drainPatch(root("a", "3"), "r", "b"), ""},
		{"disowned", root("a", "3"), disownPatch(root("a", "3"), "r"), "Released a>@3"},
		{"not selected", root("a", "3"), releasePatch(root("a", "3"), "r"), "Released a>@3"},
		{"the ring is gone", root("a", "3"), clearPatch(root("a", "3"), "r"), "Released a>@3"},
		{"an epoch that is mended", root("a", "3"), epochPatch(root("a", "3"), "r", time.Unix(9, 0)), ""},
		{"a child", root("a", ""), childPatch(root("a", ""), "r", "b"), ""},
		{"nonsense", root("a", "3"), []byte("{"), ""},
	}
	for _, tc := range tests {
		r, changed := ownerChange("r", AuditTakenOver, tc.before, tc.patch)
		got := ""
		if changed {
			got = fmt.Sprintf("%s %s>%s@%d", r.Action, r.From, r.To, r.Epoch)
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestAnswersAreLeftAsTheyAre(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	for _, text := range []string{"", "short", long, "ValidatingAdmissionPolicy 'r.ns.fence.shard.io' with", "ValidatingAdmissionPolicy 'other'"} {
		response := &http.Response{Body: io.NopCloser(strings.NewReader(text))}
		ring, _, ok := fenceIn(response)
		if ok != strings.Contains(text, "fence") || ok && ring != "r" {
			t.Errorf("%.40q: ring %q, %t", text, ring, ok)
		}
		if rest, err := io.ReadAll(response.Body); err != nil || string(rest) != text {
			t.Errorf("%.40q: %d bytes of %d are left: %v", text, len(rest), len(text), err)
		}
	}
}

func TestAuditLogHasScaling(t *testing.T) {
	simulate(t, func(s *sim) {
		s.scalingSpec(soon)
		s.secrets(20)
		var load dial
		load.set(1)
		s.deploy(2, load.shard)
		var mu sync.Mutex
		var first AuditRecord
		s.runManager("m", func(o *ManagerOptions) {
			o.AuditLog = func(r AuditRecord) {
				mu.Lock()
				defer mu.Unlock()
				if r.Action == AuditScaled && first.Action == "" {
					first = r
				}
			}
		})
		s.settle(90 * time.Second)
		if first.Ring != simRing || first.From != "2" || first.To <= "2" || first.Cause == "" || !strings.HasPrefix(first.By, "m_") {
			s.Errorf("the first record of scaling is %+v, want one of ring %s from 2 to more", first, simRing)
		}
	})
}
