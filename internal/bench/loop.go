//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/sharding"
)

// creators is how many goroutines create objects.
const creators = 16

// parallel calls f for 0 to n-1 on so many goroutines, and returns the first error.
func parallel(ctx context.Context, goroutines, n int, f func(int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for i := range next {
				if err := f(i); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
feed:
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	all.Wait()
	return context.Cause(ctx)
}

func secretName(i int) string { return fmt.Sprintf("secret-%05d", i) }

// createSecrets creates the Secrets from..to-1 in a namespace.
func (c *cluster) createSecrets(ctx context.Context, namespace string, from, to int) error {
	return parallel(ctx, creators, to-from, func(i int) error { return c.createSecret(ctx, namespace, from+i) })
}

func (c *cluster) createSecret(ctx context.Context, namespace string, i int) error {
	_, err := c.kube.CoreV1().Secrets(namespace).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: secretName(i)}, Data: map[string][]byte{"data": []byte(secretName(i))},
	}, metav1.CreateOptions{})
	return err
}

// barePatches are the label patches that a bare loop sends for one object, in
// the form in which the manager and the workers send them.
func barePatch(version, label, value string, epoch int) []byte {
	return fmt.Appendf(nil, `{"metadata":{"resourceVersion":%q,"labels":{%q:%q},"annotations":{%q:"%d"}}}`,
		version, label, value, sharding.EpochAnnotation(bareRing), epoch)
}

// bareLoop labels all Secrets of a namespace as a manager would that had nothing
// to decide, rounds times each, and returns how long that took without the list.
func (c *cluster) bareLoop(ctx context.Context, namespace string, most, rounds int) (time.Duration, int, error) {
	client := c.meta.Resource(secrets).Namespace(namespace)
	list, err := client.List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, 0, err
	}
	items := list.Items[:min(most, len(list.Items))]
	if len(items) == 0 {
		return 0, 0, errors.New("no objects for the bare loop")
	}
	begun := time.Now()
	err = parallel(ctx, c.settings.concurrency, len(items), func(i int) error {
		version, epoch := items[i].ResourceVersion, int(sharding.EpochOf(&items[i], bareRing)) // an epoch never falls, or a worker restores it
		for round := range rounds {
			patch := barePatch(version, sharding.OwnerLabel(bareRing), fmt.Sprintf("w-%d", (i+round)%3+1), epoch+round+1)
			patched, err := client.Patch(ctx, items[i].Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "bench"})
			if err != nil {
				return err
			}
			version = patched.ResourceVersion
		}
		return nil
	})
	return time.Since(begun), len(items) * rounds, err
}
