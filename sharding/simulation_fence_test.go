package sharding

import (
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/shard-io/shard-controller/internal/memapi"
)

// caller is who writes, as the API server knows it from the credentials.
type caller struct {
	worker, manager bool
	pod             string // the shard; empty if the credentials are bound to no Pod
}

// admit decides about a write to a root or child by the rules of the server-side fence.
func admit(ring string, by caller, child bool, before, after *unstructured.Unstructured) error {
	owner := func(u *unstructured.Unstructured) string {
		if u == nil {
			return ""
		}
		shard, _ := OwnerOf(u, ring)
		return shard
	}
	was, is := owner(before), owner(after)
	create, remove := before == nil, after == nil
	drain := ""
	if before != nil {
		drain, _ = DrainTargetOf(before, ring)
	}
	switch {
	case by.worker && by.pod == "":
		return fmt.Errorf("fenced: the credentials are not bound to a Pod")
	case by.worker && create:
		if is != by.pod && !(child && is == "") {
			return fmt.Errorf("fenced: %q may not create what is labelled for %q", by.pod, is)
		}
	case by.worker && was != by.pod:
		return fmt.Errorf("fenced: owned by %q, caller is %q", was, by.pod)
	case by.worker && !remove && is != was && !child && (drain == "" || is != drain):
		return fmt.Errorf("fenced: %q may hand over only to the drain target %q, not to %q", by.pod, drain, is)
	case by.worker:
	case by.manager && !create && !remove:
		return managerMay(before, after)
	case !by.manager && !remove && is != was:
		return fmt.Errorf("fenced: only the manager and the owner change the owner label")
	}
	return nil
}

// managerMay: the manager changes labels and annotations only.
func managerMay(before, after *unstructured.Unstructured) error {
	strip := func(u *unstructured.Unstructured) map[string]any {
		bare := map[string]any{}
		for k, v := range u.Object {
			if k != "metadata" {
				bare[k] = v
			}
		}
		return bare
	}
	if !reflect.DeepEqual(strip(before), strip(after)) {
		return fmt.Errorf("fenced: the manager changes labels and annotations only")
	}
	return nil
}

// admission is the fence of the simulated API server.
func (w *world) admission(a memapi.Admission) error {
	if a.Request.Resource != secrets && a.Request.Resource != configMaps {
		return nil
	}
	w.oracle.mu.Lock()
	defer w.oracle.mu.Unlock()
	p := w.oracle.byName[a.Request.Actor]
	by := caller{}
	if p != nil {
		by = caller{worker: p.shard != "", manager: p.shard == "", pod: p.shard}
	}
	err := admit(simRing, by, a.Request.Resource == configMaps, a.Old, a.New)
	if err != nil {
		w.oracle.refused++
		w.tell("%s %s %s: %v", a.Request.Actor, a.Request.Verb, a.Request.Name, err)
	}
	return err
}
