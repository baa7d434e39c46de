package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

// Role is what a certificate is for.
type Role string

// The roles.
const (
	Node     Role = "node"     // an agent: for its peers, and for whoever asks its network address
	Server   Role = "server"   // whoever asks its network address
	Operator Role = "operator" // a client that may do everything
	Tenant   Role = "tenant"   // a client with the jobs of a tenant
)

// unitPrefix begins the organizational units (OU) that are ours.
const unitPrefix = "qosctl-"

// Holder is whom a client's certificate stands for.
type Holder struct {
	Name     string // its common name (CN), or its serial number
	Operator bool
	Tenant   string // "": an operator
}

// ErrNobody says that a certificate gives no role to its holder.
var ErrNobody = errors.New("it gives its holder no role")

// HolderOf reads the role of a client's certificate, which was verified: exactly one OU of ours, and of a tenant exactly one O.
func HolderOf(c *x509.Certificate) (Holder, error) {
	h := Holder{Name: c.Subject.CommonName}
	if h.Name == "" || len(h.Name) > maxCommonName || !graphic(h.Name) {
		h.Name = Serial(c)
	}
	var ours []string
	for _, u := range c.Subject.OrganizationalUnit {
		if strings.HasPrefix(u, unitPrefix) {
			ours = append(ours, u)
		}
	}
	orgs := c.Subject.Organization
	switch {
	case len(ours) != 1:
		return Holder{}, fmt.Errorf("%w: it has %d organizational units that begin with %s, not one", ErrNobody, len(ours), unitPrefix)
	case ours[0] == unitPrefix+string(Operator):
		h.Operator = true
	case ours[0] != unitPrefix+string(Tenant):
		return Holder{}, fmt.Errorf("%w: %.80q is neither an operator's nor a tenant's organizational unit", ErrNobody, ours[0])
	case len(orgs) != 1 || orgs[0] == "" || !graphic(orgs[0]):
		return Holder{}, fmt.Errorf("%w: a tenant's has the tenant as its one organization", ErrNobody)
	default:
		h.Tenant = orgs[0]
	}
	return h, nil
}

// RoleOf says what a certificate is for; "": for nothing of ours.
func RoleOf(c *x509.Certificate) Role {
	if h, err := HolderOf(c); err == nil && slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		if h.Operator {
			return Operator
		}
		return Tenant
	}
	switch {
	case slices.ContainsFunc(c.URIs, func(u *url.URL) bool { return u.Scheme == uriScheme && u.Host == uriHost }):
		return Node
	case slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth):
		return Server
	}
	return ""
}

// HasUnit says whether a certificate has an organizational unit of ours: then it says what its holder is, and is good for nothing else.
func HasUnit(c *x509.Certificate) bool {
	return slices.ContainsFunc(c.Subject.OrganizationalUnit, func(u string) bool { return strings.HasPrefix(u, unitPrefix) })
}

// Serial is a certificate's serial number, as `tls.revoked` has it.
func Serial(c *x509.Certificate) string { return c.SerialNumber.Text(16) }

const (
	uriScheme = "qosctl"
	uriHost   = "node"
)

// NodeURI is how a node's name stands in its certificate: any name can, unlike a DNS name.
func NodeURI(node string) *url.URL {
	return &url.URL{Scheme: uriScheme, Host: uriHost, Path: "/" + node, RawPath: "/" + url.PathEscape(node)}
}

// NodeOf reads a name from an address in a certificate; ok is false for any address that NodeURI doesn't make.
func NodeOf(u *url.URL) (node string, ok bool) {
	if u == nil || u.Scheme != uriScheme || u.Host != uriHost {
		return "", false
	}
	node = strings.TrimPrefix(u.Path, "/")
	return node, node != "" && u.String() == NodeURI(node).String()
}

func graphic(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) })
}
