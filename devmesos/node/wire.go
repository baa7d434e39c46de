package node

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"time"
)

// The protocol between a node and its master: the node tells all that it is and has, again and again; the master answers with orders,
// numbered, until the node has said that it saw them. So nothing has to be remembered of what was sent: whatever gets lost, on the way or
// with either side's process, is told again.

// Protocol is the version of the messages; a master refuses any other.
const Protocol = 1

// AgentInfo is what an agent registers with (SlaveInfo).
type AgentInfo struct {
	ID         string            `json:"id"`
	Hostname   string            `json:"hostname"`
	Address    string            `json:"address"` // host:port of its HTTP API
	Attributes map[string]string `json:"attributes,omitempty"`
	CPUs       float64           `json:"cpus"`
	MemMiB     float64           `json:"mem"`
	DiskMiB    float64           `json:"disk"`
	FirstPort  int               `json:"first_port"` // of a range of 1,000
	Lasting    bool              `json:"lasting"`    // it lives on when the master's process ends
}

// Report is all that a node has to tell.
type Report struct {
	Protocol int       `json:"protocol"`
	Agent    AgentInfo `json:"agent"`
	Life     string    `json:"life"`   // of the node's process
	Number   uint64    `json:"number"` // of the report; one with a lower number came late
	Master   string    `json:"master"` // life of the master that Seen counts for; "": none yet
	Seen     uint64    `json:"seen"`   // the last order that was carried out
	Tasks    []Held    `json:"tasks,omitempty"`
	Updates  []Update  `json:"updates,omitempty"` // not yet acknowledged, the oldest first
}

// Held is a task that the node has and that has not ended.
type Held struct {
	ID        string  `json:"id"`
	Framework string  `json:"framework"`
	State     State   `json:"state"`
	CPUs      float64 `json:"cpus"`
	MemMiB    float64 `json:"mem"`
	DiskMiB   float64 `json:"disk"`
	Ports     []int   `json:"ports,omitempty"`
}

// Update is a status update, sent until it is acknowledged.
type Update struct {
	UUID      string `json:"uuid"`
	Framework string `json:"framework"`
	Status    Status `json:"status"`
}

// Orders are a master's answer.
type Orders struct {
	Master   string        `json:"master"` // its life
	Acks     []string      `json:"acks,omitempty"`
	Orders   []Order       `json:"orders,omitempty"` // in order of their numbers
	Shutdown string        `json:"shutdown,omitempty"`
	Hold     time.Duration `json:"hold"` // how long an answer may take if there is nothing to do
}

// Order is one thing to do; one of the fields below Number is set.
type Order struct {
	Number uint64       `json:"number"`
	Launch *Task        `json:"launch,omitempty"`
	Kill   *KillOrder   `json:"kill,omitempty"`
	Drain  *DrainConfig `json:"drain,omitempty"`
	Lose   string       `json:"lose,omitempty"` // a task that is to disappear
}

// KillOrder asks for a task's end.
type KillOrder struct {
	Framework string `json:"framework"`
	Task      string `json:"task"`
}

// DrainConfig is Mesos' message of that name, as JSON has it.
type DrainConfig struct {
	MaxGrace *DurationInfo `json:"max_grace_period,omitempty"`
	MarkGone bool          `json:"mark_gone"`
}

// DurationInfo is a duration as Mesos' unversioned messages have it.
type DurationInfo struct {
	Nanoseconds int64 `json:"nanoseconds"`
}

// Bounds of a report.
const (
	maxTasks   = 10000
	maxUpdates = 1000
)

// Validate checks a report that came from elsewhere.
func (r *Report) Validate() error {
	number := func(f float64) bool { return f >= 0 && !math.IsInf(f, 0) }
	a := r.Agent
	switch {
	case r.Protocol != Protocol:
		return fmt.Errorf("report: protocol %d is not ours, %d: master and node must be of one version", r.Protocol, Protocol)
	case a.ID == "" || len(a.ID) > 200 || a.Hostname == "" || len(a.Hostname) > 253 || r.Life == "" || len(r.Life) > 100:
		return errors.New("report: agent's id, host name or life is missing or too long")
	case !number(a.CPUs) || !number(a.MemMiB) || !number(a.DiskMiB) || a.FirstPort < 1 || a.FirstPort > 64536:
		return errors.New("report: agent's resources are out of range")
	case len(r.Tasks) > maxTasks || len(r.Updates) > maxUpdates:
		return errors.New("report: too many tasks or updates")
	}
	if _, _, err := net.SplitHostPort(a.Address); err != nil {
		return fmt.Errorf("report: agent's address: %w", err)
	}
	for _, t := range r.Tasks {
		if t.ID == "" || t.Framework == "" || t.State.Terminal() || !number(t.CPUs) || !number(t.MemMiB) || !number(t.DiskMiB) {
			return fmt.Errorf("report: task %q is not whole", t.ID)
		}
	}
	for _, u := range r.Updates {
		if u.UUID == "" || u.Framework == "" || u.Status.TaskID == "" || u.Status.State == "" {
			return fmt.Errorf("report: update of task %q is not whole", u.Status.TaskID)
		}
	}
	return nil
}

// Master is where a node reports to. Exchange returns when there is something to do, when it has waited for the hold, or when ctx ends.
type Master interface {
	Exchange(ctx context.Context, r Report) (Orders, error)
}
