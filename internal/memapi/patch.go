package memapi

import (
	"encoding/json"
	"net/http"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// patch answers a JSON patch, a JSON merge patch or a strategic merge patch. A resourceVersion in the
// patch is a precondition; without one the patch applies to whatever is there.
func (s *Server) patch(t *table, r *Request) (reply, error) {
	change, err := t.patcher(r)
	if err != nil {
		return reply{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := t.objects[objectKey(r.Namespace, r.Name)]
	if old == nil {
		return reply{}, apierrors.NewNotFound(t.GVR().GroupResource(), r.Name)
	}
	data, err := change(old)
	if err != nil {
		return reply{}, err
	}
	if err := t.checkKind(data); err != nil {
		return reply{}, err
	}
	if name := stringAt(metadataOf(data), "name"); name != old.name {
		return reply{}, apierrors.NewBadRequest("the name of the object (" + name + ") does not match the name on the URL (" + old.name + ")")
	}
	o, err := s.replace(t, r, old, data)
	if err != nil {
		return reply{}, err
	}
	return one(http.StatusOK, o, r.form), nil
}

// patcher reads the body once and gives the function that applies it. What it returns has an object and
// a metadata map of its own; deeper parts may be shared with the old object.
func (t *table) patcher(r *Request) (func(*object) (map[string]any, error), error) {
	switch types.PatchType(r.contentType) {
	case types.MergePatchType:
		change, err := decodeTree(r.body)
		if err != nil {
			return nil, apierrors.NewBadRequest("error decoding patch: " + err.Error())
		}
		return func(o *object) (map[string]any, error) {
			return writable(mergePatch(o.data, change)), nil
		}, nil
	case types.JSONPatchType:
		change, err := jsonpatch.DecodePatch(r.body)
		if err != nil {
			return nil, apierrors.NewBadRequest("error decoding patch: " + err.Error())
		}
		return func(o *object) (map[string]any, error) { return applyJSONPatch(o, change) }, nil
	case types.StrategicMergePatchType:
		change, err := decodeTree(r.body)
		if err != nil {
			return nil, apierrors.NewBadRequest("error decoding patch: " + err.Error())
		}
		if t.typed == nil {
			return nil, t.unsupportedMedia()
		}
		return func(o *object) (map[string]any, error) {
			original, patch := runtime.DeepCopyJSON(o.data), runtime.DeepCopyJSON(change)
			data, err := strategicpatch.StrategicMergeMapPatch(original, patch, t.typed)
			if err != nil {
				return nil, apierrors.NewBadRequest(err.Error())
			}
			return data, nil
		}, nil
	}
	return nil, t.unsupportedMedia()
}

// mergePatch is RFC 7386: null removes, objects merge, everything else replaces. It changes neither
// argument.
func mergePatch(target, patch map[string]any) map[string]any {
	out := shallow(target)
	for k, v := range patch {
		switch v := v.(type) {
		case nil:
			delete(out, k)
		case map[string]any:
			out[k] = mergePatch(mapAt(out, k), v)
		default:
			out[k] = v
		}
	}
	return out
}

func applyJSONPatch(o *object, change jsonpatch.Patch) (map[string]any, error) {
	before, err := json.Marshal(o.data)
	if err != nil {
		return nil, err
	}
	after, err := change.Apply(before)
	if err != nil {
		return nil, notServed(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid,
			"the server rejected our request due to an error in our request")
	}
	data, err := decodeTree(after)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return data, nil
}
