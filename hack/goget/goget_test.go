package goget

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const root = "../.."

// version is newer than anything that could be found elsewhere, and not what an earlier run has left in the module cache.
var version = fmt.Sprintf("v1.999.%d", time.Now().UnixMilli())

// user is an empty module outside the tree that can get what is published here.
type user struct {
	*testing.T
	dir string
	env []string
}

func newUser(t *testing.T, proxy, dir string) *user {
	t.Helper()
	u := &user{t, dir, []string{
		"GOPROXY=file://" + filepath.ToSlash(proxy) + "," + upstream(t), "GOFLAGS=-mod=mod -modcacherw", "GOWORK=off", "GOTOOLCHAIN=local",
		"GONOSUMDB=github.com/shard-io/*", "GOPRIVATE=", "GONOPROXY=none",
	}}
	u.run("go", "mod", "init", "example.com/user")
	return u
}

// upstream is where all other modules come from.
func upstream(t *testing.T) string {
	out, err := command(".", nil, "go", "env", "GOPROXY")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func (u *user) run(name string, args ...string) string {
	u.Helper()
	out, err := command(u.dir, u.env, name, args...)
	if err != nil {
		u.Fatal(err)
	}
	return out
}

func (u *user) write(name, text string) {
	u.Helper()
	file := filepath.Join(u.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		u.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		u.Fatal(err)
	}
}

// built returns the modules that packages of the user are built from, without the standard library and himself.
func (u *user) built(packages ...string) map[string]bool {
	modules := map[string]bool{}
	out := u.run("go", append([]string{"list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}"}, packages...)...)
	for line := range strings.Lines(out) {
		if path := strings.TrimSpace(line); path != "" && path != "example.com/user" {
			modules[path] = true
		}
	}
	return modules
}

// plain is what a user of client-go and client_golang has already.
const plain = `package main

import (
	_ "github.com/prometheus/client_golang/prometheus/promhttp"
	_ "k8s.io/client-go/informers"
	_ "k8s.io/client-go/kubernetes"
	_ "k8s.io/client-go/rest"
	_ "k8s.io/client-go/tools/leaderelection"
	_ "k8s.io/client-go/util/workqueue"
)

func main() {}
`

// maxNewModules is how many modules, besides this one, the build of a client-go user may gain.
const maxNewModules = 8

func TestGoGet(t *testing.T) {
	if testing.Short() {
		t.Skip("builds client-go")
	}
	proxy := t.TempDir()
	p, err := publish(proxy, root, version)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { forget(t, p) })
	t.Run("the zip is complete", func(t *testing.T) { checkZip(t, p) })

	u := newUser(t, proxy, t.TempDir())
	u.write("before/main.go", plain)
	for _, have := range p.mod.Require { // the same versions before and after
		if !have.Indirect && (strings.HasPrefix(have.Mod.Path, "k8s.io/client-go") || strings.Contains(have.Mod.Path, "client_golang")) {
			u.run("go", "get", have.Mod.String())
		}
	}
	before := u.built("./before")
	u.run("go", "get", p.Version.String())
	for name, text := range programs(t) {
		u.write(name+"/main.go", text)
	}
	u.write("all/main.go", everything(t, p))
	u.run("go", "mod", "tidy")
	u.run("go", "vet", "./...")
	u.run("go", "build", "./...")
	if mod := u.run("go", "list", "-m", p.Path); strings.TrimSpace(mod) != p.Path+" "+version {
		t.Errorf("the programs were built with %q, not with what was published", mod)
	}

	after := u.built("./readme-0")
	delete(after, p.Path)
	var gained []string
	for _, module := range slices.Sorted(maps.Keys(after)) {
		if !before[module] {
			gained = append(gained, module)
		}
	}
	t.Logf("modules that a client-go user is built from: before %d, after %d and this one; gained %v", len(before), len(after), gained)
	if len(gained) > maxNewModules {
		t.Errorf("gained %d modules, want at most %d: %v", len(gained), maxNewModules, gained)
	}
}

// TestGoGetNested gets the adapter for controller-runtime, which is a module of its own, and this module by way of it.
func TestGoGetNested(t *testing.T) {
	if testing.Short() {
		t.Skip("builds controller-runtime")
	}
	const folder = "sharding/ctrlruntime"
	proxy := t.TempDir()
	main, err := publish(proxy, root, version)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { forget(t, main) })
	nested, err := publish(proxy, filepath.Join(root, folder), version)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { forget(t, nested) })
	if len(nested.mod.Replace) > 0 || !slices.Contains(nested.files, "LICENSE") {
		t.Errorf("the nested module replaces %v, and its files are %v", nested.mod.Replace, nested.files)
	}
	u := newUser(t, proxy, t.TempDir())
	u.run("go", "get", nested.Version.String())
	u.write("main.go", "package main\n\nimport (\n\t_ \""+main.Path+"/sharding\"\n\t_ \""+nested.Path+"\"\n)\n\nfunc main() {}\n")
	u.run("go", "mod", "tidy")
	u.run("go", "vet", ".", nested.Path)
	u.run("go", "build", ".")
	for _, p := range []*published{main, nested} {
		if mod := u.run("go", "list", "-m", p.Path); strings.TrimSpace(mod) != p.Path+" "+version {
			t.Errorf("the program was built with %q, not with what was published", mod)
		}
	}
}

// forget takes what was published out of the module cache.
func forget(t *testing.T, p *published) {
	cache, err := command(".", nil, "go", "env", "GOMODCACHE")
	if err != nil {
		t.Error(err)
		return
	}
	cache = filepath.FromSlash(strings.TrimSpace(cache))
	left := []string{filepath.Join(cache, filepath.FromSlash(p.Path)+"@"+version)}
	downloads, err := filepath.Glob(filepath.Join(cache, "cache", "download", filepath.FromSlash(p.Path), "@v", version+".*"))
	if err != nil {
		t.Error(err)
	}
	for _, name := range append(left, downloads...) {
		if err := os.RemoveAll(name); err != nil {
			t.Error(err)
		}
	}
}

func checkZip(t *testing.T, p *published) {
	if len(p.mod.Replace) > 0 {
		t.Errorf("go.mod has %d replace directives: nobody who gets the module would have what they say", len(p.mod.Replace))
	}
	embedded, err := command(root, nil, "go", "list", "-f", "{{$dir := .Dir}}{{range .EmbedFiles}}{{$dir}}/{{.}}\n{{end}}", "./...")
	if err != nil {
		t.Fatal(err)
	}
	base, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	wanted := []string{"LICENSE", "README.md", "go.mod", "go.sum"}
	for line := range strings.Lines(embedded) {
		if file := strings.TrimSpace(line); file != "" {
			name, err := filepath.Rel(base, file)
			if err != nil {
				t.Fatal(err)
			}
			wanted = append(wanted, filepath.ToSlash(name))
		}
	}
	if len(wanted) < 6 {
		t.Errorf("no package embeds anything, but apis/crd should")
	}
	for _, name := range wanted {
		if !slices.Contains(p.files, name) {
			t.Errorf("%s is missing from the zip", name)
		}
	}
}

// programs are the complete programs of the README and of the pages in docs.
func programs(t *testing.T) map[string]string {
	pages, err := filepath.Glob(root + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	block := regexp.MustCompile("(?s)```go\n(package main.*?)```")
	for _, page := range append([]string{root + "/README.md"}, pages...) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for i, match := range block.FindAllStringSubmatch(string(text), -1) {
			name := strings.ToLower(strings.TrimSuffix(filepath.Base(page), ".md"))
			found[fmt.Sprintf("%s-%d", name, i)] = match[1]
		}
	}
	if found["readme-0"] == "" {
		t.Fatal("the README has no complete program")
	}
	return found
}

// everything imports all packages that are not internal and not programs.
func everything(t *testing.T, p *published) string {
	out, err := command(root, nil, "go", "list", "-f", "{{.Name}} {{.ImportPath}}", "./...")
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	text.WriteString("package main\n\nimport (\n")
	lines := bufio.NewScanner(strings.NewReader(out))
	for lines.Scan() {
		name, path, _ := strings.Cut(lines.Text(), " ")
		if name != "main" && !strings.Contains(path+"/", "/internal/") {
			fmt.Fprintf(&text, "\t_ %q\n", path)
		}
	}
	text.WriteString(")\n\nfunc main() {}\n")
	return text.String()
}
