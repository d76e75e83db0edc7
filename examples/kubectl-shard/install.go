package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"

	"github.com/shard-io/shard-controller/examples/internal/install"
)

func installCommand() *command {
	c := &install.Command{}
	return &command{
		name: "install", least: 0, most: 0,
		short: "Install the CustomResourceDefinitions, and the fences of the rings of a namespace",
		long: "It can be repeated, and upgrades what is there. The fence of a ring can be installed once its ShardConfig is there. It needs the rights of an\n" +
			"administrator: get and patch customresourcedefinitions, validatingadmissionpolicies, mutatingadmissionpolicies and their bindings.",
		flags: c.Register,
		run: func(ctx context.Context, s *session, _ []string) error {
			c.Namespace, c.Ring, c.Out = s.cluster.namespace, s.ring, s.stdout
			if in, name, qualified := strings.Cut(s.ring, "/"); qualified {
				c.Namespace, c.Ring = in, name
			}
			if err := c.Validate(); err != nil {
				return usageError{err.Error()}
			}
			c.Say = func(message string, keysAndValues ...any) {
				s.progress.note("%s", sentence(message, keysAndValues))
			}
			err := c.Run(ctx, func() (*rest.Config, error) { return s.cfg, nil })
			switch {
			case errors.As(err, new(*install.FlagError)):
				return usageError{err.Error()}
			case apierrors.IsForbidden(err):
				return fmt.Errorf("not allowed, this needs an administrator: %w", err)
			}
			return err
		},
	}
}

// sentence is "Message: key value, key value".
func sentence(message string, keysAndValues []any) string {
	var parts []string
	for i := 0; i+1 < len(keysAndValues); i += 2 {
		parts = append(parts, fmt.Sprintf("%v %v", keysAndValues[i], keysAndValues[i+1]))
	}
	if len(parts) == 0 {
		return message
	}
	return message + ": " + strings.Join(parts, ", ")
}
