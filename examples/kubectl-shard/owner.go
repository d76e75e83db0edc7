package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shard-io/shard-controller/sharding"
)

// ownerReport is what "owner" says.
type ownerReport struct {
	Ring     string        `json:"ring"`
	Object   ownedObject   `json:"object"`
	Root     *ownedObject  `json:"root,omitempty"` // of a child
	Children []ownedObject `json:"children,omitempty"`
}

// ownedObject is what the ring has written on an object.
type ownedObject struct {
	Object    string `json:"object"` // as resource/namespace/name
	Owner     string `json:"owner,omitempty"`
	Drain     string `json:"drainTarget,omitempty"`
	Epoch     int64  `json:"epoch,omitempty"`
	Pin       string `json:"pin,omitempty"`
	Migration string `json:"migration,omitempty"`
	Note      string `json:"note,omitempty"`
}

func ownerCommand() *command {
	return &command{
		name: "owner", args: "RESOURCE/NAME", least: 1, most: 2,
		short: "Show who owns an object, where it goes, and which children go with it",
		long: "The object is given as RESOURCE/NAME with --namespace, as RESOURCE/NAMESPACE/NAME, or as RESOURCE NAME. It may be a root or a child. The\n" +
			"exit code is 1 if it has no owner, or a child is not with its root. It needs the right to get the object and to list its children.",
		run: func(ctx context.Context, s *session, args []string) error { return s.owner(ctx, args) },
	}
}

// subject is the object of a command line with all that belongs to it.
type subject struct {
	ref      objectRef
	object   *metav1.PartialObjectMetadata
	facts    *ringFacts
	targets  []*target
	target   *target                       // of the root; nil if the object is not the ring's
	root     *metav1.PartialObjectMetadata // of a child; nil if it does not exist, or if the object is no child
	isChild  bool
	children []ownedObject
}

func (s *session) subject(ctx context.Context, args []string, leases bool) (*subject, error) {
	ref, err := s.object(ctx, args...)
	if err != nil {
		return nil, err
	}
	config, err := s.ringConfig(ctx, true)
	if err != nil {
		return nil, err
	}
	sub := &subject{ref: ref}
	if sub.object, err = s.get(ctx, ref.resource, ref.namespace, ref.name); err != nil {
		return nil, err
	}
	if sub.facts, err = s.facts(ctx, config, leases); err != nil {
		return nil, err
	}
	if sub.targets, _, err = s.targets(ctx, config); err != nil {
		return nil, err
	}
	if sub.target = targetFor(sub.targets, ref.resource.GroupResource()); sub.target != nil {
		sub.children, err = s.childrenOf(ctx, sub.target, sub.object, config.Name)
		return sub, err
	}
	t, controller := rootOf(sub.targets, sub.object)
	if t == nil {
		return sub, nil
	}
	sub.target, sub.isChild = t, true
	root, err := s.get(ctx, t.resource, t.rootNamespace(ref.namespace), controller.Name)
	if err != nil && exitCode(err) != exitUsage {
		return nil, err
	}
	if err == nil && root.UID == controller.UID {
		sub.root = root
	}
	return sub, nil
}

// childrenOf lists what a root controls, of the resources that follow it.
func (s *session) childrenOf(ctx context.Context, t *target, root *metav1.PartialObjectMetadata, ring string) ([]ownedObject, error) {
	var children []ownedObject
	owner, _ := sharding.OwnerOf(root, ring)
	for _, resource := range t.children {
		err := s.each(ctx, resource, root.Namespace, "", func(child *metav1.PartialObjectMetadata) error {
			if controller := metav1.GetControllerOfNoCopy(child); controller == nil || controller.UID != root.UID {
				return nil
			}
			o := written(objectRef{resource, child.Namespace, child.Name}, child, ring)
			if o.Owner != owner {
				o.Note = "not with its root"
			}
			children = append(children, o)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return children, nil
}

// written reads what a ring has written on an object.
func written(ref objectRef, object metav1.Object, ring string) ownedObject {
	owner, _ := sharding.OwnerOf(object, ring)
	drain, _ := sharding.DrainTargetOf(object, ring)
	migration, _, _ := migrationMark(object, ring)
	return ownedObject{
		Object: ref.String(), Owner: owner, Drain: drain, Epoch: sharding.EpochOf(object, ring),
		Pin: object.GetLabels()[sharding.PinLabel(ring)], Migration: migration,
	}
}

// migrationMark reads which migration asked for the last move: its name, and the beginning of its UID.
func migrationMark(object metav1.Object, ring string) (name, uid string, ok bool) {
	mark := object.GetLabels()[sharding.MigrationLabel(ring)]
	name, uid, _ = strings.Cut(mark, ".")
	return name, uid, name != ""
}

func (s *session) owner(ctx context.Context, args []string) error {
	sub, err := s.subject(ctx, args, false)
	if err != nil {
		return err
	}
	report, fine := sub.owner()
	if err := s.print(report, report.text); err != nil || fine {
		return err
	}
	return errSaid
}

// owner is a pure function. It also says whether all is as it should be.
func (sub *subject) owner() (ownerReport, bool) {
	ring := sub.facts.config.Name
	r := ownerReport{Ring: ring, Object: written(sub.ref, sub.object, ring), Children: sub.children}
	switch {
	case sub.target == nil:
		r.Object.Note = fmt.Sprintf("%s is neither a target of the ring nor controlled by one", sub.ref.resource.GroupResource())
		return r, false
	case sub.isChild && sub.root == nil:
		r.Object.Note = "its root is gone"
		return r, false
	case sub.isChild:
		root := written(objectRef{sub.target.resource, sub.root.Namespace, sub.root.Name}, sub.root, ring)
		r.Root = &root
		if root.Owner != r.Object.Owner {
			r.Object.Note = "not with its root"
		}
	}
	fine := r.Object.Owner != "" && r.Object.Note == ""
	for _, child := range r.Children {
		fine = fine && (child.Note == "" || r.Object.Drain != "") // in a hand-over, children go first
	}
	return r, fine
}

func (r ownerReport) text(out io.Writer) {
	t := newTable("OBJECT", "OWNER", "DRAIN TARGET", "EPOCH", "PIN", "MIGRATION", "NOTE")
	add := func(o ownedObject) {
		epoch := ""
		if o.Epoch > 0 {
			epoch = fmt.Sprint(o.Epoch)
		}
		t.row(o.Object, cmp.Or(o.Owner, "<none>"), o.Drain, epoch, o.Pin, o.Migration, o.Note)
	}
	add(r.Object)
	if r.Root != nil {
		add(*r.Root)
	}
	t.write(out)
	children := newTable("CHILD", "OWNER", "NOTE")
	for _, c := range r.Children {
		children.row(c.Object, cmp.Or(c.Owner, "<none>"), c.Note)
	}
	children.section(out)
}
