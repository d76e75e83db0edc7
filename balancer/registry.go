package balancer

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Names of the built-in strategies.
const (
	ConsistentHash = "consistent-hash"
	BoundedLoad    = "bounded-load"
	RoundRobin     = "round-robin"
	LeastLoaded    = "least-loaded"
)

// ErrUnknownStrategy is wrapped by the error of Registry.New for a name that is not registered.
var ErrUnknownStrategy = errors.New("balancer: unknown strategy")

// Registry holds strategies by name. It is safe for concurrent use.
type Registry struct {
	mu        sync.RWMutex
	factories map[string]func() Strategy
}

// NewRegistry returns a registry with the strategies of this package.
func NewRegistry() *Registry {
	return &Registry{factories: map[string]func() Strategy{
		ConsistentHash: func() Strategy { return consistentHash{} },
		BoundedLoad:    func() Strategy { return &boundedLoad{slack: DefaultSlack} },
		RoundRobin:     func() Strategy { return &roundRobin{} },
		LeastLoaded:    func() Strategy { return newLeastLoaded() },
	}}
}

// validName is what the API accepts in spec.loadBalanceStrategy.
var validName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$`)

// Register adds a strategy. The function is called once for each ring that uses it. The name must be one that
// spec.loadBalanceStrategy accepts, and must not be taken.
func (g *Registry) Register(name string, f func() Strategy) error {
	switch {
	case !validName.MatchString(name):
		return fmt.Errorf("balancer: name %q: must be up to 63 lower case letters, digits, '-' or '.', and begin and end with a letter or digit", name)
	case f == nil:
		return fmt.Errorf("balancer: strategy %q: function must not be nil", name)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, taken := g.factories[name]; taken {
		return fmt.Errorf("balancer: name %q: is registered already", name)
	}
	g.factories[name] = f
	return nil
}

// New returns a new value of the strategy, or an error that wraps ErrUnknownStrategy and names those that exist.
func (g *Registry) New(name string) (Strategy, error) {
	g.mu.RLock()
	f := g.factories[name]
	g.mu.RUnlock()
	if f == nil {
		return nil, fmt.Errorf("%w %q: must be one of %s", ErrUnknownStrategy, name, strings.Join(g.Names(), ", "))
	}
	s := f()
	if s == nil {
		return nil, fmt.Errorf("balancer: strategy %q: its function returned nil", name)
	}
	return s, nil
}

// Names returns the names of all strategies in order.
func (g *Registry) Names() []string {
	g.mu.RLock()
	defer g.mu.RUnlock()
	names := make([]string, 0, len(g.factories))
	for name := range g.factories {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
