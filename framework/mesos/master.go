package mesos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"qosctl/framework"
)

// ErrNotPermitted says that the master knows who we are, and that we may not do this (403). An error that has it has framework.ErrUnauthorized
// too; a 401 has that alone.
var ErrNotPermitted = errors.New("not permitted by the Mesos master")

// Master talks to the masters of a cluster: to whichever of its URLs leads, or redirects to the leader. It is safe for use by several
// goroutines.
type Master struct{ c *framework.Client }

// NewMaster makes a client of the masters at an endpoint's URLs. It sends nothing.
func NewMaster(e framework.Endpoint, o Options) (*Master, error) {
	if e.Name == "" {
		e.Name = "mesos master"
	}
	c, err := framework.NewClient(framework.ClientOptions{Endpoint: e, Logger: o.Logger, Transport: o.Transport, Backoff: o.Backoff})
	if err != nil {
		return nil, err
	}
	return &Master{c: c}, nil
}

// Close closes idle connections.
func (m *Master) Close() { m.c.Close() }

// Registered is an agent that the master knows. One that is out of reach is in no list.
type Registered struct {
	ID          string
	Hostname    string // as offers have it
	Address     string // host:port of the agent's own API
	Attributes  map[string]string
	Version     string
	CPUs        float64 // in all
	MemMiB      float64
	UsedCPUs    float64
	UsedMemMiB  float64
	Active      bool // it has offers
	Deactivated bool // by an operator, or by a drain
	Recovered   bool // known from before the master's start, and not heard of since; of it only ID, Hostname and Attributes are known
	Drain       *Drain
}

// Machine is what maintenance calls the agent's machine: it must be equal in both of its names.
func (r Registered) Machine() Machine {
	host, _, err := net.SplitHostPort(r.Address)
	if err != nil {
		return Machine{Hostname: r.Hostname}
	}
	return Machine{Hostname: r.Hostname, IP: host}
}

// Drain is how far an agent's drain is.
type Drain struct {
	Done     bool          // nothing runs there any more (DRAINED)
	MaxGrace time.Duration // bound of the tasks' grace; 0: none
	MarkGone bool          // it is removed for good when it is drained
}

// Machine names a machine to be maintained.
type Machine struct {
	Hostname string `json:"hostname,omitempty"`
	IP       string `json:"ip,omitempty"`
}

// Window is a time in which machines are to be maintained; a zero Duration has no end.
type Window struct {
	Machines []Machine
	Start    time.Time
	Duration time.Duration
}

type slavesJSON struct {
	Slaves    *[]slaveJSON `json:"slaves"`
	Recovered []slaveJSON  `json:"recovered_slaves"`
}

type slaveJSON struct {
	ID          string         `json:"id"`
	Hostname    string         `json:"hostname"`
	PID         string         `json:"pid"`
	Version     string         `json:"version"`
	Attributes  map[string]any `json:"attributes"`
	Resources   resourcesJSON  `json:"resources"`
	Used        resourcesJSON  `json:"used_resources"`
	Active      bool           `json:"active"`
	Deactivated bool           `json:"deactivated"`
	Drain       *struct {
		State  string `json:"state"`
		Config struct {
			MaxGrace *nanoseconds `json:"max_grace_period"`
			MarkGone bool         `json:"mark_gone"`
		} `json:"config"`
	} `json:"drain_info"`
}

type nanoseconds struct {
	Nanoseconds int64 `json:"nanoseconds"`
}

// Agents lists the agents that are registered, or were before the master's start.
func (m *Master) Agents(ctx context.Context) ([]Registered, error) {
	var in slavesJSON
	if err := framework.GetJSON(ctx, m.c, "/slaves", nil, &in); err != nil {
		return nil, permitted(err)
	}
	if in.Slaves == nil {
		return nil, framework.Odd(m.c, http.MethodGet, "/slaves", "no list of agents in it")
	}
	list := make([]Registered, 0, len(*in.Slaves)+len(in.Recovered))
	for _, s := range *in.Slaves {
		list = append(list, s.registered())
	}
	for _, s := range in.Recovered {
		r := s.registered()
		r.Recovered = true
		list = append(list, r)
	}
	return list, nil
}

func (s slaveJSON) registered() Registered {
	r := Registered{
		ID: s.ID, Hostname: s.Hostname, Version: s.Version, CPUs: s.Resources.CPUs, MemMiB: s.Resources.Mem, UsedCPUs: s.Used.CPUs, UsedMemMiB: s.Used.Mem,
		Active: s.Active, Deactivated: s.Deactivated,
	}
	_, r.Address, _ = strings.Cut(s.PID, "@")
	for name, value := range s.Attributes {
		if r.Attributes == nil {
			r.Attributes = map[string]string{}
		}
		r.Attributes[name] = attribute(value)
	}
	if s.Drain != nil {
		r.Drain = &Drain{Done: s.Drain.State == "DRAINED", MarkGone: s.Drain.Config.MarkGone}
		if g := s.Drain.Config.MaxGrace; g != nil {
			r.Drain.MaxGrace = time.Duration(g.Nanoseconds)
		}
	}
	return r
}

// DrainAgent has an agent's tasks killed, each within its own grace, and no offers made of it until ReactivateAgent. MaxGrace bounds the grace; 0:
// no bound. An agent that is in the maintenance schedule is refused (framework.ErrInvalid), as is one that the master doesn't know.
func (m *Master) DrainAgent(ctx context.Context, agentID string, maxGrace time.Duration) error {
	body := map[string]any{"agent_id": map[string]string{"value": agentID}}
	if maxGrace > 0 { // google.protobuf.Duration
		body["max_grace_period"] = map[string]int64{"seconds": int64(maxGrace / time.Second), "nanos": int64(maxGrace % time.Second)}
	}
	return m.call(ctx, "DRAIN_AGENT", "drain_agent", body)
}

// DeactivateAgent has no offers made of an agent; its tasks run on.
func (m *Master) DeactivateAgent(ctx context.Context, agentID string) error {
	return m.call(ctx, "DEACTIVATE_AGENT", "deactivate_agent", map[string]any{"agent_id": map[string]string{"value": agentID}})
}

// ReactivateAgent has offers made of an agent again. One that still drains is refused (framework.ErrInvalid).
func (m *Master) ReactivateAgent(ctx context.Context, agentID string) error {
	return m.call(ctx, "REACTIVATE_AGENT", "reactivate_agent", map[string]any{"agent_id": map[string]string{"value": agentID}})
}

func (m *Master) call(ctx context.Context, kind, field string, body map[string]any) error {
	return m.post(ctx, "/api/v1", map[string]any{"type": kind, field: body}, true)
}

type scheduleJSON struct {
	Windows []windowJSON `json:"windows"`
}

type windowJSON struct {
	Machines       []Machine `json:"machine_ids"`
	Unavailability struct {
		Start    nanoseconds  `json:"start"`
		Duration *nanoseconds `json:"duration,omitempty"`
	} `json:"unavailability"`
}

// Schedule reads the maintenance schedule: those windows and machines that we may see.
func (m *Master) Schedule(ctx context.Context) ([]Window, error) {
	var in scheduleJSON
	if err := framework.GetJSON(ctx, m.c, "/maintenance/schedule", nil, &in); err != nil {
		return nil, permitted(err)
	}
	list := make([]Window, 0, len(in.Windows))
	for _, w := range in.Windows {
		out := Window{Machines: w.Machines, Start: time.Unix(0, w.Unavailability.Start.Nanoseconds)}
		if d := w.Unavailability.Duration; d != nil {
			out.Duration = time.Duration(d.Nanoseconds)
		}
		list = append(list, out)
	}
	return list, nil
}

// SetSchedule replaces the whole schedule, so what others have planned must be in it; nothing tells if it has changed since it was read. A
// machine that is planned and up begins to drain: frameworks hear of it with its offers, and no more happens by itself.
func (m *Master) SetSchedule(ctx context.Context, windows []Window) error {
	out := scheduleJSON{Windows: []windowJSON{}}
	for _, w := range windows {
		j := windowJSON{Machines: w.Machines}
		j.Unavailability.Start.Nanoseconds = w.Start.UnixNano()
		if w.Duration > 0 {
			j.Unavailability.Duration = &nanoseconds{int64(w.Duration)}
		}
		out.Windows = append(out.Windows, j)
	}
	return m.post(ctx, "/maintenance/schedule", out, true)
}

// MachinesDown ends the agents of machines that are in the schedule, and their tasks.
func (m *Master) MachinesDown(ctx context.Context, machines []Machine) error {
	return m.post(ctx, "/machine/down", machines, false)
}

// MachinesUp takes machines that are down out of the schedule.
func (m *Master) MachinesUp(ctx context.Context, machines []Machine) error {
	return m.post(ctx, "/machine/up", machines, false)
}

// post sends a call. Safe says that carrying it out twice is carrying it out once.
func (m *Master) post(ctx context.Context, path string, body any, safe bool) error {
	b, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode the call %s: %w", path, err)
	}
	_, err = m.c.Do(ctx, framework.Request{Method: http.MethodPost, Path: path, Body: b, Safe: safe})
	return permitted(err)
}

// permitted tells a master that refuses us from one that doesn't know us.
func permitted(err error) error {
	if e, ok := errors.AsType[*framework.Error](err); ok && e.Status == http.StatusForbidden {
		return fmt.Errorf("%w: %w", ErrNotPermitted, err)
	}
	return err
}
