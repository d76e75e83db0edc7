package crd_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/shard-io/shard-controller/apis/crd"
	"github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/generated/clientset/versioned"
	"github.com/shard-io/shard-controller/internal/controlplane"
)

var (
	shardConfigs   = v1.SchemeGroupVersion.WithResource("shardconfigs")
	shardInstances = v1.SchemeGroupVersion.WithResource("shardinstances")
)

func TestMain(m *testing.M) { os.Exit(controlplane.Main(m)) }

var install sync.Once

// server returns the config of the API server that the tests share, with the definitions installed.
func server(t *testing.T) *rest.Config {
	t.Helper()
	cfg := controlplane.ForTest(t).Config()
	cfg.QPS = -1
	install.Do(func() {
		if err := crd.Install(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	})
	return cfg
}

// clients returns a typed and a dynamic client.
func clients(t *testing.T, cfg *rest.Config) (*versioned.Clientset, *dynamic.DynamicClient) {
	t.Helper()
	typed, err := versioned.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	untyped, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return typed, untyped
}

// namespace creates a namespace for the test and returns its name.
func namespace(t *testing.T, cfg *rest.Config) string {
	t.Helper()
	cfg = rest.CopyConfig(cfg)
	cfg.ContentType = ""
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	created, err := client.CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "crd-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return created.Name
}

// manifest returns the content of a file in testdata, decoded as the API server and kubectl do it: whole numbers are int64.
func manifest(t *testing.T, name string) *unstructured.Unstructured {
	t.Helper()
	object := &unstructured.Unstructured{}
	data, err := yaml.YAMLToJSON(manifestBytes(t, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := object.UnmarshalJSON(data); err != nil {
		t.Fatal(err)
	}
	return object
}

func manifestBytes(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func resourceOf(object *unstructured.Unstructured) schema.GroupVersionResource {
	return v1.SchemeGroupVersion.WithResource(strings.ToLower(object.GetKind()) + "s")
}

// missing returns the paths of the values in want that got does not have, or has otherwise. got may have more.
func missing(path string, want, got any) []string {
	switch want := want.(type) {
	case map[string]any:
		gotMap, _ := got.(map[string]any)
		var paths []string
		for key, value := range want {
			paths = append(paths, missing(path+"."+key, value, gotMap[key])...)
		}
		return paths
	case []any:
		gotList, _ := got.([]any)
		if len(gotList) != len(want) {
			return []string{fmt.Sprintf("%s: want %v, got %v", path, want, got)}
		}
		var paths []string
		for i := range want {
			paths = append(paths, missing(fmt.Sprintf("%s[%d]", path, i), want[i], gotList[i])...)
		}
		return paths
	default:
		if want != got {
			return []string{fmt.Sprintf("%s: want %T %v, got %T %v", path, want, want, got, got)}
		}
		return nil
	}
}

// decodeInto decodes a file in testdata into a typed object, and refuses unknown fields.
func decodeInto(t *testing.T, name string, object any) {
	t.Helper()
	if err := yaml.UnmarshalStrict(manifestBytes(t, name), object); err != nil {
		t.Fatal(err)
	}
}

// ownServer starts an API server for the test alone, with nothing installed.
func ownServer(t *testing.T, flags ...string) (*rest.Config, *dynamic.DynamicClient) {
	t.Helper()
	plane, err := controlplane.Start(t.Context(), controlplane.Options{APIServerFlags: flags})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plane.Stop)
	_, client := clients(t, plane.Config())
	return plane.Config(), client
}
