// Package mesos has clients for a Mesos agent (its state and its containers, read only) and for a Mesos master (its agents, their drains,
// the maintenance schedule). Answers and their sources: docs/contract.md.
package mesos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"qosctl/framework"
)

// Options set a Client up. The zero value is good.
type Options struct {
	Logger    *slog.Logger
	Transport http.RoundTripper // nil: one of its own
	Backoff   time.Duration     // of retries; 0: the framework package's
}

// Client talks to one Mesos agent. It is safe for use by several goroutines.
type Client struct {
	c      *framework.Client
	prefix atomic.Pointer[string] // "" or /slave(1); nil: not yet probed
}

// New makes a client. It sends nothing.
func New(e framework.Endpoint, o Options) (*Client, error) {
	if e.Name == "" {
		e.Name = "mesos agent"
	}
	c, err := framework.NewClient(framework.ClientOptions{
		Endpoint: e, Logger: o.Logger, Transport: o.Transport, Backoff: o.Backoff,
	})
	if err != nil {
		return nil, err
	}
	return &Client{c: c}, nil
}

// Close closes idle connections.
func (m *Client) Close() { m.c.Close() }

// State reads the agent's state: itself, and all tasks it knows, ended ones included as long as it remembers them.
func (m *Client) State(ctx context.Context) (State, error) {
	var s State
	if err := m.get(ctx, "/state", &s); err != nil {
		return State{}, err
	}
	if s.Agent.ID == "" && s.Agent.Hostname == "" {
		return State{}, framework.Odd(m.c, http.MethodGet, "/state", "no agent in it")
	}
	return s, nil
}

// Tasks lists the tasks that have not ended.
func (m *Client) Tasks(ctx context.Context) ([]Task, error) {
	s, err := m.State(ctx)
	if err != nil {
		return nil, err
	}
	live := make([]Task, 0, len(s.Tasks))
	for _, t := range s.Tasks {
		if !t.Completed && !t.Terminal() {
			live = append(live, t)
		}
	}
	return live, nil
}

// Containers lists the containers of the agent, with what it measures in them.
func (m *Client) Containers(ctx context.Context) ([]Container, error) {
	var list []Container
	err := m.get(ctx, "/containers", &list)
	return list, err
}

// get reads a JSON answer. All agents serve the path below their process' name; where that is the default, at the root too.
func (m *Client) get(ctx context.Context, path string, into any) error {
	if p := m.prefix.Load(); p != nil {
		return framework.GetJSON(ctx, m.c, *p+path, nil, into)
	}
	var last error
	for _, prefix := range []string{"/slave(1)", ""} {
		var raw json.RawMessage
		last = framework.GetJSON(ctx, m.c, prefix+path, nil, &raw)
		if last == nil {
			m.prefix.Store(&prefix)
			if err := json.Unmarshal(raw, into); err != nil {
				return framework.Odd(m.c, http.MethodGet, prefix+path, fmt.Sprint(err))
			}
			return nil
		}
		if e, ok := errors.AsType[*framework.Error](last); !ok || e.Status != http.StatusNotFound {
			return last
		}
	}
	return last
}
