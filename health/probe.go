package health

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// HealthzHandler answers liveness probes: 200 if no liveness check fails, 503
// otherwise, 404 for a check that does not exist.
//
// Below the path it is mounted at (which is to end in healthz or livez) it has
// one path per check. "?verbose" lists the checks also when all is well, and
// "?exclude=name", which may be repeated, leaves one out.
func (c *Checks) HealthzHandler() http.Handler { return c.handler(&c.liveness) }

// ReadyzHandler answers readiness probes, like HealthzHandler, at readyz.
func (c *Checks) ReadyzHandler() http.Handler { return c.handler(&c.readiness) }

// Install mounts the probes at /healthz, /livez (the same) and /readyz, each
// with the paths of its checks below.
func (c *Checks) Install(mux *http.ServeMux) {
	for path, handler := range map[string]http.Handler{
		"/healthz": c.HealthzHandler(), "/livez": c.HealthzHandler(), "/readyz": c.ReadyzHandler(),
	} {
		mux.Handle(path, handler)
		mux.Handle(path+"/", handler)
	}
}

func (c *Checks) handler(list *[]*runner) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET and HEAD are answered here", http.StatusMethodNotAllowed)
			return
		}
		c.mu.Lock()
		runners := slices.Clone(*list)
		c.mu.Unlock()
		if name := checkName(r.URL.Path); name != "" {
			i := slices.IndexFunc(runners, func(r *runner) bool { return r.name == name })
			if i < 0 {
				http.Error(w, fmt.Sprintf("there is no check %q", name), http.StatusNotFound)
				return
			}
			runners = runners[i : i+1]
		}
		exclude := r.URL.Query()["exclude"]
		runners = slices.DeleteFunc(slices.Clone(runners), func(r *runner) bool { return slices.Contains(exclude, r.name) })
		_, verbose := r.URL.Query()["verbose"]
		answer(w, c.probe(runners), exclude, verbose)
	})
}

// checkName is what follows the probe's own segment in the path.
func checkName(path string) string {
	segments := strings.Split(strings.Trim(path, "/"), "/")
	for i, s := range segments {
		if s == "healthz" || s == "livez" || s == "readyz" {
			return strings.Join(segments[i+1:], "/")
		}
	}
	return ""
}

func answer(w http.ResponseWriter, outcomes []outcome, exclude []string, verbose bool) {
	failed := slices.ContainsFunc(outcomes, func(o outcome) bool { return o.err != nil })
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if failed {
		w.WriteHeader(http.StatusServiceUnavailable)
	} else if !verbose {
		fmt.Fprint(w, "ok")
		return
	}
	for _, o := range outcomes {
		age := ""
		if o.age > 0 {
			age = fmt.Sprintf(" (as of %v ago; running)", o.age.Round(time.Millisecond))
		}
		if o.err != nil {
			fmt.Fprintf(w, "[-]%s failed: %v%s\n", o.name, o.err, age)
		} else {
			fmt.Fprintf(w, "[+]%s ok%s\n", o.name, age)
		}
	}
	for _, name := range exclude {
		fmt.Fprintf(w, "[ ]%q excluded\n", name)
	}
	if failed {
		fmt.Fprintln(w, "check failed")
	} else {
		fmt.Fprintln(w, "check passed")
	}
}
