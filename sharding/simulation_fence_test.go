package sharding

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/shard-io/shard-controller/internal/memapi"
)

// fenceRequest is a write, as the API server's fence sees it.
type fenceRequest struct {
	worker, manager, system bool
	pod                     string // the shard of the worker's credentials; empty if they are bound to no Pod
	child                   bool   // a child of a root, or what could be one; else a root
	before, after           *unstructured.Unstructured
}

// admit decides by the rules of the server-side fence (package fence), and names the rule that refuses; "" if none does.
func (r *fenceRequest) admit(ring string) string {
	switch {
	case r.worker:
		return r.admitWorker(ring)
	case r.manager:
		return r.admitManager(ring)
	case r.after == nil || r.system && r.child:
		return ""
	case r.before == nil && r.owner(r.after, ring) != "":
		return "NewObject"
	case r.before != nil && ringKeys(r.before, ring) != ringKeys(r.after, ring):
		return "RingKeys"
	}
	return ""
}

func (r *fenceRequest) owner(u *unstructured.Unstructured, ring string) string {
	if u == nil {
		return ""
	}
	shard, _ := OwnerOf(u, ring)
	return shard
}

// ofRing says whether the object belongs to the ring: it has an owner, or is to get one.
func (r *fenceRequest) ofRing(ring string) bool {
	if r.owner(r.before, ring) != "" || r.owner(r.after, ring) != "" || !r.child {
		return true
	}
	object := r.before
	if object == nil {
		object = r.after
	}
	controller := metav1.GetControllerOfNoCopy(object)
	return controller != nil && controller.Kind == "Secret" && controller.APIVersion == "v1"
}

func (r *fenceRequest) admitWorker(ring string) string {
	was, is := r.owner(r.before, ring), r.owner(r.after, ring)
	switch {
	case r.pod == "" && r.ofRing(ring):
		return "Unbound"
	case r.before == nil && is != "" && is != r.pod:
		return "OtherOwner"
	case r.before == nil:
		return ""
	case was == "" && r.child && metav1.GetControllerOfNoCopy(r.before) == nil:
		if is != "" && is != r.pod {
			return "OtherOwner"
		}
		return ""
	case was == "" && r.ofRing(ring):
		return "Unassigned"
	case was == "":
		return ""
	case was != r.pod:
		return "NotOwner"
	case r.after == nil:
		return ""
	case r.child:
		if is == "" {
			return "HandOver"
		}
		return ""
	case is == was:
		if protocolKeys(r.before, ring) != protocolKeys(r.after, ring) {
			return "RingKeys"
		}
		return ""
	}
	drain, _ := DrainTargetOf(r.before, ring)
	left, _ := DrainTargetOf(r.after, ring)
	switch {
	case drain == "" || is != drain || left != "":
		return "HandOver"
	case EpochOf(r.after, ring) <= EpochOf(r.before, ring):
		return "Epoch"
	}
	return ""
}

func (r *fenceRequest) admitManager(ring string) string {
	was, is := r.owner(r.before, ring), r.owner(r.after, ring)
	switch {
	case !r.ofRing(ring):
		return ""
	case r.before == nil && is == "":
		return ""
	case r.before == nil || r.after == nil || !reflect.DeepEqual(withoutRings(r.before), withoutRings(r.after)):
		return "ManagerScope"
	case !r.child && was != is && is != "" && EpochOf(r.after, ring) <= EpochOf(r.before, ring):
		return "Epoch"
	}
	return ""
}

// protocolKeys renders what only the manager may change while the owner stays, ringKeys all that is the ring's.
func protocolKeys(u *unstructured.Unstructured, ring string) string {
	return u.GetLabels()[DrainLabel(ring)] + "|" + u.GetAnnotations()[EpochAnnotation(ring)]
}

func ringKeys(u *unstructured.Unstructured, ring string) string {
	return u.GetLabels()[OwnerLabel(ring)] + "|" + protocolKeys(u, ring) + "|" + u.GetAnnotations()["state.shard.io/"+ring]
}

// withoutRings is the object without labels and annotations of rings, and without what the server writes.
func withoutRings(u *unstructured.Unstructured) map[string]any {
	bare := u.DeepCopy().Object
	metadata, _ := bare["metadata"].(map[string]any)
	for _, key := range []string{"labels", "annotations"} {
		set, _ := metadata[key].(map[string]any)
		for name := range set {
			if prefix, _, _ := strings.Cut(name, "/"); prefix == "shard.io" || strings.HasSuffix(prefix, ".shard.io") {
				delete(set, name)
			}
		}
		if len(set) == 0 {
			delete(metadata, key)
		}
	}
	for _, key := range []string{"resourceVersion", "managedFields", "generation"} {
		delete(metadata, key)
	}
	return bare
}

// admission is the fence of the simulated API server.
func (w *world) admission(a memapi.Admission) error {
	if a.Request.Resource != secrets && a.Request.Resource != configMaps {
		return nil
	}
	w.oracle.mu.Lock()
	defer w.oracle.mu.Unlock()
	r := fenceRequest{child: a.Request.Resource == configMaps, before: a.Old, after: a.New}
	if p := w.oracle.byName[a.Request.Actor]; p != nil {
		r.worker, r.manager, r.pod = p.shard != "", p.shard == "", p.shard
	}
	rule := r.admit(simRing)
	if rule == "" {
		return nil
	}
	w.oracle.refused++
	w.tell("%s %s %s: refused by %s", a.Request.Actor, a.Request.Verb, a.Request.Name, rule)
	return errors.New("fenced: " + rule)
}

// fenceCase is a case of the table that the real fence is held against.
type fenceCase struct {
	Name, Who, Verb, Resource, Namespace string
	Before, After                        *struct {
		Owner, Drain, Epoch *string
		Labels, Annotations map[string]string
		Controller          string
		Set                 map[string]any
	}
	Want string
}

func (c *fenceCase) object(after bool) *unstructured.Unstructured {
	state := c.Before
	if after {
		state = c.After
	}
	if state == nil {
		return nil
	}
	u := &unstructured.Unstructured{Object: map[string]any{}}
	for key, value := range state.Set {
		u.Object[key] = value
	}
	labels, annotations := map[string]string{}, map[string]string{}
	for key, value := range state.Labels {
		labels[key] = value
	}
	for key, value := range state.Annotations {
		annotations[key] = value
	}
	for key, value := range map[string]*string{OwnerLabel("r-1"): state.Owner, DrainLabel("r-1"): state.Drain} {
		if value != nil {
			labels[key] = *value
		}
	}
	if state.Epoch != nil {
		annotations[EpochAnnotation("r-1")] = *state.Epoch
	}
	u.SetLabels(labels)
	u.SetAnnotations(annotations)
	if state.Controller != "" {
		i, yes := strings.LastIndex(state.Controller, "/"), true
		u.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: state.Controller[:i], Kind: state.Controller[i+1:], Name: "x", UID: "x", Controller: &yes}})
	}
	return u
}

// TestSimulatedFenceIsTheFence holds the fence of the simulation against the table of requests that is replayed against a real API
// server with the real policies: as far as it is about one ring, whole objects, and what the ring selects.
func TestSimulatedFenceIsTheFence(t *testing.T) {
	data, err := os.ReadFile("fence/testdata/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var table struct {
		Callers map[string]struct{ User, Pod string }
		Cases   []fenceCase
	}
	if err := yaml.Unmarshal(data, &table); err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, c := range table.Cases {
		before := c.object(false)
		if c.Resource != "secrets" && c.Resource != "configmaps" || c.Namespace != "" || strings.Contains(fmt.Sprint(c.object(true), before), "two:yes") || selectsNot(before) {
			continue
		}
		tried++
		t.Run(c.Name, func(t *testing.T) {
			r := fenceRequest{child: c.Resource == "configmaps", before: before, after: c.object(true)}
			switch c.Who {
			case "admin":
			case "manager":
				r.manager = true
			case "gc", "kubelet":
				r.system = true
			case "outsider":
				r.worker, r.pod = true, "c"
			default:
				r.worker, r.pod = true, table.Callers[c.Who].Pod
			}
			if got := r.admit("r-1"); got != c.Want {
				t.Errorf("refused by %q, want %q", got, c.Want)
			}
		})
	}
	if tried < 80 {
		t.Errorf("only %d cases of the table are about what is simulated", tried)
	}
}

// selectsNot says whether the ring of the table does not select the object.
func selectsNot(u *unstructured.Unstructured) bool {
	if u == nil {
		return false
	}
	_, skip := u.GetLabels()["skip"]
	_, ring := u.GetLabels()[RingLabel]
	_, state := u.GetLabels()["shard.io/state"]
	return skip || ring || state || u.GetLabels()["tier"] == "none"
}
