package shardcontroller_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/shard-io/shard-controller"

// mayImport says which packages of this module the packages below a directory may import, and which external modules, themselves and
// through others. What is not listed may not be imported; packages of the standard library and from below the same directory always may.
var mayImport = map[string]struct{ own, external []string }{
	"ring":             {nil, []string{"github.com/cespare/xxhash/v2"}},
	"balancer":         {[]string{"ring"}, []string{"github.com/cespare/xxhash/v2"}},
	"migrate":          {nil, nil},
	"health":           {nil, kubernetesLibraries},
	"apis":             {nil, kubernetesLibraries},
	"generated":        {[]string{"apis"}, kubernetesLibraries},
	"sharding/scaling": {nil, nil},
	"sharding/shardtest": {[]string{"ring", "balancer", "migrate", "health", "apis", "generated", "sharding", "internal"},
		append([]string{"github.com/cespare/xxhash/v2", "github.com/prometheus/"}, kubernetesLibraries...)}, // internal: the API server in memory
	"sharding": {[]string{"ring", "balancer", "migrate", "health", "apis", "generated"},
		append([]string{"github.com/cespare/xxhash/v2", "github.com/prometheus/"}, kubernetesLibraries...)},
}

// kubernetesLibraries are client-go and all that it stands on.
var kubernetesLibraries = []string{
	"k8s.io/", "sigs.k8s.io/", "github.com/go-logr/", "github.com/go-openapi/", "github.com/google/", "github.com/json-iterator/",
	"github.com/modern-go/", "github.com/fxamacker/", "github.com/x448/", "github.com/emicklei/", "github.com/munnerz/",
	"github.com/davecgh/", "github.com/pmezard/", "github.com/spf13/pflag", "go.yaml.in/", "golang.org/x/", "google.golang.org/protobuf",
	"gopkg.in/", "github.com/beorn7/", "github.com/cespare/xxhash/v2", "github.com/prometheus/",
}

type goPackage struct {
	ImportPath string
	Standard   bool
	Deps       []string
}

// goList returns what go list says about packages and all that they depend on, without their tests.
func goList(t *testing.T, patterns ...string) map[string]goPackage {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-deps", "-json=ImportPath,Standard,Deps"}, patterns...)...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	all := map[string]goPackage{}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p
	}
}

func TestImports(t *testing.T) {
	packages := goList(t, "./...")
	seen := map[string]bool{}
	for path, p := range packages {
		directory := strings.TrimPrefix(path, module+"/")
		rule, ruled := mayImport[directory] // a package's own line, or that of the directory at the top
		if !ruled {
			directory, _, _ = strings.Cut(directory, "/")
			rule, ruled = mayImport[directory]
		}
		if !ruled || !strings.HasPrefix(path, module+"/") {
			continue
		}
		seen[directory] = true
		for _, dependency := range p.Deps {
			if !packages[dependency].Standard && !allowed(directory, dependency, rule.own, rule.external) {
				t.Errorf("%s depends on %s, which it may not", strings.TrimPrefix(path, module+"/"), dependency)
			}
		}
	}
	for directory := range mayImport {
		if !seen[directory] && directory != "migrate" {
			t.Errorf("there is no package %s", directory)
		}
	}
}

func allowed(directory, dependency string, own, external []string) bool {
	if inside, ok := strings.CutPrefix(dependency, module+"/"); ok {
		top, _, _ := strings.Cut(inside, "/")
		return top == directory || slices.Contains(own, top)
	}
	return slices.ContainsFunc(external, func(prefix string) bool { return strings.HasPrefix(dependency, prefix) })
}

// TestTopLevel keeps the top level to what the layout names.
func TestTopLevel(t *testing.T) {
	layout := []string{"apis", "balancer", "examples", "generated", "health", "internal", "migrate", "ring", "sharding"}
	for path := range goList(t, "./...") {
		if inside, ok := strings.CutPrefix(path, module+"/"); ok {
			if top, _, _ := strings.Cut(inside, "/"); !slices.Contains(layout, top) {
				t.Errorf("package %s: %s is not a directory of the layout", path, top)
			}
		}
	}
}
