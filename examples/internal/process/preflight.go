package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/generated/clientset/versioned"
)

// oldestServer is the oldest Kubernetes whose API server checks the CustomResourceDefinitions as they are meant: docs/compatibility.md.
var oldestServer = version.MustParseGeneric("1.29.0")

const (
	preflightFirst = time.Second
	preflightLast  = 10 * time.Second
	// preflightRepeat is how often a problem that stays is logged again.
	preflightRepeat = time.Minute
	// preflightTimeout is how long one attempt may take.
	preflightTimeout = 10 * time.Second
)

// Preflight waits until the work can begin: the API server answers and has the CustomResourceDefinitions, and this process may read
// its ShardConfigs. As long as that is not so, the process is not ready, and says in one line what to do; it does not end, as a new process
// would find nothing better.
type Preflight struct {
	namespace string
	shards    versioned.Interface

	mu  sync.Mutex
	err error
}

// NewPreflight talks to nobody.
func NewPreflight(cfg *rest.Config, namespace string) (*Preflight, error) {
	shards, err := versioned.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	return &Preflight{namespace: namespace, shards: shards, err: errors.New("the API server has not been asked yet")}, nil
}

// Check is a readiness check: nil once all is there.
func (p *Preflight) Check(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Then runs work as soon as all is there. It returns nil if ctx is done before.
func (p *Preflight) Then(work func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if !p.wait(ctx) {
			return nil
		}
		return work(ctx)
	}
}

func (p *Preflight) wait(ctx context.Context) bool {
	var said string
	var when time.Time
	for pause := preflightFirst; ; pause = min(2*pause, preflightLast) {
		err := p.look(ctx)
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		if err == nil || ctx.Err() != nil {
			return ctx.Err() == nil
		}
		if err.Error() != said || time.Since(when) >= preflightRepeat {
			said, when = err.Error(), time.Now()
			klog.FromContext(ctx).Error(err, "Waiting before the work can begin")
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
}

// look returns what is in the way, and what to do about it.
func (p *Preflight) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, preflightTimeout)
	defer cancel()
	group := shardv1.SchemeGroupVersion.String()
	configs := p.shards.ShardV1().ShardConfigs(p.namespace)
	_, err := configs.List(ctx, metav1.ListOptions{Limit: 1})
	switch {
	case err == nil:
		p.age(ctx)
		return nil
	case apierrors.IsNotFound(err):
		return fmt.Errorf("the API server has no %s: install the CustomResourceDefinitions with: manager install", group)
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("the API server does not accept the credential: check --kubeconfig, or the ServiceAccount: %w", err)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("a role is missing, bind it to this account: %w", err)
	}
	return fmt.Errorf("the API server does not answer: check that it runs, and --kubeconfig: %w", err)
}

// olderThanSupported returns the version in an answer to /version, if it is too old.
func olderThanSupported(answer []byte) string {
	var info struct {
		GitVersion string `json:"gitVersion"`
	}
	if json.Unmarshal(answer, &info) != nil {
		return ""
	}
	if parsed, err := version.ParseGeneric(info.GitVersion); err != nil || parsed.AtLeast(oldestServer) {
		return ""
	}
	return info.GitVersion
}

// age warns of a server that is too old, and lets the work begin: it may be enough for what is used.
func (p *Preflight) age(ctx context.Context) {
	text, err := p.shards.Discovery().RESTClient().Get().AbsPath("/version").Do(ctx).Raw()
	if err != nil {
		return // who may read ShardConfigs need not be allowed to ask
	}
	if old := olderThanSupported(text); old != "" {
		klog.FromContext(ctx).Error(nil, "The API server is older than this program supports: upgrade it", "version", old, "oldest", "v"+oldestServer.String())
	}
}
