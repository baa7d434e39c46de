package api

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"qosctl/qos"
)

// Peer is one node of the cluster as another one sees it.
type Peer struct {
	Name        string    `json:"name"`
	State       string    `json:"state"` // alive, suspect, dead, left
	Since       time.Time `json:"since,omitzero"`
	Here        bool      `json:"here,omitempty"` // it is the node that answers
	Address     string    `json:"address"`        // of its gossip
	PeerAPI     string    `json:"peer_api,omitempty"`
	Hostname    string    `json:"hostname,omitempty"` // in Mesos
	Version     string    `json:"version,omitempty"`
	Protocol    string    `json:"protocol,omitempty"` // range that it speaks
	CPUs        float64   `json:"cpus"`
	Headroom    float64   `json:"headroom_cpus"`
	Allocated   float64   `json:"allocated_cpus"`
	Jobs        int       `json:"jobs"`            // that run there
	Owned       int       `json:"owned"`           // jobs that have not ended and that it looks after
	Checkpoints bool      `json:"checkpoints"`     // it can take and restore them
	Class       string    `json:"class,omitempty"` // nodes of one class restore each other's
	Draining    string    `json:"draining,omitempty"`
	Held        string    `json:"held,omitempty"`
}

// PeerList answers GET /v1/nodes.
type PeerList struct {
	Nodes   []Peer `json:"nodes"`
	Settled bool   `json:"settled"` // the node that answers has heard its peers
	Quorate bool   `json:"quorate"` // it sees at least half of those that it knew
	Alone   bool   `json:"alone"`   // it is no part of a cluster
}

// TargetGroup is one agent as Prometheus' http_sd_configs wants it: GET /v1/targets answers a list of them.
type TargetGroup struct {
	Targets []string          `json:"targets"` // its address, as host:port
	Labels  map[string]string `json:"labels"`
}

// Hold asks for a hold, or for its end: POST /v1/hold. One of All, Node and Job is given.
type Hold struct {
	On     bool   `json:"on"`
	All    bool   `json:"all,omitempty"`
	Node   string `json:"node,omitempty"`
	Job    string `json:"job,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Holds answers GET /v1/hold: what is on hold, and why.
type Holds struct {
	All      string            `json:"all,omitempty"`
	Nodes    map[string]string `json:"nodes"`
	Jobs     map[string]string `json:"jobs"`
	Draining map[string]string `json:"draining"`
}

// Migrate asks that a job go on on another node: POST /v1/jobs/{job}/migrate.
type Migrate struct {
	To     string `json:"to,omitempty"` // name of a node; "": the one with the most room
	Reason string `json:"reason,omitempty"`
}

// MigrateResponse says where a job goes.
type MigrateResponse struct {
	Job Job    `json:"job"`
	To  string `json:"to"`
	How string `json:"how"` // in words: through which framework, by what
}

// Drain asks that a node be emptied of our jobs, or be used again: POST /v1/drain.
type Drain struct {
	Node   string `json:"node"`
	On     bool   `json:"on"`
	Reason string `json:"reason,omitempty"`
}

// DrainResponse says how a drain is done.
type DrainResponse struct {
	How  string `json:"how"`
	Jobs int    `json:"jobs"` // that are on the node yet
}

// DrainStatus answers GET /v1/drain/{node}: what is left on a node that is to be emptied.
type DrainStatus struct {
	Node     string    `json:"node"`
	Draining string    `json:"draining,omitempty"` // why; "": it is not
	Left     []Leaving `json:"left"`               // jobs that run there, or whose process state is there alone
}

// Leaving is a job that has not left yet.
type Leaving struct {
	ID    string    `json:"id"`
	Name  string    `json:"name"`
	Phase qos.Phase `json:"phase"`
	To    string    `json:"to,omitempty"`    // node that it is on its way to
	Text  string    `json:"text,omitempty"`  // what it waits for
	Stays bool      `json:"stays,omitempty"` // it can't be moved at all
}

// Nodes lists the cluster's nodes.
func (c *Client) Nodes(ctx context.Context) (PeerList, error) {
	return call[PeerList](ctx, c, http.MethodGet, "/v1/nodes", nil)
}

// Targets is what Prometheus is told of the cluster's agents, as JSON.
func (c *Client) Targets(ctx context.Context) ([]byte, error) {
	return c.exchange(ctx, c.timeout, http.MethodGet, "/v1/targets", nil)
}

// Hold puts something on hold or lets it go on, and answers what is on hold then.
func (c *Client) Hold(ctx context.Context, h Hold) (Holds, error) {
	return call[Holds](ctx, c, http.MethodPost, "/v1/hold", h)
}

// Holds tells what is on hold.
func (c *Client) Holds(ctx context.Context) (Holds, error) {
	return call[Holds](ctx, c, http.MethodGet, "/v1/hold", nil)
}

// Migrate moves a job to another node; it answers when that is under way.
func (c *Client) Migrate(ctx context.Context, id string, m Migrate) (MigrateResponse, error) {
	return callWithin[MigrateResponse](ctx, c, checkpointTime, http.MethodPost, jobPath(id)+"/migrate", m)
}

// Drain begins or ends the emptying of a node.
func (c *Client) Drain(ctx context.Context, d Drain) (DrainResponse, error) {
	return call[DrainResponse](ctx, c, http.MethodPost, "/v1/drain", d)
}

// DrainStatus tells what is left on a node.
func (c *Client) DrainStatus(ctx context.Context, node string) (DrainStatus, error) {
	return call[DrainStatus](ctx, c, http.MethodGet, "/v1/drain/"+url.PathEscape(node), nil)
}
