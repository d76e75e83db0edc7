package sharding

import (
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// write is a request that changes something, as its method and path say it.
type write struct {
	method      string
	resource    schema.GroupResource
	key         types.NamespacedName // the name is empty for a creation, and for the deletion of a collection
	subresource string
	selector    string // of a collection
}

func (w write) String() string {
	var b strings.Builder
	b.WriteString(w.method)
	b.WriteByte(' ')
	b.WriteString(w.resource.String())
	if w.subresource != "" {
		b.WriteByte('/')
		b.WriteString(w.subresource)
	}
	b.WriteByte(' ')
	if w.key.Namespace != "" {
		b.WriteString(w.key.Namespace)
		b.WriteByte('/')
	}
	b.WriteString(w.key.Name)
	return strings.TrimSpace(b.String())
}

// parseWrite reads /api/VERSION/..., and /apis/GROUP/VERSION/... below base, as the API server does. It answers false for any other path,
// and for methods that mean nothing there: what is not understood is not let through.
func parseWrite(request *http.Request, base string) (write, bool) {
	w := write{method: request.Method}
	path, ok := strings.CutPrefix(request.URL.Path, base+"/")
	if !ok {
		return w, false
	}
	root, path, _ := strings.Cut(path, "/")
	switch root {
	case "api":
	case "apis":
		w.resource.Group, path, _ = strings.Cut(path, "/")
		if w.resource.Group == "" {
			return w, false
		}
	default:
		return w, false
	}
	if _, path, ok = strings.Cut(path, "/"); !ok || !cleanPath(path) {
		return w, false
	}
	w.place(strings.TrimSuffix(path, "/"))
	switch {
	case w.resource.Resource == "" || w.resource.Resource == "watch" || w.resource.Resource == "proxy":
		return w, false
	case w.key.Name != "":
		return w, true
	case w.method == http.MethodDelete:
		w.selector = request.URL.Query().Get("labelSelector")
		return w, true
	}
	return w, w.method == http.MethodPost
}

// cleanPath says whether a path reads the same for everybody.
func cleanPath(path string) bool {
	return path != "" && path[0] != '/' && !strings.Contains(path, "//") &&
		!strings.Contains("/"+path+"/", "/../") && !strings.Contains("/"+path+"/", "/./")
}

// place reads what follows the version: [namespaces/NAMESPACE/]RESOURCE[/NAME[/SUBRESOURCE]].
func (w *write) place(path string) {
	w.resource.Resource, path, _ = strings.Cut(path, "/")
	w.key.Name, path, _ = strings.Cut(path, "/")
	w.subresource = path
	if w.resource.Resource != "namespaces" || w.subresource == "" {
		return
	}
	next, rest, _ := strings.Cut(path, "/")
	if next == "status" || next == "finalize" {
		return // of the namespace itself
	}
	w.key.Namespace = w.key.Name
	w.resource.Resource = next
	w.key.Name, w.subresource, _ = strings.Cut(rest, "/")
}
