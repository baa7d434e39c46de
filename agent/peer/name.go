package peer

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"qosctl/agent/pki"
)

// maxName bounds a node's name, in bytes.
const maxName = 255

// checkName refuses what can't be a node's name.
func checkName(node string) error {
	if node == "" || len(node) > maxName || !utf8.ValidString(node) || strings.ContainsFunc(node, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		return fmt.Errorf("%.80q is no name of a node: 1 to %d bytes of readable text", node, maxName)
	}
	return nil
}

// nameOf reads a name from an address in a certificate; ok is false for any address that pki.NodeURI doesn't make.
func nameOf(u *url.URL) (node string, ok bool) {
	node, ok = pki.NodeOf(u)
	return node, ok && checkName(node) == nil
}

// namesOf lists whom a certificate stands for: the names in our addresses, or else, for certificates of a site's own authority, its DNS names.
// Those that `qosctl tls` has issued to a server, an operator or a tenant stand for no node, whatever hosts they name.
func namesOf(c *x509.Certificate) (names []string) {
	for _, u := range c.URIs {
		if node, ok := nameOf(u); ok {
			names = append(names, node)
		}
	}
	if len(names) > 0 || pki.HasUnit(c) {
		return names
	}
	for _, d := range c.DNSNames {
		if checkName(d) == nil && !strings.Contains(d, "*") {
			names = append(names, d)
		}
	}
	return names
}
