// Package promquery measures by queries to a Prometheus server, for scaling.
//
// It promises that a metric is what one query returned in this very call, with the time at which the server evaluated it. Whatever else the server
// does (an error, a warning, no series, several series, an answer of more than a megabyte, none at all) is an error that names the query.
//
// It does not promise that what the server has is recent: for five minutes an instant query finds a series that is no longer scraped.
package promquery

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/api"
	prometheusv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"k8s.io/client-go/rest"

	"github.com/shard-io/shard-controller/sharding"
	"github.com/shard-io/shard-controller/sharding/scaling"
)

// Server says how to reach a Prometheus server, or what answers like one.
type Server struct {
	// Address is its URL, http or https.
	Address string
	// CA is a file with the certificates that its own is checked against; "" for those of the system.
	CA string
	// Token is a file with a bearer token, which is read again every minute; "" for none.
	Token string
}

// Query is one metric of a ring.
type Query struct {
	// Ring is what is scaled by it.
	Ring string `json:"ring"`
	// Name tells the metrics of a ring apart.
	Name string `json:"name"`
	// Query is in PromQL. Its result must be a number, or a single series.
	Query string `json:"query"`
	// Target is what the result should be: per shard, also if it is a Total over all shards. Above 0.
	Target float64 `json:"target"`
	Total  bool    `json:"total"`
}

// Validate says what is wrong with a query, naming the field.
func (q Query) Validate() error {
	if err := sharding.ValidateRing(q.Ring); err != nil {
		return fmt.Errorf("ring: %w", err)
	}
	switch {
	case q.Name == "" || len(q.Name) > 63:
		return fmt.Errorf("name: %q must have 1 to 63 characters", q.Name)
	case q.Query == "":
		return errors.New("query: must not be empty")
	case !(q.Target > 0) || q.Target > 1e15:
		return fmt.Errorf("target: %v, must be a number above 0", q.Target)
	}
	return nil
}

// maxAnswer is how many bytes of an answer are read.
const maxAnswer = 1 << 20

// source asks for the metrics of one ring.
type source struct {
	client  prometheusv1.API
	queries []Query
	now     func() time.Time
}

// New returns the sources by ring, or an error that names the wrong setting. It talks to nobody.
func New(server Server, queries []Query) (map[string]scaling.MetricSource, error) {
	if len(queries) == 0 {
		return nil, nil
	}
	address, err := url.Parse(server.Address)
	if err != nil || address.Scheme != "http" && address.Scheme != "https" || address.Host == "" {
		return nil, fmt.Errorf("address: %q is no URL with http or https", server.Address)
	}
	transport, err := rest.TransportFor(&rest.Config{
		Host: server.Address, BearerTokenFile: server.Token, TLSClientConfig: rest.TLSClientConfig{CAFile: server.CA},
	})
	if err != nil {
		return nil, err
	}
	client, err := api.NewClient(api.Config{Address: server.Address, RoundTripper: limited{transport}})
	if err != nil {
		return nil, err
	}
	sources := map[string]*source{}
	names := map[string]bool{}
	for i, q := range queries {
		if err := q.Validate(); err != nil {
			return nil, fmt.Errorf("queries[%d].%w", i, err)
		}
		if id := q.Ring + "/" + q.Name; names[id] {
			return nil, fmt.Errorf("queries[%d].name: %s is there twice for the ring %s", i, q.Name, q.Ring)
		} else {
			names[id] = true
		}
		if sources[q.Ring] == nil {
			sources[q.Ring] = &source{client: prometheusv1.NewAPI(client), now: time.Now}
		}
		sources[q.Ring].queries = append(sources[q.Ring].queries, q)
	}
	result := map[string]scaling.MetricSource{}
	for ring, s := range sources {
		result[ring] = s
	}
	return result, nil
}

// Metrics asks all queries, one after the other. It returns all of them or an error.
func (s *source) Metrics(ctx context.Context) ([]scaling.Metric, error) {
	metrics := make([]scaling.Metric, 0, len(s.queries))
	for _, q := range s.queries {
		value, at, err := s.ask(ctx, q.Query)
		if err != nil {
			return nil, fmt.Errorf("the query of the metric %s: %w", q.Name, err)
		}
		metrics = append(metrics, scaling.Metric{Name: q.Name, Value: value, Target: q.Target, Total: q.Total, At: at})
	}
	return metrics, nil
}

func (s *source) ask(ctx context.Context, query string) (float64, time.Time, error) {
	result, warnings, _, err := s.client.Query(ctx, query, s.now())
	if err != nil {
		return 0, time.Time{}, err
	}
	if len(warnings) > 0 {
		return 0, time.Time{}, fmt.Errorf("the server warns that the result may be incomplete: %s", warnings[0])
	}
	switch r := result.(type) {
	case *model.Scalar:
		return float64(r.Value), r.Timestamp.Time(), nil
	case model.Vector:
		if len(r) != 1 {
			return 0, time.Time{}, fmt.Errorf("the result has %d series, must have one", len(r))
		}
		if r[0].Histogram != nil {
			return 0, time.Time{}, errors.New("the result is a histogram, must be a number")
		}
		return float64(r[0].Value), r[0].Timestamp.Time(), nil
	}
	return 0, time.Time{}, fmt.Errorf("the result is a %s, must be a number or a single series", result.Type())
}

// limited ends bodies that are too long.
type limited struct{ next http.RoundTripper }

func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := l.next.RoundTrip(r)
	if err == nil {
		response.Body = http.MaxBytesReader(nil, response.Body, maxAnswer)
	}
	return response, err
}
