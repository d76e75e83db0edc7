package process

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"unicode"

	"sigs.k8s.io/yaml"
)

// ConfigVersion is the apiVersion of configuration files. Within a version fields are added and never change their meaning.
const ConfigVersion = "config.shard.io/v1alpha1"

// maxConfiguration bounds what is read of a file that may be the wrong one.
const maxConfiguration = 1 << 20

// document is the configuration of a program as in its file: the common settings and its own, side by side.
type document struct {
	kind  string
	parts []any // pointers to structs; every field has a name in JSON, and none is left out when it is empty
}

// fields returns the values as they are now.
func (d *document) fields() (map[string]any, error) {
	all := map[string]any{"apiVersion": ConfigVersion, "kind": d.kind}
	for _, part := range d.parts {
		data, err := json.Marshal(part)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(data, &all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// set changes those values that fields has, one by one, so that the error can name the field.
func (d *document) set(fields map[string]any) error {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if err := d.setOne(name, fields[name], func(v any) any { return map[string]any{name: v} }); err != nil {
			return err
		}
	}
	return nil
}

// setOne sets the value at a path, or all that are below it. around puts a value where it belongs in the document.
func (d *document) setOne(path string, value any, around func(any) any) error {
	if section, ok := value.(map[string]any); ok {
		for _, name := range slices.Sorted(maps.Keys(section)) {
			inner := func(v any) any { return around(map[string]any{name: v}) }
			if err := d.setOne(path+"."+name, section[name], inner); err != nil {
				return err
			}
		}
		return nil
	}
	data, err := json.Marshal(around(value))
	if err != nil {
		return err
	}
	for _, part := range d.parts {
		if err := json.Unmarshal(data, part); err != nil {
			if errors.As(err, new(*json.UnmarshalTypeError)) {
				return fmt.Errorf("%s: %v does not fit, must be a whole number", path, value)
			}
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// read sets the values that a file has, and leaves the others. Nothing is ignored: what is misspelt, given twice or of another type is
// an error that names the field.
func (d *document) read(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if len(text) > maxConfiguration {
		return fmt.Errorf("the file has %d bytes, must have at most %d", len(text), maxConfiguration)
	}
	text = bytes.TrimPrefix(text, []byte("---\n"))
	if bytes.Contains(text, []byte("\n---")) {
		return errors.New("the file has several documents, must have one")
	}
	asJSON, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return errors.New(strings.Join(strings.Fields(err.Error()), " ")) // in one line
	}
	var got any
	if err := json.Unmarshal(asJSON, &got); err != nil {
		return err
	}
	known, err := d.fields()
	if err != nil {
		return err
	}
	if err := sameShape("", known, got); err != nil {
		return err
	}
	fields := got.(map[string]any)
	for name, want := range map[string]string{"apiVersion": ConfigVersion, "kind": d.kind} {
		if fields[name] != want {
			return fmt.Errorf("%s: is %v, must be %s", name, orMissing(fields[name]), want)
		}
	}
	return d.set(fields)
}

func orMissing(value any) any {
	if value == nil {
		return "missing"
	}
	return fmt.Sprintf("%q", value)
}

// sameShape says whether everything in got is in known too, under the same name and of the same type. Both are as encoding/json makes them.
func sameShape(path string, known, got any) error {
	if got, want := typeName(got), typeName(known); got != want {
		return fmt.Errorf("%sis %s, must be %s", prefix(path), got, want)
	}
	section, ok := got.(map[string]any)
	if !ok {
		return nil
	}
	names := known.(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(section)) {
		full := strings.TrimPrefix(path+"."+name, ".")
		if _, exists := names[name]; !exists {
			return fmt.Errorf("%s: there is no such field; there are %s", full, strings.Join(slices.Sorted(maps.Keys(names)), ", "))
		}
		if err := sameShape(full, names[name], section[name]); err != nil {
			return err
		}
	}
	return nil
}

func prefix(path string) string {
	if path == "" {
		return "the file "
	}
	return path + ": "
}

func typeName(value any) string {
	switch value.(type) {
	case nil:
		return "empty"
	case string:
		return "a text"
	case bool:
		return "true or false"
	case float64:
		return "a number"
	case []any:
		return "a list"
	}
	return "a section with fields"
}

// merge reads the file, if there is one, below the flags that were given: those win.
func (d *document) merge(set *flag.FlagSet, defaults map[string]any, path string) error {
	if path == "" {
		return nil
	}
	type given struct{ name, value string }
	var flags []given
	set.Visit(func(f *flag.Flag) { flags = append(flags, given{f.Name, f.Value.String()}) })
	if err := d.set(defaults); err != nil {
		return err
	}
	if err := d.read(path); err != nil {
		return fmt.Errorf("--config %s: %w", path, err)
	}
	for _, f := range flags {
		if err := set.Set(f.name, f.value); err != nil {
			return fmt.Errorf("--%s: %w", f.name, err)
		}
	}
	return nil
}

// print returns the values as a file that means the same.
func (d *document) print() ([]byte, error) {
	fields, err := d.fields()
	if err != nil {
		return nil, err
	}
	return yaml.Marshal(fields)
}

// checkFlags holds the rule by which the flag of a field is found: its path, with dashes. An error is a mistake in the program.
func (d *document) checkFlags(set *flag.FlagSet, fields map[string]any) error {
	unnamed := map[string]bool{}
	set.VisitAll(func(f *flag.Flag) { unnamed[f.Name] = true })
	for _, name := range []string{"v", "config", "print-config", "api-version", "kind"} {
		delete(unnamed, name)
	}
	var missing []string
	leaves("", fields, func(path string) {
		if name := flagOf(path); unnamed[name] {
			delete(unnamed, name)
		} else if path != "apiVersion" && path != "kind" {
			missing = append(missing, name)
		}
	})
	slices.Sort(missing)
	if len(missing)+len(unnamed) > 0 {
		return fmt.Errorf("fields without flags %q, flags without fields %q", missing, slices.Sorted(maps.Keys(unnamed)))
	}
	return nil
}

func leaves(path string, value any, visit func(path string)) {
	section, ok := value.(map[string]any)
	if !ok {
		visit(path)
		return
	}
	for name, inner := range section {
		leaves(strings.TrimPrefix(path+"."+name, "."), inner, visit)
	}
}

// flagOf is the flag of the field with this path.
func flagOf(path string) string {
	var b strings.Builder
	for _, r := range path {
		if r == '.' || unicode.IsUpper(r) {
			b.WriteByte('-')
		}
		if r != '.' {
			b.WriteRune(unicode.ToLower(r))
		}
	}
	return b.String()
}
