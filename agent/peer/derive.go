package peer

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"qosctl/agent/pki"
)

// KeySize is the length of a cluster key, in bytes.
const KeySize = 32

// What is derived from a cluster key. A change of one of these words makes nodes strangers to each other.
const (
	infoCA = "qosctl peer ca ed25519 v1"
	infoID = "qosctl peer ca id v1"
)

// A certificate is valid from long before its making, since clocks differ and jump, and is renewed long before its end.
const (
	leafBefore = 7 * 24 * time.Hour
	leafAfter  = 30 * 24 * time.Hour
	leafRenew  = 5 * 24 * time.Hour
	leafJump   = 24 * time.Hour // a clock so far behind a certificate's making was set back: it is made anew
)

// An authority's certificate says nothing that the key doesn't, so it has no end that anybody could miss.
var (
	caFrom  = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	caUntil = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
)

// authority is what one cluster key stands for.
type authority struct {
	id   string // names the key without telling it
	cert *x509.Certificate
	key  ed25519.PrivateKey
}

// derive makes the authority of a cluster key; it is the same on every node.
func derive(key []byte) (*authority, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("a cluster key has %d bytes, not %d", KeySize, len(key))
	}
	seed, err := hkdf.Key(sha256.New, key, nil, infoCA, ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("derive the peers' authority: %w", err)
	}
	id, err := hkdf.Key(sha256.New, key, nil, infoID, 8)
	if err != nil {
		return nil, fmt.Errorf("derive the peers' authority: %w", err)
	}
	a := &authority{id: hex.EncodeToString(id), key: ed25519.NewKeyFromSeed(seed)}
	public := a.key.Public().(ed25519.PublicKey)
	keyID := sha256.Sum256(public)
	der, err := x509.CreateCertificate(nil, &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(append([]byte{1}, id...)), Subject: pkix.Name{Organization: []string{"qosctl"}, CommonName: "qosctl cluster " + a.id},
		NotBefore: caFrom, NotAfter: caUntil, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: keyID[:20],
	}, &x509.Certificate{Subject: pkix.Name{Organization: []string{"qosctl"}, CommonName: "qosctl cluster " + a.id}, SubjectKeyId: keyID[:20]}, public, a.key)
	if err == nil {
		a.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		return nil, fmt.Errorf("make the peers' authority: %w", err)
	}
	return a, nil
}

// issue makes a certificate for a node, with a key that nobody else has.
func (a *authority) issue(node string, now time.Time) (*tls.Certificate, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for node %s: %w", node, err)
	}
	var serial [16]byte
	if _, err := rand.Read(serial[:]); err != nil {
		return nil, fmt.Errorf("make a certificate for node %s: %w", node, err)
	}
	serial[0] = serial[0]&0x7f | 1
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial[:]), Subject: pkix.Name{Organization: []string{"qosctl"}},
		NotBefore: now.Add(-leafBefore), NotAfter: now.Add(leafAfter), BasicConstraintsValid: true, URIs: []*url.URL{pki.NodeURI(node)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for node %s: %w", node, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for node %s: %w", node, err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private, Leaf: leaf}, nil
}

// stale says whether a certificate that was made at a time is to be made anew.
func stale(made, now time.Time) bool {
	age := now.Round(0).Sub(made.Round(0)) // by the wall clock, which is what others judge by
	return age > leafRenew || age < -leafJump
}
