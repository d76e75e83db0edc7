//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"k8s.io/client-go/kubernetes"
)

// requests are the write requests that an API server has answered since its
// start, by its own count: by "VERB resource" or "VERB resource/subresource".
type requests map[string]int

var (
	requestTotal = regexp.MustCompile(`^apiserver_request_total\{(.*)\} ([0-9.e+]+)$`)
	labelValue   = regexp.MustCompile(`(\w+)="([^"]*)"`)
	writeVerbs   = map[string]bool{"POST": true, "PUT": true, "PATCH": true, "DELETE": true, "APPLY": true, "DELETECOLLECTION": true}
)

// countRequests reads the API server's metrics.
func countRequests(ctx context.Context, client kubernetes.Interface) (requests, error) {
	data, err := client.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return nil, err
	}
	return parseRequests(data)
}

func parseRequests(metrics []byte) (requests, error) {
	counted := requests{}
	for lines := bufio.NewScanner(bytes.NewReader(metrics)); lines.Scan(); {
		match := requestTotal.FindStringSubmatch(lines.Text())
		if match == nil {
			continue
		}
		labels := map[string]string{}
		for _, label := range labelValue.FindAllStringSubmatch(match[1], -1) {
			labels[label[1]] = label[2]
		}
		if !writeVerbs[labels["verb"]] {
			continue
		}
		n, err := strconv.ParseFloat(match[2], 64)
		if err != nil {
			return nil, fmt.Errorf("metric apiserver_request_total: %w", err)
		}
		what := labels["verb"] + " " + labels["resource"]
		if labels["subresource"] != "" {
			what += "/" + labels["subresource"]
		}
		if code := labels["code"]; !strings.HasPrefix(code, "2") {
			what += " (" + code + ")"
		}
		counted[what] += int(n)
	}
	if len(counted) == 0 {
		return nil, errors.New("the API server has counted no writes: its metrics are not as they were")
	}
	return counted, nil
}

// since returns what has been added.
func (r requests) since(before requests) requests {
	added := requests{}
	for what, n := range r {
		if n > before[what] {
			added[what] = n - before[what]
		}
	}
	return added
}
