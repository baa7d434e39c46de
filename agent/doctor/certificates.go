package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"

	"qosctl/agent/api"
	"qosctl/agent/pki"
)

// Certificate is one by which this node is known, and its key.
type Certificate struct {
	Key  string // of the configuration
	Cert string // the files
	Priv string
	CA   string // of the authorities that others hold it against; "": not known here
}

// Probe reads the files as the agent does.
func (c Certificate) Probe() Probe {
	return Probe{Entry: Certificates, Of: c.Key, Look: func(context.Context) []api.Check { return []api.Check{c.look(time.Now())} }}
}

func (c Certificate) look(now time.Time) api.Check {
	pair, err := c.read()
	if err != nil {
		return Certificates.fault(c.Key, "it can't be used", err, "the files must be a certificate and its key, PEM; the agent goes on with what it had read before, until it is started again")
	}
	leaf := pair.Leaf
	until := leaf.NotAfter.Format(time.DateOnly)
	switch {
	case now.After(leaf.NotAfter):
		return Certificates.fault(c.Key, "it ended on "+until+": nobody who verifies it goes on", nil, "")
	case now.Before(leaf.NotBefore):
		return Certificates.fault(c.Key, "it is not valid before "+leaf.NotBefore.Format(time.DateTime), nil, "set this node's clock right, or that of whoever has issued it")
	}
	if err := c.issued(pair, now); err != nil {
		return Certificates.fault(c.Key, "the authorities in "+c.CA+" have not issued it: peers refuse it", err, "")
	}
	if pki.EndsSoon(leaf.NotAfter, now) {
		return Certificates.warn(c.Key, "it ends on "+until, nil, "")
	}
	return Certificates.ok(c.Key, "it is valid until %s", until)
}

func (c Certificate) read() (pair tls.Certificate, err error) {
	cert, err := pki.ReadFile(c.Cert)
	if err != nil {
		return pair, err
	}
	key, err := pki.ReadFile(c.Priv)
	if err != nil {
		return pair, err
	}
	if pair, err = tls.X509KeyPair(cert, key); err != nil {
		return pair, fmt.Errorf("%s and %s: %w", c.Cert, c.Priv, err)
	}
	return pair, nil
}

// issued says why a certificate is none of the authorities'.
func (c Certificate) issued(pair tls.Certificate, now time.Time) error {
	if c.CA == "" {
		return nil
	}
	roots, err := pki.ReadPool(c.CA)
	if err != nil {
		return err
	}
	between := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		i, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		between.AddCert(i)
	}
	_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}
