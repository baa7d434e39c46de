package api_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"qosctl/agent/api"
)

// An agent that is not trusted, or that speaks TLS where we don't or the other way round, is told by what can be done about it.
func TestTLSErrorsHaveARemedy(t *testing.T) {
	t.Parallel()
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"jobs":[]}`) })
	secure, plain := httptest.NewUnstartedServer(answer), httptest.NewServer(answer)
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	t.Cleanup(plain.Close)
	pool := x509.NewCertPool()
	pool.AddCert(secure.Certificate())
	for _, c := range []struct {
		address     string
		roots       *x509.CertPool
		says, hints string // "": it is answered
	}{
		{secure.URL, pool, "", ""},
		{secure.URL, x509.NewCertPool(), "is not one that we trust: tls: failed to verify", "--ca names"},
		{strings.Replace(secure.URL, "https", "http", 1), nil, "speaks TLS at this address", "use https://"},
		{strings.Replace(plain.URL, "http", "https", 1), nil, "HTTP response to HTTPS client", "use http://"},
	} {
		client, err := api.New(api.Options{Address: c.address, TLS: &tls.Config{RootCAs: c.roots}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		_, err = client.Jobs(t.Context(), false)
		if c.says == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		var hinted interface{ Hint() string }
		if err == nil || !strings.Contains(err.Error(), c.says) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), c.hints) {
			t.Errorf("%s: %v; want %q, and %q as a remedy", c.address, err, c.says, c.hints)
		}
	}
}
