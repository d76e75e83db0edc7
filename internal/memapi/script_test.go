package memapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"sort"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// A script is a file of blocks: a request line with an optional body below it, "----", and the answer
// that is expected. Blocks are separated by empty lines; lines that start with # are comments.
//
//	POST /api/v1/namespaces/$ns/configmaps    body below
//	PATCH path merge|json|strategic|apply     the kind of patch
//	GET path partial                          asks for PartialObjectMetadata (partiallist: a list of it)
//	WATCH name path                           starts a watch
//	NEXT name 2                               reads two events
//	END name                                  reads on: the watch must end without another event
//	COMPACT                                   makes watches from older revisions impossible
//
// What differs between runs is named in the order of its appearance: $r1 (resourceVersions), $u1
// (uids), $g1 (generated names); $time, $ns; $list and $continue of the last list. Commands use
// the same names.
type script struct {
	t       *testing.T
	client  *http.Client
	host    string
	compact func()
	ns      string
	names   map[string]string // value -> name
	values  map[string]string // name -> value
	watches map[string]*bufio.Reader
	cancel  map[string]context.CancelFunc
}

func newScript(t *testing.T, cfg *rest.Config, ns string, compact func()) *script {
	t.Helper()
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &script{t: t, client: client, host: strings.TrimSuffix(cfg.Host, "/"), ns: ns, compact: compact,
		names: map[string]string{}, values: map[string]string{"$ns": ns},
		watches: map[string]*bufio.Reader{}, cancel: map[string]context.CancelFunc{}}
}

// run executes the script in text and returns it with the answers that it got.
func (s *script) run(text string) string {
	defer func() {
		for _, cancel := range s.cancel {
			cancel()
		}
	}()
	var out []string
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		command, _, isCommand := strings.Cut(block, "\n----")
		if !isCommand {
			out = append(out, strings.TrimSpace(block))
			continue
		}
		out = append(out, strings.TrimSpace(command)+"\n----\n"+strings.TrimSpace(s.execute(command)))
	}
	return strings.Join(out, "\n\n") + "\n"
}

func (s *script) execute(command string) string {
	var lines []string
	for l := range strings.SplitSeq(strings.TrimSpace(command), "\n") {
		if !strings.HasPrefix(l, "#") {
			lines = append(lines, s.expand(l))
		}
	}
	words := strings.Fields(lines[0])
	body := strings.Join(lines[1:], "\n")
	switch words[0] {
	case "COMPACT":
		s.compact()
		return "done"
	case "WATCH":
		return s.open(words[1], words[2], words[3:])
	case "NEXT":
		var n int
		fmt.Sscan(words[2], &n)
		return s.events(words[1], n)
	case "END":
		return s.events(words[1], 1)
	}
	resp, err := s.client.Do(s.request(context.Background(), words, body))
	if err != nil {
		return "error: " + err.Error()
	}
	defer resp.Body.Close()
	return fmt.Sprintf("%d %s", resp.StatusCode, s.render(resp.Body))
}

var patchTypes = map[string]string{"merge": "application/merge-patch+json", "json": "application/json-patch+json",
	"strategic": "application/strategic-merge-patch+json", "apply": "application/apply-patch+yaml"}

func (s *script) request(ctx context.Context, words []string, body string) *http.Request {
	req, err := http.NewRequestWithContext(ctx, words[0], s.host+words[1], strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/json")
	for _, w := range words[2:] {
		switch {
		case w == "partial":
			req.Header.Set("Accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")
		case w == "partiallist":
			req.Header.Set("Accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")
		case patchTypes[w] != "":
			req.Header.Set("Content-Type", patchTypes[w])
		default:
			s.t.Fatalf("script: unknown word %q", w)
		}
	}
	return req
}

func (s *script) open(name, path string, words []string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	s.cancel[name] = cancel
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	words = append([]string{"GET", path + separator + "watch=true"}, words...)
	resp, err := s.client.Do(s.request(ctx, words, ""))
	if err != nil {
		return "error: " + err.Error()
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return fmt.Sprintf("%d %s", resp.StatusCode, s.render(resp.Body))
	}
	s.watches[name] = bufio.NewReader(resp.Body)
	return "200"
}

func (s *script) events(name string, n int) string {
	var out []string
	for range n {
		line, err := s.watches[name].ReadBytes('\n')
		if err != nil {
			out = append(out, "end: "+err.Error())
			break
		}
		var event struct {
			Type   string
			Object json.RawMessage
		}
		if err := json.Unmarshal(line, &event); err != nil {
			s.t.Fatal(err)
		}
		if event.Type == "BOOKMARK" {
			event.Object = regexp.MustCompile(`"resourceVersion":"\d+"`).ReplaceAll(event.Object, []byte(`"resourceVersion":"$$list"`))
		}
		out = append(out, event.Type+" "+s.render(bytes.NewReader(event.Object)))
	}
	return strings.Join(out, "\n")
}

func (s *script) expand(line string) string {
	var names []string
	for name := range s.values {
		names = append(names, name)
	}
	sort.Slice(names, func(i, j int) bool { return len(names[i]) > len(names[j]) })
	for _, name := range names {
		line = strings.ReplaceAll(line, name, s.values[name])
	}
	return line
}

// render reads JSON and writes it with sorted keys and stable names, on one line.
func (s *script) render(r io.Reader) string {
	raw, err := io.ReadAll(r)
	if err != nil {
		return "error: " + err.Error()
	}
	var tree any
	if err := json.Unmarshal(raw, &tree); err != nil {
		return string(raw)
	}
	if m, ok := tree.(map[string]any); ok && m["kind"] == "Status" {
		for _, key := range []string{"kind", "apiVersion", "code", "status"} {
			delete(m, key)
		}
		if meta, ok := m["metadata"].(map[string]any); ok && len(meta) == 0 {
			delete(m, "metadata")
		}
	}
	s.learn(tree)
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(tree); err != nil {
		s.t.Fatal(err)
	}
	return s.rename(strings.TrimSpace(out.String()))
}

// learn names the values in tree that differ between runs.
func (s *script) learn(tree any) {
	switch tree := tree.(type) {
	case []any:
		for _, item := range tree {
			s.learn(item)
		}
	case map[string]any:
		if meta, ok := tree["metadata"].(map[string]any); ok {
			_, isList := tree["items"]
			s.learnMetadata(meta, isList)
		}
		for _, key := range sortedKeys(tree) {
			s.learn(tree[key])
		}
	}
}

func (s *script) learnMetadata(m map[string]any, isList bool) {
	delete(m, "managedFields")
	for key, stable := range map[string]string{"creationTimestamp": "$time", "deletionTimestamp": "$time"} {
		if m[key] != nil {
			m[key] = stable
		}
	}
	if token, ok := m["continue"].(string); ok && token != "" {
		s.values["$continue"], m["continue"] = token, "$continue"
	}
	rv, _ := m["resourceVersion"].(string)
	switch {
	case isList:
		s.values["$list"], m["resourceVersion"] = rv, "$list"
	case rv != "" && rv != "$list":
		m["resourceVersion"] = s.name("r", rv)
	}
	if uid, ok := m["uid"].(string); ok {
		m["uid"] = s.name("u", uid)
	}
	prefix, _ := m["generateName"].(string)
	if name, _ := m["name"].(string); prefix != "" && len(name) == len(prefix)+5 && strings.HasPrefix(name, prefix) {
		s.name("g", name)
	}
}

func (s *script) name(kind, value string) string {
	if name := s.names[kind+value]; name != "" {
		return name
	}
	for n := 1; ; n++ {
		name := fmt.Sprintf("$%s%d", kind, n)
		if s.values[name] == "" {
			s.names[kind+value], s.values[name] = name, value
			return name
		}
	}
}

// rename puts names in the place of long values wherever they stand, in messages too.
func (s *script) rename(text string) string {
	for name, value := range s.values {
		if strings.HasPrefix(name, "$u") || strings.HasPrefix(name, "$g") || name == "$ns" {
			text = strings.ReplaceAll(text, value, name)
		}
	}
	text = regexp.MustCompile(`ResourceVersion in precondition \(\d+\)`).ReplaceAllString(text, "ResourceVersion in precondition (...)")
	text = regexp.MustCompile(`(too old resource version: )\d+ \(\d+\)`).ReplaceAllString(text, "$1... (...)")
	return regexp.MustCompile(`((?:precondition|record) \()\d+\)`).ReplaceAllString(text, "$1...)")
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

func readScript(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
