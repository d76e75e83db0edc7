package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/balancer"
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

func (sub *subject) explainRoot(e *explanation, root *metav1.PartialObjectMetadata, migration *shardv1.ShardMigration, now time.Time) {
	ring, t := sub.facts.config.Name, sub.target
	o := written(objectRef{t.resource, root.Namespace, root.Name}, root, ring)
	switch {
	case o.Owner == "":
		e.add("owner", "none")
	case o.Epoch == 0:
		e.add("owner", "%s, without a valid epoch: %s", o.Owner, sub.shardText(o.Owner, now))
	default:
		e.add("owner", "%s, epoch %d: %s", o.Owner, o.Epoch, sub.shardText(o.Owner, now))
	}
	if !t.selects(root) {
		sub.explainUnselected(e, root, o)
		return
	}
	p := newPlaces(sub.facts)
	hash := t.prefix.Hash(root.Namespace, root.Name)
	e.add("key", "%s", t.prefix.Key(root.Namespace, root.Name))
	e.add("slot", "%d of %d, which is %s's", p.table.Slot(hash), p.table.Slots(), orNobody(p.table.Owner(hash)))
	sub.explainLabels(e, p, root, o, migration)
	belongs, err := p.of(t, root)
	switch {
	case err == nil:
		e.add("place", "%s: %s", belongs.shard, belongs.why)
	case errors.Is(err, balancer.ErrNoShard):
		e.add("place", "nowhere: no shard may receive it")
	default:
		e.add("place", "%v", err)
	}
	sub.concludeRoot(e, o, refusalOf(root, ring), belongs, err)
}

// shardText says in a few words how a shard is.
func (sub *subject) shardText(name string, now time.Time) string {
	instance := sub.facts.instance(name)
	if instance == nil {
		return "there is no such shard"
	}
	status := newShardStatus(sub.facts, instance, 0, now)
	text := status.Phase
	if status.LeaseAge != "" {
		text += ", heard of " + status.LeaseAge + " ago"
	}
	if status.Note != "" {
		text += ", " + status.Note
	}
	return text
}

func (sub *subject) explainUnselected(e *explanation, root metav1.Object, o ownedObject) {
	if !sub.target.objects.Matches(labels.Set(root.GetLabels())) {
		e.add("not selected", "its labels do not match %s", sub.target.objects)
	} else {
		e.add("not selected", "its namespace does not match %s", sub.target.namespaces)
	}
	if o.Owner == "" {
		e.conclude(true, "The ring has nothing to do with it: it is not selected.")
		return
	}
	e.conclude(false, "It is not the ring's any more: the manager takes its labels off.")
}

// explainLabels says what else is written on the root.
func (sub *subject) explainLabels(e *explanation, p *places, root metav1.Object, o ownedObject, migration *shardv1.ShardMigration) {
	ring, resource := sub.facts.config.Name, sub.target.resource.GroupResource()
	if o.Pin != "" {
		switch why := p.unfit(o.Pin, resource); {
		case why == "" || o.Pin == o.Owner:
			e.add("pin", "to %s; remove the label %s to let the strategy have it", o.Pin, sharding.PinLabel(ring))
		default:
			e.add("pin", "to %s, which has no effect: %s", o.Pin, why)
		}
	}
	if o.Migration != "" {
		text := "which does not exist any more"
		if migration != nil {
			text = fmt.Sprintf("%s to %s, %s", migration.Spec.Source, migration.Spec.Target, phaseOfMigration(migration))
		}
		e.add("migration", "moved last by %s: %s", o.Migration, text)
	}
	if o.Drain != "" && o.Drain != o.Owner {
		e.add("hand-over", "to %s is asked for: %s waits for its reconcile to end", o.Drain, orNobody(o.Owner))
	}
	if r := refusalOf(root, ring); r != nil {
		if r.Declined != "" {
			e.add("refusal", "%s can't hand it over to %s: %s", r.By, r.Declined, clip(r.Reason+" "+r.Message, 200))
		} else {
			e.add("refusal", "%s can't use its state: %s", r.By, clip(r.Reason+" "+r.Message, 200))
		}
	}
	if root.GetAnnotations()[sharding.StateAnnotation(ring)] != "" {
		e.add("state", "processing state is on the object, in %s", sharding.StateAnnotation(ring))
	}
	if root.GetAnnotations()[sharding.UnusableAnnotation(ring)] != "" {
		e.add("unusable", "a state that nobody could use is kept in %s", sharding.UnusableAnnotation(ring))
	}
}

// refusal is what an owner has refused, as it is written on the object.
type refusal struct {
	By       string `json:"by"`
	Declined string `json:"declined"`
	Reason   string `json:"reason"`
	Message  string `json:"message"`
}

func refusalOf(root metav1.Object, ring string) *refusal {
	by, refused := root.GetLabels()[sharding.RefusedLabel(ring)]
	if !refused {
		return nil
	}
	r := &refusal{}
	if json.Unmarshal([]byte(root.GetAnnotations()[sharding.RefusedLabel(ring)]), r) != nil || r.By != by {
		return &refusal{By: by}
	}
	return r
}

// concludeRoot says what follows.
func (sub *subject) concludeRoot(e *explanation, o ownedObject, r *refusal, belongs place, err error) {
	owner := sub.facts.instance(o.Owner)
	switch {
	case errors.Is(err, balancer.ErrNoShard):
		e.conclude(false, "It stays as it is: no shard may receive it.")
	case o.Owner == "" && err != nil:
		e.conclude(false, "It is to get an owner; only the manager knows which.")
	case o.Owner == "":
		e.conclude(false, "It is to get %s as its owner.", belongs.shard)
	case !live(owner):
		e.conclude(false, "Its owner is not alive: it will be taken over when the Lease has run out.")
	case r != nil && r.Declined != "":
		e.conclude(false, "It stays on %s, which can't hand it over now.", o.Owner)
	case o.Drain != "" && o.Drain != o.Owner:
		e.conclude(true, "It is on its way from %s to %s.", o.Owner, o.Drain)
	case err != nil:
		e.conclude(true, "It is on %s; whether it belongs there, only the manager knows.", o.Owner)
	case belongs.shard == o.Owner:
		e.conclude(true, "It is where it belongs.")
	case r != nil:
		e.conclude(false, "It belongs on %s, and stays on %s, as its state was refused.", belongs.shard, o.Owner)
	default:
		e.conclude(false, "It belongs on %s, and is on %s: the manager will ask for it.", belongs.shard, o.Owner)
	}
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
