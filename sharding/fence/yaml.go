package fence

import (
	"bytes"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// YAML returns the [Objects] of the fence as a stream of YAML documents for kubectl apply --server-side.
func YAML(config *shardv1.ShardConfig, o Options) ([]byte, error) {
	objects, err := Objects(config, o)
	if err != nil {
		return nil, err
	}
	var all bytes.Buffer
	for i, object := range objects {
		fields, err := manifest(object)
		if err != nil {
			return nil, err
		}
		data, err := yaml.Marshal(fields)
		if err != nil {
			return nil, fmt.Errorf("fence: %w", err)
		}
		if i > 0 {
			all.WriteString("---\n")
		}
		all.Write(data)
	}
	return all.Bytes(), nil
}

// manifest is the object without its status, which is the server's.
func manifest(object runtime.Object) (map[string]any, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return nil, fmt.Errorf("fence: %w", err)
	}
	delete(fields, "status")
	return fields, nil
}
