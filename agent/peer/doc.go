// Package peer is how agents talk to each other: HTTP over mutual TLS, whose keys come from the cluster key that all of them share.
//
// From each key of the ring a certificate authority is derived, the same on every node; each node issues itself a certificate by
// the primary's, with its name in it, and trusts those of all keys in the ring. So a key is rotated as the gossip's is: added everywhere,
// made primary everywhere, removed everywhere, and nothing is cut meanwhile. Whoever has the key can pose as any node: it proves that a
// peer belongs to the cluster, and guards against mistaken addresses, not against a node that has turned. An authority of the site's own
// (Files) closes that gap.
//
// A Server answers nobody without such a certificate, before a byte of HTTP is read. Strangers can neither fill its memory nor keep peers out:
// handshakes have a time, a number in all and a number for each address, and a refusal is logged once per address and hour. A Client
// goes on only with the node that it means, and says whether a peer refused (ErrRefused) or can't be reached (ErrUnreachable).
package peer
