package main

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/buildinfo"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// nobody is the user and the group that the programs run as: a number, so that a kubelet can see that it is not root.
const nobody = "65532:65532"

// epoch is the time of everything in an image, so that the digest depends on nothing but the contents.
var epoch = time.Unix(0, 0).UTC()

// built is an image for several platforms.
type built struct {
	index v1.ImageIndex
	// modules is what the binaries were built from: the same for all platforms.
	modules *buildinfo.BuildInfo
}

// build compiles a program for all platforms, and packs the binaries. The program says that it is of this version.
func build(ctx context.Context, root, program, version string, platforms []v1.Platform) (*built, error) {
	dir, err := os.MkdirTemp("", "images-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	b := &built{index: mutate.IndexMediaType(empty.Index, types.OCIImageIndex)}
	for _, platform := range platforms {
		path := filepath.Join(dir, program)
		if err := compile(ctx, root, program, version, path, platform); err != nil {
			return nil, err
		}
		if b.modules, err = buildinfo.ReadFile(path); err != nil {
			return nil, err
		}
		image, err := imageOf(path, program, platform)
		if err != nil {
			return nil, fmt.Errorf("image of %s for %s: %w", program, platform, err)
		}
		b.index = mutate.AppendManifests(b.index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &platform}})
	}
	return b, nil
}

// versionVariable is where the programs have their version.
const versionVariable = "github.com/shard-io/shard-controller/examples/internal/process.stamped"

// compile makes a static binary that does not depend on where and when it was made.
func compile(ctx context.Context, root, program, version, path string, platform v1.Platform) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid= -X "+versionVariable+"="+version, "-o", path, "./examples/"+program)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+platform.OS, "GOARCH="+platform.Architecture, "GOFLAGS=", "GOWORK=off")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build of %s for %s: %w", program, platform, err)
	}
	return nil
}

// imageOf is one layer with one file.
func imageOf(path, program string, platform v1.Platform) (v1.Image, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	files, err := archive(program, data)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files)), nil },
		tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if image, err = mutate.Append(image, mutate.Addendum{
		Layer: layer, History: v1.History{Created: v1.Time{Time: epoch}, CreatedBy: "go build ./examples/" + program},
	}); err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant, config.Created = platform.OS, platform.Architecture, platform.Variant, v1.Time{Time: epoch}
	config.Config = v1.Config{
		User: nobody, Entrypoint: []string{"/" + program}, WorkingDir: "/",
		Labels: map[string]string{
			"org.opencontainers.image.title":    program,
			"org.opencontainers.image.source":   "https://github.com/shard-io/shard-controller",
			"org.opencontainers.image.licenses": "Apache-2.0",
		},
	}
	return mutate.ConfigFile(image, config)
}

// archive is the file system of an image: the program, which nobody can change.
func archive(program string, data []byte) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: program, Mode: 0o555, Size: int64(len(data)), ModTime: epoch, Format: tar.FormatPAX}); err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
