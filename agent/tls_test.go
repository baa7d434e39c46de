package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qosctl/agent/peer"
	"qosctl/agent/pki"
)

const testLife = 365 * 24 * time.Hour

// issue makes a certificate, and returns the paths of its files.
func issue(t *testing.T, d *pki.Dir, out string, r pki.Request) (cert *x509.Certificate, certFile, keyFile string) {
	t.Helper()
	r.Life = testLife
	p, err := d.Issue(r, out, time.Now(), true)
	if err != nil {
		t.Fatal(err)
	}
	return p.Cert, filepath.Join(out, r.Name+".crt"), filepath.Join(out, r.Name+".key")
}

// testFront is of a node whose authority's directory is that of its files.
func testFront(t *testing.T) *front {
	t.Helper()
	dir := t.TempDir()
	d, err := pki.Init(dir, "test", testLife, time.Now(), false)
	if err != nil {
		t.Fatal(err)
	}
	_, cert, key := issue(t, d, dir, pki.Request{Role: pki.Node, Name: "here", IPs: []net.IP{net.IPv4(127, 0, 0, 1)}})
	f, err := openFront(TLSConfig{CertFile: cert, KeyFile: key, ClientCAFile: filepath.Join(dir, pki.CAFile)}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// testCerts are what clients may show to a front, by what is with them.
func testCerts(t *testing.T, f *front) map[string]*x509.Certificate {
	t.Helper()
	d, err := pki.Open(filepath.Dir(f.c.CertFile))
	if err != nil {
		t.Fatal(err)
	}
	strange, err := pki.Init(t.TempDir(), "test", testLife, time.Now(), false)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]*x509.Certificate{}
	add := func(d *pki.Dir, r pki.Request) { m[r.Name], _, _ = issue(t, d, t.TempDir(), r) }
	add(strange, pki.Request{Role: pki.Operator, Name: "stranger"})
	add(d, pki.Request{Role: pki.Operator, Name: "alice"})
	add(d, pki.Request{Role: pki.Operator, Name: "revoked"})
	add(d, pki.Request{Role: pki.Tenant, Name: "team", Tenant: "/team"})
	add(d, pki.Request{Role: pki.Tenant, Name: "other", Tenant: "/tea"})
	add(d, pki.Request{Role: pki.Node, Name: "node"})
	add(d, pki.Request{Role: pki.Server, Name: "server", DNS: []string{"x"}})
	old, err := d.Authority.Issue(pki.Request{Role: pki.Operator, Name: "old", Life: time.Hour}, time.Now().Add(-2*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	m["old"] = old.Cert
	f.c.Revoked = []string{"00" + pki.Serial(m["revoked"])} // as other programs write it
	return m
}

// tlsNode is an agent's network address, by URL, with the audit in log.
func tlsNode(t *testing.T) (url string, f *front, log *syncBuffer) {
	t.Helper()
	n, _ := guarded(t, readsToken)
	log = &syncBuffer{}
	n.agent.log = slog.New(slog.NewTextHandler(log, nil))
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f = n.agent.front
	s := n.agent.newServer(tls.NewListener(plain, f.config()), n.agent.audited("network", n.agent.guard(n.agent.adminRoutes())))
	ctx, stop := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := s.run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { stop(); wait.Wait() })
	return "https://" + plain.Addr().String(), f, log
}

type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// visit makes one request on a connection of its own.
func visit(t *testing.T, c *tls.Config, method, url string) (status int, server *x509.Certificate, err error) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, nil, err
	}
	if resp.TLS == nil {
		return resp.StatusCode, nil, nil
	}
	return resp.StatusCode, resp.TLS.PeerCertificates[0], nil
}

// Handshakes as they are: who a client is, which versions are spoken, and what plain HTTP is told.
func TestTheNetworkAddressSpeaksTLS(t *testing.T) {
	t.Parallel()
	url, f, log := tlsNode(t)
	dir := filepath.Dir(f.c.CertFile)
	roots, err := pki.ReadPool(filepath.Join(dir, pki.CAFile))
	if err != nil {
		t.Fatal(err)
	}
	d, err := pki.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, cert, key := issue(t, d, t.TempDir(), pki.Request{Role: pki.Operator, Name: "alice"})
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	alice := []tls.Certificate{pair}
	for _, c := range []struct {
		what         string
		config       *tls.Config
		method, path string
		want         int
	}{
		{"nobody", &tls.Config{RootCAs: roots}, "GET", "/v1/health", 200},
		{"nobody", &tls.Config{RootCAs: roots}, "GET", "/v1/node", 403},
		{"alice", &tls.Config{RootCAs: roots, Certificates: alice}, "GET", "/v1/node", 200},
		{"alice by TLS 1.2", &tls.Config{RootCAs: roots, Certificates: alice, MaxVersion: tls.VersionTLS12}, "GET", "/v1/node", 200},
		{"alice, changing", &tls.Config{RootCAs: roots, Certificates: alice}, "DELETE", "/v1/jobs/none", 404},
		{"TLS 1.1", &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "GET", "/v1/health", 0},
		{"who trusts others", &tls.Config{RootCAs: x509.NewCertPool()}, "GET", "/v1/health", 0},
	} {
		if got, _, err := visit(t, c.config, c.method, url+c.path); got != c.want || (err == nil) != (c.want != 0) {
			t.Errorf("%s: %s %s: %d, %v; want %d", c.what, c.method, c.path, got, err, c.want)
		}
	}
	if got, _, err := visit(t, nil, "GET", "http"+strings.TrimPrefix(url, "https")+"/v1/health"); got != http.StatusBadRequest {
		t.Errorf("plain HTTP: %d, %v", got, err)
	}
	if text := log.String(); !strings.Contains(text, "token=cert:alice method=DELETE") {
		t.Errorf("the audit: %s", text)
	}
}

// What is replaced on disk is shown to the next client; what can't be read changes nothing.
func TestTheNetworkAddressFollowsItsFiles(t *testing.T) {
	t.Parallel()
	f := testFront(t)
	dir := filepath.Dir(f.c.CertFile)
	d, err := pki.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	later := time.Now()
	f.now = func() time.Time { return later }
	shows := func() *x509.Certificate {
		later = later.Add(tlsLook)
		c, _ := f.current()
		return c.Leaf
	}
	first := shows()
	again := func() *x509.Certificate {
		c, _, _ := issue(t, d, dir, pki.Request{Role: pki.Node, Name: "here"})
		return c
	}
	second := again()
	if c, _ := f.current(); c.Leaf.SerialNumber.Cmp(first.SerialNumber) != 0 {
		t.Error("looked at too soon")
	}
	if got := shows(); !got.Equal(second) {
		t.Error("the new certificate is not shown")
	}
	if err := os.WriteFile(f.c.KeyFile, []byte("half a k"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := shows(); !got.Equal(second) {
		t.Error("a faulty file was taken")
	}
	if err := f.reload(true); err == nil || strings.Contains(err.Error(), "half a k") {
		t.Errorf("a faulty file, told to read it: %v", err)
	}
	third := again()
	if got := shows(); !got.Equal(third) {
		t.Error("the third certificate is not shown")
	}
	stranger := testCerts(t, testFront(t))["alice"]
	if _, err := f.holder([]*x509.Certificate{stranger}); err == nil {
		t.Fatal("a stranger is known")
	}
	if err := d.Rotate("test", testLife, time.Now()); err != nil {
		t.Fatal(err)
	}
	alice, _, _ := issue(t, d, dir, pki.Request{Role: pki.Operator, Name: "alice"})
	shows()
	if who, err := f.holder([]*x509.Certificate{alice}); err != nil || !who.operator {
		t.Errorf("a client of the new authority: %+v, %v", who, err)
	}
}

// The end of a certificate is a metric of its own, and is logged once a day from two weeks before it, however long the agent has run by then.
func TestTheEndOfACertificateIsTold(t *testing.T) {
	t.Parallel()
	f := testFront(t)
	log := &syncBuffer{}
	f.log = slog.New(slog.NewTextHandler(log, nil))
	end := f.expires()
	now := end.Add(-20 * 24 * time.Hour)
	f.now = func() time.Time { return now }
	said := func() int {
		f.current()
		now = now.Add(2 * tlsLook)
		return strings.Count(log.String(), "ends soon")
	}
	if n := said(); n != 0 {
		t.Errorf("twenty days before: %s", log)
	}
	now = end.Add(-10 * 24 * time.Hour)
	if n := []int{said(), said(), said()}[2]; n != 1 {
		t.Errorf("ten days before: %s", log)
	}
	now = now.Add(pki.NoticeEvery)
	if n := said(); n != 2 {
		t.Errorf("a day later: %s", log)
	}

	who, err := peer.NewIdentity(peer.IdentityOptions{Node: "here", Files: peer.Files{CA: f.c.ClientCAFile, Cert: f.c.CertFile, Key: f.c.KeyFile}})
	if err != nil {
		t.Fatal(err)
	}
	byKey, err := peer.NewIdentity(peer.IdentityOptions{Node: "here", Keys: [][]byte{make([]byte, peer.KeySize)}})
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		front *front
		peers *peer.Identity
		want  []string
	}{
		"none":              {nil, nil, nil},
		"a cluster's key":   {nil, byKey, nil},
		"the address":       {f, byKey, []string{"network"}},
		"both":              {f, who, []string{"network", "peers"}},
		"peers, and no TLS": {nil, who, []string{"peers"}},
	} {
		a := &Agent{front: c.front, cluster: &cluster{identity: c.peers}}
		reg := prometheus.NewPedanticRegistry()
		reg.MustRegister(newExpiry(a.certificateEnds))
		families, err := reg.Gather()
		got := 0
		for _, fam := range families {
			for _, m := range fam.GetMetric() {
				if of := m.GetLabel()[0].GetValue(); !slices.Contains(c.want, of) || m.GetGauge().GetValue() != float64(end.Unix()) {
					t.Errorf("%s: %s ends at %g", what, of, m.GetGauge().GetValue())
				}
				got++
			}
		}
		if err != nil || got != len(c.want) {
			t.Errorf("%s: %v, %v", what, families, err)
		}
	}
}

func TestFaultyTLSIsNamed(t *testing.T) {
	t.Parallel()
	for want, set := range map[string]func(*Config){
		"tls.key_file: cert_file and key_file": func(c *Config) { c.TLS.CertFile = "/c" },
		"tls.client_ca_file: needs cert_file":  func(c *Config) { c.TLS.ClientCAFile = "/c" },
		"tls.cert_file: needs listen":          func(c *Config) { c.TLS.CertFile, c.TLS.KeyFile, c.Listen = "/c", "/k", "" },
		"tls.revoked[0]: must be a serial":     func(c *Config) { c.TLS.Revoked = []string{"AB:CD"} },
		"tls.cert_file: must be an absolute":   func(c *Config) { c.TLS.CertFile = "c" },
		"tls.key_file: must be the name of":    func(c *Config) { c.TLS.KeyFile = "credential:../x" },
	} {
		c := Default()
		set(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	dir := t.TempDir()
	if _, err := openFront(TLSConfig{CertFile: dir + "/c", KeyFile: dir + "/k"}, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("files that are not there")
	}
}

// Every key of a file may name a credential.
func TestCredentialsStandForFiles(t *testing.T) {
	t.Parallel()
	c := Default()
	c.Frameworks = map[string]FrameworkConfig{"m": {PasswordFile: "credential:pass"}}
	c.TLS = TLSConfig{CertFile: "/etc/c", KeyFile: "credential:tls.key"}
	if _, err := c.withCredentials(""); err == nil || !strings.Contains(err.Error(), "credential:") {
		t.Errorf("without credentials: %v", err)
	}
	got, err := c.withCredentials("/run/credentials/x")
	if err != nil || got.TLS.KeyFile != "/run/credentials/x/tls.key" || got.TLS.CertFile != "/etc/c" || got.Frameworks["m"].PasswordFile != "/run/credentials/x/pass" {
		t.Errorf("%+v, %v", got, err)
	}
	if c.Frameworks["m"].PasswordFile != "credential:pass" {
		t.Error("what was given was changed")
	}
	files := func(keys []string) (n int) {
		return len(slices.DeleteFunc(keys, func(k string) bool { return !strings.HasSuffix(k, "_file") }))
	}
	var keys, of []string
	for k := range Keys() {
		keys = append(keys, k)
	}
	for f := range reflect.TypeFor[FrameworkConfig]().Fields() {
		of = append(of, f.Tag.Get("mapstructure"))
	}
	if n := files(keys); n != len(c.files()) {
		t.Errorf("%d keys name a file, %d are looked at", n, len(c.files()))
	}
	if n := files(of); n != len(new(FrameworkConfig).files()) {
		t.Errorf("%d keys of a framework name a file, %d are looked at", n, len(new(FrameworkConfig).files()))
	}
}
