package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/shard-io/shard-controller/examples/internal/pki"
	"github.com/shard-io/shard-controller/examples/worker/certaudit"
	"github.com/shard-io/shard-controller/sharding"
)

// historyChurn is a ring whose shards come and go while certificates are replaced, cross thresholds, Events expire and reports are deleted.
type historyChurn struct {
	*system
	random  *rand.Rand
	ca      *pki.Authority
	workers map[string]*process
	started int
	certs   map[string][]string // by Secret, the fingerprints that were put in
	rotated map[string]time.Time
	killed  map[string]time.Time

	mu   sync.Mutex
	said map[string]said // Events about certificates by name
	more []string        // that were created again
}

// said is what is known of an Event about a certificate.
type said struct {
	about types.UID
	by    string
	at    time.Time
}

// unsaved is how long before its death a worker may have created an Event without having had the time to write that down.
const unsaved = 3 * time.Second

// E2E_CHURN says how long it is to last.
func TestHistoriesSurviveChurnOfProcesses(t *testing.T) {
	t.Parallel()
	duration := 40 * time.Second
	if text := os.Getenv("E2E_CHURN"); text != "" {
		var err error
		if duration, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	c := &historyChurn{
		system: newSystem(t), random: rand.New(rand.NewPCG(1, 2)), workers: map[string]*process{},
		certs: map[string][]string{}, rotated: map[string]time.Time{}, said: map[string]said{}, killed: map[string]time.Time{},
	}
	var err error
	c.ca, err = pki.NewRoot("churn", pki.Validity{NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(9, 0, 0)})
	c.must(err)
	stop := c.followEvents()
	defer stop()
	c.startManager("manager-0")
	for range 3 {
		c.join()
	}
	for i := range 40 {
		c.rotate(fmt.Sprintf("tls-%03d", i))
	}
	c.settled(c.live()...)
	for begun := time.Now(); time.Since(begun) < duration; time.Sleep(time.Second) {
		c.strike()
	}
	// A report that was deleted comes back with the next audit of its Secret, so not all of them are there now.
	c.eventually("everything belongs to who is left", c.ownedBy(c.live()...))
	c.eventually("every owner knows all certificates and all Events of its Secrets", c.complete)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range c.more {
		t.Errorf("the Event %s was created again", name)
	}
	t.Logf("%d Secrets, %d workers in all, %d Events", len(c.certs), c.started, len(c.said))
}

// followEvents notes every Event about a certificate until stop is called.
func (c *historyChurn) followEvents() (stop func()) {
	ctx, cancel := context.WithCancel(c.t.Context())
	events, err := c.kube.EventsV1().Events(c.ns).Watch(ctx, metav1.ListOptions{})
	c.must(err)
	var following sync.WaitGroup
	following.Go(func() {
		for event := range events.ResultChan() {
			e, ok := event.Object.(*eventsv1.Event)
			if !ok || event.Type != watch.Added || e.ReportingController != certaudit.ReportingController {
				continue
			}
			c.mu.Lock()
			if _, again := c.said[e.Name]; again {
				c.more = append(c.more, e.Name)
			}
			c.said[e.Name] = said{e.Regarding.UID, e.ReportingInstance, e.EventTime.Time}
			c.mu.Unlock()
		}
	})
	return func() { cancel(); following.Wait() }
}

func (c *historyChurn) join() {
	c.started++
	id := fmt.Sprintf("w-%d", c.started)
	c.workers[id] = c.startWorker(id)
}

func (c *historyChurn) live() []string {
	var ids []string
	for id := range c.workers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// strike makes something happen.
func (c *historyChurn) strike() {
	ids := c.live()
	victim := ids[c.random.IntN(len(ids))]
	switch kind := c.random.IntN(12); {
	case len(ids) < 3 || kind == 0 && len(ids) < 4:
		c.join()
	case kind == 1:
		c.workers[victim].terminate()
		delete(c.workers, victim)
	case kind == 2:
		c.workers[victim].Kill()
		c.killed[victim] = time.Now()
		delete(c.workers, victim)
	case kind == 3: // somebody asks for moves, and takes some of it back
		for i := range 10 {
			c.drain(fmt.Sprintf("tls-%03d", c.random.IntN(40)), map[bool]string{true: ids[i%len(ids)]}[i%3 > 0])
		}
	}
	for range 3 {
		if name := fmt.Sprintf("tls-%03d", c.random.IntN(40)); time.Since(c.rotated[name]) > 5*lease {
			c.rotate(name)
		}
	}
	_ = c.kube.CoreV1().ConfigMaps(c.ns).Delete(c.t.Context(), certaudit.ReportName(fmt.Sprintf("tls-%03d", c.random.IntN(40))), metav1.DeleteOptions{})
	events, err := c.kube.EventsV1().Events(c.ns).List(c.t.Context(), metav1.ListOptions{})
	c.must(err)
	for _, event := range events.Items {
		if event.ReportingController == certaudit.ReportingController && time.Since(event.EventTime.Time) > 4*lease {
			_ = c.kube.EventsV1().Events(c.ns).Delete(c.t.Context(), event.Name, metav1.DeleteOptions{}) // as the server does after an hour
		}
	}
}

// drain asks for a hand-over, or takes the request back; target may be empty.
func (c *historyChurn) drain(name, target string) {
	value := "null"
	if target != "" {
		value = fmt.Sprintf("%q", target)
	}
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, sharding.DrainLabel(c.ring), value)
	_, err := c.asManager().CoreV1().Secrets(c.ns).Patch(c.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	c.must(err)
}

// rotate puts a certificate into a Secret that has just crossed a threshold, or will in a moment.
func (c *historyChurn) rotate(name string) {
	left := []time.Duration{0, certaudit.Day, 7 * certaudit.Day, 30 * certaudit.Day, 90 * certaudit.Day}[c.random.IntN(5)]
	expires := time.Now().Add(left + time.Duration(c.random.IntN(40)-5)*time.Second)
	cert, key, err := c.ca.Issue(pki.Validity{NotBefore: time.Now().Add(-time.Hour), NotAfter: expires}, name+".example")
	c.must(err)
	data := map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key, "ca.crt": c.ca.PEM()}
	if c.certs[name] == nil {
		secret := c.newSecret(name)
		secret.Data = data
		c.create(secret)
	} else {
		patch, err := json.Marshal(map[string]any{"data": data})
		c.must(err)
		_, err = c.kube.CoreV1().Secrets(c.ns).Patch(c.t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{})
		c.must(err)
	}
	report := certaudit.Audit(certaudit.Bundle{Certificate: cert, Key: key, CA: c.ca.PEM()}, time.Now())
	c.certs[name] = append(c.certs[name], report.Fingerprint)
	c.rotated[name] = time.Now()
}

// complete looks at the checkpoints of all Secrets: each has to be of the present owner, and to know everything.
func (c *historyChurn) complete() error {
	list, err := c.kube.CoreV1().Secrets(c.ns).List(c.t.Context(), metav1.ListOptions{LabelSelector: "app=e2e"})
	if err != nil {
		return err
	}
	if len(list.Items) != len(c.certs) {
		return fmt.Errorf("there are %d Secrets, want %d", len(list.Items), len(c.certs))
	}
	for i := range list.Items {
		if err := c.completeFor(&list.Items[i]); err != nil {
			return fmt.Errorf("%s: %w", list.Items[i].Name, err)
		}
	}
	return nil
}

func (c *historyChurn) completeFor(secret *corev1.Secret) error {
	var state struct {
		Epoch int64  `json:"epoch"`
		Data  []byte `json:"data"`
	}
	var history certaudit.History
	text := secret.Annotations[sharding.StateAnnotation(c.ring)]
	if err := json.Unmarshal([]byte(text), &state); err != nil {
		return fmt.Errorf("state %q: %w", text, err)
	}
	if epoch := sharding.EpochOf(secret, c.ring); state.Epoch != epoch {
		return fmt.Errorf("the state is of epoch %d, the object of %d", state.Epoch, epoch)
	}
	if err := json.Unmarshal(state.Data, &history); err != nil {
		return err
	}
	var have []string
	for _, r := range history.Rotations {
		have = append(have, r.Fingerprint)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	events, excused := 0, 0
	for _, e := range c.said {
		if e.about != secret.UID {
			continue
		}
		events++
		if died, ok := c.killed[e.by]; ok && died.Sub(e.at) < unsaved {
			excused++
		}
	}
	return firstError(
		want(slices.Equal(have, c.certs[secret.Name]), "certificates %.6q, want %.6q", have, c.certs[secret.Name]),
		want(len(history.Alerts) <= events && len(history.Alerts) >= events-excused, "%d Events in the history, there were %d, %d of them right before a kill",
			len(history.Alerts), events, excused))
}
