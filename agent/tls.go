package agent

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qosctl/agent/pki"
)

const (
	tlsLook   = 10 * time.Second // between two looks whether files have changed
	clientTag = "cert:"          // before the name of who shows a certificate, in the audit
)

var serialNumber = regexp.MustCompile(`^[0-9a-f]{1,40}$`)

func (p *problems) tls(c Config) {
	t := c.TLS
	p.absolute("tls.cert_file", t.CertFile, false)
	p.absolute("tls.key_file", t.KeyFile, false)
	p.absolute("tls.client_ca_file", t.ClientCAFile, false)
	p.check((t.CertFile == "") == (t.KeyFile == ""), "tls.key_file", t.KeyFile, "cert_file and key_file must be given together")
	p.check(t.ClientCAFile == "" || t.CertFile != "", "tls.client_ca_file", t.ClientCAFile, "needs cert_file and key_file: clients are known by TLS alone")
	p.check(t.CertFile == "" || c.Listen != "", "tls.cert_file", t.CertFile, "needs listen, whose address it is for")
	for i, s := range t.Revoked {
		p.check(serialNumber.MatchString(s), fmt.Sprintf("tls.revoked[%d]", i), s, "must be a serial number: hexadecimal digits, lower case")
	}
}

// front is what the network address shows of itself, and whom it knows by certificates. Its files are looked at again while it serves.
type front struct {
	c   TLSConfig
	log *slog.Logger
	now func() time.Time

	mu      sync.Mutex
	cert    *tls.Certificate
	clients *x509.CertPool // nil: nobody is known by a certificate
	seen    string         // stamp of the files that were read, or found faulty
	looked  time.Time
	noticed time.Time // when it was last logged that the certificate ends soon
}

// openFront reads the files; nil: there are none, and the address speaks HTTP without TLS.
func openFront(c TLSConfig, log *slog.Logger) (*front, error) {
	if c.CertFile == "" {
		return nil, nil
	}
	f := &front{c: c, log: log.With("pkg", "tls"), now: time.Now}
	if err := f.load(); err != nil {
		return nil, err
	}
	return f, nil
}

// load reads the files; a fault changes nothing. The caller holds f.mu, or is alone.
func (f *front) load() error {
	f.looked = f.now()
	stamp, err := pki.Stamp(f.c.CertFile, f.c.KeyFile, f.c.ClientCAFile)
	if err != nil {
		return fmt.Errorf("look at the certificates: %w", err)
	}
	f.seen = stamp
	cert, err := readPair(f.c.CertFile, f.c.KeyFile)
	if err != nil {
		return err
	}
	var clients *x509.CertPool
	if f.c.ClientCAFile != "" {
		if clients, err = pki.ReadPool(f.c.ClientCAFile); err != nil {
			return fmt.Errorf("tls.client_ca_file: %w", err)
		}
	}
	f.cert, f.clients = cert, clients
	f.notice()
	return nil
}

// notice logs once a day that the certificate ends soon. The caller holds f.mu, or is alone.
func (f *front) notice() {
	now, until := f.now(), f.cert.Leaf.NotAfter
	if pki.EndsSoon(until, now) && now.Sub(f.noticed).Abs() >= pki.NoticeEvery {
		f.noticed = now
		f.log.Warn("the certificate of the network address ends soon, or has ended", "until", until, "file", f.c.CertFile)
	}
}

func readPair(certFile, keyFile string) (*tls.Certificate, error) {
	text, err := pki.ReadFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("tls.cert_file: %w", err)
	}
	key, err := pki.ReadFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("tls.key_file: %w", err)
	}
	cert, err := tls.X509KeyPair(text, key)
	if err != nil {
		return nil, fmt.Errorf("tls.cert_file %s and tls.key_file %s: %w", certFile, keyFile, err)
	}
	return &cert, nil
}

// reload reads files that have changed, at most every tlsLook unless it must. Files that are replaced one after the other don't match in
// between: then those of before are used, and the next change is looked at again.
func (f *front) reload(must bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if since := f.now().Sub(f.looked); !must && since >= 0 && since < tlsLook {
		return nil
	}
	f.looked = f.now()
	f.notice()
	stamp, err := pki.Stamp(f.c.CertFile, f.c.KeyFile, f.c.ClientCAFile)
	if err == nil && stamp == f.seen && !must {
		return nil
	}
	if err == nil {
		err = f.load()
	}
	if err != nil {
		return err
	}
	f.log.Info("the certificates of the network address were read again")
	return nil
}

// current is what holds now.
func (f *front) current() (*tls.Certificate, *x509.CertPool) {
	if err := f.reload(false); err != nil {
		f.log.Error("the certificates of the network address can't be read again, the former ones are used", "err", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cert, f.clients
}

// config is of all handshakes. HTTP/2 is not spoken, so that the bounds of connections are bounds of requests; no session is resumed, so that
// a client is known by what it shows. What it shows is verified with each request (holder), by what holds then.
func (f *front) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			cert, clients := f.current()
			c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*cert}, NextProtos: []string{"http/1.1"}, SessionTicketsDisabled: true}
			if clients != nil {
				c.ClientAuth, c.ClientCAs = tls.RequestClientCert, clients
			}
			return c, nil
		},
	}
}

// holder finds out whose certificate a client shows.
func (f *front) holder(chain []*x509.Certificate) (identity, error) {
	_, clients := f.current()
	if clients == nil {
		return identity{}, refuse(codeForbidden, "this agent knows nobody by a certificate").hint("tls.client_ca_file names the authority of clients' certificates")
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: clients, Intermediates: between, CurrentTime: f.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return identity{}, refuse(codeForbidden, "the client's certificate is not good here: %s", err).hint("`qosctl tls issue` makes one; this agent's clock may be wrong, too")
	}
	serial := pki.Serial(chain[0])
	if slices.ContainsFunc(f.c.Revoked, func(s string) bool { return strings.TrimLeft(s, "0") == serial }) { // other programs write whole bytes
		return identity{}, refuse(codeForbidden, "the client's certificate %s was revoked", serial)
	}
	h, err := pki.HolderOf(chain[0])
	if err != nil {
		return identity{}, refuse(codeForbidden, "the client's certificate %s: %s", serial, err).hint("its OU must be qosctl-operator, or qosctl-tenant with the tenant as O")
	}
	return identity{name: clientTag + h.Name, operator: h.Operator, tenant: h.Tenant}, nil
}

// expires is when the certificate of the network address ends.
func (f *front) expires() time.Time {
	cert, _ := f.current()
	return cert.Leaf.NotAfter
}

// expiryCollector tells Prometheus when this agent's certificates end.
type expiryCollector struct {
	ends func() map[string]time.Time
	desc *prometheus.Desc
}

func newExpiry(ends func() map[string]time.Time) expiryCollector {
	return expiryCollector{ends, prometheus.NewDesc("qosctl_certificate_expiry_timestamp_seconds",
		"When a certificate ends: `network`, with TLS at the network address; `peers`, with an authority of the site's own between agents.", []string{"of"}, nil)}
}

// Describe is of prometheus.Collector.
func (c expiryCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect is of prometheus.Collector.
func (c expiryCollector) Collect(ch chan<- prometheus.Metric) {
	for of, until := range c.ends() {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(until.Unix()), of)
	}
}

// certificateEnds are when this agent's certificates end that nobody renews but whoever has issued them.
func (a *Agent) certificateEnds() map[string]time.Time {
	ends := map[string]time.Time{}
	if a.front != nil {
		ends["network"] = a.front.expires()
	}
	if a.cluster != nil && a.cluster.identity != nil {
		if until := a.cluster.identity.Expires(); !until.IsZero() {
			ends["peers"] = until
		}
	}
	return ends
}

// certificates are those that a request's client showed.
func certificates(r *http.Request) []*x509.Certificate {
	if r.TLS == nil {
		return nil
	}
	return r.TLS.PeerCertificates
}

// ReloadTLS reads the files of the network address again, and those of an authority of the site's own for peers. What can't be read changes
// nothing.
func (a *Agent) ReloadTLS() error {
	var errs [2]error
	if a.front != nil {
		errs[0] = a.front.reload(true)
	}
	if a.cluster != nil && a.cluster.identity != nil {
		errs[1] = a.cluster.identity.Reload()
	}
	return errors.Join(errs[:]...)
}
