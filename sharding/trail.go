package sharding

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// What an AuditRecord is about.
const (
	// AuditAssigned: a manager gave an object without an owner to a shard.
	AuditAssigned = "Assigned"
	// AuditHandedOver: the owner gave an object to another shard, as it was asked to.
	AuditHandedOver = "HandedOver"
	// AuditTakenOver: a manager gave the object of a dead shard to another.
	AuditTakenOver = "TakenOver"
	// AuditReleased: an object has no owner any more: it is not selected, its ring is deleted, or nobody alive can have it.
	AuditReleased = "Released"
	// AuditRefused: a write was refused, in the process or by the fence in the API server, as its sender may not act on the object; or
	// a manager did not send it, as it does not lead.
	AuditRefused = "Refused"
	// AuditScaled: a manager changed the number of shards of a ring.
	AuditScaled = "Scaled"
)

// AuditRecord is a change of owner, a write that was refused or a change of the number of shards, for an audit log. In JSON it is one object
// without fields that are empty. Fields are added in later versions, and not changed.
type AuditRecord struct {
	// Time is when the answer of the API server was there.
	Time time.Time `json:"time"`
	// Action is one of the constants Audit....
	Action string `json:"action"`
	// Ring is the name of the ShardConfig. Empty for a refused write of which it is not known.
	Ring string `json:"ring,omitempty"`
	// By is who wrote, or wanted to: the id of a shard, or the identity of a manager as it is in the Lease of the election.
	By string `json:"by"`
	// Resource is that of the object, as "secrets" or "deployments.apps", Object its "namespace/name".
	Resource string `json:"resource,omitempty"`
	Object   string `json:"object,omitempty"`
	// UID of the object, if it is known.
	UID types.UID `json:"uid,omitempty"`
	// From and To are the owner before and after. When scaling: the numbers of shards.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	// Epoch of the object from then on. See Token.
	Epoch int64 `json:"epoch,omitempty"`
	// Cause is why a write was refused, or why the ring was scaled, for people.
	Cause string `json:"cause,omitempty"`
	// Uncertain says that no answer came, so the write may or may not have been made. If it was not, it is tried again and
	// there is another record.
	Uncertain bool `json:"uncertain,omitempty"`
}

// trail makes the AuditRecords of one process. A nil trail makes none.
type trail struct {
	log func(AuditRecord)
	by  string
}

func newTrail(log func(AuditRecord), by string) *trail {
	if log == nil {
		return nil
	}
	return &trail{log, by}
}

func (t *trail) add(r AuditRecord) {
	if t != nil {
		r.Time, r.By = time.Now(), t.by
		t.log(r)
	}
}

// owned tells of a write to a root or child that may have changed the owner of a root: before is the object that it was made on, err what
// came of it.
func (t *trail) owned(ring, action string, resource schema.GroupResource, before metav1.Object, patch []byte, err error) {
	if t == nil {
		return
	}
	r, changed := ownerChange(ring, action, before, patch)
	if !changed || err != nil && !uncertain(err) {
		return
	}
	r.Resource, r.Uncertain = resource.String(), err != nil
	t.add(r)
}

// ownerChange reads a merge patch. A root is told from a child by its epoch. action is what a change from one shard to another is.
func ownerChange(ring, action string, before metav1.Object, patch []byte) (r AuditRecord, changed bool) {
	var p struct {
		Metadata metaPatch `json:"metadata"`
	}
	if json.Unmarshal(patch, &p) != nil {
		return r, false
	}
	to, written := p.Metadata.Labels[OwnerLabel(ring)]
	_, counts := p.Metadata.Annotations[EpochAnnotation(ring)]
	_, counted := before.GetAnnotations()[EpochAnnotation(ring)]
	from, owned := OwnerOf(before, ring)
	if !written || !counts && !counted || to != nil && *to == from {
		return r, false
	}
	r = AuditRecord{
		Action: action, Ring: ring, Object: keyOf(before).String(), UID: before.GetUID(), From: from, Epoch: EpochOf(before, ring),
	}
	switch {
	case to == nil:
		r.Action = AuditReleased
		return r, owned
	case !owned:
		r.Action = AuditAssigned
	}
	r.To = *to
	after := metav1.ObjectMeta{Annotations: map[string]string{}}
	if epoch := p.Metadata.Annotations[EpochAnnotation(ring)]; epoch != nil {
		after.Annotations[EpochAnnotation(ring)] = *epoch
		r.Epoch = EpochOf(&after, ring)
	}
	return r, true
}

// uncertain says whether a request that failed may have been executed: it was sent, and no API server has answered.
func uncertain(err error) bool {
	var status apierrors.APIStatus
	refused := errors.Is(err, ErrFenced) || errors.Is(err, ErrNotLeading)
	return !refused && !errors.As(err, &status) && !errors.Is(err, errOutdated) && !errors.Is(err, context.Canceled)
}

// watch returns a copy of cfg whose clients tell of writes that were refused, by a gate, by the fence in the process or by that in the API server.
func (t *trail) watch(cfg *rest.Config) *rest.Config {
	if t == nil {
		return cfg
	}
	watched := rest.CopyConfig(cfg)
	base := basePath(cfg)
	watched.Wrap(func(next http.RoundTripper) http.RoundTripper { return &refusals{t, base, next} })
	return watched
}

// basePath is what the paths of all requests of a client begin with.
func basePath(cfg *rest.Config) string {
	server, _, err := rest.DefaultServerURL(cfg.Host, "", schema.GroupVersion{}, true)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(server.Path, "/")
}

type refusals struct {
	trail *trail
	base  string
	next  http.RoundTripper
}

// RoundTrip passes everything on as it is.
func (t *refusals) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(request)
	if !changes(request) {
		return response, err
	}
	switch {
	case errors.Is(err, ErrFenced) || errors.Is(err, ErrNotLeading):
		t.tell(request, "", err.Error())
	case err == nil && response.StatusCode == http.StatusForbidden:
		if ring, policy, ok := fenceIn(response); ok {
			t.tell(request, ring, "the API server refused "+request.Method+" "+request.URL.Path+": "+policy)
		}
	}
	return response, err
}

func (t *refusals) tell(request *http.Request, ring, cause string) {
	r := AuditRecord{Action: AuditRefused, Ring: ring, Cause: bounded(cause)}
	if w, ok := parseWrite(request, t.base); ok {
		r.Resource, r.Object = w.resource.String(), w.key.String()
	}
	t.trail.add(r)
}

// fenceIn looks for a fence in the answer that a request was forbidden, whatever the encoding: the name of its policy is in the message. The
// response can be read as before.
func fenceIn(response *http.Response) (ring, policy string, ok bool) {
	const begin, end, most = "ValidatingAdmissionPolicy '", ".fence.shard.io'", 64 << 10
	head, err := io.ReadAll(io.LimitReader(response.Body, most))
	response.Body = &replayed{io.MultiReader(bytes.NewReader(head), response.Body), response.Body}
	if err != nil {
		return "", "", false
	}
	_, rest, found := strings.Cut(string(head), begin)
	name, _, closed := strings.Cut(rest, end)
	ring, _, dotted := strings.Cut(name, ".")
	if !found || !closed || !dotted || strings.Contains(name, "'") {
		return "", "", false
	}
	return ring, strings.TrimSuffix(begin+name+end, "'") + "'", true
}

// replayed is a body of which the beginning has been read.
type replayed struct {
	io.Reader
	io.Closer
}
