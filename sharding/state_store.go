package sharding

import (
	"bytes"
	"context"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/klog/v2"
)

const (
	// stateSecretType is the type of the Secrets with states.
	stateSecretType corev1.SecretType = "shard.io/state"
	// stateSecretKey is the entry of such a Secret with its part of the state.
	stateSecretKey = "state"

	// Annotations of such a Secret that say what it belongs to.
	stateObjectAnnotation = "shard.io/state-object" // resource/namespace/name
	stateUIDAnnotation    = "shard.io/state-uid"
	stateEpochAnnotation  = "shard.io/state-epoch"
)

// stateStore keeps states that are too large for an annotation in Secrets of the ring's namespace. Their names contain the checksum, so a
// name never stands for anything else.
type stateStore struct {
	client typedcorev1.SecretInterface
	ring   string
}

// write stores the data of an envelope and verifies what the server has made of it. object is "resource/namespace/name". What is
// there already is verified too.
func (s stateStore) write(ctx context.Context, e *envelope, data []byte, object string) error {
	for i := range e.Chunks {
		want := chunk(data, i)
		secret := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Name:   chunkName(e.Secret, i),
				Labels: map[string]string{StateLabel: s.ring},
				Annotations: map[string]string{
					stateObjectAnnotation: object, stateUIDAnnotation: string(e.UID), stateEpochAnnotation: strconv.FormatInt(e.Epoch, 10),
				},
			},
			Type: stateSecretType, Immutable: new(true), Data: map[string][]byte{stateSecretKey: want},
		}
		written, err := s.client.Create(ctx, secret, metav1.CreateOptions{FieldManager: workerFieldManager})
		if apierrors.IsAlreadyExists(err) {
			written, err = s.client.Get(ctx, secret.Name, metav1.GetOptions{})
		}
		switch {
		case apierrors.IsForbidden(err):
			return badState(reasonExport, "writing the Secret %s with the state: %w", secret.Name, err)
		case err != nil:
			return fmt.Errorf("write Secret %s: %w", secret.Name, err)
		case !bytes.Equal(written.Data[stateSecretKey], want):
			return badState(reasonExport, "the Secret %s does not hold what was written", secret.Name)
		}
	}
	return nil
}

// read returns the data of an envelope as it is stored. It reads no more than the envelope says there should be.
func (s stateStore) read(ctx context.Context, e *envelope) ([]byte, error) {
	data := make([]byte, 0, e.Size)
	for i := range e.Chunks {
		name := chunkName(e.Secret, i)
		secret, err := s.client.Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err) || apierrors.IsForbidden(err):
			return nil, badState(reasonSecret, "the Secret %s with part %d of %d of the state: %w", name, i+1, e.Chunks, err)
		case err != nil:
			return nil, fmt.Errorf("read Secret %s: %w", name, err)
		}
		data = append(data, secret.Data[stateSecretKey]...)
		if len(data) > e.Size {
			break // open says what is wrong
		}
	}
	return data, nil
}

// remove deletes the Secrets of a state that nobody needs any more. What can't be deleted is found by the manager.
func (s stateStore) remove(ctx context.Context, e *envelope) {
	if e == nil || e.Secret == "" {
		return
	}
	for i := range e.Chunks {
		if err := s.client.Delete(ctx, chunkName(e.Secret, i), metav1.DeleteOptions{}); ignoreNotFound(err) != nil {
			klog.FromContext(ctx).V(1).Info("Deleting a Secret with a former state failed; the manager will do it", "secret", chunkName(e.Secret, i), "err", err)
		}
	}
}
