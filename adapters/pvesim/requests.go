package pvesim

import (
	"net/http"
	"time"
)

// RequestRecord is one mutating request that reached a node.
type RequestRecord struct {
	Seq    int       `json:"seq"`
	At     time.Time `json:"at"`
	Node   string    `json:"node"` // the node that was asked
	Method string    `json:"method"`
	Path   string    `json:"path"`
	Query  string    `json:"query,omitempty"`
	// Auth is the authenticated id, or, if that failed, the one claimed.
	Auth string `json:"auth,omitempty"`
	// Executed says that a daemon took the request up for execution.
	Executed bool `json:"executed"`
	// Status is that of the reply; zero while there is none, or if it was cut.
	Status int `json:"status"`
	// Ended is when it was answered or cut; zero while it was not. Of two requests
	// that one after the other waited for, the later begins no earlier.
	Ended time.Time `json:"ended,omitzero"`
}

func (c *call) journal() {
	if c.req.Method == http.MethodGet || c.req.Method == http.MethodHead || c.req.Method == http.MethodOptions {
		return
	}
	c.record = len(c.s.requests)
	c.s.requests = append(c.s.requests, RequestRecord{
		Seq: c.record + 1, At: c.begun, Node: c.front.name, Method: c.req.Method, Path: c.req.Path,
		Query: c.req.Query, Auth: claimed(c.req.Header),
	})
}

// Requests returns the mutating requests received so far, in order.
func (s *Sim) Requests() []RequestRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]RequestRecord(nil), s.requests...)
}
