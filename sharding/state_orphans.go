package sharding

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
)

const (
	// statesInterval is how often the manager looks for Secrets with states that no object refers to.
	statesInterval = 5 * time.Minute
	// stateGrace is for how long, on the manager's own clock, nothing may have referred to such a Secret before it is deleted. A
	// hand-over writes the Secrets first and the reference right after that, so this is many times what it takes.
	stateGrace = 20 * time.Minute
)

var secretsResource = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}

// stateOrphans remembers since when nothing has referred to a Secret with a state. It holds those Secrets only, and knows no time.
type stateOrphans map[types.UID]time.Time

// judge is told what was found at one look: whether something refers to each Secret. It returns how many orphans there are that
// it did not know, and which have been orphans for so long that they may be deleted.
func (o stateOrphans) judge(referred map[types.UID]bool, now time.Time) (found int, expired []types.UID) {
	for uid := range o {
		if inUse, there := referred[uid]; !there || inUse {
			delete(o, uid)
		}
	}
	for uid, inUse := range referred {
		if inUse {
			continue
		}
		since, known := o[uid]
		switch {
		case !known:
			o[uid] = now
			found++
		case now.Sub(since) >= stateGrace:
			expired = append(expired, uid)
		}
	}
	return found, expired
}

// stateCollector finds Secrets with states that no object refers to any more, or not yet: a source died before it handed over, a target
// after it had acknowledged. It says so, and deletes them in the end.
type stateCollector struct {
	c       *ringController
	orphans stateOrphans
}

// run looks from time to time until ctx is done.
func (s *stateCollector) run(ctx context.Context) {
	for {
		pause(ctx, jitter(statesInterval))
		if ctx.Err() != nil {
			return
		}
		if err := s.collect(ctx, time.Now()); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).V(1).Info("Looking for states that nothing refers to failed, will try again", "err", err)
		}
	}
}

func (s *stateCollector) collect(ctx context.Context, now time.Time) error {
	secrets := map[types.UID]*metav1.PartialObjectMetadata{}
	referred := map[types.UID]bool{}
	var mapper meta.RESTMapperWithContext
	_, err := s.eachState(ctx, func(secret *metav1.PartialObjectMetadata) error {
		var err error
		if mapper == nil {
			if mapper, err = discover(ctx, s.c.api); err != nil {
				return err
			}
		}
		inUse, err := s.c.refersTo(ctx, mapper, secret)
		inUse = inUse && !planted("collect-early")
		if err != nil {
			return err
		}
		secrets[secret.UID], referred[secret.UID] = secret, inUse
		return nil
	})
	if err != nil {
		return err
	}
	found, expired := s.orphans.judge(referred, now)
	if found > 0 {
		klog.FromContext(ctx).Info("There are Secrets with states that no object refers to", "found", found, "all", len(s.orphans), "grace", stateGrace)
		s.c.event(corev1.EventTypeWarning, "OrphanedState", "CollectState",
			"%d Secrets with states are referred to by no object; they will be deleted in %s if that does not change.", len(s.orphans), stateGrace)
	}
	var failed error
	for _, uid := range expired {
		if err := s.remove(ctx, secrets[uid]); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		delete(s.orphans, uid)
		s.c.metrics.statesCollected.WithLabelValues(s.c.ring).Inc()
	}
	s.c.metrics.stateOrphans.WithLabelValues(s.c.ring).Set(float64(len(s.orphans)))
	return failed
}

func (s *stateCollector) eachState(ctx context.Context, visit func(*metav1.PartialObjectMetadata) error) (string, error) {
	selector := labels.SelectorFromSet(labels.Set{StateLabel: s.c.ring}).String()
	objects := s.c.client.Resource(secretsResource).Namespace(s.c.namespace)
	return eachPage(ctx, objects, selector, func(page []metav1.PartialObjectMetadata) error {
		for i := range page {
			if err := visit(slimState(&page[i])); err != nil {
				return err
			}
		}
		return nil
	})
}

// slimState keeps of a Secret what is needed to find its object, and to delete it.
func slimState(secret *metav1.PartialObjectMetadata) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace: secret.Namespace, Name: secret.Name, UID: secret.UID, ResourceVersion: secret.ResourceVersion, Annotations: secret.Annotations,
	}}
}

// remove deletes a Secret, unless it has changed since it was listed.
func (s *stateCollector) remove(ctx context.Context, secret *metav1.PartialObjectMetadata) error {
	err := s.c.client.Resource(secretsResource).Namespace(secret.Namespace).Delete(ctx, secret.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &secret.UID, ResourceVersion: &secret.ResourceVersion},
	})
	if apierrors.IsConflict(err) {
		return nil
	}
	return ignoreNotFound(err)
}

// removeAll deletes the Secrets with states of a ring that is being deleted.
func (s *stateCollector) removeAll(ctx context.Context) error {
	_, err := s.eachState(ctx, func(secret *metav1.PartialObjectMetadata) error { return s.remove(ctx, secret) })
	if apierrors.IsForbidden(err) {
		klog.FromContext(ctx).V(1).Info("Secrets with states, if there are any, are left behind", "err", err)
		return nil
	}
	return err
}

// refersTo reports whether the object that a Secret with a state was written for refers to it, as the server has it now.
func (c *ringController) refersTo(ctx context.Context, mapper meta.RESTMapperWithContext, secret *metav1.PartialObjectMetadata) (bool, error) {
	parts := strings.SplitN(secret.Annotations[stateObjectAnnotation], "/", 3)
	dash := strings.LastIndexByte(secret.Name, '-')
	if len(parts) != 3 || dash < 0 {
		return false, nil // nobody can find it by its object
	}
	resource, err := mapper.ResourceForWithContext(ctx, schema.ParseGroupResource(parts[0]).WithVersion(""))
	if meta.IsNoMatchError(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("resource %s: %w", parts[0], err)
	}
	root, err := c.get(ctx, resource, parts[1], parts[2])
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return mentions(root, c.ring, secret.Name[:dash]), nil
}

// mentions reports whether a root refers to the Secrets of that name, for use or for inspection. An annotation that can't be read
// might.
func mentions(root metav1.Object, ring, secret string) bool {
	for _, key := range []string{StateAnnotation(ring), UnusableAnnotation(ring)} {
		text, ok := root.GetAnnotations()[key]
		if !ok {
			continue
		}
		if e, err := parseEnvelope(text); err == nil && e.Secret == secret || err != nil && strings.Contains(text, secret) {
			return true
		}
	}
	return false
}
