//go:build unix

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/internal/faults/trial"
	"github.com/shard-io/shard-controller/internal/timeline"
)

// auditPolicy keeps, of every write to the objects of the rings by a process in
// a Pod, who made it and what became of it.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: RequestResponse
  userGroups: ["system:serviceaccounts"]
  verbs: [create, update, patch, delete, deletecollection]
  resources: [{group: "", resources: [secrets, configmaps]}]
- level: None
`

// podKey is what the API server calls the Pod of a bound token.
const podKey = "authentication.kubernetes.io/pod-name"

// write is a request to change an object, as the API server has answered it.
type write struct {
	At       time.Time
	Pod      string // whose token it was made with
	Operator bool   // by a reconcile, not by the library
	Verb     string
	Resource string
	Name     types.NamespacedName
	Code     int32
	Version  *timeline.Version // that it has made; nil if it was refused, or has deleted the object
}

func (w write) accepted() bool { return w.Code >= 200 && w.Code < 300 }

// refused says whether it was admission that refused it.
func (w write) refused() bool { return w.Code == 403 || w.Code == 422 }

// auditEvent is what matters of an event of audit.k8s.io/v1.
type auditEvent struct {
	Verb      string `json:"verb"`
	UserAgent string `json:"userAgent"`
	User      struct {
		Extra map[string][]string `json:"extra"`
	} `json:"user"`
	ObjectRef struct {
		Resource  string `json:"resource"`
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"objectRef"`
	ResponseStatus struct {
		Code int32 `json:"code"`
	} `json:"responseStatus"`
	ResponseObject json.RawMessage  `json:"responseObject"`
	StageTimestamp metav1.MicroTime `json:"stageTimestamp"`
}

// readAudit reads from an audit log the writes to the objects of a ring, and how
// many of its lines are torn: the one that the API server was about to write
// when it was killed.
func readAudit(path, ring string) (writes []write, torn int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	lines := bufio.NewReaderSize(f, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) { // what is incomplete has no answer yet
			return writes, torn, nil
		}
		if err != nil {
			return nil, 0, err
		}
		if !bytes.Contains(line, []byte(ring)) {
			continue
		}
		w, err := parseWrite(line, ring)
		if err != nil {
			torn++
		} else if w.Name.Namespace == ring {
			writes = append(writes, w)
		}
	}
}

func parseWrite(line []byte, ring string) (write, error) {
	var e auditEvent
	if err := json.Unmarshal(line, &e); err != nil {
		return write{}, fmt.Errorf("audit log: %w", err)
	}
	w := write{
		At: e.StageTimestamp.Time, Operator: strings.HasPrefix(e.UserAgent, trial.OperatorAgent), Verb: e.Verb, Resource: e.ObjectRef.Resource,
		Name: types.NamespacedName{Namespace: e.ObjectRef.Namespace, Name: e.ObjectRef.Name}, Code: e.ResponseStatus.Code,
	}
	if pod := e.User.Extra[podKey]; len(pod) == 1 {
		w.Pod = pod[0]
	}
	if w.accepted() && !bytes.Contains(e.ResponseObject, []byte(`"kind":"Status"`)) {
		var o metav1.PartialObjectMetadata
		if err := json.Unmarshal(e.ResponseObject, &o); err != nil {
			return write{}, fmt.Errorf("audit log: the object of %s: %w", w.Name, err)
		}
		v := timeline.VersionOf(w.Resource, ring, &o)
		v.At, v.Note = w.At, o.Annotations[trial.StampAnnotation]
		w.Version = &v
	}
	return w, nil
}
