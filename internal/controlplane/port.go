package controlplane

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
)

// Ports are chosen below those that Linux (32768) and macOS (49152) give to
// outgoing connections, so that an API server that is down for a while finds
// its port free when it comes back.
const (
	firstPort = 20000
	lastPort  = 32000
)

// errPortTaken says that somebody else bound the port between our choosing it
// and the server's binding it.
var errPortTaken = errors.New("the port has been taken by another process")

// freePort returns a port of 127.0.0.1 that nobody listens on just now.
func freePort() (int, error) {
	var last error
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		l, err := net.Listen("tcp", address(port))
		if err != nil {
			last = err
			continue
		}
		return port, l.Close()
	}
	return 0, fmt.Errorf("controlplane: no free port between %d and %d: %w", firstPort, lastPort, last)
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// onFreePort starts a server on a free port, and on another one if that was
// stolen.
func onFreePort(start func(port int) error) error {
	var err error
	for range 5 {
		var port int
		if port, err = freePort(); err != nil {
			return err
		}
		if err = start(port); !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return err
}

// portTaken reads from a server's log whether that is why it exited.
func portTaken(log string) bool { return strings.Contains(log, "address already in use") }
