package process

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"

	"k8s.io/klog/v2"
)

// certificateInterval is how often it is looked whether the files have changed, at most.
const certificateInterval = time.Second

// certificate is one from two files that may change at any time: each connection gets the latest pair that could be read and fits
// together. It has no goroutine: a connection makes it look.
type certificate struct {
	cert, key string
	interval  time.Duration

	mu     sync.Mutex
	pair   *tls.Certificate
	stamp  string // of the files that were read, whether or not that went well
	looked time.Time
}

// newCertificate returns an error if there is no usable certificate to begin with.
func newCertificate(cert, key string) (*certificate, error) {
	c := &certificate{cert: cert, key: key, interval: certificateInterval, looked: time.Now()}
	var err error
	if c.stamp, err = c.stampNow(); err == nil {
		err = c.load()
	}
	if err != nil {
		return nil, fmt.Errorf("--metrics-tls-cert, --metrics-tls-key: must name a PEM certificate and its key that this process can read: %w", err)
	}
	return c, nil
}

// stampNow changes with the files; those of a mounted Secret are symbolic links that are switched together.
func (c *certificate) stampNow() (string, error) {
	stamp := ""
	for _, path := range []string{c.cert, c.key} {
		info, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		stamp += fmt.Sprintf("%d %d ", info.ModTime().UnixNano(), info.Size())
	}
	return stamp, nil
}

func (c *certificate) load() error {
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err == nil {
		c.pair = &pair
	}
	return err
}

// get is for tls.Config.GetCertificate. What can't be read, or is half written, leaves the former certificate in use.
func (c *certificate) get(ctx context.Context) *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < c.interval {
		return c.pair
	}
	c.looked = time.Now()
	stamp, err := c.stampNow()
	if err == nil && stamp == c.stamp {
		return c.pair
	}
	if err == nil {
		err = c.load()
	}
	logger := klog.FromContext(ctx)
	switch {
	case err == nil:
		logger.Info("Read the changed certificate", "file", c.cert)
	case c.stamp != stamp:
		logger.Error(err, "The changed certificate can't be used; the former one stays in use until the files are right", "file", c.cert)
	}
	c.stamp = stamp
	return c.pair
}
