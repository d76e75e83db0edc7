//go:build ignore

// Modelschema prints the OpenAPI definitions of the API types as one JSON document, in the form that applyconfiguration-gen reads.
// It is built by hack/generate.sh only, which supplies the imported package openapi from a temporary directory: 17,000 lines that
// nobody else needs.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/util"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/hack/modelschema/openapi"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "modelschema:", err)
		os.Exit(1)
	}
}

func run() error {
	reference := func(name string) spec.Ref {
		return spec.MustCreateRef("#/definitions/" + util.ToRESTFriendlyName(name))
	}
	definitions := spec.Definitions{}
	for name, definition := range openapi.GetOpenAPIDefinitions(reference) {
		schema := definition.Schema
		if v2, ok := definition.Schema.Extensions[common.ExtensionV2Schema].(spec.Schema); ok {
			schema = v2
		}
		if kind := topLevelKind(name); kind != "" {
			schema.AddExtension("x-kubernetes-group-version-kind", []any{map[string]any{
				"group": v1.GroupName, "version": v1.SchemeGroupVersion.Version, "kind": kind,
			}})
		}
		definitions[util.ToRESTFriendlyName(name)] = schema
	}
	return json.NewEncoder(os.Stdout).Encode(spec.Swagger{SwaggerProps: spec.SwaggerProps{
		Swagger:     "2.0",
		Info:        &spec.Info{InfoProps: spec.InfoProps{Title: "shard.io", Version: v1.SchemeGroupVersion.Version}},
		Paths:       &spec.Paths{},
		Definitions: definitions,
	}})
}

// topLevelKind returns the kind that the definition called name is the schema of, or "". The apply configurations are found by it.
func topLevelKind(name string) string {
	for _, kind := range []string{"ShardConfig", "ShardInstance"} {
		if name == "github.com/shard-io/shard-controller/apis/shard/v1."+kind {
			return kind
		}
	}
	return ""
}
