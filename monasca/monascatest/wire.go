package monascatest

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
)

// Wire is a network of handlers by host, for virtual time: no connection is made. Its zero value is empty.
type Wire struct {
	mu    sync.Mutex
	hosts map[string]http.Handler
}

// Set puts a handler at a host and port; nil: nobody is there.
func (n *Wire) Set(host string, h http.Handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts == nil {
		n.hosts = make(map[string]http.Handler)
	}
	n.hosts[host] = h
}

// RoundTrip asks the handler of the request's host.
func (n *Wire) RoundTrip(r *http.Request) (*http.Response, error) {
	n.mu.Lock()
	h := n.hosts[r.URL.Host]
	n.mu.Unlock()
	if h == nil {
		return nil, &noHost{r.URL.Host}
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return serve(h, r)
}

// noHost says that nobody is at an address: nothing was sent.
type noHost struct{ host string }

// Error names the address.
func (e *noHost) Error() string { return e.host + ": connection refused" }

// As makes it what a dialer returns.
func (e *noHost) As(target any) bool {
	op, ok := target.(**net.OpError)
	if ok {
		*op = &net.OpError{Op: "dial", Net: "tcp", Err: errors.New(e.Error())}
	}
	return ok
}

// serve asks a handler; one that panics with http.ErrAbortHandler has closed the connection.
func serve(h http.Handler, r *http.Request) (resp *http.Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			resp, err = nil, io.ErrUnexpectedEOF
		}
	}()
	w := httptest.NewRecorder()
	r2 := r.Clone(r.Context())
	if r2.Body == nil {
		r2.Body = http.NoBody
	}
	h.ServeHTTP(w, r2)
	return w.Result(), nil
}
