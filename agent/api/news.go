package api

import (
	"encoding/json"
	"time"

	"qosctl/qos"
)

// JobNews is an event of GET /v1/jobs/{id}/events. The first has all that there is; later ones have the readings, changes and decisions that
// are new, and runs and events only if there are others than before.
type JobNews struct {
	First     bool           `json:"first,omitempty"`
	At        time.Time      `json:"at"`
	Job       Job            `json:"job"`
	History   History        `json:"history"`
	Decisions []qos.Decision `json:"decisions,omitempty"`
	Events    []Event        `json:"events,omitempty"`
	NextLook  time.Time      `json:"next_look,omitzero"`
}

// ClusterNews is an event of GET /v1/events. The first has all jobs that have not ended; later ones have those that look otherwise than before,
// and the ids of those that are not live any more.
type ClusterNews struct {
	First bool              `json:"first,omitempty"`
	At    time.Time         `json:"at"`
	Node  string            `json:"node"` // that answers
	Jobs  []json.RawMessage `json:"jobs"` // Job each
	Gone  []string          `json:"gone,omitempty"`
	Nodes PeerList          `json:"nodes"`
	Holds Holds             `json:"holds"`
}
