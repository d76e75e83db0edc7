package main

import (
	"context"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/sharding"
)

// suspect is an object with which something may be wrong.
type suspect struct {
	finding
	ref       objectRef
	uid       types.UID
	state     string // what was written on it
	rootOwner string // of a child
}

func (s suspect) owner() string { owner, _, _ := strings.Cut(s.state, "|"); return owner }

// suspects are the first of them; the others are counted.
type suspects struct {
	most  int
	list  []suspect
	total int64
}

func newSuspects(most int) *suspects { return &suspects{most: most} }

func (s *suspects) add(one suspect) {
	s.total++
	if len(s.list) < s.most {
		s.list = append(s.list, one)
	}
}

// beyond is how many were not kept.
func (s *suspects) beyond() int64 { return s.total - int64(len(s.list)) }

// stateOf is what a suspicion is about: if it changes, something has happened.
func stateOf(object metav1.Object, ring string) string {
	owner, _ := sharding.OwnerOf(object, ring)
	to, _ := sharding.DrainTargetOf(object, ring)
	return strings.Join([]string{owner, to, object.GetAnnotations()[sharding.EpochAnnotation(ring)]}, "|")
}

func labelSet(object metav1.Object) labels.Set { return labels.Set(object.GetLabels()) }

// confirmShare is how many times as long as a look at the suspects the time to the next one is, at least.
const confirmShare = 5

// confirm looks at the suspects again and again until each is right, or has been the same for its grace time. It returns the latter.
func (p *verifyPass) confirm(ctx context.Context, grace func(kind string) time.Duration) ([]suspect, error) {
	open := slices.Clone(p.suspects.list)
	var proven []suspect
	for begun := time.Now(); len(open) > 0; {
		looked := time.Now()
		if err := p.refresh(ctx); err != nil {
			return nil, err
		}
		passed := time.Since(begun)
		var next []suspect
		for _, s := range open {
			wrong, err := p.stillWrong(ctx, s)
			switch {
			case err != nil:
				return nil, err
			case wrong && passed >= grace(s.kind):
				proven = append(proven, s)
			case wrong:
				next = append(next, s)
			}
		}
		if open = next; len(open) == 0 {
			break
		}
		p.progress.say("%s: %s proven, %s still looked at, for %s", p.ring, plural(int64(len(proven)), "gap"), plural(int64(len(open)), "object"), passed.Round(time.Second))
		if err := pause(ctx, max(followInterval, confirmShare*time.Since(looked))); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(proven, func(a, b suspect) int {
		return strings.Compare(a.kind+" "+a.ref.String(), b.kind+" "+b.ref.String())
	})
	return proven, nil
}

// refresh reads anew what objects are judged by.
func (p *verifyPass) refresh(ctx context.Context) error {
	if err := p.listen(ctx); err != nil {
		return err
	}
	var err error
	if p.facts, err = p.session.facts(ctx, p.config, false); err != nil {
		return err
	}
	for _, t := range p.targets {
		if err := p.learnNamespaces(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// stillWrong looks at a suspect again.
func (p *verifyPass) stillWrong(ctx context.Context, s suspect) (bool, error) {
	object, err := p.get(ctx, s.ref.resource, s.ref.namespace, s.ref.name)
	if exitCode(err) == exitUsage {
		return false, nil // it is gone
	}
	if err != nil {
		return false, err
	}
	if object.UID != s.uid || stateOf(object, p.ring) != s.state {
		return false, nil // something has happened to it
	}
	j := p.judge()
	if s.rootOwner == "" {
		return contains(j.root(targetFor(p.targets, s.ref.resource.GroupResource()), object), s.kind), nil
	}
	t, controller := rootOf(p.targets, object)
	if t == nil {
		return false, nil
	}
	root, err := p.get(ctx, t.resource, t.rootNamespace(s.ref.namespace), controller.Name)
	if exitCode(err) == exitUsage {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	owner, settled := j.settled(t, root)
	return settled && root.UID == controller.UID && contains(j.child(owner, object), s.kind), nil
}

func contains(findings []finding, kind string) bool {
	return slices.ContainsFunc(findings, func(f finding) bool { return f.kind == kind })
}
