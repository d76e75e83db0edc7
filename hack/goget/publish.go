package goget

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"
)

// published is a module in a proxy.
type published struct {
	module.Version
	files []string // of the zip, without the module's prefix
	mod   *modfile.File
}

// publish puts the module in dir into the folder proxy as a module proxy would serve it once it is released: what it needs of this
// repository it requires in the same version, and it replaces nothing. What git ignores is left out, as is what the go command leaves
// out of every zip: nested modules, and vendored packages.
func publish(proxy, dir, version string) (*published, error) {
	data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return nil, err
	}
	mod, err := modfile.Parse(filepath.Join(dir, "go.mod"), data, nil)
	if err != nil {
		return nil, err
	}
	if data, err = release(mod, version); err != nil {
		return nil, err
	}
	p := &published{Version: module.Version{Path: mod.Module.Mod.Path, Version: version}, mod: mod}
	escaped, err := module.EscapePath(p.Path)
	if err != nil {
		return nil, err
	}
	at := filepath.Join(proxy, filepath.FromSlash(escaped), "@v")
	if err := os.MkdirAll(at, 0o755); err != nil {
		return nil, err
	}
	files, err := tracked(dir)
	if err != nil {
		return nil, err
	}
	licensed := false
	for i, f := range files {
		licensed = licensed || f.Path() == "LICENSE"
		if f.Path() == "go.mod" {
			files[i] = released{f, data}
		}
	}
	if !licensed { // as the go command does: a nested module has the licence of its repository
		top, err := command(dir, nil, "git", "rev-parse", "--show-toplevel")
		if err != nil {
			return nil, err
		}
		files = append(files, file{strings.TrimSpace(top), "LICENSE"})
	}
	var zipped bytes.Buffer
	if err := modzip.Create(&zipped, p.Version, files); err != nil {
		return nil, err
	}
	for _, f := range files {
		p.files = append(p.files, f.Path())
	}
	info := fmt.Sprintf(`{"Version":%q,"Time":%q}`, version, time.Now().UTC().Format(time.RFC3339))
	return p, errors.Join(
		os.WriteFile(filepath.Join(at, "list"), []byte(version+"\n"), 0o644),
		os.WriteFile(filepath.Join(at, version+".info"), []byte(info), 0o644),
		os.WriteFile(filepath.Join(at, version+".mod"), data, 0o644),
		os.WriteFile(filepath.Join(at, version+".zip"), zipped.Bytes(), 0o644),
	)
}

// release rewrites a go.mod: modules of this repository are required in the version that is published, instead of replaced by folders.
func release(mod *modfile.File, version string) ([]byte, error) {
	for _, r := range mod.Replace {
		if !modfile.IsDirectoryPath(r.New.Path) {
			continue
		}
		if err := errors.Join(mod.AddRequire(r.Old.Path, version), mod.DropReplace(r.Old.Path, r.Old.Version)); err != nil {
			return nil, err
		}
	}
	mod.Cleanup()
	return mod.Format()
}

// released is a go.mod with other contents.
type released struct {
	modzip.File
	data []byte
}

func (r released) Open() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(r.data)), nil }

func (r released) Lstat() (os.FileInfo, error) {
	info, err := r.File.Lstat()
	return sized{info, int64(len(r.data))}, err
}

type sized struct {
	os.FileInfo
	size int64
}

func (s sized) Size() int64 { return s.size }

// tracked returns the files of the module in dir that git knows or would add, without those of nested modules.
func tracked(dir string) ([]modzip.File, error) {
	out, err := command(dir, nil, "git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
	if err != nil {
		return nil, err
	}
	names := strings.Split(strings.TrimSuffix(out, "\x00"), "\x00")
	var nested []string
	for _, name := range names {
		if folder, isMod := strings.CutSuffix(name, "/go.mod"); isMod {
			nested = append(nested, folder+"/")
		}
	}
	var files []modzip.File
next:
	for _, name := range names {
		for _, folder := range nested {
			if strings.HasPrefix(name, folder) {
				continue next
			}
		}
		if info, err := os.Lstat(filepath.Join(dir, name)); err != nil || !info.Mode().IsRegular() {
			continue // deleted, but not yet from the index
		}
		files = append(files, file{dir, name})
	}
	return files, nil
}

// file is a file of a module, in the form that the zip is made of.
type file struct{ dir, name string }

func (f file) Path() string                 { return f.name }
func (f file) Lstat() (os.FileInfo, error)  { return os.Lstat(filepath.Join(f.dir, f.name)) }
func (f file) Open() (io.ReadCloser, error) { return os.Open(filepath.Join(f.dir, f.name)) }

// command runs a program in dir and returns what it printed. An error has what it said.
func command(dir string, env []string, name string, args ...string) (string, error) {
	c := exec.Command(name, args...)
	c.Dir, c.Env = dir, append(os.Environ(), env...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s in %s: %w\n%s%s", name, strings.Join(args, " "), dir, err, out, &stderr)
	}
	return string(out), nil
}
