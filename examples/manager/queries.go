package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/shard-io/shard-controller/examples/internal/promquery"
)

// prometheus is where the metrics come from that rings are scaled by.
type prometheus struct {
	Address string  `json:"address"`
	CA      string  `json:"ca"`
	Token   string  `json:"token"`
	Queries queries `json:"queries"`
}

func (p *prometheus) register(set *flag.FlagSet) {
	p.Queries = queries{}
	set.StringVar(&p.Address, "prometheus-address", "", "URL of the Prometheus server that is asked for metrics to scale by")
	set.StringVar(&p.CA, "prometheus-ca", "", "file with the certificates that its own is checked against; empty: those of the system")
	set.StringVar(&p.Token, "prometheus-token", "", "file with a bearer token for it; empty: none")
	set.Var(&p.Queries, "prometheus-queries", "metrics to scale by, as a JSON list of objects with ring, name, query, target, and total")
}

// server is how to reach it.
func (p *prometheus) server() promquery.Server {
	return promquery.Server{Address: p.Address, CA: p.CA, Token: p.Token}
}

func (p *prometheus) validate() error {
	if p.Address != "" && len(p.Queries) == 0 {
		return errors.New("--prometheus-queries: must not be empty where there is a --prometheus-address")
	}
	for i, q := range p.Queries {
		if err := q.Validate(); err != nil {
			return fmt.Errorf("--prometheus-queries: [%d].%w", i, err)
		}
	}
	if p.Address == "" && len(p.Queries) > 0 {
		return errors.New("--prometheus-address: must not be empty where there are --prometheus-queries")
	}
	return nil
}

// queries is a list in a file and in a flag. It is never nil, so that it is a list when it is printed.
type queries []promquery.Query

// UnmarshalJSON refuses what it does not know.
func (q *queries) UnmarshalJSON(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	list := []promquery.Query{}
	if err := decoder.Decode(&list); err != nil {
		return errors.New(err.Error()) // of this list, whatever its type
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something behind the list")
	}
	*q = list
	return nil
}

// String and Set make it a flag.
func (q *queries) String() string {
	data, err := json.Marshal([]promquery.Query(*q))
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// Set reads what String returns.
func (q *queries) Set(text string) error { return q.UnmarshalJSON([]byte(text)) }
