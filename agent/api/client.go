package api

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// MaxAnswer bounds the body of an answer, in bytes; streams have a bound for each line, MaxLine.
const MaxAnswer = 64 << 20

// DefaultTimeout bounds a request from dialling to the last byte of its answer. A submission may wait for a framework.
const DefaultTimeout = 60 * time.Second

// Options sets a Client up.
type Options struct {
	Address string        // path of a unix socket, unix:///path, or http(s)://host:port
	Token   string        // bearer token; "": none
	TLS     *tls.Config   // for https addresses: whom to trust, and who we are; nil: whom the system trusts
	Timeout time.Duration // of a request that doesn't stream; 0: DefaultTimeout
}

// Client talks to one agent. Its methods may be called at once from several goroutines.
type Client struct {
	http    *http.Client
	base    string // http://host:port, without a slash at its end
	address string // as errors show it
	token   string
	timeout time.Duration
}

// New makes a client. It doesn't connect.
func New(o Options) (*Client, error) {
	if o.Timeout < 0 {
		return nil, fmt.Errorf("timeout must be >= 0 (got %s)", o.Timeout)
	}
	c := &Client{token: o.Token, timeout: o.Timeout, address: o.Address}
	if c.timeout == 0 {
		c.timeout = DefaultTimeout
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	transport := &http.Transport{
		DialContext:         dialer.DialContext,
		MaxIdleConnsPerHost: 4,
		IdleConnTimeout:     30 * time.Second,
		TLSHandshakeTimeout: 5 * time.Second,
		TLSClientConfig:     o.TLS,
	}
	if socket, ok := SocketPath(o.Address); ok {
		c.base = "http://qosctl"
		c.address = socket
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		}
	} else {
		u, err := url.Parse(o.Address)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.User != nil || u.RawQuery != "" {
			return nil, fmt.Errorf("agent address %q is neither the path of a socket nor a URL such as http://127.0.0.1:30000", o.Address)
		}
		c.base = strings.TrimSuffix(o.Address, "/")
		transport.Proxy = http.ProxyFromEnvironment
	}
	c.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // an agent doesn't redirect; a token must not follow somebody who does
	}}
	return c, nil
}

// SocketPath returns the path of the unix socket that an address means, if it means one.
func SocketPath(address string) (string, bool) {
	if p, ok := strings.CutPrefix(address, "unix://"); ok {
		return p, true
	}
	if p, ok := strings.CutPrefix(address, "unix:"); ok {
		return p, true
	}
	return address, address != "" && !strings.Contains(address, "://")
}

// Address is where the agent is, as errors show it.
func (c *Client) Address() string { return c.address }

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }
