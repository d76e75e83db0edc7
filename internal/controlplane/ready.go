package controlplane

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// pollInterval is how often a condition of the servers is looked at.
const pollInterval = 50 * time.Millisecond

// eventually calls check until it returns nil, and fails when ctx ends or stop
// closes. The error is then the last one of check, or that of the server.
func eventually(ctx context.Context, s *server, check func(context.Context) error) error {
	whileRunning, stop := context.WithCancel(ctx)
	defer stop()
	go func() { // somebody else may have the port, and never answer
		select {
		case <-s.exited:
			stop()
		case <-whileRunning.Done():
		}
	}()
	for {
		attempt, cancel := context.WithTimeout(whileRunning, 5*time.Second)
		err := check(attempt)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-s.exited:
			return s.exitError()
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w: %w; the end of its log:\n%s", s.name, context.Cause(ctx), err, s.output(10))
		case <-time.After(pollInterval):
		}
	}
}

// exitError explains why a server that should run does not.
func (s *server) exitError() error {
	log := s.output(20)
	if portTaken(log) {
		return fmt.Errorf("%s exited: %w", s.name, errPortTaken)
	}
	return fmt.Errorf("%s exited; the end of its log:\n%s", s.name, log)
}

// answersOK is a check that url is answered with 200.
func answersOK(client *http.Client, url string) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s answered %s: %s", url, resp.Status, body)
		}
		return err
	}
}

// pause waits for one poll interval; false says that ctx has ended.
func pause(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pollInterval):
		return true
	}
}
