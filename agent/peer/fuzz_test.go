package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"qosctl/agent/pki"
)

// FuzzCertificate presents any bytes as a certificate: none that our authority has not signed is of a peer.
func FuzzCertificate(f *testing.F) {
	good, err := NewIdentity(IdentityOptions{Node: "a", Keys: [][]byte{key(1)}})
	if err != nil {
		f.Fatal(err)
	}
	other, err := NewIdentity(IdentityOptions{Node: "a", Keys: [][]byte{key(2)}})
	if err != nil {
		f.Fatal(err)
	}
	own := good.current().leaf.Certificate[0]
	f.Add(own)
	f.Add(other.current().leaf.Certificate[0])
	f.Add(good.primary.cert.Raw)
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		for _, name := range namesOf(c) {
			if checkName(name) != nil {
				t.Errorf("name %q", name)
			}
		}
		names, err := good.current().verify([]*x509.Certificate{c}, "", x509.ExtKeyUsageClientAuth, time.Now())
		if err == nil && (!slices.Equal(names, []string{"a"}) || c.CheckSignatureFrom(good.primary.cert) != nil) {
			t.Errorf("%q is a peer", names)
		}
	})
}

// FuzzName reads any address in a certificate.
func FuzzName(f *testing.F) {
	for _, s := range []string{"qosctl://node/a", "qosctl://node/a%2Fb", "qosctl://node//a", "qosctl://x@node/a", "qosctl://node:1/a", "qosctl://node/a?b", "qosctl:node/a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := url.Parse(s)
		if err != nil {
			return
		}
		if name, ok := nameOf(u); ok && (checkName(name) != nil || pki.NodeURI(name).String() != u.String()) {
			t.Errorf("%q is the name %q", s, name)
		}
	})
}

// FuzzHandshake sends any bytes to a server's side of a handshake.
func FuzzHandshake(f *testing.F) {
	i, err := NewIdentity(IdentityOptions{Node: "a", Keys: [][]byte{key(1)}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte{22, 3, 1, 0, 5, 1, 0, 0, 1, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, theirs := net.Pipe()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = theirs.Write(b)
			_ = theirs.Close()
		}()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		if err := tls.Server(ours, i.server()).HandshakeContext(ctx); err == nil {
			t.Error("a handshake")
		} else if ctx.Err() != nil {
			t.Error("it hangs")
		} else if r := reasonOf(err); r == "" {
			t.Error("no reason")
		}
		_ = ours.Close()
		<-done
	})
}

// FuzzAnswer reads any answer as an error, and any body as a request.
func FuzzAnswer(f *testing.F) {
	f.Add(404, "application/json", `{"status":1,"code":"x","text":"y"}`)
	f.Add(500, "text/html", "<html>")
	f.Fuzz(func(t *testing.T, status int, kind, body string) {
		e := statusError("n", &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(strings.NewReader(body))})
		if e.Status != status || e.Error() == "" {
			t.Errorf("%+v", e)
		}
		var v map[string]string
		if err := Read(httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)), &v); err == nil && v == nil && strings.TrimSpace(body) != "null" {
			t.Errorf("%q was read as nothing", body)
		}
	})
}
