package memapi

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// applier is a server with one Pod, and a way to write to it as several managers.
type applier struct {
	*testing.T
	*Server
}

func newApplier(t *testing.T, again bool) *applier {
	s, err := New(Options{Resources: CoreResources()})
	if err != nil {
		t.Fatal(err)
	}
	if !again {
		for _, table := range s.tables {
			table.apply.before = nil
		}
	}
	return &applier{T: t, Server: s}
}

func (a *applier) send(method, contentType, path, manager, body string) (int, string) {
	query := "?fieldManager=" + manager
	if contentType == "application/apply-patch+yaml" {
		query += "&force=true"
	}
	request, err := http.NewRequest(method, "http://memapi/api/v1/namespaces/ns/pods"+path+query, strings.NewReader(body))
	if err != nil {
		a.Fatal(err)
	}
	request.Header.Set("Content-Type", contentType)
	response, err := a.Client(manager).RoundTrip(request)
	if err != nil {
		a.Fatal(err)
	}
	return response.StatusCode, fmt.Sprint(a.tables[Resource{Version: "v1", Plural: "pods"}.GVR()].objects["ns/p"].data)
}

// randomStatus draws a status: mostly the same fields with other values.
func randomStatus(r *rand.Rand) map[string]any {
	status := map[string]any{"message": fmt.Sprint(r.IntN(3))}
	if r.IntN(12) > 0 {
		status["hostIP"] = fmt.Sprintf("10.0.0.%d", r.IntN(3))
	}
	if r.IntN(20) == 0 {
		status["podIPs"] = []any{map[string]any{"ip": fmt.Sprint(r.IntN(2))}}
	}
	if r.IntN(40) > 0 { // this list is atomic, the one above has keys
		status["hostIPs"] = []any{map[string]any{"ip": fmt.Sprint(r.IntN(2))}, map[string]any{"ip": fmt.Sprint(r.IntN(2))}}[:1+r.IntN(2)]
	}
	var conditions []any
	for _, kind := range []string{"Ready", "Drained"} {
		if r.IntN(16) > 0 {
			conditions = append(conditions, map[string]any{"type": kind, "status": []string{"True", "False"}[r.IntN(2)], "reason": fmt.Sprint(r.IntN(2))})
		}
	}
	if conditions != nil {
		status["conditions"] = conditions
	}
	return status
}

// TestAppliesAgain sends the same random writes to a server that recognises applies which repeat the one before, and to one that does not:
// they must not differ in anything.
func TestAppliesAgain(t *testing.T) {
	short := map[string]int{} // by path
	for seed := range uint64(24) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			fast, slow := newApplier(t, true), newApplier(t, false)
			both := func(method, contentType, path, manager, body string) {
				t.Helper()
				table := fast.tables[Resource{Version: "v1", Plural: "pods"}.GVR()]
				if old := table.objects["ns/p"]; old != nil && contentType == "application/apply-patch+yaml" {
					config, _ := decodeApplied([]byte(body))
					if _, again := table.apply.again(appliedKey{"ns/p", strings.Trim(strings.TrimPrefix(path, "/p"), "/"), manager}, old, bare(config)); again {
						short[path]++
					}
				}
				codeA, a := fast.send(method, contentType, path, manager, body)
				codeB, b := slow.send(method, contentType, path, manager, body)
				if codeA != codeB || a != b {
					t.Fatalf("seed %d, %s %s by %s: %s\n%d %s\n%d %s", seed, method, path, manager, body, codeA, a, codeB, b)
				}
			}
			both("POST", "application/json", "", "maker", `{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}`)
			for range 60 {
				time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond)
				manager := []string{"a", "a", "a", "b", "c"}[r.IntN(5)]
				body, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "p"}, "status": randomStatus(r)})
				if err != nil {
					t.Fatal(err)
				}
				switch r.IntN(9) {
				case 0:
					both("PATCH", "application/merge-patch+json", "/p/status", manager, string(body))
				case 1, 2, 3:
					both("PATCH", "application/apply-patch+yaml", "/p", []string{manager, "s", "s", "s"}[r.IntN(4)], fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","labels":{"l":"%d"}},"spec":{"containers":[{"name":"c","image":"%d",
						"ports":[{"containerPort":%d,"protocol":"TCP","name":"p%d"},{"containerPort":%d,"protocol":"UDP","hostIP":"%d"}]}]}}`,
						r.IntN(3), r.IntN(2), 80+r.IntN(9)/8, r.IntN(2), 80+r.IntN(9)/8, r.IntN(2)))
				default:
					both("PATCH", "application/apply-patch+yaml", "/p/status", manager, string(body))
				}
			}
		})
	}
	if short["/p/status"] < 40 || short["/p"] < 40 {
		t.Errorf("Of the applies, %v were recognised as repetitions: too few to show anything", short)
	}
}
