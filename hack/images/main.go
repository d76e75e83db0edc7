// Images builds the images of the reference programs without Docker: static binaries in an OCI image each, for all platforms, and a list
// of the modules that went into them. The same sources and the same Go make the same digests.
//
// Each image becomes one file, an OCI layout in a tarball: "ctr image import", "skopeo copy oci-archive:…" and "crane push" read it.
//
//	go -C hack/images run . -out ../../bin/images
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// programs are what the images are made of; each is a package of the root module.
var programs = []string{"manager", "worker"}

// validTag is what registries take for one: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests
var validTag = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)

type options struct {
	root, out, repository, tag, platforms, programs string
}

func (o *options) register(set *flag.FlagSet) {
	set.StringVar(&o.root, "root", "../..", "root of the repository")
	set.StringVar(&o.out, "out", "../../bin/images", "folder for the images; it is created")
	set.StringVar(&o.repository, "repository", "registry.local/shard-controller", "what the names of the images begin with")
	set.StringVar(&o.tag, "tag", "dev", "tag of the images, and the version that the programs in them say they are of")
	set.StringVar(&o.programs, "programs", strings.Join(programs, ","), "what to build, separated by commas")
	set.StringVar(&o.platforms, "platforms", "linux/amd64,linux/arm64", "platforms, separated by commas")
}

func (o *options) validate() ([]v1.Platform, error) {
	if o.repository == "" {
		return nil, errors.New("-repository must not be empty")
	}
	if !validTag.MatchString(o.tag) {
		return nil, fmt.Errorf("-tag: %q must be at most 128 letters, digits, and ._-, and begin with none of .-", o.tag)
	}
	for program := range strings.SplitSeq(o.programs, ",") {
		if !slices.Contains(programs, program) {
			return nil, fmt.Errorf("-programs: %q is none of %s", program, strings.Join(programs, ", "))
		}
	}
	var platforms []v1.Platform
	for name := range strings.SplitSeq(o.platforms, ",") {
		p, err := v1.ParsePlatform(name)
		if err != nil || p.OS != "linux" || p.Architecture == "" {
			return nil, fmt.Errorf("-platforms: %q must be like linux/amd64", name)
		}
		platforms = append(platforms, *p)
	}
	return platforms, nil
}

func main() {
	var o options
	o.register(flag.CommandLine)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, &o); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o *options) error {
	platforms, err := o.validate()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	fmt.Printf("building %s for %s (8 CPU minutes when nothing is cached)\n", o.programs, o.platforms)
	for program := range strings.SplitSeq(o.programs, ",") {
		begun := time.Now()
		name := o.repository + "/" + program + ":" + o.tag
		b, err := build(ctx, o.root, program, o.tag, platforms)
		if err != nil {
			return err
		}
		path := filepath.Join(o.out, program+".tar")
		digest, err := b.save(path, name)
		if err != nil {
			return err
		}
		if err := b.saveSBOM(filepath.Join(o.out, program+".spdx.json"), name, digest); err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		fmt.Printf("%s@%s\n  %s: %.1f MB, %d platforms, %.0f s\n", name, digest, path, float64(info.Size())/1e6, len(platforms), time.Since(begun).Seconds())
	}
	return nil
}
