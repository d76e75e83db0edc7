package e2enode

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shard-io/shard-controller/internal/timeline"
)

// There are so many Secrets at first, and so many workers from the first rolling update on. With others than these the scenarios last longer.
var (
	count   = flag.Int("secrets", 200, "number of Secrets")
	workers = flag.Int("workers", shipped, "number of workers")
)

// story is the one system that all scenarios are about, one after the other.
type story struct {
	*cluster
	issuer   *issuer
	line     *timeline.Recorder
	journals *journals
	figures  [][2]string
}

// note puts a line into the table at the end.
func (s *story) note(what, format string, args ...any) {
	s.Helper()
	text := fmt.Sprintf(format, args...)
	s.figures = append(s.figures, [2]string{what, text})
	s.Logf("%s: %s", what, text)
}

// TestRealPods goes through the life of an installation. A scenario that fails ends it: the next ones begin where it was to end.
func TestRealPods(t *testing.T) {
	s := &story{cluster: connect(t)}
	begun := time.Now()
	var err error
	s.issuer, err = newIssuer()
	s.must(err)
	_, err = s.kube.CoreV1().Namespaces().Get(t.Context(), namespace, metav1.GetOptions{})
	if err == nil {
		t.Fatalf("there is a namespace %q in this cluster already; the test would uninstall what is in it", namespace)
	}
	_, err = s.kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: site, Labels: map[string]string{"certaudit": "enabled"}},
	}, metav1.CreateOptions{})
	s.must(err)
	s.createSecrets(s.issuer, "site", *count)
	stop := s.watch()
	defer stop()
	defer s.table()
	for _, scenario := range []struct {
		name string
		run  func(*story)
	}{
		{"Install", (*story).install},
		{"AtRest", (*story).atRest},
		{"RollingUpdateOfTheStatefulSet", (*story).rollStatefulSet},
		{"Load", (*story).load},
		{"PodDeleted", (*story).podDeleted},
		{"Evicted", (*story).evicted},
		{"Killed", (*story).killed},
		{"ManagerKilled", (*story).managerKilled},
		{"ManagerRolled", (*story).managerRolled},
		{"TwoVersions", (*story).twoVersions},
		{"Scaled", (*story).scaled},
		{"CutOff", (*story).cutOff},
		{"Refused", (*story).refused},
		{"DefinitionsAgain", (*story).definitionsAgain},
		{"FromStatefulSetToDeployment", (*story).toDeployment},
		{"RollingRestartOfTheDeployment", (*story).rollDeployment},
		{"ScaledByLoad", (*story).scaledByLoad},
		{"Autoscaled", (*story).autoscaled},
		{"Rival", (*story).rival},
		{"Tainted", (*story).tainted},
		{"Drained", (*story).drained},
		{"Overfull", (*story).overfull},
		{"Witnesses", (*story).witnesses},
		{"Uninstall", (*story).uninstall},
	} {
		if !t.Run(scenario.name, func(t *testing.T) {
			outer := s.cluster
			s.cluster = outer.of(t)
			defer func() { s.cluster = outer }()
			scenario.run(s)
		}) {
			s.dump()
			break
		}
	}
	s.note("all of this", "%.0f s", time.Since(begun).Seconds())
}

// watch begins to follow labels and journals; the function that it returns ends that.
func (s *story) watch() func() {
	ctx, cancel := context.WithCancel(context.Background())
	s.line = &timeline.Recorder{
		Client: s.meta, Ring: ringName, Resources: []schema.GroupVersionResource{secrets, configMaps},
		Concerns: func(o *metav1.PartialObjectMetadata) bool { return o.Namespace == site },
	}
	s.journals = &journals{kube: s.kube}
	var watching sync.WaitGroup
	watching.Go(func() { s.line.Run(ctx) })
	watching.Go(func() { s.journals.run(ctx) })
	return func() {
		cancel()
		watching.Wait()
	}
}

// table prints all figures.
func (s *story) table() {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, f := range s.figures {
		fmt.Fprintf(w, "%s\t%s\n", f[0], f[1])
	}
	_ = w.Flush()
	s.Logf("\n%s", &text)
}

// dump shows how things are when a scenario has failed.
func (s *story) dump() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	pods, err := s.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		s.Log(err)
		return
	}
	for n := range pods.Items {
		pod := &pods.Items[n]
		log, _ := s.kube.CoreV1().Pods(namespace).GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(ctx)
		lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(log)), "\n"), func(line string) bool { return strings.HasPrefix(line, "{") })
		s.Logf("--- %s: %s\n%s", pod.Name, why(pod), strings.Join(lines[max(0, len(lines)-15):], "\n"))
	}
	events, err := s.kube.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{})
	if err == nil {
		for _, e := range events.Items[max(0, len(events.Items)-20):] {
			s.Logf("%s %s/%s: %s: %s", e.LastTimestamp.Format(time.TimeOnly), e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Reason, e.Message)
		}
	}
	owners, err := s.owners(ctx)
	s.Logf("owners: %s %v", share(owners), err)
}
