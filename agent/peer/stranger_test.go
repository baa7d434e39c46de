package peer

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// forge makes a certificate of the node a by an authority that looks like that of key 1 and has another key.
func forge(t *testing.T) *tls.Certificate {
	t.Helper()
	authentic, err := derive(key(1))
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = (&authority{id: authentic.id, cert: authentic.cert, key: other}).issue("a", time.Now()); err == nil { // crypto/x509 looks after itself: made by hand
		t.Fatal("a certificate by a key that is not the authority's")
	}
	twin := *authentic.cert
	twin.PublicKey = other.Public()
	cert, err := (&authority{id: authentic.id, cert: &twin, key: other}).issue("a", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// expired makes a certificate of node a by the right authority, whose time is over.
func expired(t *testing.T) *tls.Certificate {
	t.Helper()
	a, err := derive(key(1))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := a.issue("a", time.Now().Add(-leafAfter-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// nameless makes a certificate by the right authority that names no node.
func nameless(t *testing.T) *tls.Certificate {
	t.Helper()
	a, err := derive(key(1))
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "a"}, DNSNames: []string{"*.example"}, NotBefore: caFrom, NotAfter: caUntil,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, a.cert, public, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}
}

// knock makes a handshake as a stranger with a certificate (nil: none) and sends a request.
func knock(t *testing.T, s *served, cert *tls.Certificate, version uint16) error {
	t.Helper()
	c := &tls.Config{InsecureSkipVerify: true, MaxVersion: version, NextProtos: []string{protocol}}
	if cert != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", s.Addr().String(), c)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(conn, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n") // it may be refused by now
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil {
		t.Errorf("a stranger was answered: %s", line)
	}
	return err
}

func TestStrangersGetNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, reason string
		cert         func(*testing.T) *tls.Certificate
		version      uint16
	}{
		{name: "no certificate", reason: reasonNone, cert: func(*testing.T) *tls.Certificate { return nil }},
		{name: "old key", reason: reasonUnknown, cert: func(t *testing.T) *tls.Certificate { return identity(t, "a", key(7)).current().leaf }},
		{name: "right name of the authority, other key", reason: reasonUnknown, cert: forge},
		{name: "expired", reason: reasonExpired, cert: expired},
		{name: "no node", reason: reasonName, cert: nameless},
		{name: "TLS 1.2", reason: reasonTLS, cert: func(t *testing.T) *tls.Certificate { return identity(t, "a", key(1)).current().leaf }, version: tls.VersionTLS12},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, Options{Identity: identity(t, "b", key(1))})
			for range 5 {
				if err := knock(t, s, c.cert(t), c.version); err == nil {
					t.Error("no error")
				} else if op, ok := errors.AsType[*net.OpError](err); !ok || op.Op != "remote error" {
					t.Errorf("it isn't told that it was refused: %v", err)
				}
			}
			until(t, "five refusals of one reason", func() bool { return s.Stats().Refused[c.reason] == 5 })
			if got := s.seen.list(); len(got) > 0 {
				t.Errorf("the handler saw %v", got)
			}
			if got := s.log.all(); len(got) != 1 || !strings.Contains(got[0], c.reason) {
				t.Errorf("logged %d lines: %v", len(got), got)
			}
			if _, err := hello(t, client(t, identity(t, "a", key(1))), s.to("b")); err != nil {
				t.Errorf("a peer afterwards: %v", err)
			}
		})
	}
}

func TestPlainHTTPGetsNothing(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Identity: identity(t, "b", key(1))})
	for range 3 {
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err = io.WriteString(c, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(c)
		if strings.Contains(string(b), "HTTP") {
			t.Errorf("answered %q", b)
		}
		_ = c.Close()
	}
	until(t, "refusals", func() bool { return s.Stats().Refused[reasonTLS] == 3 })
	if got := s.log.all(); len(got) != 1 {
		t.Errorf("logged %v", got)
	}
}

func TestHalfOpenConnectionsKeepNobodyOut(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Identity: identity(t, "b", key(1)), HandshakeTime: 500 * time.Millisecond, MaxPerAddress: 6, MaxHandshakes: 8})
	var open []net.Conn
	for n := range 20 {
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if n%2 == 0 {
			_, _ = c.Write([]byte{22, 3, 1, 2, 0, 1}) // the begin of a handshake; it may be closed by now
		}
		open = append(open, c)
	}
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	until(t, "all are refused", func() bool {
		r := s.Stats().Refused
		return r[reasonTime]+r[reasonMany] == 20 && r[reasonMany] >= 1
	})
	c := client(t, identity(t, "a", key(1)))
	until(t, "a peer gets through once their time is over", func() bool { _, err := hello(t, c, s.to("b")); return err == nil })
	if got := s.log.all(); len(got) != 1 {
		t.Errorf("logged %v", got)
	}
}

// With all places of handshakes taken by who says nothing, and for long yet, a peer gets through: who has waited longest goes.
func TestHandshakesThatSayNothingMakeRoom(t *testing.T) {
	t.Parallel()
	const most = 4
	s := serve(t, Options{Identity: identity(t, "b", key(1)), HandshakeTime: time.Hour, MaxPerAddress: 10 * most, MaxHandshakes: most})
	var silent []net.Conn
	for range most {
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		silent = append(silent, c)
	}
	until(t, "all places are taken", func() bool {
		s.l.mu.Lock()
		defer s.l.mu.Unlock()
		return s.l.shaking.Len() == most
	})
	if _, err := hello(t, client(t, identity(t, "a", key(1))), s.to("b")); err != nil {
		t.Fatal(err)
	}
	_ = silent[0].SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := silent[0].Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the first one is still there: %v", err)
	}
	until(t, "it is counted", func() bool { return s.Stats().Refused[reasonMany] == 1 })
}

func TestWhoCountsAsOneAddress(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"192.0.2.7:1": "192.0.2.7", "[::ffff:192.0.2.7]:1": "192.0.2.7", "[2001:db8::1]:1": "2001:db8::/64", "[2001:db8::ffff:1]:2": "2001:db8::/64", "[2001:db8:0:1::1]:1": "2001:db8:0:1::/64",
	} {
		a, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if got := source(a); got != want {
			t.Errorf("%s counts as %s, want %s", address, got, want)
		}
	}
}

// raw is a connection of a peer on which a test writes what it likes.
func raw(t *testing.T, s *served) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", s.Addr().String(), identity(t, "a", key(1)).client("b"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func TestPeersAreBoundedToo(t *testing.T) {
	t.Parallel()
	bounds := func(t *testing.T) Options {
		return Options{Identity: identity(t, "b", key(1)), HeaderTime: 300 * time.Millisecond, BodyTime: 300 * time.Millisecond, MaxBody: 1 << 16, MaxConns: 3}
	}
	t.Run("endless headers", func(t *testing.T) {
		t.Parallel()
		s := serve(t, bounds(t))
		c := raw(t, s)
		_, err := io.WriteString(c, "GET /hello HTTP/1.1\r\n")
		sent := 0
		for ; err == nil && sent < 1<<30; sent += 1000 {
			_, err = fmt.Fprintf(c, "X: %0994d\r\n", 0)
		}
		if sent > 64<<20 || len(s.seen.list()) > 0 {
			t.Errorf("%d bytes of headers were taken, %v was seen", sent, s.seen.list())
		}
	})
	t.Run("slow headers and slow bodies", func(t *testing.T) {
		t.Parallel()
		s := serve(t, bounds(t))
		for _, begin := range []string{"GET /hello HT", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n[1"} {
			c := raw(t, s)
			if _, err := io.WriteString(c, begin); err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(c)
			if n, ok := errors.AsType[net.Error](err); ok && n.Timeout() {
				t.Errorf("%q is waited for: %q", begin, b)
			}
		}
		until(t, "connections end", func() bool { return s.Stats().Conns == 0 })
	})
	t.Run("huge bodies", func(t *testing.T) {
		t.Parallel()
		s := serve(t, bounds(t))
		c := client(t, identity(t, "a", key(1)))
		_, err := Call[any](t.Context(), c, s.to("b"), http.MethodPost, "/echo", strings.Repeat("x", 1<<17))
		if e, ok := errors.AsType[*StatusError](err); !ok || e.Status != http.StatusRequestEntityTooLarge {
			t.Errorf("%v", err)
		}
	})
	t.Run("connections", func(t *testing.T) {
		t.Parallel()
		o := bounds(t)
		o.HeaderTime = time.Minute
		s := serve(t, o)
		for range 3 {
			raw(t, s)
		}
		until(t, "three are open", func() bool { return s.Stats().Conns == 3 })
		if _, err := hello(t, client(t, identity(t, "a", key(1))), s.to("b")); !errors.Is(err, ErrUnreachable) {
			t.Errorf("the fourth: %v", err)
		}
		if s.Stats().Refused[reasonMany] != 1 {
			t.Errorf("%+v", s.Stats())
		}
	})
}

func TestWhoDoesNotReadHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	s := serve(t, Options{Identity: identity(t, "b", key(1)), WriteTime: 200 * time.Millisecond, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, err := io.CopyN(w, zeros{}, 1<<30)
		ended <- err
	})})
	c := raw(t, s)
	if _, err := io.WriteString(c, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("a GiB went nowhere")
		}
	case <-time.After(20 * time.Second):
		t.Error("the handler waits for ever")
	}
}

func TestRefusalsAreBounded(t *testing.T) {
	t.Parallel()
	var r refusals
	now := time.Unix(0, 0)
	news, more := 0, 0
	count := func(n int) {
		for i := range n {
			a, b := r.note(fmt.Sprint(i), now)
			if a {
				news++
			}
			if b {
				more++
			}
		}
	}
	count(5000)
	count(5000)
	if news != maxRefused || more != 1 || len(r.at) != maxRefused {
		t.Errorf("%d lines, %d of more, %d remembered", news, more, len(r.at))
	}
	now = now.Add(quiet)
	news, more = 0, 0
	count(10)
	if news != 10 || more != 0 {
		t.Errorf("an hour later: %d lines, %d of more", news, more)
	}
	if now = now.Add(-time.Minute); r.at["3"].IsZero() {
		t.Error("3 is forgotten")
	}
	if a, b := r.note("3", now); a || b {
		t.Error("a clock that was set back makes it news")
	}
}
