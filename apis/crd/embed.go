package crd

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

//go:embed shard.io_*.yaml
var files embed.FS

// YAML returns the CustomResourceDefinitions as one stream of YAML documents, sorted by name, fit for kubectl apply -f -.
func YAML() []byte {
	var all bytes.Buffer
	for _, document := range documents() {
		all.Write(document)
	}
	return all.Bytes()
}

// Objects returns the CustomResourceDefinitions, sorted by name. An error means that the module itself is broken.
func Objects() ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for i, document := range documents() {
		object := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict(document, &object.Object); err != nil {
			return nil, fmt.Errorf("embedded definition %d: %w", i, err)
		}
		objects = append(objects, object)
	}
	return objects, nil
}

// documents returns the content of the embedded files, sorted by name. Reading what the compiler embedded cannot fail.
func documents() [][]byte {
	names, _ := fs.Glob(files, "*.yaml")
	var all [][]byte
	for _, name := range names {
		content, _ := files.ReadFile(name)
		all = append(all, content)
	}
	return all
}
