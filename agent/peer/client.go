package peer

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	maxErrorBody = 64 << 10
	maxAnswer    = 8 << 20 // of Call
)

// Target is a node and where it listens.
type Target struct {
	Node string
	Addr string // host:port
}

// ClientOptions set a Client up. The zero value of a bound is its default.
type ClientOptions struct {
	Identity  *Identity
	DialTime  time.Duration // to connect, and again for the handshake; 5 s
	Timeout   time.Duration // of a whole Call; 30 s
	FirstByte time.Duration // from the last byte of a request to the headers of its answer; 30 s
	WriteTime time.Duration // in which a piece of a request must go out; 30 s
	MaxAnswer int64         // bytes of a Call's answer; 8 MiB

	Clock func(node string, skew, within time.Duration) // told how far a peer's clock is before ours, and how far off that may be; nil: nobody is
}

// Client asks peers. Its methods may be called at once from several goroutines.
type Client struct {
	o       ClientOptions
	http    *http.Transport
	version atomic.Uint64 // of the trust that idle connections were made with
}

// NewClient makes a client. It doesn't connect.
func NewClient(o ClientOptions) (*Client, error) {
	if o.Identity == nil {
		return nil, errors.New("a client of peers needs an identity")
	}
	if min(o.DialTime, o.Timeout, o.FirstByte, o.WriteTime) < 0 || o.MaxAnswer < 0 {
		return nil, errors.New("a bound of a client of peers is negative")
	}
	o.DialTime, o.Timeout = cmp.Or(o.DialTime, 5*time.Second), cmp.Or(o.Timeout, 30*time.Second)
	o.FirstByte, o.WriteTime = cmp.Or(o.FirstByte, 30*time.Second), cmp.Or(o.WriteTime, 30*time.Second)
	o.MaxAnswer = cmp.Or(o.MaxAnswer, maxAnswer)
	c := &Client{o: o}
	c.http = &http.Transport{
		DialTLSContext: c.dial, DisableCompression: true, ForceAttemptHTTP2: false, MaxIdleConns: 256, MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute,
		ResponseHeaderTimeout: o.FirstByte, MaxResponseHeaderBytes: 16 << 10, WriteBufferSize: 32 << 10, ReadBufferSize: 32 << 10,
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
	}
	return c, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Do makes one request and returns an answer < 300; its body is the caller's to close, and ends with ctx. A path begins with a slash. Errors
// are *RefusedError, *UnreachableError, *StatusError, or the end of ctx.
func (c *Client) Do(ctx context.Context, to Target, method, path string, body []byte) (*http.Response, error) {
	version := c.o.Identity.current().version
	if c.version.Swap(version) != version {
		c.http.CloseIdleConnections() // they were made with a key that may be removed
	}
	request, err := c.request(ctx, to, method, path, body)
	if err != nil {
		return nil, err
	}
	request.URL.Host = to.host(version) // those that were busy just now are not used again either
	begin := time.Now()
	response, err := c.http.RoundTrip(request)
	if err != nil {
		return nil, c.broken(ctx, to, err)
	}
	if skew, within, ok := skewOf(response.Header, begin, time.Since(begin)); ok && c.o.Clock != nil {
		c.o.Clock(to.Node, skew, within)
	}
	if response.StatusCode < http.StatusMultipleChoices {
		return response, nil
	}
	defer response.Body.Close()
	return nil, statusError(to.Node, response)
}

func (c *Client) request(ctx context.Context, to Target, method, path string, body []byte) (*http.Request, error) {
	if err := checkName(to.Node); err != nil {
		return nil, err
	}
	if _, _, err := net.SplitHostPort(to.Addr); err != nil {
		return nil, fmt.Errorf("address of node %s: %w", to.Node, err)
	}
	if !strings.HasPrefix(path, "/") {
		return nil, fmt.Errorf("path %q of a request to node %s does not begin with a slash", path, to.Node)
	}
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	request, err := http.NewRequestWithContext(ctx, method, "https://"+poolHost+path, reader)
	if err != nil {
		return nil, fmt.Errorf("make a request to node %s: %w", to.Node, err)
	}
	request.Host = poolHost                                              // and not what stands for the node in the pool
	request.Header.Set(nameHeader, url.QueryEscape(c.o.Identity.Node())) // our certificate may have more names
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return request, nil
}

// poolHost is what a request is for, before it has its place in the pool.
const poolHost = "qosctl"

// host is what the pool keeps connections by: a connection to one node is never used for another, even at the same address, and one that was made
// with another trust not at all.
func (t Target) host(version uint64) string {
	return hex.EncodeToString([]byte(t.Node)) + "." + hex.EncodeToString([]byte(t.Addr)) + "." + strconv.FormatUint(version, 16)
}

// targetOf reads what host has written, with a port behind it.
func targetOf(hostPort string) (t Target, err error) {
	h, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		return t, err
	}
	node, rest, _ := strings.Cut(h, ".")
	addr, _, _ := strings.Cut(rest, ".")
	n, nerr := hex.DecodeString(node)
	a, aerr := hex.DecodeString(addr)
	return Target{Node: string(n), Addr: string(a)}, errors.Join(nerr, aerr)
}

// dial connects to a node, and makes sure that it is the one that is meant.
func (c *Client) dial(ctx context.Context, network, hostPort string) (net.Conn, error) {
	to, err := targetOf(hostPort)
	if err != nil {
		return nil, fmt.Errorf("read a peer's address: %w", err)
	}
	dialer := net.Dialer{Timeout: c.o.DialTime}
	raw, err := dialer.DialContext(ctx, network, to.Addr)
	if err != nil {
		return nil, &dialError{err}
	}
	within, cancel := context.WithTimeout(ctx, c.o.DialTime)
	defer cancel()
	t := tls.Client(&timedConn{Conn: raw, write: c.o.WriteTime}, c.o.Identity.client(to.Node))
	if err := t.HandshakeContext(within); err != nil {
		_ = raw.Close() // it was no use
		return nil, &dialError{err}
	}
	return t, nil
}

// dialError is of a connection that was not made: nothing was sent.
type dialError struct{ error }

// Unwrap is the cause.
func (e *dialError) Unwrap() error { return e.error }

// broken sorts the errors of requests that got no answer.
func (c *Client) broken(ctx context.Context, to Target, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("ask node %s: %w", to.Node, context.Cause(ctx))
	}
	if refusal(err) {
		return &RefusedError{To: to, Err: err}
	}
	d, dialling := errors.AsType[*dialError](err)
	if dialling {
		err = d.error
	}
	return &UnreachableError{To: to, Sent: !dialling, Err: err}
}

// Call makes one request with a JSON body (nil: none), within the client's time, and decodes its JSON answer.
func Call[T any](ctx context.Context, c *Client, to Target, method, path string, in any) (out T, err error) {
	var body []byte
	if in != nil {
		if body, err = json.Marshal(in); err != nil {
			return out, fmt.Errorf("write a request to node %s: %w", to.Node, err)
		}
	}
	within, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	data, err := c.exchange(within, to, method, path, body)
	if err != nil {
		if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			err = &UnreachableError{To: to, Sent: true, Err: fmt.Errorf("no answer within %s", c.o.Timeout)}
		}
		return out, err
	}
	if len(data) == 0 {
		return out, nil
	}
	if err := json.Unmarshal(data, &out); err != nil {
		return out, fmt.Errorf("read the answer of node %s to %s %s: %w", to.Node, method, path, err)
	}
	return out, nil
}

// exchange is a request with a bounded answer.
func (c *Client) exchange(ctx context.Context, to Target, method, path string, body []byte) ([]byte, error) {
	response, err := c.Do(ctx, to, method, path, body)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, c.o.MaxAnswer+1))
	if err != nil {
		return nil, c.broken(ctx, to, err)
	}
	if int64(len(data)) > c.o.MaxAnswer {
		return nil, fmt.Errorf("the answer of node %s to %s %s is longer than %d bytes", to.Node, method, path, c.o.MaxAnswer)
	}
	return data, nil
}
