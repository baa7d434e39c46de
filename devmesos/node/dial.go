package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"
)

// ExchangePath is where a master takes reports over HTTP.
const ExchangePath = "/devmesos/exchange"

// maxMessage bounds an answer, in bytes.
const maxMessage = 16 << 20

// patience is how much longer than the master's hold an answer may take.
const patience = 3 * time.Second

// Remote is a master in another process.
type Remote struct {
	url, token string
	http       *http.Client
	hold       atomic.Int64 // nanoseconds, as the master last said
}

// Dial makes a master of the one at a URL, which wants a token. It sends nothing.
func Dial(master, token string) (*Remote, error) {
	u, err := url.Parse(master)
	if err != nil || u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || (u.Path != "" && u.Path != "/") {
		return nil, fmt.Errorf("master: want http://HOST:PORT (got %q)", master)
	}
	u.Path = ExchangePath
	dialer := &net.Dialer{Timeout: patience}
	return &Remote{url: u.String(), token: token, http: &http.Client{
		Transport:     &http.Transport{DialContext: dialer.DialContext, MaxIdleConns: 2},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close closes idle connections.
func (m *Remote) Close() { m.http.CloseIdleConnections() }

// Exchange sends a report.
func (m *Remote) Exchange(ctx context.Context, r Report) (Orders, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return Orders{}, fmt.Errorf("encode report: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(m.hold.Load())+patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.url, bytes.NewReader(body))
	if err != nil {
		return Orders{}, fmt.Errorf("report to the master: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	if m.token != "" {
		req.Header.Set("Authorization", "Bearer "+m.token)
	}
	res, err := m.http.Do(req)
	if err != nil {
		m.http.CloseIdleConnections() // a connection that a partition has cut is no use
		return Orders{}, fmt.Errorf("report to the master: %w", err)
	}
	defer res.Body.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(res.Body, maxMessage+1))
	switch {
	case err != nil:
		return Orders{}, fmt.Errorf("read the master's orders: %w", err)
	case len(b) > maxMessage:
		return Orders{}, errors.New("read the master's orders: too long")
	case res.StatusCode != http.StatusOK:
		return Orders{}, fmt.Errorf("report to the master: answered %s: %.200s", res.Status, b)
	}
	var o Orders
	if err := json.Unmarshal(b, &o); err != nil {
		return Orders{}, fmt.Errorf("read the master's orders: %w", err)
	}
	m.hold.Store(int64(min(max(o.Hold, 0), time.Minute)))
	return o, nil
}
