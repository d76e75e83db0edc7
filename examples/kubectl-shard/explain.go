package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/sharding"
)

// explanation is what "explain" says: facts in their order, and what follows from them.
type explanation struct {
	Ring    string `json:"ring"`
	Object  string `json:"object"`
	Facts   []fact `json:"facts"`
	Verdict string `json:"verdict"`
	Fine    bool   `json:"fine"`
}

type fact struct {
	What string `json:"what"`
	Text string `json:"text"`
}

func (e *explanation) add(what, format string, args ...any) {
	e.Facts = append(e.Facts, fact{what, fmt.Sprintf(format, args...)})
}

func (e *explanation) conclude(fine bool, format string, args ...any) {
	e.Verdict, e.Fine = fmt.Sprintf(format, args...), fine
}

func explainCommand() *command {
	return &command{
		name: "explain", args: "RESOURCE/NAME", least: 1, most: 2,
		short: "Say why an object is where it is, and why it goes where it goes",
		long: "The object is given as for owner. Where it belongs is worked out here from what is written in the API; the manager knows more at times, and its\n" +
			"word counts. The exit code is 1 if it is not where it belongs, and not on its way there.",
		run: func(ctx context.Context, s *session, args []string) error { return s.explain(ctx, args) },
	}
}

func (s *session) explain(ctx context.Context, args []string) error {
	sub, err := s.subject(ctx, args, true)
	if err != nil {
		return err
	}
	if sub.target != nil {
		if err := s.learnNamespaces(ctx, sub.target); err != nil {
			return err
		}
	}
	migration, err := s.migrationOf(ctx, sub)
	if err != nil {
		return err
	}
	e := sub.explain(migration, time.Now())
	if err := s.print(e, e.text); err != nil || e.Fine {
		return err
	}
	return errSaid
}

// migrationOf returns the migration that asked for the last move; nil if there was none, or if it does not exist any more.
func (s *session) migrationOf(ctx context.Context, sub *subject) (*shardv1.ShardMigration, error) {
	root := sub.rootObject()
	if root == nil {
		return nil, nil
	}
	name, uid, marked := migrationMark(root, sub.facts.config.Name)
	if !marked {
		return nil, nil
	}
	namespace := sub.facts.config.Namespace
	m, err := s.shards.ShardMigrations(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && !strings.HasPrefix(string(m.UID), uid) {
		return nil, nil
	}
	return m, request{"get", shardResource("shardmigrations"), namespace, name}.failed(err)
}

// rootObject is the root that decides about the object; nil if there is none.
func (sub *subject) rootObject() *metav1.PartialObjectMetadata {
	if sub.isChild {
		return sub.root
	}
	return sub.object
}

// explain is a pure function.
func (sub *subject) explain(migration *shardv1.ShardMigration, now time.Time) explanation {
	ring := sub.facts.config.Name
	e := explanation{Ring: sub.facts.config.Namespace + "/" + ring, Object: sub.ref.String()}
	root := sub.rootObject()
	switch {
	case sub.target == nil:
		e.conclude(false, "The ring has nothing to do with it: %s is neither a target nor controlled by an object of one.", sub.ref.resource.GroupResource())
		return e
	case root == nil:
		e.conclude(false, "It is a child whose root is gone: the garbage collector will take it.")
		return e
	}
	astray := false
	if sub.isChild {
		owner, _ := sharding.OwnerOf(sub.object, ring)
		at, _ := sharding.OwnerOf(root, ring)
		_, moving := sharding.DrainTargetOf(root, ring)
		e.add("child", "of %s, with which it goes", objectRef{sub.target.resource, root.Namespace, root.Name})
		if owner != at {
			e.add("at", "%s, while its root is at %s", orNobody(owner), orNobody(at))
		}
		astray = owner != at && !moving
	}
	sub.explainRoot(&e, root, migration, now)
	if astray {
		e.conclude(false, "It is not with its root: the manager brings it there.")
	}
	return e
}

func orNobody(shard string) string {
	if shard == "" {
		return "nobody"
	}
	return shard
}

func (e explanation) text(out io.Writer) {
	fmt.Fprintf(out, "%s in ring %s\n\n", e.Object, e.Ring)
	width := 0
	for _, f := range e.Facts {
		width = max(width, len(f.What))
	}
	for _, f := range e.Facts {
		fmt.Fprintf(out, "  %-*s  %s\n", width, f.What, f.Text)
	}
	if len(e.Facts) > 0 {
		fmt.Fprintln(out)
	}
	fmt.Fprintln(out, e.Verdict)
}
