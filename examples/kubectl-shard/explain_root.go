package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/balancer"
	"github.com/shard-io/shard-controller/sharding"
)

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
