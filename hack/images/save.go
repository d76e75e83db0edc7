package main

import (
	"archive/tar"
	"bytes"
	"io"
	"io/fs"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// save writes the image under a name as an OCI layout in a tarball, and returns its digest.
func (b *built) save(path, name string) (v1.Hash, error) {
	digest, err := b.index.Digest()
	if err != nil {
		return digest, err
	}
	dir, err := os.MkdirTemp("", "images-")
	if err != nil {
		return digest, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return digest, err
	}
	err = l.AppendIndex(b.index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name,
	}))
	if err != nil {
		return digest, err
	}
	return digest, pack(path, os.DirFS(dir))
}

// pack puts a folder into a tarball, in the order of the names.
func pack(path string, dir fs.FS) error {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := fs.WalkDir(dir, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		if entry.IsDir() {
			return w.WriteHeader(&tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: epoch, Format: tar.FormatPAX})
		}
		data, err := fs.ReadFile(dir, name)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: epoch, Format: tar.FormatPAX}); err != nil {
			return err
		}
		_, err = io.Copy(w, bytes.NewReader(data))
		return err
	})
	if err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}
