//go:build unix

package main

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shard-io/shard-controller/internal/timeline"
)

// startRings starts three workers each for the ring that is measured and for
// the bare one, and a manager for the former.
func (c *cluster) startRings(ctx context.Context, children bool) error {
	for _, name := range []string{ring, bareRing} {
		if err := c.createRing(ctx, name, children && name == ring); err != nil {
			return err
		}
		for i := range 3 {
			if _, err := c.startWorker(name, fmt.Sprintf("w-%d", i+1), children && name == ring); err != nil {
				return err
			}
		}
		if err := c.waitActive(ctx, name, "w-1", "w-2", "w-3"); err != nil {
			return err
		}
	}
	if _, err := c.startManager(); err != nil {
		return err
	}
	return c.waitReady(ctx, 3)
}

// measureAssign compares the manager's assignment of new roots with a bare
// loop. Both find the objects there: they are created in a namespace that the
// ring does not select, and the manager's begins when it does. In both cases,
// three workers get what has been labelled.
func measureAssign(ctx context.Context, c *cluster, s settings) (table, error) {
	t := table{Title: fmt.Sprintf("Assignment of %d new roots", s.objects)}
	if err := c.startRings(ctx, false); err != nil {
		return t, err
	}
	managed, bare := c.record(ring, secrets), c.record(bareRing, secrets)
	var rates, bareRates, delays []float64
	for round := range s.loops {
		for _, manager := range []bool{round%2 == 1, round%2 == 0} { // neither is always the first
			namespace := fmt.Sprintf("bare-%d", round)
			if manager {
				namespace = fmt.Sprintf("managed-%d", round)
			}
			if err := c.createNamespace(ctx, namespace, false); err != nil {
				return t, err
			}
			if err := c.createSecrets(ctx, namespace, 0, s.objects); err != nil {
				return t, err
			}
			begun := time.Now()
			if !manager {
				if _, _, err := c.bareLoop(ctx, namespace, s.objects, 1); err != nil {
					return t, err
				}
				rate, _, err := rateOf(ctx, bare, namespace, s.objects, begun)
				if err != nil {
					return t, err
				}
				bareRates = append(bareRates, rate)
				continue
			}
			if err := c.selectNamespace(ctx, namespace); err != nil {
				return t, err
			}
			rate, delay, err := rateOf(ctx, managed, namespace, s.objects, begun)
			if err != nil {
				return t, err
			}
			rates, delays = append(rates, rate), append(delays, delay)
		}
	}
	t.add("manager", median(rates), "/s", "", fmt.Sprintf("median of %s", list(rates)))
	t.add("bare loop", median(bareRates), "/s", "", fmt.Sprintf("median of %s", list(bareRates)))
	t.add("ratio", median(rates)/median(bareRates), "", "≥ 0.9", fmt.Sprintf("concurrency %d", s.concurrency))
	t.add("from the moment at which they may be assigned to the first label", median(delays), "s", "", "not part of the rate")
	return t, nil
}

func (c *cluster) selectNamespace(ctx context.Context, name string) error {
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:"true"}}}`, selected)
	_, err := c.kube.CoreV1().Namespaces().Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

// rateOf waits until n objects of a namespace have got an owner, and returns how
// many a second did from the first to the last, and when the first did.
func rateOf(ctx context.Context, line *timeline.Recorder, namespace string, n int, begun time.Time) (rate, delay float64, err error) {
	var first, last time.Time
	err = quiet(ctx, line, time.Second, func() error {
		count := 0
		first, last = time.Time{}, time.Time{}
		for _, m := range timeline.Since(line.Moves(secrets.Resource), begun) {
			if m.Name.Namespace != namespace || m.To == "" {
				continue
			}
			count++
			if first.IsZero() || m.At.Before(first) {
				first = m.At
			}
			if m.At.After(last) {
				last = m.At
			}
		}
		if count < n {
			return fmt.Errorf("%d of %d have an owner", count, n)
		}
		return nil
	})
	return float64(n-1) / last.Sub(first).Seconds(), first.Sub(begun).Seconds(), err
}

func list(values []float64) string {
	text := ""
	for i, v := range values {
		if i > 0 {
			text += ", "
		}
		text += number(v)
	}
	return text
}
