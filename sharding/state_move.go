package sharding

import (
	"context"
	"errors"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/klog/v2"
)

// wantedAfterRefusal decides about a root with a refusal on it, before the strategy is asked; ok is false if the strategy is to
// decide.
//
//   - An owner that can't export is not asked for the object as long as the refusal stands.
//   - An owner that can't use the state gives the object back to where it comes from, if that shard may receive it.
func wantedAfterRefusal(p *placement, r *refusal, owner, target string, draining bool) (what wanted, to string, ok bool) {
	switch {
	case r.Declined != "" && draining:
		return abort, "", true
	case r.Declined != "":
		return keep, "", true
	case r.By != owner:
		return keep, "", false
	case draining && p.eligible(target):
		return keep, "", true // it goes back, or elsewhere, already
	case r.From != "" && r.From != owner && p.eligible(r.From):
		return drain, r.From, true
	}
	return keep, "", false
}

// refusedBy reports whether a shard has refused the state of the root, so that it is not to be given to that shard now.
func refusedBy(r *refusal, shard string) bool { return r != nil && r.By == shard }

// refusalFinders send back what its owner has refused as soon as that is written on it.
func (c *ringController) refusalFinders(targets *targetSet) []*finder {
	finders := make([]*finder, 0, len(targets.roots))
	for _, target := range targets.roots {
		f := c.newFinder(target.resource)
		f.selector = selecting(RefusedLabel(c.ring), selection.Exists).String()
		f.found = func(ctx context.Context, f *finder, event watch.EventType, root *metav1.PartialObjectMetadata) bool {
			if event == watch.Deleted {
				return false
			}
			writes := &batch{gate: c.gate}
			_, err := c.mover.look(ctx, writes, target, root)
			if err = errors.Join(err, writes.wait()); err != nil && ctx.Err() == nil {
				klog.FromContext(ctx).V(1).Info("Sending back what was refused failed, will try again", "object", klog.KObj(root), "err", err)
				f.relistAfter(finderMaxBackoff)
			}
			return true
		}
		f.listed = func(time.Time, int) time.Duration { return c.findAgain() }
		f.failed = func(err error) { c.noteError(f.resource, err) }
		finders = append(finders, f)
	}
	return finders
}
