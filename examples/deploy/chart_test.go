package deploy

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/shard-io/shard-controller/sharding/fence"
)

var update = flag.Bool("update", false, "write the fence of the chart anew")

// chartFence is the fence of the ring in base/ring, under another name and in another namespace.
func chartFence(t *testing.T, namespace, name string) string {
	t.Helper()
	ring := shippedRing(t)
	ring.ObjectMeta = metav1.ObjectMeta{Name: name, Namespace: namespace}
	text, err := fence.YAML(ring, fence.Options{
		Managers: []string{fence.ServiceAccount(namespace, "manager")}, Workers: []string{fence.ServiceAccount(namespace, "worker")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestChartFence holds the fence in the chart to that of the library: a template that the names of the ring and its namespace are put into.
func TestChartFence(t *testing.T) {
	const (
		file            = "chart/templates/fence.yaml"
		first, last     = "{{- if .Values.fence }}\n# Made by go test ./examples/deploy -run TestChartFence -update\n", "{{- end }}\n"
		ring, namespace = "name-of-the-ring", "its-namespace"
		ringValue       = "{{ .Values.ring.name }}"
		namespaceValue  = "{{ .Values.namespace.name }}"
	)
	text := chartFence(t, namespace, ring)
	if strings.Contains(text, "{{") || strings.Contains(text, "}}") {
		t.Fatal("the fence has what Helm takes for a template")
	}
	for name, value := range map[string]string{ring: ringValue, namespace: namespaceValue} {
		text = strings.ReplaceAll(text, ": "+name+"\n", ": \""+value+"\"\n") // a name of digits is a text too
		text = strings.ReplaceAll(text, name, value)
	}
	text = first + strings.TrimSpace(text) + "\n" + last
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != text {
		t.Fatalf("%s is not the fence of the ring: run this test with -update", file)
	}
	body := strings.TrimSuffix(strings.TrimPrefix(text, first), last)
	for _, tc := range [][2]string{{"audit", "certaudit"}, {"7", "1234"}, {strings.Repeat("n", 63), strings.Repeat("r", 63)}} {
		filled := strings.NewReplacer(namespaceValue, tc[0], ringValue, tc[1]).Replace(body)
		if want := chartFence(t, tc[0], tc[1]); !bytes.Equal(normal(t, filled), normal(t, want)) {
			t.Errorf("filled with %v the template is not the fence of that ring", tc)
		}
	}
}

// normal are documents without their spelling.
func normal(t *testing.T, documents string) []byte {
	t.Helper()
	var all []byte
	for document := range strings.SplitSeq(documents, "\n---\n") {
		data, err := yaml.YAMLToJSON([]byte(document))
		if err != nil {
			t.Fatal(err)
		}
		all = append(append(all, data...), '\n')
	}
	return all
}

// TestChartDefinitions wants the definitions in the chart to be the ones of the library: links to them.
func TestChartDefinitions(t *testing.T) {
	files, err := filepath.Glob("../../apis/crd/shard.io_*.yaml")
	if err != nil || len(files) != 3 {
		t.Fatalf("%d definitions, error %v", len(files), err)
	}
	for _, file := range files {
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join("chart/crds", filepath.Base(file))); err != nil || !bytes.Equal(got, want) {
			t.Errorf("chart/crds/%s is another: error %v", filepath.Base(file), err)
		}
	}
}
