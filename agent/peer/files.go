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

// reload looks at the files now and then; i.mu is held. What can't be read changes nothing.
func (i *Identity) reload(now time.Time) {
	if since := now.Sub(i.looked); since >= 0 && since < lookAgain {
		return
	}
	if err := i.again(now); err != nil {
		i.log.Error("the peers' certificates can't be read again, the former ones are used", "err", err)
	}
	i.notice(now)
}

// again reads files that were changed; i.mu is held.
func (i *Identity) again(now time.Time) error {
	i.looked = now
	seen, err := i.files.stamp()
	if err != nil || seen == i.seen {
		return err
	}
	if err := i.load(); err != nil {
		return err
	}
	i.log.Info("the peers' certificates were read again")
	return nil
}

// notice logs once a day that the certificate ends soon; i.mu is held.
func (i *Identity) notice(now time.Time) {
	if until := i.leaf.Leaf.NotAfter; pki.EndsSoon(until, now) && now.Sub(i.noticed).Abs() >= pki.NoticeEvery {
		i.noticed = now
		i.log.Warn("the certificate for peers ends soon, or has ended", "until", until, "file", i.files.Cert)
	}
}

// Reload reads an authority's files again now, if they have changed. What can't be read changes nothing. Of keys there is nothing to read.
func (i *Identity) Reload() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.primary != nil {
		return nil
	}
	return i.again(i.now())
}

// Expires is when the certificate of a site's own authority ends; the zero time: it is of a key, and renewed by itself.
func (i *Identity) Expires() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.primary != nil {
		return time.Time{}
	}
	i.reload(i.now())
	return i.leaf.Leaf.NotAfter
}

func (f Files) read(node string) (*tls.Certificate, *x509.CertPool, error) {
	roots, err := pki.ReadPool(f.CA)
	if err != nil {
		return nil, nil, fmt.Errorf("read the peers' certificates: %w", err)
	}
	var text [2][]byte
	for n, name := range []string{f.Cert, f.Key} {
		if text[n], err = pki.ReadFile(name); err != nil {
			return nil, nil, fmt.Errorf("read the peers' certificates: %w", err)
		}
	}
	leaf, err := tls.X509KeyPair(text[0], text[1])
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
