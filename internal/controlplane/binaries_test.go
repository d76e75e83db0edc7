//go:build unix

package controlplane

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestAssetsDirectory(t *testing.T) {
	const run, data = 0o755, 0o644
	for _, tt := range []struct {
		name  string
		files map[string]os.FileMode
		want  string // what the error says; empty for none
	}{
		{"both", map[string]os.FileMode{"etcd": run, "kube-apiserver": run}, ""},
		{"nothing", nil, "etcd: no such file"},
		{"no API server", map[string]os.FileMode{"etcd": run}, "kube-apiserver: no such file"},
		{"not executable", map[string]os.FileMode{"etcd": data, "kube-apiserver": run}, "etcd is not an executable file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, mode := range tt.files {
				writeFile(t, mode, "", dir, name)
			}
			t.Setenv(AssetsEnv, dir)
			b, err := FindBinaries(t.Context(), io.Discard)
			if tt.want != "" {
				wantError(t, err, AssetsEnv, dir, tt.want)
				return
			}
			want := Binaries{Etcd: filepath.Join(dir, "etcd"), APIServer: filepath.Join(dir, "kube-apiserver")}
			if err != nil || b != want {
				t.Errorf("got %v, %v; want %v", b, err, want)
			}
		})
	}
}

func TestAssetsDirectoryOfThatNameIsNoFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "etcd"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := assets(dir)
	wantError(t, err, "is not an executable file")
}

func TestCacheDirectory(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(CacheEnv, dir)
	if got, err := cacheDir(); err != nil || got != filepath.Join(dir, "controlplane") {
		t.Errorf("with %s: %q, %v", CacheEnv, got, err)
	}
	t.Setenv(CacheEnv, "")
	user, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := cacheDir(); err != nil || got != filepath.Join(user, "shard-controller", "controlplane") {
		t.Errorf("without %s: %q, %v", CacheEnv, got, err)
	}
	for _, env := range []string{"HOME", "XDG_CACHE_HOME"} {
		t.Setenv(env, "")
	}
	_, err = cacheDir()
	wantError(t, err, "set "+CacheEnv)
}

const exampleMod = "module " + sourceModule + "\n\nrequire (\n\tk8s.io/kubernetes v1.99.3 // indirect\n)\n"

func TestSource(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string // below hack/controlplane
		want  string
	}{
		{"complete", map[string]string{"go.mod": exampleMod, "go.sum": "x"}, ""},
		{"absent", nil, "is in none of"},
		{"another module", map[string]string{"go.mod": "module example.com/other\n", "go.sum": ""}, "set KUBEBUILDER_ASSETS"},
		{"no go.sum", map[string]string{"go.mod": exampleMod}, "no go.sum"},
		{"no Kubernetes", map[string]string{"go.mod": "module " + sourceModule + "\n", "go.sum": ""}, "does not require k8s.io/kubernetes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root, nowhere := t.TempDir(), t.TempDir()
			for name, content := range tt.files {
				writeFile(t, 0o644, content, root, "hack", "controlplane", name)
			}
			s, err := findSourceIn(append([]string{nowhere}, upwards(filepath.Join(root, "a", "b"))...))
			if tt.want != "" {
				wantError(t, err, tt.want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s.version != "v1.99.3" || s.dir != filepath.Join(root, "hack", "controlplane") {
				t.Errorf("got version %s in %s", s.version, s.dir)
			}
			const flags = "-s -w -X k8s.io/component-base/version.gitVersion=v1.99.3" +
				" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=99"
			if s.ldflags != flags {
				t.Errorf("ldflags are %s", s.ldflags)
			}
		})
	}
}

func TestSourceOfThisRepository(t *testing.T) {
	s, err := findSource()
	if err != nil {
		t.Fatal(err)
	}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	// What a binary built with -trimpath has to go by:
	again, err := findSourceIn(upwards(wd))
	if err != nil || again.key != s.key {
		t.Errorf("from the working directory: %v, %v; from this file: %v", again, err, s)
	}
}

func TestKeyChangesWithTheModules(t *testing.T) {
	keys := map[string]string{}
	for name, files := range map[string][2]string{
		"as it is":        {exampleMod, "a"},
		"another go.sum":  {exampleMod, "b"},
		"another go.mod":  {exampleMod + "\n", "a"},
		"same in another": {exampleMod + "\na", ""},
	} {
		dir := t.TempDir()
		writeFile(t, 0o644, files[0], dir, "go.mod")
		writeFile(t, 0o644, files[1], dir, "go.sum")
		s, err := readSource(dir)
		if err != nil {
			t.Fatal(err)
		}
		if other, dup := keys[s.key]; dup {
			t.Errorf("%q and %q have the same key %s", name, other, s.key)
		}
		keys[s.key] = name
	}
}
