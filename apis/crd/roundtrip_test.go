package crd_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/features"
	featurestesting "k8s.io/client-go/features/testing"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/shard-io/shard-controller/apis/crd"
	"github.com/shard-io/shard-controller/apis/shard/v1"
	apply "github.com/shard-io/shard-controller/generated/applyconfiguration/shard/v1"
)

// writers are the ways to bring a user's manifest to the server. The status goes through its subresource: the server drops it
// elsewhere.
var writers = map[string]func(t *testing.T, cfg *rest.Config, namespace, file string) error{
	"typed":   writeTyped,
	"dynamic": writeDynamic,
	"apply":   writeApply,
}

// The users' manifests, letter by letter, are accepted, and come back with the same values whatever client writes them and whatever
// client reads them.
func TestManifestsRoundTrip(t *testing.T) {
	cfg := server(t)
	for name, write := range writers {
		t.Run(name, func(t *testing.T) { testRoundTrip(t, cfg, write) })
	}
}

// The same in CBOR, with a server and clients that speak it. The transport counts, so that a silent fallback to JSON is a failure.
func TestManifestsRoundTripInCBOR(t *testing.T) {
	featurestesting.SetFeatureDuringTest(t, features.ClientsAllowCBOR, true)
	featurestesting.SetFeatureDuringTest(t, features.ClientsPreferCBOR, true)
	cfg, _ := ownServer(t, "--feature-gates=CBORServingAndStorage=true")
	if err := crd.Install(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for name, write := range writers {
		t.Run(name, func(t *testing.T) {
			counted := rest.CopyConfig(cfg)
			counted.ContentType = "application/cbor"
			counted.AcceptContentTypes = "application/cbor"
			var count mediaTypes
			counted.Wrap(count.wrap)
			testRoundTrip(t, counted, write)
			count.check(t)
		})
	}
}

func testRoundTrip(t *testing.T, cfg *rest.Config, write func(*testing.T, *rest.Config, string, string) error) {
	_, untyped := clients(t, cfg)
	ns := namespace(t, cfg)
	for _, file := range []string{"shardconfig.yaml", "shardinstance.yaml"} {
		if err := write(t, cfg, ns, file); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		want := manifest(t, file)
		got, err := untyped.Resource(resourceOf(want)).Namespace(ns).Get(t.Context(), want.GetName(), metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, difference := range missing("", want.Object, got.Object) {
			t.Errorf("%s, read by the dynamic client: %s", file, difference)
		}
		for _, difference := range missing("", want.Object, readTyped(t, cfg, ns, want)) {
			t.Errorf("%s, read by the typed client: %s", file, difference)
		}
	}
}

// readTyped reads the object with the typed client and returns it as the map that its JSON is.
func readTyped(t *testing.T, cfg *rest.Config, ns string, want *unstructured.Unstructured) map[string]any {
	t.Helper()
	typed, _ := clients(t, cfg)
	var object any
	var err error
	if want.GetKind() == "ShardConfig" {
		object, err = typed.ShardV1().ShardConfigs(ns).Get(t.Context(), want.GetName(), metav1.GetOptions{})
	} else {
		object, err = typed.ShardV1().ShardInstances(ns).Get(t.Context(), want.GetName(), metav1.GetOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := utiljson.Unmarshal(data, &values); err != nil {
		t.Fatal(err)
	}
	// The clients leave these two of typed objects empty.
	values["apiVersion"], values["kind"] = want.GetAPIVersion(), want.GetKind()
	return values
}

func writeTyped(t *testing.T, cfg *rest.Config, ns, file string) error {
	typed, _ := clients(t, cfg)
	ctx := t.Context()
	if file == "shardconfig.yaml" {
		var config v1.ShardConfig
		if err := yaml.UnmarshalStrict(manifestBytes(t, file), &config); err != nil {
			return err
		}
		_, err := typed.ShardV1().ShardConfigs(ns).Create(ctx, &config, metav1.CreateOptions{})
		return err
	}
	var instance v1.ShardInstance
	if err := yaml.UnmarshalStrict(manifestBytes(t, file), &instance); err != nil {
		return err
	}
	created, err := typed.ShardV1().ShardInstances(ns).Create(ctx, &instance, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	created.Status = instance.Status
	_, err = typed.ShardV1().ShardInstances(ns).UpdateStatus(ctx, created, metav1.UpdateOptions{})
	return err
}

func writeDynamic(t *testing.T, cfg *rest.Config, ns, file string) error {
	_, untyped := clients(t, cfg)
	return createUntyped(t.Context(), untyped, ns, manifest(t, file))
}

func writeApply(t *testing.T, cfg *rest.Config, ns, file string) error {
	typed, _ := clients(t, cfg)
	ctx, options := t.Context(), metav1.ApplyOptions{FieldManager: "test"}
	if file == "shardconfig.yaml" {
		config := apply.ShardConfig("", ns)
		if err := yaml.UnmarshalStrict(manifestBytes(t, file), config); err != nil {
			return err
		}
		_, err := typed.ShardV1().ShardConfigs(ns).Apply(ctx, config, options)
		return err
	}
	instance := apply.ShardInstance("", ns)
	if err := yaml.UnmarshalStrict(manifestBytes(t, file), instance); err != nil {
		return err
	}
	if _, err := typed.ShardV1().ShardInstances(ns).Apply(ctx, instance, options); err != nil {
		return err
	}
	_, err := typed.ShardV1().ShardInstances(ns).ApplyStatus(ctx, instance, options)
	return err
}

// mediaTypes counts the bodies of requests and responses by their media types.
type mediaTypes struct {
	mu         sync.Mutex
	cbor, json int
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (m *mediaTypes) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		response, err := next.RoundTrip(request)
		if err == nil && strings.Contains(request.URL.Path, "/apis/shard.io/") {
			m.count(request.Header.Get("Content-Type"))
			m.count(response.Header.Get("Content-Type"))
		}
		return response, err
	})
}

func (m *mediaTypes) count(contentType string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case strings.Contains(contentType, "cbor"):
		m.cbor++
	case contentType != "":
		m.json++
	}
}

func (m *mediaTypes) check(t *testing.T) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cbor == 0 || m.json != 0 {
		t.Errorf("%d bodies in CBOR and %d in something else; want all in CBOR", m.cbor, m.json)
	}
}
