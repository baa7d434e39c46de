package framework

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

const maxRedirects = 5

func newTransport(e Endpoint) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   5 * time.Second,
		MaxIdleConnsPerHost:   4,
		IdleConnTimeout:       60 * time.Second,
		ForceAttemptHTTP2:     true,
		ResponseHeaderTimeout: 0, // by context
	}
	if e.CAFile != "" {
		pem, err := os.ReadFile(e.CAFile)
		if err != nil {
			return nil, fmt.Errorf("endpoint %q: read CA: %w", e.Name, err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("endpoint %q: CA file %s holds no PEM certificate", e.Name, e.CAFile)
		}
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return t, nil
}

// send makes one request at one URL and follows redirects with method and body unchanged.
func (c *Client) send(ctx context.Context, at int, r Request, auth string) (*http.Response, *Error) {
	u, err := url.Parse(c.bases[at].String() + target(r))
	if err != nil {
		return nil, &Error{Kind: ErrInvalid, Message: "request path can't be understood"}
	}
	var sent atomic.Bool
	trace := &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }}
	status := 0
	for range maxRedirects {
		sent.Store(false)
		req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), r.Method, u.String(), bodyReader(r.Body))
		if err != nil {
			return nil, &Error{Kind: ErrInvalid, Message: "request can't be made"}
		}
		req.Header.Set("Accept", "application/json")
		if r.Accept != "" {
			req.Header.Set("Accept", r.Accept)
		}
		req.Header.Set("User-Agent", "qosctl")
		if r.Body != nil {
			req.Header.Set("Content-Type", "application/json")
		}
		if auth != "" && c.trusted(u) {
			req.Header.Set("Authorization", auth)
		}
		resp, err := c.http.Do(req)
		if err != nil {
			return nil, noAnswer(ctx, err, sent.Load())
		}
		location := resp.Header.Get("Location")
		if !isRedirect(resp.StatusCode) || location == "" {
			return resp, nil
		}
		status = resp.StatusCode
		_ = resp.Body.Close() // nothing in it is used
		if u, err = u.Parse(location); err != nil || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
			return nil, &Error{Status: resp.StatusCode, Kind: ErrUnavailable, Message: "redirected to an address that can't be understood"}
		}
	}
	return nil, &Error{Status: status, Kind: ErrUnavailable, Message: fmt.Sprintf("redirected more than %d times", maxRedirects)}
}

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// trusted says whether credentials may go to an address: only to hosts that the configuration names, and never in the
// clear where it names them with TLS.
func (c *Client) trusted(u *url.URL) bool {
	for _, b := range c.bases {
		if b.Hostname() == u.Hostname() && (b.Scheme == u.Scheme || u.Scheme == "https") {
			return true
		}
	}
	return false
}

// prefer remembers where to ask next time: the leader if we know its address, else who answered.
func (c *Client) prefer(at int, leader string) {
	if u, err := url.Parse(leader); err == nil && u.Host != "" {
		for i, b := range c.bases {
			if b.Host == u.Host {
				at = i
			}
		}
	}
	c.preferred.Store(int64(at))
}

// noAnswer makes the error of a request without an answer. What was never written to a connection was surely not carried out.
func noAnswer(ctx context.Context, err error, sent bool) *Error {
	e := &Error{Kind: ErrUnavailable, Cause: plain(err), Uncertain: sent}
	if cause := context.Cause(ctx); cause != nil {
		e.Message = "no answer in time"
		e.Cause = cause
	}
	return e
}

// plain takes the address off an error of net/http: it may carry credentials of a redirect.
func plain(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

func bodyReader(b []byte) io.Reader {
	if b == nil {
		return nil
	}
	return strings.NewReader(string(b))
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}
