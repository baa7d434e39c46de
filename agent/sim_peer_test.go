package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"qosctl/agent/api"
	"qosctl/agent/peer"
)

// simCaller asks peers in memory: the request goes to the other agent's handlers, if it gets there.
type simCaller struct{ hand }

var errSilent = errors.New("sim: no answer")

// Do is peer.Client's.
func (c *simCaller) Do(ctx context.Context, to peer.Target, method, path string, body []byte) (*http.Response, error) {
	w := c.n.w
	if err := c.pass(ctx, time.Millisecond, 5*time.Millisecond); err != nil {
		return nil, err
	}
	n := w.node(to.Node)
	w.mu.Lock()
	there := n != nil && w.reaches(c.n.name, n.name) && n.agent != nil
	answers := there && !w.roll(w.trouble, c.n.name+to.Node+path)
	var late time.Duration
	if w.trouble > 0 && w.roll(0.1, c.n.name+to.Node+path+" late") {
		late = w.between(0, 2*time.Second, c.n.name+to.Node+path)
	}
	w.mu.Unlock()
	if !there {
		return nil, c.nobody(ctx, to, n)
	}
	if !pause(ctx, late) {
		return nil, ctx.Err()
	}
	resp, err := n.serve(ctx, (*Agent).peerRoutes, func(r *http.Request) *http.Request {
		return r.WithContext(peer.WithCaller(r.Context(), c.n.name))
	}, method, path, body)
	if err == nil {
		err = c.pass(ctx, time.Millisecond, 5*time.Millisecond)
	}
	w.mu.Lock()
	answers = answers && w.reaches(c.n.name, n.name)
	w.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil || !answers:
		return nil, &peer.UnreachableError{To: to, Sent: true, Err: errSilent}
	case resp.Code >= http.StatusMultipleChoices:
		e := &peer.StatusError{}
		_ = json.Unmarshal(resp.Body.Bytes(), e) // the status says enough
		e.Node, e.Status, e.Body = to.Node, resp.Code, resp.Body.Bytes()
		return nil, e
	}
	return resp.Result(), nil
}

// nobody is what comes of asking a node that is not there: a refusal at once where the machine is up, else nothing.
func (c *simCaller) nobody(ctx context.Context, to peer.Target, n *simNode) error {
	c.n.w.mu.Lock()
	refuses := n != nil && c.n.w.reaches(c.n.name, n.name)
	c.n.w.mu.Unlock()
	if !refuses && !pause(ctx, 5*time.Second) {
		return ctx.Err()
	}
	return &peer.UnreachableError{To: to, Err: errSilent}
}

// serve has the node's agent answer a request. One that is paused answers when it is let go on, its caller there or not.
func (n *simNode) serve(ctx context.Context, routes func(*Agent) http.Handler, as func(*http.Request) *http.Request, method, path string, body []byte) (*httptest.ResponseRecorder, error) {
	w := n.w
	w.mu.Lock()
	h, a := hand{n, n.life}, n.agent
	w.mu.Unlock()
	if a == nil {
		return nil, errSilent
	}
	type answer struct {
		resp *httptest.ResponseRecorder
		err  error
	}
	done := make(chan answer, 1)
	w.wg.Go(func() {
		own, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if err := h.pass(own, 0, 0); err != nil {
			done <- answer{nil, err}
			return
		}
		stop := context.AfterFunc(ctx, cancel) // from here on, the server sees that its client has gone
		defer stop()
		resp, err := handle(routes(a), as(httptest.NewRequestWithContext(own, method, path, bytes.NewReader(body))))
		if err == nil {
			err = h.pass(own, 0, 0)
		}
		done <- answer{resp, err}
	})
	select {
	case r := <-done:
		return r.resp, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// handle serves one request; a handler that aborts is a broken connection.
func handle(h http.Handler, r *http.Request) (resp *httptest.ResponseRecorder, err error) {
	defer func() {
		if p := recover(); p == http.ErrAbortHandler { //nolint:errorlint // it is compared so by net/http
			err = errSilent
		} else if p != nil {
			panic(p)
		}
	}()
	resp = httptest.NewRecorder()
	h.ServeHTTP(resp, r)
	return resp, nil
}

// standinCall is a stand-in's request at its own node's socket.
func (n *simNode) standinCall(ctx context.Context, secret, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	resp, err := n.serve(ctx, (*Agent).standinRoutes, asStandin(secret), method, path, body)
	if err != nil {
		return errSilent
	}
	if resp.Code >= http.StatusMultipleChoices {
		e := &api.StatusError{}
		_ = json.Unmarshal(resp.Body.Bytes(), &e.Body)
		e.Body.Status = resp.Code
		return e
	}
	return json.Unmarshal(resp.Body.Bytes(), out)
}

func asStandin(secret string) func(*http.Request) *http.Request {
	return func(r *http.Request) *http.Request {
		r.Header.Set("Authorization", "Bearer "+secret)
		return r.WithContext(context.WithValue(r.Context(), callerKey{}, caller{}))
	}
}

// admin is a request of the node's API by a person.
func (n *simNode) admin(ctx context.Context, method, path string, in any) (int, string) {
	body, err := json.Marshal(in)
	if err != nil {
		return 0, err.Error()
	}
	resp, err := n.serve(ctx, (*Agent).adminRoutes, func(r *http.Request) *http.Request { return r }, method, path, body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.Code, resp.Body.String()
}

// lineWriter is a response whose lines are handed on as they come.
type lineWriter struct {
	header http.Header
	each   func(api.Output)

	mu     sync.Mutex
	status int
	buf    bytes.Buffer
}

func (l *lineWriter) Header() http.Header { return l.header }
func (l *lineWriter) Flush()              {}

func (l *lineWriter) WriteHeader(status int) { l.status = status }

func (l *lineWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(b)
	for l.status < http.StatusMultipleChoices {
		line, err := l.buf.ReadString('\n')
		if errors.Is(err, io.EOF) {
			l.buf.WriteString(line)
			break
		}
		var o api.Output
		if err := json.NewDecoder(strings.NewReader(line)).Decode(&o); err == nil {
			l.each(o)
		}
	}
	return len(b), nil
}

func mustMarshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
