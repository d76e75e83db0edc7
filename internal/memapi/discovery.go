package memapi

import (
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
)

// discover answers the paths that are no resources: discovery in its unaggregated form, the version and
// the probes.
func (s *Server) discover(r *Request) reply {
	path := strings.Trim(r.Path, "/")
	p := strings.Split(path, "/")
	switch {
	case path == "version":
		return document(version.Info{Major: "1", Minor: "37", GitVersion: "v1.37.2+memapi", Platform: "memory"})
	case path == "healthz" || path == "readyz" || path == "livez":
		return reply{code: http.StatusOK, body: []byte("ok")}
	case path == "api":
		return document(metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"}})
	case path == "apis":
		return document(s.groups())
	case p[0] == "api" && len(p) == 2:
		return s.resources("", p[1])
	case p[0] == "apis" && len(p) == 3:
		return s.resources(p[1], p[2])
	}
	return failure(apierrors.NewGenericServerResponse(http.StatusNotFound, r.Verb, schema.GroupResource{}, "",
		"404 page not found", 0, true))
}

func (s *Server) groups() metav1.APIGroupList {
	list := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
	seen := map[string]bool{}
	for _, t := range s.sortedTables() {
		if t.Group == "" || seen[t.Group+"/"+t.Version] {
			continue
		}
		seen[t.Group+"/"+t.Version] = true
		gv := metav1.GroupVersionForDiscovery{GroupVersion: t.Group + "/" + t.Version, Version: t.Version}
		if n := len(list.Groups); n > 0 && list.Groups[n-1].Name == t.Group {
			list.Groups[n-1].Versions = append(list.Groups[n-1].Versions, gv)
			continue
		}
		list.Groups = append(list.Groups, metav1.APIGroup{Name: t.Group, PreferredVersion: gv,
			Versions: []metav1.GroupVersionForDiscovery{gv}})
	}
	return list
}

func (s *Server) resources(group, ver string) reply {
	gv := schema.GroupVersion{Group: group, Version: ver}
	list := metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.String()}
	for _, t := range s.sortedTables() {
		if t.Group != group || t.Version != ver {
			continue
		}
		list.APIResources = append(list.APIResources, metav1.APIResource{Name: t.Plural, SingularName: strings.ToLower(t.Kind),
			Namespaced: !t.ClusterScoped, Kind: t.Kind, ShortNames: t.ShortNames, Categories: t.Categories,
			Verbs: metav1.Verbs{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}})
		if t.Status {
			list.APIResources = append(list.APIResources, metav1.APIResource{Name: t.Plural + "/status",
				Namespaced: !t.ClusterScoped, Kind: t.Kind, Verbs: metav1.Verbs{"get", "patch", "update"}})
		}
	}
	if list.APIResources == nil {
		return failure(apierrors.NewGenericServerResponse(http.StatusNotFound, "get", schema.GroupResource{}, "",
			"404 page not found", 0, true))
	}
	return document(list)
}

func document(v any) reply {
	body, err := jsonOf(v)
	if err != nil {
		return failure(err)
	}
	return reply{code: http.StatusOK, body: body}
}
