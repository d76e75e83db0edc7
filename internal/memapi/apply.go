package memapi

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
)

// fieldManagers are the real server's field managers of one resource, by subresource; made at the
// first apply, for they cost a schema.
type fieldManagers struct {
	resource  Resource
	converter func() managedfields.TypeConverter
	made      map[string]*managedfields.FieldManager
	before    map[appliedKey]*appliedBefore // nil: not to be used
}

// builtinConverter knows the schemas of all built-in kinds. It takes a moment to make.
var builtinConverter = sync.OnceValue(func() managedfields.TypeConverter {
	return applyconfigurations.NewTypeConverter(scheme.Scheme)
})

func newFieldManagers(r Resource, converter managedfields.TypeConverter) fieldManagers {
	f := fieldManagers{resource: r, made: map[string]*managedfields.FieldManager{}, before: map[appliedKey]*appliedBefore{}}
	switch {
	case converter != nil:
		f.converter = func() managedfields.TypeConverter { return converter }
	case r.builtin() != nil:
		f.converter = builtinConverter
	default:
		f.converter = managedfields.NewDeducedTypeConverter
	}
	return f
}

func (f *fieldManagers) get(subresource string) (*managedfields.FieldManager, error) {
	if m := f.made[subresource]; m != nil {
		return m, nil
	}
	gvk := f.resource.GVK()
	m, err := managedfields.NewDefaultCRDFieldManager(f.converter(), asIs{}, asIs{}, asIs{}, gvk, gvk.GroupVersion(), subresource, nil)
	if err == nil {
		f.made[subresource] = m
	}
	return m, err
}

// track keeps the record of who set which field up to date when an object that has been applied to is
// written otherwise. Objects that nobody ever applied have no such record, which saves most of the cost
// of a write.
func (f *fieldManagers) track(old *object, data map[string]any, r *Request) map[string]any {
	if metadataOf(old.data)["managedFields"] == nil {
		return data
	}
	m, err := f.get(r.Subresource)
	if err != nil {
		return data
	}
	manager := r.Manager
	if manager == "" {
		manager = "unknown"
	}
	live := asUnstructured(runtime.DeepCopyJSON(old.data))
	out := m.UpdateNoErrors(live, asUnstructured(runtime.DeepCopyJSON(data)), manager)
	return keepTimes(old.data, out.(*unstructured.Unstructured).Object)
}

// applyPatch answers a server-side apply; it creates what does not exist.
func (s *Server) applyPatch(t *table, r *Request) (reply, error) {
	manager := r.query.Get("fieldManager")
	if manager == "" {
		return reply{}, invalidOptions("PatchOptions", field.Required(field.NewPath("fieldManager"), "is required for apply patch"))
	}
	force, _ := strconv.ParseBool(r.query.Get("force"))
	config, err := decodeApplied(r.body)
	if err != nil {
		return reply{}, apierrors.NewBadRequest("error decoding YAML: " + err.Error())
	}
	applied := asUnstructured(config)
	if gv := t.GVK().GroupVersion().String(); applied.GetAPIVersion() != gv || applied.GetKind() != t.Kind {
		return reply{}, apierrors.NewBadRequest(fmt.Sprintf("the patch must be of apiVersion %s and kind %s", gv, t.Kind))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, code, err := s.applyTo(t, r, applied, manager, force)
	if err != nil {
		return reply{}, err
	}
	return one(code, o, r.form), nil
}

func (s *Server) applyTo(t *table, r *Request, applied *unstructured.Unstructured, manager string, force bool) (*object, int, error) {
	old := t.objects[objectKey(r.Namespace, r.Name)]
	switch {
	case old != nil:
	case r.Subresource != "":
		return nil, 0, apierrors.NewNotFound(t.GVR().GroupResource(), r.Name)
	case applied.GetUID() != "":
		return nil, 0, t.conflict(r.Name, fmt.Errorf("uid mismatch: the provided object specified uid %s, and no existing object was found",
			applied.GetUID()))
	}
	if old != nil {
		if uid := applied.GetUID(); uid != "" && uid != types.UID(old.uid()) {
			return nil, 0, t.conflict(r.Name, fmt.Errorf("uid mismatch: the provided object specified uid %s, and the live object's uid is %s",
				uid, old.uid()))
		}
		if rv := applied.GetResourceVersion(); rv != "" && rv != formatRV(old.rv) {
			return nil, 0, t.conflict(r.Name, errModified)
		}
	}
	key := appliedKey{objectKey(r.Namespace, r.Name), r.Subresource, manager}
	config := bare(applied.Object)
	if old != nil {
		if data, ok := t.apply.again(key, old, config); ok {
			metadataOf(data)["resourceVersion"] = formatRV(old.rv)
			o, err := s.replace(t, r, old, data)
			if err == nil && !r.DryRun {
				t.apply.before[key].config = config
			}
			return o, http.StatusOK, err
		}
	}
	data, err := t.merge(old, r, applied, manager, force)
	if err != nil {
		return nil, 0, err
	}
	var o *object
	code := http.StatusOK
	if old == nil {
		code = http.StatusCreated
		o, err = s.insert(t, r, data)
	} else {
		o, err = s.replace(t, r, old, data)
	}
	if err == nil && !r.DryRun && t.apply.before != nil {
		t.apply.remember(key, config, o)
	}
	return o, code, err
}

// merge lets the field managers apply to old, which may be nil.
func (t *table) merge(old *object, r *Request, applied *unstructured.Unstructured, manager string, force bool) (map[string]any, error) {
	fm, err := t.apply.get(r.Subresource)
	if err != nil {
		return nil, err
	}
	live := asUnstructured(map[string]any{"apiVersion": t.GVK().GroupVersion().String(), "kind": t.Kind,
		"metadata": map[string]any{"name": r.Name}})
	if old != nil {
		live = asUnstructured(runtime.DeepCopyJSON(old.data))
	}
	merged, err := fm.Apply(live, applied, manager, force)
	if err != nil {
		return nil, err
	}
	data := merged.(*unstructured.Unstructured).Object
	if old == nil {
		delete(metadataOf(data), "resourceVersion")
		return data, nil
	}
	metadataOf(data)["resourceVersion"] = formatRV(old.rv)
	return keepTimes(old.data, data), nil
}

// asIs converts, defaults and creates nothing: there is one version of every kind here.
type asIs struct{}

func (asIs) Convert(_, _, _ any) error { return fmt.Errorf("memapi serves one version of a kind") }
func (asIs) ConvertToVersion(in runtime.Object, _ runtime.GroupVersioner) (runtime.Object, error) {
	return in, nil
}
func (asIs) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}
func (asIs) Default(runtime.Object) {}
func (asIs) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(gvk)
	return u, nil
}

func asUnstructured(data map[string]any) *unstructured.Unstructured {
	if data == nil {
		return nil
	}
	return &unstructured.Unstructured{Object: data}
}
