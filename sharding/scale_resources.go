package sharding

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// resourcesAnnotation is on a workload: the resources that the manager has put into its template, as JSON.
const resourcesAnnotation = "shard.io/resources"

// defaultContainer is the annotation of a template that names the container which is meant when none is named.
const defaultContainer = "kubectl.kubernetes.io/default-container"

// podTemplate is what matters of the template of a workload.
type podTemplate struct {
	container string // "" if there is none
	resources corev1.ResourceRequirements
	written   string // the annotation of the workload
}

func templateOf(workload metav1.Object, template *corev1.PodTemplateSpec) podTemplate {
	t := podTemplate{written: workload.GetAnnotations()[resourcesAnnotation]}
	for i, c := range template.Spec.Containers {
		if i == 0 || c.Name == template.Annotations[defaultContainer] {
			t.container, t.resources = c.Name, c.Resources
		}
	}
	return t
}

// amounts are the requests or limits of a container, by the name of the resource.
type amounts map[corev1.ResourceName]resource.Quantity

// writtenResources is what the annotation has.
type writtenResources struct {
	Requests amounts `json:"requests,omitempty"`
	Limits   amounts `json:"limits,omitempty"`
}

// errChangedByOthers: the template is not as the manager left it. It is not written again.
var errChangedByOthers = errors.New("somebody else has changed the resources in the template")

// resourcePatch returns the patch by which a template gets the resources that are wanted, nil if it has them. What was written for an earlier
// spec and is not wanted any more goes, unless somebody has changed it since. It is a pure function.
func resourcePatch(want *shardv1.ComputeResources, t podTemplate) (map[string]any, error) {
	next, text := writtenResources{}, ""
	if want != nil && len(want.Requests)+len(want.Limits) > 0 {
		next = writtenResources{amounts(want.Requests), amounts(want.Limits)}
		data, err := json.Marshal(next)
		if err != nil {
			return nil, err
		}
		text = string(data)
	}
	var former writtenResources
	if json.Unmarshal([]byte(t.written), &former) != nil {
		former = writtenResources{} // somebody else's text: nothing is known to be ours
	}
	requests := differences(next.Requests, former.Requests, t.resources.Requests)
	limits := differences(next.Limits, former.Limits, t.resources.Limits)
	switch {
	case text == t.written && len(requests)+len(limits) == 0:
		return nil, nil
	case t.container == "":
		return nil, errors.New("the template has no container")
	case text == t.written:
		return nil, errChangedByOthers
	}
	patch := map[string]any{"metadata": map[string]any{"annotations": map[string]any{resourcesAnnotation: orNil(text)}}}
	if len(requests)+len(limits) > 0 {
		container := map[string]any{"name": t.container, "resources": map[string]any{"requests": requests, "limits": limits}}
		patch["spec"] = map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{container}}}}
	}
	return patch, nil
}

// differences are the amounts to set, and nil for those to remove.
func differences(want, former, have map[corev1.ResourceName]resource.Quantity) map[string]any {
	d := map[string]any{}
	for name, amount := range want {
		if has, there := have[name]; !there || has.Cmp(amount) != 0 {
			d[string(name)] = amount.String()
		}
	}
	for name, amount := range former {
		has, there := have[name]
		if _, wanted := want[name]; !wanted && there && has.Cmp(amount) == 0 {
			d[string(name)] = nil
		}
	}
	return d
}

func orNil(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// fitting makes the template of the workload have the resources of the spec.
type fitting struct {
	condition *metav1.Condition
	// refused is the resourceVersion that the API server refused a patch for, refusal why. It is not tried again on that one.
	refused string
	refusal error
	// generation is that of the ShardConfig then.
	generation int64
}

// fit writes the resources into the template, if they are not there. Nothing is written while a shard is being removed, as new Pods would be in the way.
func (c *ringController) fit(ctx context.Context, config *shardv1.ShardConfig, facts []shardFact, frozen bool) {
	s, f := &c.scaler, &c.scaler.fitting
	if config.Spec.Resources == nil && s.workload.template.written == "" {
		return
	}
	patch, err := resourcePatch(config.Spec.Resources, s.workload.template)
	removing := slices.ContainsFunc(facts, func(f shardFact) bool { return f.instance != nil && f.instance.Annotations[removalAnnotation] != "" })
	waits := ""
	switch {
	case err != nil || patch == nil:
	case scalingOf(config).DryRun:
		waits = "spec.scaling.dryRun is set: nothing is changed."
	case removing, frozen:
		waits = "Waiting, as a shard is being removed, or many are silent."
	case f.refusal != nil && f.refused == s.workload.version && f.generation == config.Generation:
		err = f.refusal
	default:
		if err = c.workloads.change(ctx, s.workload, patch); err == nil {
			c.event(corev1.EventTypeNormal, "ResourcesApplied", "Fit", "%s", "the template of the workload has the resources of the spec: its Pods will be replaced")
			s.workload.rollingOut = true
		}
		f.refused, f.refusal, f.generation = s.workload.version, lasting(err), config.Generation
	}
	if config.Spec.Resources != nil || err != nil {
		f.condition = resourcesCondition(s.workload.template.container, err, waits)
	}
}

// lasting is an error that will be the same the next time.
func lasting(err error) error {
	if apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsBadRequest(err) {
		return err
	}
	return nil
}

func resourcesCondition(container string, err error, waits string) *metav1.Condition {
	c := &metav1.Condition{Type: shardv1.ConditionResourcesApplied, Status: metav1.ConditionFalse}
	switch {
	case errors.Is(err, errChangedByOthers):
		c.Reason = "ChangedByOthers"
		c.Message = fmt.Sprintf("Somebody has changed the resources of the container %s after the manager: make them the same there, or change spec.resources.", container)
	case apierrors.IsForbidden(err):
		c.Reason, c.Message = "Forbidden", clip(err.Error())
	case apierrors.IsConflict(err):
		c.Reason, c.Message = "Waiting", "The workload has just been changed; it will be tried again."
	case err != nil:
		c.Reason, c.Message = "Refused", clip(err.Error())
	case waits != "":
		c.Reason, c.Message = "Waiting", waits
	default:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, "Applied", "The container "+container+" has the resources of the spec in the template of the workload."
	}
	return c
}

// change patches the workload, if it is still as it was read.
func (w *workloads) change(ctx context.Context, of *workload, patch map[string]any) error {
	ctx, cancel := context.WithTimeout(ctx, workloadTimeout)
	defer cancel()
	if meta, ok := patch["metadata"].(map[string]any); ok {
		meta["resourceVersion"] = of.version
	}
	data, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	options := metav1.PatchOptions{FieldManager: managerFieldManager}
	if of.kind == "Deployment" {
		_, err = w.kube.AppsV1().Deployments(w.namespace).Patch(ctx, of.name, types.StrategicMergePatchType, data, options)
	} else {
		_, err = w.kube.AppsV1().StatefulSets(w.namespace).Patch(ctx, of.name, types.StrategicMergePatchType, data, options)
	}
	return err
}
