package shardtest_test

import (
	"context"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/sharding/shardtest"
)

func TestAssignAndMove(t *testing.T) {
	each(t, func(w *world) {
		root := w.secret("o", nil)
		w.child("c1", root)
		w.child("c2", root)
		w.secret("other", nil)
		_, stopA := w.start("a")
		defer stopA()
		_, stopB := w.start("b")
		defer stopB()
		w.must(w.ring.Assign(secrets, named("o"), "a"))
		w.await("a: o has 2 at epoch 1")
		w.must(w.ring.Move(w.ctx, secrets, named("o"), "b"))
		w.await("b: o has 2 at epoch 2")
		w.must(w.ring.Move(w.ctx, secrets, named("o"), "nobody"))
		if owner, epoch := w.ring.Owner(secrets, named("o")); owner != "nobody" || epoch != 3 {
			w.Errorf("it is with %q at epoch %d", owner, epoch)
		}
		w.must(w.ring.Move(w.ctx, secrets, named("o"), "nobody")) // it is there
		w.must(w.ring.Assign(secrets, named("o"), "a"))
		w.await("a: o has 2 at epoch 4")
		w.must(w.kube.CoreV1().Secrets("ns").Delete(w.ctx, "o", metav1.DeleteOptions{}))
		w.await("a: o is deleted")
		if owner, epoch := w.ring.Owner(secrets, named("other")); owner != "" || epoch != 0 {
			w.Errorf("an object that nobody was given is with %q at epoch %d", owner, epoch)
		}
	})
}

func TestAssignAgainRaisesTheEpoch(t *testing.T) {
	each(t, func(w *world) {
		w.secret("o", nil)
		_, stop := w.start("a")
		defer stop()
		w.must(w.ring.Assign(secrets, named("o"), "a"))
		w.await("a: o has 0 at epoch 1")
		w.must(w.ring.Assign(secrets, named("o"), "a"))
		w.await("a: o has 0 at epoch 2")
	})
}

// TestTheOperatorIsInterrupted: the causes that a reconcile hears of, each brought about by the test.
func TestTheOperatorIsInterrupted(t *testing.T) {
	each(t, func(w *world) {
		_, stop := w.start("a")
		defer stop()
		w.secret("drained", map[string]string{"hold": "yes"})
		w.must(w.ring.Assign(secrets, named("drained"), "a"))
		w.await("a: drained has 0 at epoch 1")
		w.must(w.ring.Move(w.ctx, secrets, named("drained"), "elsewhere"))
		w.await("a: drained interrupted: the object is to be handed over to another shard")

		w.secret("taken", map[string]string{"hold": "yes"})
		w.must(w.ring.Assign(secrets, named("taken"), "a"))
		w.await("a: taken has 0 at epoch 1")
		w.must(w.ring.Assign(secrets, named("taken"), "elsewhere"))
		w.await("a: taken interrupted: this shard does not own the object any more")

		w.secret("alone", map[string]string{"hold": "yes"})
		w.must(w.ring.Assign(secrets, named("alone"), "a"))
		w.await("a: alone has 0 at epoch 1")
		w.server.Actor("a").Cut()
		w.await("a: alone interrupted: health: the right to act has ended: the Lease was not renewed in time or is held by another")
		w.server.Actor("a").Mend()
		w.await("a: alone has 0 at epoch 1") // by itself
	})
}

func TestMoveThatDoesNotHappen(t *testing.T) {
	each(t, func(w *world) {
		w.secret("o", nil)
		w.must(w.ring.Assign(secrets, named("o"), "nobody"))
		ctx, cancel := context.WithTimeout(w.ctx, 50*time.Millisecond)
		defer cancel()
		err := w.ring.Move(ctx, secrets, named("o"), "a")
		if want := `shard "nobody" has not handed it over: context deadline exceeded`; err == nil || !strings.Contains(err.Error(), want) {
			w.Errorf("got %v, want %q", err, want)
		}
	})
}

func TestRingMistakes(t *testing.T) {
	server, err := shardtest.NewServer(shardtest.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	config := func(name, namespace string, targets ...shardv1.Target) *shardv1.ShardConfig {
		return &shardv1.ShardConfig{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}, Spec: shardv1.ShardConfigSpec{Targets: targets}}
	}
	secrets := shardv1.Target{Resource: "secrets"}
	for name, c := range map[string]struct {
		server *shardtest.Server
		config *shardv1.ShardConfig
		want   string
	}{
		"no server":              {nil, config("r", "ns", secrets), "a server and a ShardConfig are required"},
		"no config":              {server, nil, "a server and a ShardConfig are required"},
		"no name":                {server, config("", "ns", secrets), "ring: "},
		"a name that is none":    {server, config("a.b", "ns", secrets), `"a.b"`},
		"no namespace":           {server, config("r", "", secrets), "metadata.namespace and spec.targets are required"},
		"no targets":             {server, config("r", "ns"), "metadata.namespace and spec.targets are required"},
		"a target that is not":   {server, config("r", "ns", shardv1.Target{Group: "acme.org", Resource: "widgets"}), "the server has no widgets.acme.org"},
		"children that are not":  {server, config("r", "ns", shardv1.Target{Resource: "secrets", Controlled: []shardv1.ControlledResource{{Resource: "things"}}}), "the server has no things"},
		"one that is there, too": {server, config("there", "ns", secrets), "already exists"},
	} {
		if name == "one that is there, too" {
			if _, err := shardtest.NewRing(c.server, c.config); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := shardtest.NewRing(c.server, c.config); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestWordsForWhatIsNotThere(t *testing.T) {
	each(t, func(w *world) {
		w.secret("o", nil)
		pods := schema.GroupResource{Resource: "pods"}
		for name, c := range map[string]struct {
			err  error
			want string
		}{
			"assign no target":     {w.ring.Assign(pods, named("o"), "a"), `"auditor": pods is not one of its targets`},
			"assign nothing":       {w.ring.Assign(secrets, named("x"), "a"), `"x" not found`},
			"assign to no name":    {w.ring.Assign(secrets, named("o"), "A_"), `"A_"`},
			"move of no target":    {w.ring.Move(w.ctx, pods, named("o"), "a"), `"auditor": pods is not one of its targets`},
			"move nothing":         {w.ring.Move(w.ctx, secrets, named("x"), "a"), `"x" not found`},
			"move to what is none": {w.ring.Move(w.ctx, secrets, named("o"), ""), `shard ID ""`},
		} {
			if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
				w.Errorf("%s: got %v, want %q", name, c.err, c.want)
			}
		}
	})
}
