package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"regexp"
	"time"
)

// backdated is how long before its making a certificate is valid: clocks differ.
const backdated = 24 * time.Hour

// maxCommonName is X.520's bound of a common name.
const maxCommonName = 64

var (
	fileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$`)
	dnsName  = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9]([A-Za-z0-9-]{0,62}\.?)+$`)
)

// Authority signs certificates.
type Authority struct {
	Cert *x509.Certificate
	key  crypto.Signer
}

// Request is what a certificate is to be. Name is a node's name, or the common name of others.
type Request struct {
	Role   Role
	Name   string
	Tenant string   // whose jobs a tenant's certificate opens
	DNS    []string // names that a node or a server is asked by
	IPs    []net.IP
	Life   time.Duration
}

// Pair is a certificate with its key, as files have them.
type Pair struct {
	Cert              *x509.Certificate
	CertPEM, KeyPEM   []byte
	shortenedToIssuer bool
}

// Shortened says whether the authority ends before the certificate was to.
func (p *Pair) Shortened() bool { return p.shortenedToIssuer }

// Validate says what a request lacks, or has too much of.
func (r Request) Validate() error {
	serves := r.Role == Node || r.Role == Server
	switch {
	case !fileName.MatchString(r.Name) || r.Role != Node && len(r.Name) > maxCommonName:
		return fmt.Errorf("name %.140q: want 1 to %d letters, digits, '.', '_', '@', '+' and '-'", r.Name, maxCommonName)
	case serves == (r.Role == Operator || r.Role == Tenant):
		return fmt.Errorf("a certificate is for a %s, a %s, an %s or a %s", Node, Server, Operator, Tenant)
	case (r.Role == Tenant) != (r.Tenant != ""):
		return errors.New("a tenant's certificate, and no other, names a tenant")
	case r.Tenant != "" && (len(r.Tenant) > 255 || !graphic(r.Tenant)):
		return fmt.Errorf("tenant %.80q is not the name of a group or an owner", r.Tenant)
	case !serves && len(r.DNS)+len(r.IPs) > 0:
		return errors.New("a client's certificate has no names of hosts")
	case r.Role == Server && len(r.DNS)+len(r.IPs) == 0:
		return errors.New("a server's certificate needs the DNS names or the addresses that it is asked by")
	case r.Life <= 0:
		return fmt.Errorf("a certificate must be valid for some time (got %s)", r.Life)
	}
	for _, d := range r.DNS {
		if len(d) > 253 || !dnsName.MatchString(d) || net.ParseIP(d) != nil {
			return fmt.Errorf("%.140q is no DNS name", d)
		}
	}
	return nil
}

// NewAuthority makes an authority with a key of its own.
func NewAuthority(name string, life time.Duration, now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the authority's key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	id, err := keyID(key.Public())
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name + " " + serial.Text(16)[:8]},
		NotBefore: now.Add(-backdated), NotAfter: now.Add(life), IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: id, AuthorityKeyId: id,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make the authority: %w", err)
	}
	return &Authority{Cert: cert, key: key}, nil
}

// Issue makes a certificate with a key of its own. It is not valid for longer than the authority is.
func (a *Authority) Issue(r Request, now time.Time) (*Pair, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for %s: %w", r.Name, err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t := r.template()
	t.SerialNumber, t.NotBefore, t.NotAfter = serial, now.Add(-backdated), now.Add(r.Life)
	p := &Pair{shortenedToIssuer: t.NotAfter.After(a.Cert.NotAfter)}
	if p.shortenedToIssuer {
		t.NotAfter = a.Cert.NotAfter
	}
	if !t.NotAfter.After(now) {
		return nil, fmt.Errorf("the authority's time ended on %s", a.Cert.NotAfter.Format(time.DateOnly))
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.Cert, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for %s: %w", r.Name, err)
	}
	if p.Cert, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("make a certificate for %s: %w", r.Name, err)
	}
	p.CertPEM = certPEM(p.Cert)
	if p.KeyPEM, err = keyPEM(key); err != nil {
		return nil, fmt.Errorf("make a key for %s: %w", r.Name, err)
	}
	return p, nil
}

// template is what a request asks for.
func (r Request) template() *x509.Certificate {
	t := &x509.Certificate{BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, DNSNames: r.DNS, IPAddresses: r.IPs}
	if len(r.Name) <= maxCommonName {
		t.Subject.CommonName = r.Name
	}
	t.Subject.OrganizationalUnit = []string{unitPrefix + string(r.Role)}
	switch r.Role {
	case Node:
		t.URIs = []*url.URL{NodeURI(r.Name)}
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	case Server:
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	case Tenant:
		t.Subject.Organization = []string{r.Tenant}
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	default:
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	return t
}

// newSerial is 127 random bits, the first of which is set.
func newSerial() (*big.Int, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b[:]), nil
}

func keyID(public crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("name the authority's key: %w", err)
	}
	sum := sha256.Sum256(der)
	return sum[:20], nil
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func keyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
