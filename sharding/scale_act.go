package sharding

import (
	"context"
	"encoding/json"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// follow makes the workload have as many replicas as were decided, one step at a time. It changes nothing while another autoscaler does.
func (c *ringController) follow(ctx context.Context, config *shardv1.ShardConfig, facts []shardFact, members membership) {
	s := &c.scaler
	if config.Spec.Workload == nil {
		s.condition = nil
		return
	}
	dry := scalingOf(config).DryRun
	waits, err := "", s.workloadErr
	if err == nil && s.workload.rival == "" && !dry && s.err == nil {
		step := scaleStep(c.workloadView(config, facts, members))
		if waits, err = step.text, c.act(ctx, step); apierrors.IsConflict(err) {
			err = nil // somebody else has written: the next round looks again
		}
		if step.replicas > 0 {
			waits = ""
		}
	}
	s.condition = workloadCondition(s.workload, err, dry, waits)
	if err != nil {
		klog.FromContext(ctx).V(1).Info("Scaling the workload failed, will try again", "err", err)
	}
}

// workloadView puts together what a step looks at.
func (c *ringController) workloadView(config *shardv1.ShardConfig, facts []shardFact, members membership) workloadView {
	s := &c.scaler
	v := workloadView{
		now: s.at, replicas: s.workload.replicas, desired: int32(s.last.Desired), least: config.Spec.MinShards,
		ordinals: s.workload.kind == "StatefulSet", name: s.workload.name,
		failed: !s.failedAt.IsZero() && s.at.Sub(s.failedAt) < removalLimit,
	}
	if config.Spec.Shards != nil {
		v.least = min(max(v.least, *config.Spec.Shards), config.Spec.MaxShards)
	}
	for _, f := range facts {
		if f.instance == nil || f.deleted {
			continue
		}
		shard := workloadShard{
			id: f.id, serving: members.standings[f.id] == standingServing && !f.view().Silent, receives: f.view().Eligible(),
			objects: f.objects, drain: c.drainStateOf(f.id),
			load: f.view().Load,
		}
		if text, set := f.instance.Annotations[removalAnnotation]; set {
			r := parseRemoval(text)
			shard.removal = &r
		}
		v.shards = append(v.shards, shard)
	}
	return v
}

// act carries a step out. Everything is written on the version that was seen, and is done again if it was not done to the end.
func (c *ringController) act(ctx context.Context, step workloadAction) error {
	s := &c.scaler
	switch {
	case step.drain != "":
		r := removal{s.workload.replicas, s.at}
		return c.markRemoval(ctx, step.drain, r.String(), true, step.text)
	case step.restore != "":
		s.failedAt = s.at
		return c.markRemoval(ctx, step.restore, "", false, step.text)
	case step.replicas == 0:
		return nil
	}
	if step.remove != "" && s.workload.kind == "Deployment" {
		if err := c.workloads.choosePod(ctx, step.remove); err != nil {
			return err
		}
	}
	if err := c.workloads.setReplicas(ctx, s.workload, step.replicas); err != nil {
		return err
	}
	c.trail.add(AuditRecord{
		Action: AuditScaled, Ring: c.ring, From: strconv.Itoa(int(s.workload.replicas)), To: strconv.Itoa(int(step.replicas)), Cause: step.text,
	})
	c.event(corev1.EventTypeNormal, "Scaled", "Scale", "%s", clip(step.text))
	return nil
}

// markRemoval begins to empty a shard, or lets it receive objects again.
func (c *ringController) markRemoval(ctx context.Context, shard, annotation string, draining bool, why string) error {
	instance := c.remembered[shard]
	if instance == nil {
		return nil
	}
	annotations := map[string]any{removalAnnotation: nil}
	spec := map[string]any{"draining": nil}
	reason, kind := "RemovalCancelled", corev1.EventTypeWarning
	if draining {
		annotations[removalAnnotation] = annotation
		spec = map[string]any{"draining": true}
		reason, kind = "RemovalBegun", corev1.EventTypeNormal
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": instance.ResourceVersion, "uid": instance.UID, "annotations": annotations},
		"spec":     spec,
	})
	if err != nil {
		return err
	}
	_, err = c.shards.ShardV1().ShardInstances(c.namespace).Patch(ctx, shard, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: managerFieldManager})
	if err == nil {
		c.event(kind, reason, "Scale", "%s", clip(why))
	}
	return ignoreNotFound(err)
}
