package agent

import (
	"crypto/sha256"
	"maps"
	"slices"
)

// What access.reads may be.
const (
	readsOpen  = "open"
	readsToken = "token"
)

var readKinds = []string{readsOpen, readsToken}

func (p *problems) access(c AccessConfig) {
	p.oneOf("access.reads", c.Reads, readKinds)
	for _, h := range c.Hosts {
		p.check(nodeName.MatchString(h), "access.hosts", h, "must be names of hosts, without port")
	}
	byHash := map[[sha256.Size]byte]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Tokens)) {
		t, key := c.Tokens[name], "access.tokens."+name
		p.check(endpointName.MatchString(name), key, name, "a token's name must be letters, digits, '.', '_' and '-'")
		sum, err := parseHash(t.Hash)
		p.check(err == nil, key+".hash", t.Hash, "must be "+hashPrefix+" and 64 hexadecimal digits (qosctl token makes a token and this line)")
		p.check(t.Operator != (t.Tenant != ""), key, t.Tenant, "must have either operator: true or a tenant")
		if err == nil { // as it is compared: digits may be written in two ways
			p.check(byHash[sum] == "", key+".hash", t.Hash, "is that of "+byHash[sum])
			byHash[sum] = name
		}
	}
}
