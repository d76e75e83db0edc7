package process

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
)

const (
	// An answer of the API server is believed for so long: a token that was revoked works for a minute at most, one that was given
	// the right has to wait for ten seconds.
	allowedFor = time.Minute
	deniedFor  = 10 * time.Second

	// maxAnswers bounds how many answers of each kind are remembered. Whoever tries many tokens pushes out no answer for a good one.
	maxAnswers = 256
	// maxReviews is how many requests are asked about at once; more have to come again.
	maxReviews = 4

	reviewTimeout = 10 * time.Second
)

// verdict is what the API server says about a token: the status is that of the answer to its bearer.
type verdict struct {
	status  int
	message string
}

// authorizer lets through who the API server knows and lets get the path. Both questions, TokenReview and SubjectAccessReview, need rights
// of our own: those of the ClusterRole system:auth-delegator.
type authorizer struct {
	kube    kubernetes.Interface
	path    string
	next    http.Handler
	reviews chan struct{}

	mu      sync.Mutex
	allowed answers
	denied  answers
}

func newAuthorizer(kube kubernetes.Interface, path string, next http.Handler) *authorizer {
	return &authorizer{
		kube: kube, path: path, next: next, reviews: make(chan struct{}, maxReviews),
		allowed: answers{ttl: allowedFor}, denied: answers{ttl: deniedFor},
	}
}

func (a *authorizer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if token = strings.TrimSpace(token); token == "" || !strings.EqualFold(scheme, "bearer") {
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, "a bearer token of the API server is required", http.StatusUnauthorized)
		return
	}
	v := a.judge(r.Context(), token)
	if v.status != http.StatusOK {
		if v.status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", "Bearer")
		}
		http.Error(w, v.message, v.status)
		return
	}
	a.next.ServeHTTP(w, r)
}

// judge answers from memory, or asks. That nobody could be asked is not remembered.
func (a *authorizer) judge(ctx context.Context, token string) verdict {
	key := sha256.Sum256([]byte(token)) // no token stays in memory longer than its request
	if v, known := a.remembered(key); known {
		return v
	}
	select {
	case a.reviews <- struct{}{}:
		defer func() { <-a.reviews }()
	default:
		return verdict{http.StatusServiceUnavailable, "too many requests with unknown tokens, try again"}
	}
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	v, err := a.review(ctx, token)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Can't ask the API server who may read metrics; it takes the ClusterRole system:auth-delegator")
		return verdict{http.StatusServiceUnavailable, "the API server could not be asked whether this is allowed"}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if v.status == http.StatusOK {
		a.allowed.add(key, v, time.Now())
	} else {
		a.denied.add(key, v, time.Now())
	}
	return v
}

func (a *authorizer) remembered(key [sha256.Size]byte) (verdict, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if v, known := a.allowed.get(key, time.Now()); known {
		return v, true
	}
	return a.denied.get(key, time.Now())
}

func (a *authorizer) review(ctx context.Context, token string) (verdict, error) {
	who, err := a.kube.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token},
	}, metav1.CreateOptions{})
	if err != nil {
		return verdict{}, fmt.Errorf("create tokenreviews.authentication.k8s.io: %w", err)
	}
	if !who.Status.Authenticated {
		return verdict{http.StatusUnauthorized, "the API server does not know this token"}, nil
	}
	user := who.Status.User
	extra := make(map[string]authorizationv1.ExtraValue, len(user.Extra))
	for name, values := range user.Extra {
		extra[name] = authorizationv1.ExtraValue(values)
	}
	may, err := a.kube.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User: user.Username, Groups: user.Groups, UID: user.UID, Extra: extra,
			NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: a.path, Verb: "get"},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return verdict{}, fmt.Errorf("create subjectaccessreviews.authorization.k8s.io: %w", err)
	}
	if !may.Status.Allowed {
		if may.Status.EvaluationError != "" && !may.Status.Denied {
			return verdict{}, errors.New(may.Status.EvaluationError)
		}
		return verdict{http.StatusForbidden, fmt.Sprintf("%s may not get %s: that takes a ClusterRole with nonResourceURLs [%s], verbs [get]",
			user.Username, a.path, a.path)}, nil
	}
	return verdict{status: http.StatusOK}, nil
}

// answers remembers verdicts for a time, not more than maxAnswers of them. It knows no clock.
type answers struct {
	ttl   time.Duration
	known map[[sha256.Size]byte]answer
}

type answer struct {
	verdict
	until time.Time
}

func (a *answers) get(key [sha256.Size]byte, now time.Time) (verdict, bool) {
	found, known := a.known[key]
	return found.verdict, known && now.Before(found.until)
}

// add makes room, if there is none, by dropping what has expired, or else whatever comes first.
func (a *answers) add(key [sha256.Size]byte, v verdict, now time.Time) {
	if a.known == nil {
		a.known = map[[sha256.Size]byte]answer{}
	}
	if _, known := a.known[key]; !known && len(a.known) >= maxAnswers {
		for old, kept := range a.known {
			if !now.Before(kept.until) {
				delete(a.known, old)
			}
		}
		for old := range a.known {
			if len(a.known) < maxAnswers {
				break
			}
			delete(a.known, old)
		}
	}
	a.known[key] = answer{v, now.Add(a.ttl)}
}
