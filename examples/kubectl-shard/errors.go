package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// Exit codes, for scripts.
const (
	exitOK    = 0
	exitFound = 1 // something is not as it should be
	exitUsage = 2
	exitFault = 3 // the API server could not be reached, or did not allow what was needed
)

// errFound: something is not as it should be. errSaid: and it has been printed already.
var (
	errFound = errors.New("something is not as it should be")
	errSaid  = fmt.Errorf("%w", errFound)
)

// found is an error that ends with exitFound and a message.
func found(format string, args ...any) error { return foundError{fmt.Sprintf(format, args...)} }

type foundError struct{ text string }

func (e foundError) Error() string { return e.text }
func (e foundError) Unwrap() error { return errFound }

// usageError is one that only another command line can mend.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

func exitCode(err error) int {
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, new(usageError)):
		return exitUsage
	case errors.Is(err, errFound):
		return exitFound
	}
	return exitFault
}

// request says what was asked of the API server, for the case that it says no.
type request struct {
	verb      string
	resource  schema.GroupResource
	namespace string // "": all of them, or none
	name      string // "": more than one
}

func (r request) where() string {
	if r.namespace == "" {
		return "in the whole cluster"
	}
	return fmt.Sprintf("in namespace %q", r.namespace)
}

// failed says of an error of the API server what was wanted, and what would help. It is nil for nil.
func (r request) failed(err error) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsForbidden(err):
		return fmt.Errorf("not allowed: you need the verb %q on %q %s: %w", r.verb, r.resource, r.where(), err)
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("the API server does not accept these credentials: %w", err)
	case apierrors.IsNotFound(err) && r.name != "" && !unknownResource(err):
		return usagef("there is no %s %q %s", r.resource, r.name, r.where())
	case apierrors.IsNotFound(err) && r.resource.Group == shardv1.GroupName:
		return fmt.Errorf("the API server does not know %s: kubectl shard install installs the definitions", r.resource)
	case apierrors.IsInvalid(err) || apierrors.IsBadRequest(err):
		return usagef("%s", err)
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	}
	if unreachable, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Errorf("the API server can't be reached: %w", unreachable)
	}
	return fmt.Errorf("%s %s %s: %w", r.verb, r.resource, r.where(), err)
}

// unknownResource says whether it is the resource that was not found, and not the object.
func unknownResource(err error) bool {
	status, ok := errors.AsType[*apierrors.StatusError](err)
	return ok && (status.Status().Details == nil || status.Status().Details.Name == "")
}
