//go:build linux

package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestHierarchies(t *testing.T) {
	for text, want := range map[string][]string{
		"0::/user.slice/a\n": {"/sys/fs/cgroup /user.slice/a"},
		"9:name=systemd:/\n4:memory:/a/b\n2:cpu,cpuacct:/\n0::/\n": {
			"/sys/fs/cgroup/systemd /", "/sys/fs/cgroup/memory /a/b", "/sys/fs/cgroup/cpu,cpuacct /",
		},
		"memory": nil,
	} {
		all, err := parseHierarchies(text)
		if (err != nil) != (want == nil) {
			t.Errorf("%q: error %v", text, err)
			continue
		}
		var got []string
		for _, h := range all {
			got = append(got, h.mountPoint()+" "+h.path)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestCertificates(t *testing.T) {
	c := &cluster{spec: &spec{Dir: t.TempDir()}}
	if err := c.certificates(); err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(c.pki("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	for name, host := range map[string]string{"apiserver": serviceIP, "kubelet-server": nodeIP, "admin": ""} {
		pair, err := tls.LoadX509KeyPair(c.pki(name+".crt"), c.pki(name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		usage := x509.ExtKeyUsageClientAuth
		if host != "" {
			usage = x509.ExtKeyUsageServerAuth
		}
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if a, err := newAuthority(t.TempDir(), ""); err != nil {
		t.Error(err)
	} else if _, _, err := a.issue("client", pkix.Name{CommonName: "a"}); err != nil {
		t.Error(err)
	}
}

func TestPauseImage(t *testing.T) {
	program := filepath.Join(t.TempDir(), "pause")
	out := filepath.Join(t.TempDir(), "pause.tar")
	if err := os.WriteFile(program, []byte("program"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := saveImage(out, pauseImage, program); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		header, err := r.Next()
		if err != nil {
			break
		}
		files[header.Name], _ = io.ReadAll(r)
	}
	var manifest []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(files["manifest.json"], &manifest); err != nil || len(manifest) != 1 || manifest[0].RepoTags[0] != pauseImage {
		t.Fatalf("manifest %s, error %v", files["manifest.json"], err)
	}
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(files[manifest[0].Layers[0]]))
	if config := string(files[manifest[0].Config]); !strings.Contains(config, digest) {
		t.Errorf("the layer is %s, and the configuration %s", digest, config)
	}
}

func TestKeyDependsOnWhatIsBuilt(t *testing.T) {
	keys := map[string]bool{}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(".")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		key, err := (&builder{source: dir}).key()
		if err != nil {
			t.Fatal(err)
		}
		keys[key] = true
		if err := os.WriteFile(filepath.Join(dir, "runtime", "go.sum"), []byte("other"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if len(keys) != 2 {
		t.Errorf("keys: %v", keys)
	}
	if _, err := (&builder{source: t.TempDir()}).key(); err == nil {
		t.Error("a folder without sources has a key")
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	child := exec.Command("true")
	if err := child.Run(); err != nil {
		t.Fatal(err)
	}
	dead, live := fmt.Sprintf("shard-node-%d-1", child.Process.Pid), fmt.Sprintf("shard-node-%d-1", os.Getpid())
	for _, name := range []string{dead, live, "shard-node-other-1"} {
		if err := os.MkdirAll(filepath.Join(dir, name, "etcd"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	sweep(dir)
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if want := []string{filepath.Join(dir, live), filepath.Join(dir, "shard-node-other-1")}; err != nil || !slices.Equal(left, want) {
		t.Errorf("left: %v, want %v; error %v", left, want, err)
	}
}
