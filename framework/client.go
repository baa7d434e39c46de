package framework

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// MaxBody bounds what is read of an answer, in bytes.
const MaxBody = 16 << 20

const (
	defaultRounds  = 4 // through all URLs
	defaultBackoff = 200 * time.Millisecond
	maxBackoff     = 3 * time.Second
)

// ClientOptions set a Client up.
type ClientOptions struct {
	Endpoint  Endpoint
	Logger    *slog.Logger      // nil: none
	Transport http.RoundTripper // nil: one of its own; Endpoint.CAFile is only heeded then
	Rounds    int               // how often all URLs are tried for a request that may be repeated; 0: 4
	Backoff   time.Duration     // before the second round, doubled for each later one up to 3 s, jittered; 0: 200 ms
	// Classify may correct the sentinel of an answer's error (Error.Kind); nil: by status alone.
	Classify func(*Error)
}

// Client is an HTTP client for one framework endpoint. It is safe for use by several goroutines.
type Client struct {
	endpoint  Endpoint
	bases     []*url.URL
	http      *http.Client
	log       *slog.Logger
	rounds    int
	backoff   time.Duration
	classify  func(*Error)
	preferred atomic.Int64 // index of the base that answered last, or that the leader header named
}

// Request is one request. Path begins with a slash and is escaped already.
type Request struct {
	Method string
	Path   string
	Query  url.Values
	Body   []byte // JSON; nil: none
	Accept string // "": application/json
	// Safe says that the request may be sent again when its answer was lost. GET always is.
	Safe bool
	// Secrets are texts of the body that an error must not show, should the answer repeat them.
	Secrets []string
}

// Response is a successful answer (2xx).
type Response struct {
	Status   int
	Header   http.Header
	Body     []byte
	Repeated bool // sent more than once: an earlier one may have been carried out already
}

// NewClient makes a client. It sends nothing.
func NewClient(o ClientOptions) (*Client, error) {
	if err := o.Endpoint.Validate(); err != nil {
		return nil, err
	}
	if o.Rounds < 0 || o.Backoff < 0 {
		return nil, fmt.Errorf("endpoint %q: rounds and back-off must not be negative", o.Endpoint.Name)
	}
	c := &Client{endpoint: o.Endpoint, log: o.Logger, rounds: o.Rounds, backoff: o.Backoff, classify: o.Classify}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.rounds == 0 {
		c.rounds = defaultRounds
	}
	if c.backoff == 0 {
		c.backoff = defaultBackoff
	}
	if c.endpoint.Timeout == 0 {
		c.endpoint.Timeout = DefaultTimeout
	}
	for _, raw := range o.Endpoint.URLs {
		base, err := parseBase(raw)
		if err != nil {
			return nil, err
		}
		c.bases = append(c.bases, base)
	}
	transport := o.Transport
	if transport == nil {
		own, err := newTransport(o.Endpoint)
		if err != nil {
			return nil, err
		}
		transport = own
	}
	if o.Endpoint.Observe != nil {
		transport = observed{transport, o.Endpoint.Observe}
	}
	// Redirects are followed by hand: net/http would turn a POST into a GET.
	c.http = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// Name is the endpoint's name.
func (c *Client) Name() string { return c.endpoint.Name }

// Log is the client's logger, never nil.
func (c *Client) Log() *slog.Logger { return c.log }

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Do sends a request and returns its successful answer. Any other answer, and the lack of one, is an *Error.
//
// What surely did not arrive (no connection) is tried at the next URL, whatever the method. A request whose answer was lost,
// or that was answered 502, 503, 504 or 429, is sent again only if it is a GET or Safe.
func (c *Client) Do(ctx context.Context, r Request) (*Response, error) {
	safe := r.Safe || r.Method == http.MethodGet || r.Method == http.MethodHead
	first := int(c.preferred.Load())
	delay := c.backoff
	var last *Error
	for round := range c.rounds {
		if round > 0 {
			if err := sleep(ctx, jitter(delay)); err != nil {
				break
			}
			delay = min(2*delay, maxBackoff)
		}
		again := false // some URL may answer better in the next round
		for i := range c.bases {
			at := (first + i) % len(c.bases)
			resp, err := c.once(ctx, at, r)
			repeated := last != nil && (last.Repeated || last.Uncertain)
			if err == nil {
				resp.Repeated = repeated
				return resp, nil
			}
			err.Repeated = repeated
			last = err
			elsewhere, later := retryable(err, safe)
			if ctx.Err() != nil || !elsewhere {
				return nil, c.fail(r, err)
			}
			again = again || later
			c.log.Debug("framework request is tried again", "framework", c.endpoint.Name, "method", r.Method, "path", r.Path, "err", err)
		}
		if !again {
			break
		}
	}
	return nil, c.fail(r, last)
}

// fail completes an error for the caller.
func (c *Client) fail(r Request, e *Error) error {
	if e == nil { // the context ended before anything was sent
		e = &Error{Kind: ErrUnavailable, Message: "not sent"}
	}
	e.Framework, e.Method, e.Path = c.endpoint.Name, r.Method, target(r)
	return e
}

func target(r Request) string {
	if len(r.Query) == 0 {
		return r.Path
	}
	return r.Path + "?" + r.Query.Encode()
}

// retryable says whether to try the next URL, and whether to try this one again later.
func retryable(e *Error, safe bool) (elsewhere, later bool) {
	switch {
	case !errors.Is(e, ErrUnavailable), errors.Is(e, errLocal), errors.Is(e, errTooLarge):
		return false, false
	case e.Status == 0 && !e.Uncertain:
		return true, true
	case !safe:
		return false, false
	case e.Status == 0:
		return true, true
	}
	switch e.Status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
		http.StatusTooManyRequests, http.StatusRequestTimeout:
		return true, true
	case http.StatusInternalServerError:
		return false, false
	}
	return true, e.Status < 300 && !e.HTML // another server than expected stays one; an answer that broke off may be whole next time
}

var (
	errTooLarge = fmt.Errorf("answer is larger than %d MiB", MaxBody>>20)
	errLocal    = errors.New("request could not be made") // our own files or arguments: another URL doesn't help
)

// once sends a request to one URL and reads all of the answer, within the endpoint's timeout.
func (c *Client) once(ctx context.Context, at int, r Request) (*Response, *Error) {
	ctx, cancel := context.WithTimeout(ctx, c.endpoint.Timeout)
	defer cancel()
	auth, err := c.endpoint.authorization()
	if err != nil {
		return nil, &Error{Kind: ErrUnavailable, Cause: errors.Join(errLocal, err)}
	}
	hide := hider(auth, r.Secrets)
	resp, e := c.send(ctx, at, r, auth)
	if e != nil {
		return nil, e.hide(hide)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end, or given up
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody+1))
	if err == nil && len(body) > MaxBody {
		err = errTooLarge
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		switch {
		case err != nil:
			return nil, &Error{Status: resp.StatusCode, Message: "answer could not be read to its end", Kind: ErrUnavailable, Cause: plain(err), Uncertain: true}
		case isHTML(resp.Header.Get("Content-Type"), body):
			e := c.answer(resp, body).hide(hide)
			e.Message = "answered HTML, is this really " + title(c.endpoint.Name) + "?"
			return nil, e
		}
		c.prefer(at, resp.Header.Get("X-Marathon-Leader"))
		return &Response{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
	}
	e = c.answer(resp, body).hide(hide)
	if e.HTML && e.Status != http.StatusUnauthorized && e.Status != http.StatusForbidden {
		e.Message = "answered HTML, is this really " + title(c.endpoint.Name) + "?"
	}
	// A server that failed may have done the work before it did; one that refused has not.
	e.Uncertain = e.Status >= 500
	return nil, e
}

// answer makes and classifies the error of an answer.
func (c *Client) answer(resp *http.Response, body []byte) *Error {
	e := parseError(resp.StatusCode, resp.Header.Get("Content-Type"), body)
	if c.classify != nil && !e.HTML {
		c.classify(e)
	}
	return e
}

// Stream sends a GET whose answer goes on for ever. The answer's header must come within the endpoint's timeout; the
// caller closes the body. It is tried once at each URL.
func (c *Client) Stream(ctx context.Context, r Request) (*http.Response, error) {
	first := int(c.preferred.Load())
	var last *Error
	for i := range c.bases {
		resp, e := c.stream(ctx, (first+i)%len(c.bases), r)
		if e == nil {
			return resp, nil
		}
		last = e
		if ctx.Err() != nil || !errors.Is(e, ErrUnavailable) {
			break
		}
	}
	return nil, c.fail(r, last)
}

func (c *Client) stream(ctx context.Context, at int, r Request) (*http.Response, *Error) {
	auth, err := c.endpoint.authorization()
	if err != nil {
		return nil, &Error{Kind: ErrUnavailable, Cause: errors.Join(errLocal, err)}
	}
	hide := hider(auth, r.Secrets)
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(c.endpoint.Timeout, func() { cancel(context.DeadlineExceeded) })
	resp, e := c.send(ctx, at, r, auth)
	if e != nil {
		timer.Stop()
		cancel(nil)
		return nil, e.hide(hide)
	}
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // an excerpt will do
		_ = resp.Body.Close()
		timer.Stop()
		cancel(nil)
		return nil, c.answer(resp, body).hide(hide)
	}
	timer.Stop()
	resp.Body = &streamBody{ReadCloser: resp.Body, cancel: func() { cancel(nil) }}
	return resp, nil
}

// streamBody releases the request's context with the body.
type streamBody struct {
	io.ReadCloser
	cancel func()
}

func (b *streamBody) Close() error {
	b.cancel()
	return b.ReadCloser.Close()
}

// title is an endpoint's name as a question about it would have it.
func title(name string) string {
	if name == "" {
		return "the framework"
	}
	return strings.ToUpper(name[:1]) + name[1:]
}

// jitter spreads a delay over ± 50 %.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d+1)
}

// sleep waits, or returns the reason why ctx ended first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// Backoff is an endless series of jittered delays for those who wait for a framework themselves.
type Backoff struct {
	Base, Max time.Duration
	next      time.Duration
}

// Wait waits for the next delay, or until ctx ends.
func (b *Backoff) Wait(ctx context.Context) error {
	b.next = min(max(2*b.next, b.Base), b.Max)
	return sleep(ctx, jitter(b.next))
}

// Reset begins the series anew.
func (b *Backoff) Reset() { b.next = 0 }
