// Package pki makes and reads the certificates of a site's own authority: for the agents' network address, for people and programs that ask
// it, and for the agents among themselves.
//
// An authority is a directory with ca.crt, which everybody may have, and ca.key, which nobody else may. What a certificate is for stands in
// it: a node's has the address qosctl://node/NAME, a server's its DNS names and addresses alone, and a client's the organizational unit
// qosctl-operator, or qosctl-tenant with the tenant as organization. A certificate without such a unit is nobody's, whoever signed it, so
// that an authority that signs for others as well opens nothing to them.
//
// An authority is exchanged while the old one is still trusted: ca.crt then has both, the one that issues first.
package pki
