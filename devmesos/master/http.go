package master

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"qosctl/devmesos/node"
)

// version is the Mesos release whose answers are imitated.
const version = "1.11.0"

const maxBody = 16 << 20

// slaveJSON is an agent as GET /slaves shows it (src/master/readonly_handler.cpp).
type slaveJSON struct {
	ID           string         `json:"id"`
	Hostname     string         `json:"hostname"`
	Port         int            `json:"port"`
	Attributes   map[string]any `json:"attributes"`
	PID          string         `json:"pid"`
	Registered   float64        `json:"registered_time"`
	Again        float64        `json:"reregistered_time,omitempty"`
	Resources    resourcesJSON  `json:"resources"`
	Used         resourcesJSON  `json:"used_resources"`
	Offered      resourcesJSON  `json:"offered_resources"`
	Reserved     map[string]any `json:"reserved_resources"`
	Unreserved   resourcesJSON  `json:"unreserved_resources"`
	Active       bool           `json:"active"`
	Deactivated  bool           `json:"deactivated"`
	Version      string         `json:"version"`
	Capabilities []string       `json:"capabilities"`
	Drain        *drainInfo     `json:"drain_info,omitempty"`
	DrainStart   float64        `json:"estimated_drain_start_time_seconds,omitempty"`
}

type resourcesJSON struct {
	CPUs  float64 `json:"cpus"`
	Mem   float64 `json:"mem"`
	Disk  float64 `json:"disk"`
	GPUs  float64 `json:"gpus"`
	Ports string  `json:"ports,omitempty"`
}

// Handler answers as the master's HTTP API, and takes the reports of nodes in other processes.
func (m *Master) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, prefix := range []string{"", "/master"} {
		mux.HandleFunc("GET "+prefix+"/slaves", func(w http.ResponseWriter, _ *http.Request) { reply(w, m.slaves()) })
		mux.HandleFunc("GET "+prefix+"/health", func(http.ResponseWriter, *http.Request) {})
		mux.HandleFunc("GET "+prefix+"/maintenance/schedule", func(w http.ResponseWriter, _ *http.Request) {
			m.mu.Lock()
			s := m.schedule
			m.mu.Unlock()
			reply(w, s)
		})
		mux.HandleFunc("GET "+prefix+"/maintenance/status", func(w http.ResponseWriter, _ *http.Request) { reply(w, m.status()) })
		mux.Handle("POST "+prefix+"/maintenance/schedule", operate(m, m.setSchedule))
		mux.Handle("POST "+prefix+"/machine/down", operate(m, m.machinesDown))
		mux.Handle("POST "+prefix+"/machine/up", operate(m, m.machinesUp))
		mux.Handle("POST "+prefix+"/api/v1", operate(m, m.call))
	}
	mux.HandleFunc("POST "+node.ExchangePath, m.report)
	return mux
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // a client that went away is no concern of ours
}

// operate serves a call that changes something: of operators only, with a JSON body.
func operate[T any](m *Master, do func(T) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var v T
		b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err == nil {
			err = json.Unmarshal(b, &v)
		}
		switch {
		case err != nil:
			http.Error(w, "Failed to parse body into JSON: "+err.Error(), http.StatusBadRequest)
			return
		case m.o.NoOperators:
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if err := do(v); err != nil {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, err.Error()) // without the line's end that http.Error adds
		}
	})
}

// call is one of the v1 operator API.
type call struct {
	Type       string     `json:"type"`
	Drain      *agentCall `json:"drain_agent"`
	Deactivate *agentCall `json:"deactivate_agent"`
	Reactivate *agentCall `json:"reactivate_agent"`
}

type agentCall struct {
	Agent struct {
		Value string `json:"value"`
	} `json:"agent_id"`
	MaxGrace *struct { // google.protobuf.Duration
		Seconds json.Number `json:"seconds"`
		Nanos   int64       `json:"nanos"`
	} `json:"max_grace_period"`
	MarkGone bool `json:"mark_gone"`
}

func (m *Master) call(c call) error {
	missing := func(name string) error {
		return fmt.Errorf("Failed to validate master::Call: Expecting '%s' to be present", name) //nolint:revive,staticcheck // Mesos' own words
	}
	switch c.Type {
	case "DRAIN_AGENT":
		if c.Drain == nil {
			return missing("drain_agent")
		}
		config := node.DrainConfig{MarkGone: c.Drain.MarkGone}
		if g := c.Drain.MaxGrace; g != nil {
			seconds, err := strconv.ParseInt(string(g.Seconds), 10, 64)
			if g.Seconds != "" && err != nil || seconds < 0 || g.Nanos < 0 || seconds > 1e9 {
				return fmt.Errorf("Invalid max_grace_period: %q seconds", g.Seconds) //nolint:revive,staticcheck // in Mesos' manner
			}
			config.MaxGrace = &node.DurationInfo{Nanoseconds: seconds*int64(time.Second) + g.Nanos}
		}
		return m.drainAgent(c.Drain.Agent.Value, config)
	case "DEACTIVATE_AGENT":
		if c.Deactivate == nil {
			return missing("deactivate_agent")
		}
		return m.deactivateAgent(c.Deactivate.Agent.Value)
	case "REACTIVATE_AGENT":
		if c.Reactivate == nil {
			return missing("reactivate_agent")
		}
		return m.reactivateAgent(c.Reactivate.Agent.Value)
	}
	return fmt.Errorf("Failed to validate master::Call: Unsupported call %q of the development scheduler", c.Type) //nolint:revive,staticcheck // in Mesos' manner
}

// slaves are the agents that are registered. Those that are out of reach are not shown, and those not heard of since the master's start
// apart.
func (m *Master) slaves() map[string]any {
	m.mu.Lock()
	defer m.mu.Unlock()
	list, old := []slaveJSON{}, []slaveJSON{}
	for _, id := range slices.Sorted(maps.Keys(m.agents)) {
		switch a := m.agents[id]; a.state {
		case registered:
			list = append(list, m.slave(a))
		case recovered:
			old = append(old, m.slave(a))
		}
	}
	return map[string]any{"slaves": list, "recovered_slaves": old}
}

func (m *Master) slave(a *agent) slaveJSON {
	i := a.info
	total := resourcesJSON{CPUs: i.CPUs, Mem: i.MemMiB, Disk: i.DiskMiB, Ports: fmt.Sprintf("[%d-%d]", i.FirstPort, i.FirstPort+999)}
	s := slaveJSON{
		ID: i.ID, Hostname: i.Hostname, Attributes: attributes(i.Attributes), PID: "slave(1)@" + i.Address, Registered: seconds(a.registered),
		Resources: total, Unreserved: total, Reserved: map[string]any{}, Active: a.state == registered && !a.deactivated, Deactivated: a.deactivated,
		Version: version, Capabilities: []string{"MULTI_ROLE", "HIERARCHICAL_ROLE", "RESERVATION_REFINEMENT", "AGENT_DRAINING"},
	}
	if _, port, ok := strings.Cut(i.Address, ":"); ok {
		s.Port, _ = strconv.Atoi(port) // one that is no number is shown as none
	}
	if !a.again.IsZero() {
		s.Again = seconds(a.again)
	}
	for _, r := range m.on(i.ID) {
		if !r.ended {
			s.Used.CPUs, s.Used.Mem, s.Used.Disk = s.Used.CPUs+r.CPUs, s.Used.Mem+r.MemMiB, s.Used.Disk+r.DiskMiB
		}
	}
	if a.drain != nil {
		d := *a.drain
		s.Drain = &d
		if !d.started.IsZero() {
			s.DrainStart = seconds(d.started)
		}
	}
	return s
}

// attributes are scalars as numbers, all else as text.
func attributes(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		if f, err := strconv.ParseFloat(v, 64); err == nil {
			out[k] = f
			continue
		}
		out[k] = v
	}
	return out
}

func seconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

// status is GET /maintenance/status.
func (m *Master) status() map[string]any {
	m.mu.Lock()
	defer m.mu.Unlock()
	draining, down := []any{}, []any{}
	for id, mode := range m.machines {
		if mode == machineDown {
			down = append(down, id)
		} else {
			draining = append(draining, map[string]any{"id": id})
		}
	}
	return map[string]any{"draining_machines": draining, "down_machines": down}
}

// report takes a report over HTTP.
func (m *Master) report(w http.ResponseWriter, r *http.Request) {
	if !m.trusted(r) {
		http.Error(w, "the token that master and nodes share is missing or wrong: --token-file", http.StatusUnauthorized)
		return
	}
	var rep node.Report
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		err = json.Unmarshal(b, &rep)
	}
	if err == nil {
		err = rep.Validate()
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	o, err := m.Exchange(r.Context(), rep)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	reply(w, o)
}

func (m *Master) trusted(r *http.Request) bool {
	if m.o.Token == "" {
		return true
	}
	got, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	x, y := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(m.o.Token))
	return ok && subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
