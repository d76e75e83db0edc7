// Package deploy has the manifests of the reference controller, for kubectl apply -k and for programs. They are plain files: nothing in
// them is patched, and all names are written out. The namespace of the ring is "audit".
package deploy

import (
	"embed"
	"fmt"
	"path"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

//go:embed base worker-deployment worker-statefulset
var files embed.FS

// Objects returns what is in these folders, in the order of the folders and of the names of the files.
func Objects(folders ...string) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for _, folder := range folders {
		entries, err := files.ReadDir(folder)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			if entry.Name() == "kustomization.yaml" {
				continue
			}
			name := path.Join(folder, entry.Name())
			data, err := files.ReadFile(name)
			if err != nil {
				return nil, err
			}
			for document := range strings.SplitSeq(string(data), "\n---\n") {
				o := &unstructured.Unstructured{}
				if err := yaml.UnmarshalStrict([]byte(document), &o.Object); err != nil {
					return nil, fmt.Errorf("%s: %w", name, err)
				}
				objects = append(objects, o)
			}
		}
	}
	return objects, nil
}
