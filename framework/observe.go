package framework

import (
	"net/http"
	"time"
)

// Observer is told of each request that was sent: its method, the status of its answer (0: there was none) and the time that this took.
type Observer func(method string, status int, took time.Duration)

// observed is a transport whose requests somebody is told of.
type observed struct {
	http.RoundTripper
	tell Observer
}

// RoundTrip sends one request.
func (o observed) RoundTrip(r *http.Request) (*http.Response, error) {
	begin, status := time.Now(), 0
	resp, err := o.RoundTripper.RoundTrip(r)
	if err == nil {
		status = resp.StatusCode
	}
	o.tell(r.Method, status, time.Since(begin))
	return resp, err
}

// CloseIdleConnections is what http.Client looks for in its transport.
func (o observed) CloseIdleConnections() {
	if c, ok := o.RoundTripper.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
