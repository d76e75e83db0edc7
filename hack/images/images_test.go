package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// TestImages builds the worker's image twice, and looks into it as a runtime would.
func TestImages(t *testing.T) {
	var tarballs [2][]byte
	for i := range tarballs {
		o := options{root: "../..", out: t.TempDir(), repository: "registry.test/shards", tag: "v1.2.3-of-a-test", platforms: "linux/amd64", programs: "worker"}
		platforms, err := o.validate()
		if err != nil {
			t.Fatal(err)
		}
		b, err := build(t.Context(), o.root, "worker", o.tag, platforms)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(o.out, "worker.tar")
		digest, err := b.save(path, "registry.test/shards/worker:v1.2.3-of-a-test")
		if err != nil {
			t.Fatal(err)
		}
		if tarballs[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			look(t, unpack(t, tarballs[0]), digest)
			inventory(t, b, digest)
		}
	}
	if !bytes.Equal(tarballs[0], tarballs[1]) {
		t.Error("two builds of the same sources differ")
	}
}

// look checks what is in an OCI layout.
func look(t *testing.T, dir string, digest v1.Hash) {
	l, err := layout.FromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	all, err := l.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := all.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 || manifest.Manifests[0].Digest != digest {
		t.Fatalf("index.json: %+v, error %v; want %s", manifest, err, digest)
	}
	if name := manifest.Manifests[0].Annotations["io.containerd.image.name"]; name != "registry.test/shards/worker:v1.2.3-of-a-test" {
		t.Errorf("the image is called %q", name)
	}
	index, err := all.ImageIndex(digest)
	if err != nil {
		t.Fatal(err)
	}
	platforms, err := index.IndexManifest()
	if err != nil || len(platforms.Manifests) != 1 || platforms.Manifests[0].Platform.String() != "linux/amd64" {
		t.Fatalf("platforms: %+v, error %v", platforms, err)
	}
	image, err := index.Image(platforms.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != nobody || strings.Join(config.Config.Entrypoint, " ") != "/worker" || config.Architecture != "amd64" {
		t.Errorf("config: %+v", config)
	}
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, error %v", len(layers), err)
	}
	files, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	checkFiles(t, files)
}

// checkFiles wants one file: a static program that everybody may run and nobody may change.
func checkFiles(t *testing.T, files io.Reader) {
	r := tar.NewReader(files)
	header, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	if header.Name != "worker" || header.Mode != 0o555 || header.Uid != 0 {
		t.Errorf("the first file is %+v", header)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(data, []byte("v1.2.3-of-a-test")) {
		t.Error("the program does not know its version")
	}
	program, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the program is not static")
		}
	}
	if header, err := r.Next(); err != io.EOF {
		t.Errorf("there is another file: %+v, error %v", header, err)
	}
}

// inventory wants the modules of the program in the list of its parts.
func inventory(t *testing.T, b *built, digest v1.Hash) {
	path := filepath.Join(t.TempDir(), "worker.spdx.json")
	if err := b.saveSBOM(path, "registry.test/shards/worker:v1.2.3-of-a-test", digest); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var d spdxDocument
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	withSum := 0
	for _, p := range d.Packages {
		if ids[p.ID] {
			t.Errorf("two packages have the ID %s", p.ID)
		}
		ids[p.ID] = true
		withSum += len(p.Checksums)
	}
	if !ids["SPDXRef-module-k8s.io-client-go"] || withSum < len(d.Packages)-2 || len(d.Relationships) != len(d.Packages) {
		t.Errorf("%d packages, %d with a checksum, %d relationships", len(d.Packages), withSum, len(d.Relationships))
	}
}

func unpack(t *testing.T, data []byte) string {
	dir := t.TempDir()
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		header, err := r.Next()
		if err == io.EOF {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(header.Name))
		if header.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o755)
		} else {
			var body []byte
			if body, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(path, body, 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestOptions(t *testing.T) {
	for platforms, want := range map[string]string{
		"linux/amd64": "", "linux/amd64,linux/arm64": "", "": "must be like", "windows/amd64": "must be like", "linux": "must be like", "a/b/c/d": "must be like",
	} {
		o := options{repository: "r", tag: "t", platforms: platforms, programs: "manager"}
		if _, err := o.validate(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("platforms %q: error %v, want %q", platforms, err, want)
		}
	}
	for want, o := range map[string]options{
		"-repository": {tag: "t", platforms: "linux/amd64", programs: "manager"},
		"-tag":        {repository: "r", tag: "a b", platforms: "linux/amd64", programs: "manager"},
		"-programs":   {repository: "r", tag: "t", platforms: "linux/amd64", programs: "manager,workers"},
	} {
		if _, err := o.validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want one with %s", o, err, want)
		}
	}
}

// TestDockerfile holds the other way to make the images to this one: the same flags, the same user.
func TestDockerfile(t *testing.T) {
	text, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("build.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{"-trimpath", "-buildvcs=false", "-s -w -buildid=", "-X ", "CGO_ENABLED=0", "github.com/shard-io/shard-controller/examples/internal/process.stamped"} {
		if !strings.Contains(string(text), flag) || !strings.Contains(string(source), flag) {
			t.Errorf("%q is not in both Dockerfile and build.go", flag)
		}
	}
	for _, line := range []string{"USER " + nobody, "FROM scratch", "FROM --platform=$BUILDPLATFORM golang:1.26 AS build", `ENTRYPOINT ["/program"]`} {
		if !strings.Contains(string(text), "\n"+line+"\n") {
			t.Errorf("the Dockerfile has no line %q", line)
		}
	}
}
