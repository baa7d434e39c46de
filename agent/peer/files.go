package peer

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"

	"qosctl/agent/pki"
)

// Files are PEM files of a site's own authority. Its certificates must be for nodes of this cluster only: whoever has one is a peer. A node's
// has its name as URI qosctl://node/NAME or as DNS name, and is for servers and clients.
type Files struct {
	CA, Cert, Key string // paths
}

// lookAgain is the time between two looks whether files have changed.
const lookAgain = time.Minute

func (f Files) stamp() (string, error) { return pki.Stamp(f.CA, f.Cert, f.Key) }

// load reads the files; i.mu is held.
func (i *Identity) load() error {
	seen, err := i.files.stamp()
	if err != nil {
		return fmt.Errorf("look at the peers' certificates: %w", err)
	}
	leaf, roots, err := i.files.read(i.node)
	if err != nil {
		return err
	}
	i.leaf, i.roots, i.seen, i.looked = leaf, roots, seen, i.now()
	i.version++
	return nil
}

// reload reads files that were changed; i.mu is held. What can't be read changes nothing.
func (i *Identity) reload(now time.Time) {
	if since := now.Sub(i.looked); since >= 0 && since < lookAgain {
		return
	}
	i.looked = now
	seen, err := i.files.stamp()
	if err == nil && seen == i.seen {
		return
	}
	if err == nil {
		err = i.load()
	}
	if err != nil {
		i.log.Error("the peers' certificates can't be read again, the former ones are used", "err", err)
		return
	}
	i.log.Info("the peers' certificates were read again")
}

func (f Files) read(node string) (*tls.Certificate, *x509.CertPool, error) {
	var text [3][]byte
	for n, name := range []string{f.CA, f.Cert, f.Key} {
		b, err := pki.ReadFile(name)
		if err != nil {
			return nil, nil, fmt.Errorf("read the peers' certificates: %w", err)
		}
		text[n] = b
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text[0]) {
		return nil, nil, fmt.Errorf("%s holds no certificate of an authority", f.CA)
	}
	leaf, err := tls.X509KeyPair(text[1], text[2])
	if err != nil {
		return nil, nil, fmt.Errorf("read %s and %s: %w", f.Cert, f.Key, err)
	}
	chain := []*x509.Certificate{leaf.Leaf}
	for _, der := range leaf.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", f.Cert, err)
		}
		chain = append(chain, c)
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := (trust{roots: roots}).verify(chain, node, use, time.Now()); err != nil {
			return nil, nil, fmt.Errorf("%s does not prove that this is node %s: %w", f.Cert, node, err)
		}
	}
	return &leaf, roots, nil
}
