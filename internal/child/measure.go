//go:build unix

package child

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Memory is what the kernel says about a process, in bytes.
type Memory struct {
	Resident int64 // VmRSS: now
	Peak     int64 // VmHWM: at most, since the start
}

// Memory reads the child's memory from /proc.
func (p *Process) Memory() (Memory, error) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID), "status"))
	if err != nil {
		return Memory{}, fmt.Errorf("child: %w", err)
	}
	m := Memory{}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
		switch {
		case err != nil:
		case name == "VmRSS":
			m.Resident = kib << 10
		case name == "VmHWM":
			m.Peak = kib << 10
		}
	}
	if m.Resident == 0 || m.Peak == 0 {
		return Memory{}, fmt.Errorf("child: /proc says nothing about the memory of process %d", p.PID)
	}
	return m, nil
}

var serving = regexp.MustCompile(`"?Serving (\w+)"?.*address="?(http://[^"\s]+)"?`)

// Address finds in the output where the child serves something ("metrics",
// "probes"): the example programs log that. It is empty as long as it is not known.
func (p *Process) Address(what string) string {
	address := ""
	for line := range strings.Lines(p.Output()) {
		if m := serving.FindStringSubmatch(line); m != nil && m[1] == what {
			address = m[2]
		}
	}
	return address
}

// Metric returns the value of a metric of the child, the sum over its labels.
// One that is absent is an error.
func (p *Process) Metric(ctx context.Context, name string) (float64, error) {
	address := p.Address("metrics")
	if address == "" {
		return 0, fmt.Errorf("child: process %d has not said where it serves metrics", p.PID)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("child: metrics: %w", err)
	}
	defer response.Body.Close()
	sum, found := 0.0, false
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		line := lines.Text()
		end := strings.IndexAny(line, "{ ")
		if end < 0 || line[:end] != name {
			continue
		}
		value := line[strings.LastIndexByte(line, ' ')+1:] // there are no timestamps
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("child: metric %s: %w", name, err)
		}
		sum, found = sum+v, true
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("child: metrics: %w", err)
	}
	if !found {
		return 0, fmt.Errorf("child: process %d has no metric %s", p.PID, name)
	}
	return sum, nil
}

// ResetPeak makes Memory.Peak begin anew with what the child takes now.
func (p *Process) ResetPeak() error {
	err := os.WriteFile(filepath.Join("/proc", strconv.Itoa(p.PID), "clear_refs"), []byte("5"), 0)
	if err != nil {
		return fmt.Errorf("child: %w", err)
	}
	return nil
}
