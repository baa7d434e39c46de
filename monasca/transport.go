package monasca

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// maxBody bounds what is read of an answer, in bytes: a catalogue is some kilobytes.
const maxBody = 4 << 20

// newHTTP makes the client for Keystone and Monasca. It does not follow redirections: they would carry the token away.
func newHTTP(o Options) (*http.Client, error) {
	inner := o.Transport
	if inner == nil {
		config := &tls.Config{MinVersion: tls.VersionTLS12}
		if o.CAFile != "" {
			pem, err := readSmall(o.CAFile, 1<<20)
			if err != nil {
				return nil, fmt.Errorf("ca_file: %w", err)
			}
			config.RootCAs = x509.NewCertPool()
			if !config.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("ca_file: %s holds no certificate in PEM form", o.CAFile)
			}
		}
		inner = &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, ForceAttemptHTTP2: true,
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout: 5 * time.Second, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute,
		}
	}
	return &http.Client{
		Transport: bounded{inner}, Timeout: o.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// bounded cuts the bodies of answers at maxBody.
type bounded struct{ inner http.RoundTripper }

// RoundTrip does one exchange.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.inner.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxBody), resp.Body}
	}
	return resp, err
}
