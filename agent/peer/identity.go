package peer

import (
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// maxKeys bounds a key ring.
const maxKeys = 16

// IdentityOptions are who a node is and whom it trusts: by the cluster's keys, or by files of a site's own authority.
type IdentityOptions struct {
	Node   string       // this node's name
	Keys   [][]byte     // the cluster's, KeySize bytes each, the primary first
	Files  Files        // of an authority of the site's own, in place of the keys
	Logger *slog.Logger // nil: nothing is logged
}

// Identity is a node's side of mutual TLS. Its methods may be called at once.
type Identity struct {
	node  string
	files Files
	log   *slog.Logger
	now   func() time.Time

	mu      sync.Mutex
	primary *authority // nil: files
	roots   *x509.CertPool
	leaf    *tls.Certificate
	made    time.Time // of leaf
	version uint64    // grows with each change of roots
	looked  time.Time // at the files
	seen    string    // of the files
	noticed time.Time // when it was last logged that the certificate ends soon
}

// NewIdentity derives or reads what it needs.
func NewIdentity(o IdentityOptions) (*Identity, error) {
	if err := checkName(o.Node); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	i := &Identity{node: o.Node, files: o.Files, log: o.Logger.With("pkg", "peer"), now: time.Now}
	switch {
	case o.Files != Files{} && len(o.Keys) > 0:
		return nil, errors.New("peers are known either by the cluster key or by an authority's files, not by both")
	case o.Files != Files{}:
		i.mu.Lock()
		defer i.mu.Unlock()
		if err := i.load(); err != nil {
			return nil, err
		}
		i.notice(i.now())
		return i, nil
	}
	return i, i.SetKeys(o.Keys)
}

// Node is this node's name.
func (i *Identity) Node() string { return i.node }

// SetKeys replaces the key ring, the primary first. It holds from the next handshake on, and for connections that are there from their next
// request on.
func (i *Identity) SetKeys(keys [][]byte) error {
	if i.files != (Files{}) {
		return errors.New("peers are known by an authority's files: there are no keys to set")
	}
	if len(keys) == 0 || len(keys) > maxKeys {
		return fmt.Errorf("a key ring has 1 to %d keys (got %d)", maxKeys, len(keys))
	}
	roots := x509.NewCertPool()
	var primary *authority
	for n, key := range keys {
		for _, former := range keys[:n] {
			if subtle.ConstantTimeCompare(former, key) == 1 {
				return errors.New("a key stands twice in the key ring")
			}
		}
		a, err := derive(key)
		if err != nil {
			return err
		}
		if n == 0 {
			primary = a
		}
		roots.AddCert(a.cert)
	}
	now := i.now()
	leaf, err := primary.issue(i.node, now)
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.primary, i.roots, i.leaf, i.made = primary, roots, leaf, now
	i.version++
	return nil
}

// trust is what holds at one moment.
type trust struct {
	leaf    *tls.Certificate
	roots   *x509.CertPool
	version uint64
}

// current renews what is due, and says what holds now.
func (i *Identity) current() trust {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := i.now()
	switch {
	case i.primary == nil:
		i.reload(now)
	case stale(i.made, now):
		leaf, err := i.primary.issue(i.node, now)
		if err != nil { // the old one is good for weeks
			i.log.Error("renew the certificate for peers", "err", err)
			break
		}
		i.leaf, i.made = leaf, now
	}
	return trust{leaf: i.leaf, roots: i.roots, version: i.version}
}

// verify says whether a certificate that was presented is one of a node of the cluster, and of which: it may have several names. "" for node
// is any.
func (t trust) verify(chain []*x509.Certificate, node string, use x509.ExtKeyUsage, now time.Time) (names []string, err error) {
	if len(chain) == 0 {
		return nil, errNoCertificate
	}
	leaf, between := chain[0], x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: t.roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
		return nil, err
	}
	names = namesOf(leaf)
	switch {
	case len(names) == 0:
		return nil, errNoName
	case node != "" && !slices.Contains(names, node):
		return nil, &otherNodeError{want: node, got: names[0]}
	}
	return names, nil
}

// server is the configuration of one handshake with whoever connects. No session is resumed: a key that was removed must be of no use.
func (i *Identity) server() *tls.Config {
	t := i.current()
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*t.leaf}, ClientAuth: tls.RequireAnyClientCert,
		NextProtos: []string{protocol}, SessionTicketsDisabled: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			_, err := t.verify(s.PeerCertificates, "", x509.ExtKeyUsageClientAuth, i.now())
			return err
		},
	}
}

// client is the configuration of one handshake with a node.
func (i *Identity) client(node string) *tls.Config {
	t := i.current()
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{protocol},
		InsecureSkipVerify: true, // a node's name needs no DNS name: VerifyConnection does all of it
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return t.leaf, nil // whatever the server says it wants: it is this or nothing
		},
		VerifyConnection: func(s tls.ConnectionState) error {
			_, err := t.verify(s.PeerCertificates, node, x509.ExtKeyUsageServerAuth, i.now())
			return err
		},
	}
}

// protocol is what both sides of a handshake must speak (ALPN).
const protocol = "http/1.1"
