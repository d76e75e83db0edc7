package e2enode

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/shard-io/shard-controller/examples/internal/journal"
)

// journals reads the logs of all workers' containers while they are written, and keeps the records in them.
type journals struct {
	kube kubernetes.Interface

	mu      sync.Mutex
	reading map[string]bool // by Pod UID and number of restarts
	records []journal.Record
	errs    []error
}

// run looks for containers that nobody reads yet, until ctx is done and all logs are read to their ends.
func (j *journals) run(ctx context.Context) {
	j.reading = map[string]bool{}
	var readers sync.WaitGroup
	defer readers.Wait()
	for ctx.Err() == nil {
		pods, err := j.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=worker"})
		for n := range pods.Items {
			pod := &pods.Items[n]
			if err != nil || len(pod.Status.ContainerStatuses) == 0 {
				break
			}
			status := pod.Status.ContainerStatuses[0]
			id := fmt.Sprintf("%s %s %d", pod.Name, pod.UID, status.RestartCount)
			if status.State.Running == nil || j.reading[id] {
				continue
			}
			j.reading[id] = true
			readers.Go(func() { j.read(ctx, pod.Name, id) })
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// read follows one log.
func (j *journals) read(ctx context.Context, pod, id string) {
	log, err := j.kube.CoreV1().Pods(namespace).GetLogs(pod, &corev1.PodLogOptions{Follow: true}).Stream(ctx)
	if err != nil {
		if ctx.Err() == nil {
			j.fail(fmt.Errorf("log of %s: %w", id, err))
		}
		return
	}
	defer log.Close()
	in := bufio.NewReader(log)
	for {
		line, err := in.ReadBytes('\n')
		if err == nil && bytes.HasPrefix(line, []byte(`{"t":`)) {
			records, err := journal.Read(bytes.NewReader(line))
			if err != nil {
				j.fail(fmt.Errorf("log of %s: %w", id, err))
				return
			}
			j.mu.Lock()
			j.records = append(j.records, records...)
			j.mu.Unlock()
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && ctx.Err() == nil {
				j.fail(fmt.Errorf("log of %s: %w", id, err))
			}
			return
		}
	}
}

func (j *journals) fail(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.errs = append(j.errs, err)
}

// verdict is what the journals so far prove.
func (j *journals) verdict() (journal.Result, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	result, err := journal.Check(j.records)
	return result, errors.Join(append(j.errs, err)...)
}
