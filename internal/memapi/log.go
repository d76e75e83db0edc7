package memapi

import (
	"net/url"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Record is one finished request in the log; a watch is finished when it has begun.
type Record struct {
	// Actor and N name the request; see Request.
	Actor string
	N     int64
	// Sent and Done are when it left the actor and when the answer was there.
	Sent, Done time.Time
	// Verb, Resource, Subresource, Namespace, Name and Path say what was asked.
	Verb                               string
	Resource                           schema.GroupVersionResource
	Subresource, Namespace, Name, Path string
	// Query is the query string, decoded; it must not be changed.
	Query url.Values
	// Code is the HTTP status; 0 when the request did not reach the server.
	Code int
	// Fault is what was injected.
	Fault Fault
	// Err is what the actor got instead of an answer, "" if it got one.
	Err string
}

// requestLog keeps the last requests and counts all of them.
type requestLog struct {
	size   int
	ring   []Record
	next   int
	counts map[RequestKind]int64
}

// RequestKind is what requests are counted by.
type RequestKind struct {
	Actor, Verb, Group, Resource, Subresource string
	Code                                      int
}

func (s *Server) logged(r *Request, f Fault, code int, err error) {
	rec := Record{Actor: r.Actor, N: r.N, Sent: r.Time, Done: time.Now(), Verb: r.Verb, Resource: r.Resource,
		Subresource: r.Subresource, Namespace: r.Namespace, Name: r.Name, Path: r.Path, Query: r.query, Code: code, Fault: f}
	if err != nil {
		rec.Err = err.Error()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log.add(rec)
}

func (l *requestLog) add(rec Record) {
	if l.counts == nil {
		l.counts = map[RequestKind]int64{}
	}
	l.counts[RequestKind{Actor: rec.Actor, Verb: rec.Verb, Group: rec.Resource.Group, Resource: rec.Resource.Resource,
		Subresource: rec.Subresource, Code: rec.Code}]++
	switch {
	case l.size <= 0:
	case len(l.ring) < l.size:
		l.ring = append(l.ring, rec)
	default:
		l.ring[l.next] = rec
		l.next = (l.next + 1) % l.size
	}
}

// Requests are the last requests of all actors, oldest first; see Options.RequestLog.
func (s *Server) Requests() []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Record, 0, len(s.log.ring))
	out = append(out, s.log.ring[s.log.next:]...)
	return append(out, s.log.ring[:s.log.next]...)
}

// RequestCounts says how many requests of each kind there have been since the start.
func (s *Server) RequestCounts() map[RequestKind]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[RequestKind]int64, len(s.log.counts))
	for k, n := range s.log.counts {
		out[k] = n
	}
	return out
}
