//go:build unix

package main

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/internal/faults/trial"
	"github.com/shard-io/shard-controller/sharding"
)

// tries is how many times users try each thing, for each round.
const tries = 10

// playUsers has a cluster admin, who is no part of the ring, change owner
// labels, and replace objects by manifests without the labels of the ring.
func playUsers(ctx context.Context, s *stage, out *outcome) error {
	edits := map[string]func(context.Context, string) error{
		"a user changes the owner label": func(ctx context.Context, name string) error {
			patch := metadataPatch(map[string]any{"labels": map[string]string{sharding.OwnerLabel(s.arm.name): s.anchors[2].id}})
			_, err := s.admin.CoreV1().Secrets(s.arm.name).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
			return err
		},
		"a user replaces an object, without its labels": func(ctx context.Context, name string) error {
			_, err := s.admin.CoreV1().Secrets(s.arm.name).Update(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.UpdateOptions{})
			return err
		},
	}
	for what, edit := range edits {
		c := check{What: what + ": refused", Arm: s.arm.name, Unit: "accepted"}
		if !s.arm.server {
			c = check{What: what + ": accepted", Arm: s.arm.name, Unit: "refused"}
		}
		var mu sync.Mutex
		err := parallel(ctx, raceWidth, tries*s.settings.rounds, func(ctx context.Context, i int) error {
			name := fmt.Sprintf("user-%d-0", i)
			from, _ := s.pair(i % 2)
			if err := s.create(ctx, name, from, trial.Idle, trial.Patch); err != nil {
				return err
			}
			err := edit(ctx, name)
			if err != nil && !apierrors.IsForbidden(err) {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			c.N++
			if (err == nil) == s.arm.server {
				c.Bad++
			}
			return s.remove(ctx, name)
		})
		if err != nil {
			return err
		}
		out.checks = append(out.checks, c)
	}
	return nil
}
