package main

import (
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"runtime/debug"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The parts of SPDX 2.3 (https://spdx.github.io/spdx-spec/v2.3/) that say which Go modules a program consists of.
type (
	spdxDocument struct {
		Version       string             `json:"spdxVersion"`
		License       string             `json:"dataLicense"`
		ID            string             `json:"SPDXID"`
		Name          string             `json:"name"`
		Namespace     string             `json:"documentNamespace"`
		Creation      spdxCreation       `json:"creationInfo"`
		Packages      []spdxPackage      `json:"packages"`
		Relationships []spdxRelationship `json:"relationships"`
	}
	spdxCreation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	spdxPackage struct {
		ID        string          `json:"SPDXID"`
		Name      string          `json:"name"`
		Version   string          `json:"versionInfo"`
		Location  string          `json:"downloadLocation"`
		Analyzed  bool            `json:"filesAnalyzed"`
		Concluded string          `json:"licenseConcluded"`
		Declared  string          `json:"licenseDeclared"`
		Copyright string          `json:"copyrightText"`
		Checksums []spdxChecksum  `json:"checksums,omitempty"`
		Refs      []spdxReference `json:"externalRefs"`
	}
	spdxChecksum struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	}
	spdxReference struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	spdxRelationship struct {
		From string `json:"spdxElementId"`
		Type string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	}
)

// saveSBOM writes what the linker has recorded in the binaries: their modules, with versions and checksums.
func (b *built) saveSBOM(path, name string, digest v1.Hash) error {
	data, err := json.MarshalIndent(sbom(b.modules, name, digest.String()), "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// sbom describes an image. It is a pure function of what was built.
func sbom(info *buildinfo.BuildInfo, name, digest string) spdxDocument {
	const document = "SPDXRef-DOCUMENT"
	d := spdxDocument{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: document, Name: name, Namespace: "https://github.com/shard-io/shard-controller/sbom/" + digest,
		Creation: spdxCreation{Created: epoch.Format(time.RFC3339), Creators: []string{"Tool: github.com/shard-io/shard-controller/hack/images"}},
	}
	main := packageOf("SPDXRef-main", info.Main.Path, info.Main.Version, "")
	d.Packages = append(d.Packages, main, packageOf("SPDXRef-go", "stdlib", strings.TrimPrefix(info.GoVersion, "go"), ""))
	d.Relationships = append(d.Relationships, spdxRelationship{document, "DESCRIBES", main.ID}, spdxRelationship{main.ID, "DEPENDS_ON", "SPDXRef-go"})
	for _, module := range info.Deps {
		p := dependency(module)
		d.Packages = append(d.Packages, p)
		d.Relationships = append(d.Relationships, spdxRelationship{main.ID, "DEPENDS_ON", p.ID})
	}
	return d
}

func dependency(module *debug.Module) spdxPackage {
	if module.Replace != nil {
		module = module.Replace
	}
	id := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '-'
	}, module.Path)
	return packageOf("SPDXRef-module-"+id, module.Path, module.Version, module.Sum)
}

// packageOf describes a Go module. sum is that of go.sum: "h1:" and a SHA-256 in base64.
func packageOf(id, path, version, sum string) spdxPackage {
	const unknown = "NOASSERTION"
	p := spdxPackage{
		ID: id, Name: path, Version: version, Location: unknown, Concluded: unknown, Declared: unknown, Copyright: unknown,
		Refs: []spdxReference{{"PACKAGE-MANAGER", "purl", "pkg:golang/" + path + "@" + version}},
	}
	if hash, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(sum, "h1:")); err == nil && len(hash) == 32 {
		p.Checksums = []spdxChecksum{{"SHA256", hex.EncodeToString(hash)}}
	}
	return p
}
