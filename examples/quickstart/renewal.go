//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/shard-io/shard-controller/examples/worker/certaudit"
)

// renewal replaces certificates, one after the other and again and again, as many per second as it is told to: each is a new audit for the
// worker that has it.
type renewal struct {
	kube      kubernetes.Interface
	namespace string
	secrets   int

	cancel  context.CancelFunc
	workers sync.WaitGroup
	count   atomic.Int64
	failed  atomic.Pointer[error]
}

// renewalHands is how many certificates are replaced at once at most.
const renewalHands = 8

// start begins, and returns at once.
func (r *renewal) start(ctx context.Context, perSecond int) error {
	from, err := newIssuer(time.Now())
	if err != nil {
		return err
	}
	renewing := ctx // what has been sent is not taken back by stop
	ctx, r.cancel = context.WithCancel(ctx)
	next := make(chan int)
	r.workers.Go(func() {
		defer close(next)
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			select {
			case <-ctx.Done():
				return
			case next <- i % r.secrets:
			}
		}
	})
	for range renewalHands {
		r.workers.Go(func() {
			for i := range next {
				if err := r.renew(renewing, from, i); err != nil && renewing.Err() == nil {
					r.failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	return nil
}

// renew replaces the i-th certificate by one with as much time left.
func (r *renewal) renew(ctx context.Context, from *issuer, i int) error {
	secret, err := from.secret(i, time.Now())
	if err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"data": secret.Data})
	if err != nil {
		return err
	}
	_, err = r.kube.CoreV1().Secrets(r.namespace).Patch(ctx, secret.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
	if err == nil {
		r.count.Add(1)
	}
	return err
}

// stop ends it, and returns how many certificates were replaced.
func (r *renewal) stop() (count int64, err error) {
	if r.cancel == nil {
		return 0, nil
	}
	r.cancel()
	r.workers.Wait()
	if failed := r.failed.Load(); failed != nil {
		err = fmt.Errorf("renewing certificates: %w", *failed)
	}
	return r.count.Load(), err
}

// outdatedReports counts the Secrets whose report is about another certificate than the one that they have.
func outdatedReports(ctx context.Context, kube kubernetes.Interface, namespace string) (int, error) {
	secrets, err := kube.CoreV1().Secrets(namespace).List(ctx, metav1.ListOptions{LabelSelector: wantedLabel})
	if err != nil {
		return 0, err
	}
	configMaps, err := kube.CoreV1().ConfigMaps(namespace).List(ctx, metav1.ListOptions{LabelSelector: certaudit.SeverityLabel})
	if err != nil {
		return 0, err
	}
	reported := map[string]string{}
	for _, c := range configMaps.Items {
		var report certaudit.Report
		if err := json.Unmarshal([]byte(c.Data[certaudit.ReportKey]), &report); err != nil {
			return 0, fmt.Errorf("report %s: %w", c.Name, err)
		}
		reported[c.Name] = report.Fingerprint
	}
	n := 0
	for _, s := range secrets.Items {
		is := certaudit.Audit(certaudit.Bundle{Certificate: s.Data[corev1.TLSCertKey], Key: s.Data[corev1.TLSPrivateKeyKey], CA: s.Data["ca.crt"]}, time.Now())
		if reported[certaudit.ReportName(s.Name)] != is.Fingerprint {
			n++
		}
	}
	return n, nil
}
