package api

import (
	"context"
	"net/http"
)

// Steps of an exchange of the cluster's key. Each is done on all nodes before the next.
const (
	KeyAdd    = "add"
	KeyUse    = "use"
	KeyRemove = "remove"
)

// KeyInfo is what may be shown of a key.
type KeyInfo struct {
	Fingerprint string `json:"fingerprint"`
	Primary     bool   `json:"primary"` // it encrypts; the others decrypt only
}

// NodeKeys is the key ring of one node.
type NodeKeys struct {
	Node  string    `json:"node"`
	Keys  []KeyInfo `json:"keys"`
	Error string    `json:"error,omitempty"` // why it is not known, or why the step was not taken there
}

// Keyring answers GET and POST /v1/keyring: the key rings of all nodes.
type Keyring struct {
	Fingerprint string     `json:"fingerprint,omitempty"` // of the key that was added, used or removed
	Nodes       []NodeKeys `json:"nodes"`
}

// KeyChange asks for one step on all nodes: POST /v1/keyring.
type KeyChange struct {
	Do          string `json:"do"`                    // add, use, remove
	Fingerprint string `json:"fingerprint,omitempty"` // of the key, or a beginning of it; add: of one that the node has already
	Key         string `json:"key,omitempty"`         // add: the key, in base64 or hex, over a socket only; without both a new one is made
	Force       bool   `json:"force,omitempty"`       // also if a node that does not answer is locked out by it
}

// Keyring tells the key rings of all nodes.
func (c *Client) Keyring(ctx context.Context) (Keyring, error) {
	return call[Keyring](ctx, c, http.MethodGet, "/v1/keyring", nil)
}

// ChangeKeyring takes a step on all nodes.
func (c *Client) ChangeKeyring(ctx context.Context, k KeyChange) (Keyring, error) {
	return call[Keyring](ctx, c, http.MethodPost, "/v1/keyring", k)
}
