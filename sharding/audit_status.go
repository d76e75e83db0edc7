package sharding

import (
	"context"
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// maxExamples is how many objects a pass names.
const maxExamples = 5

// proven counts a gap. It is called for every proven suspicion in every pass.
func (p *auditPass) proven(ctx context.Context, kind gapKind, n int64, what string, v verdict) {
	p.result.gaps[kind] += n
	if len(p.result.examples) < maxExamples {
		p.result.examples = append(p.result.examples, what)
	}
	if v != newlyProven {
		return
	}
	klog.FromContext(ctx).V(1).Info("The audit has found a gap", "kind", kind, "what", what)
	if kind == gapDoublyOwned {
		p.c.metrics.doubleOwners.WithLabelValues(p.c.ring).Add(float64(n))
	}
}

// publish makes the result of a complete pass known: by metrics, by an Event if it is worse or better than the one before, and, by way of
// the next reconcile of the ring, by conditions.
func (a *auditor) publish(ctx context.Context, r *auditResult) {
	m, ring := a.c.metrics, a.c.ring
	m.auditSeconds.WithLabelValues(ring).Observe(r.took.Seconds())
	m.auditObjects.WithLabelValues(ring).Set(float64(r.objects + r.children))
	m.auditLast.WithLabelValues(ring).Set(float64(r.at.UnixNano()) / 1e9)
	m.auditUnreported.WithLabelValues(ring).Set(float64(r.unreported))
	for _, kind := range gapKinds {
		m.coverageGaps.WithLabelValues(ring, string(kind)).Set(float64(r.gaps[kind]))
	}
	if !maps.Equal(a.told, r.gaps) {
		a.tell(ctx, r)
	}
	if before := a.result.Swap(r); !r.same(before) {
		a.c.kick()
	}
}

// tell records what has changed as an Event: each kind that is new, and the end of all gaps.
func (a *auditor) tell(ctx context.Context, r *auditResult) {
	logger := klog.FromContext(ctx)
	fresh := gapCounts{}
	for kind, n := range r.gaps {
		if a.told[kind] == 0 {
			fresh[kind] = n
		}
	}
	switch examples := strings.Join(r.examples, "; "); {
	case len(r.gaps) == 0:
		logger.Info("The audit finds no more gaps", "before", a.told.String())
		a.c.event(corev1.EventTypeNormal, "Covered", "Audit", "Every object has a live owner again. Before: %s.", a.told)
	case fresh[gapDoublyOwned] > 0:
		logger.Error(nil, "Two shards report to hold the same object", "gaps", r.gaps.String(), "examples", r.examples)
		a.c.event(corev1.EventTypeWarning, "DoublyOwned", "Audit", "%s", clip(fmt.Sprintf("Found: %s. For example: %s.", r.gaps, examples)))
	case len(fresh) > 0:
		logger.Error(nil, "The audit has found gaps", "gaps", r.gaps.String(), "examples", r.examples)
		a.c.event(corev1.EventTypeWarning, "CoverageGap", "Audit", "%s", clip(fmt.Sprintf("Found: %s. For example: %s.", r.gaps, examples)))
	}
	a.told = r.gaps
}

// auditConditions says in conditions what the audit has found last; r is nil as long as it has found nothing out, and then what a former
// leader has written stays.
func auditConditions(r *auditResult, anyShard bool, have []metav1.Condition) []metav1.Condition {
	covered := metav1.Condition{Type: shardv1.ConditionCovered, Status: metav1.ConditionTrue, Reason: "Covered"}
	doubly := metav1.Condition{Type: shardv1.ConditionDoublyOwned, Status: metav1.ConditionFalse, Reason: "NotSeen",
		Message: "No two shards report to hold the same object."}
	if r == nil {
		covered = metav1.Condition{Type: covered.Type, Status: metav1.ConditionUnknown, Reason: "NotAudited",
			Message: "The first audit is not complete yet."}
		doubly = metav1.Condition{Type: doubly.Type, Status: metav1.ConditionUnknown, Reason: covered.Reason, Message: covered.Message}
		for _, c := range []*metav1.Condition{&covered, &doubly} {
			if before := meta.FindStatusCondition(have, c.Type); before != nil {
				*c = *before
			}
		}
	} else {
		covered.ObservedGeneration, doubly.ObservedGeneration = r.generation, r.generation
		covered.Message = clip(fmt.Sprintf("All %d objects have a live owner, and %d children are with theirs.%s", r.objects, r.children, unheard(r)))
		if len(r.gaps) > 0 {
			covered.Status, covered.Reason, covered.Message = metav1.ConditionFalse, "Gaps", clip(gapMessage(r))
		}
		if n := r.gaps[gapDoublyOwned]; n > 0 {
			doubly.Status, doubly.Reason = metav1.ConditionTrue, "Reported"
			doubly.Message = clip(fmt.Sprintf("Two shards report to hold the same object, %d times. For example: %s.", n, strings.Join(r.examples, "; ")))
		}
	}
	if !anyShard {
		covered.Status, covered.Reason, covered.Message = metav1.ConditionFalse, "NoShards", "There is no shard that objects could belong to."
	}
	return []metav1.Condition{covered, doubly}
}

func gapMessage(r *auditResult) string {
	atLeast := ""
	if r.atLeast {
		atLeast = "at least "
	}
	return fmt.Sprintf("Of %d objects and %d children: %s%s. For example: %s.%s", r.objects, r.children, atLeast, r.gaps,
		strings.Join(r.examples, "; "), unheard(r))
}

func unheard(r *auditResult) string {
	if r.unreported == 0 {
		return ""
	}
	return fmt.Sprintf(" %d shards do not report what they hold.", r.unreported)
}
